//! Controls and groups: what a shop says about its own goods changes the next answer, outlives the server, and never shows
//! what must not be shown.

#![cfg(test)]

mod harness;

use harness::{CATALOG, Start, TestServer, eventually, item, price, purchase, recommend, refused, stock, text_search};
use prost_types::{Struct, Value, value::Kind};
use vitrine::v1::{
    Boost, Bury, Condition, Control, DeleteControlRequest, FacetRequest, FeedbackRequest, GetControlRequest, Hide,
    Item, ListControlsRequest, Pin, Popular, PutControlRequest, QueryMatch, ReasonCode, Redirect, SearchRequest,
    SearchResponse, Synonyms, control::Action, recommend_request::Target,
};
use vitrine_client::{Client, Code};

fn goods() -> Vec<Item> {
    let of = |id: &str, title: &str, brand: &str, model: &str| Item {
        brand: brand.into(),
        price: price("9.90"),
        attributes: Some(Struct {
            fields: [("model".to_owned(), Value { kind: Some(Kind::StringValue(model.into())) })].into(),
        }),
        ..item(id, title)
    };
    vec![
        of("mug-red", "Mug red", "Acme", "mug"),
        of("mug-blue", "Mug blue", "Acme", "mug"),
        of("mug-green", "Mug green", "Acme", "mug"),
        of("mug-travel", "Mug for travel", "Lumen", "travel"),
        of("mug-glass", "Mug of glass", "Lumen", "glass"),
        of("cup", "Tea cup", "Barista", "cup"),
    ]
}

async fn shop() -> (TestServer, Client) {
    let server = Start::default().run();
    let client = server.client().await;
    stock(&client, goods()).await;
    eventually("every mug is found", async || (found(&client, "mug").await.len() == 5).then_some(())).await;
    (server, client)
}

fn control(id: &str, action: Action) -> Control {
    Control { name: format!("{CATALOG}/controls/{id}"), action: Some(action), ..Control::default() }
}

async fn put(client: &Client, control: Control) {
    let request = PutControlRequest { control: Some(control.clone()), validate_only: false };
    assert_eq!(client.put_control(request).await.unwrap(), control);
}

async fn drop_control(client: &Client, id: &str) {
    let name = format!("{CATALOG}/controls/{id}");
    client.delete_control(DeleteControlRequest { name, allow_missing: false }).await.unwrap();
}

async fn found(client: &Client, text: &str) -> Vec<String> {
    ids(&client.search(text_search(text)).await.unwrap())
}

fn ids(answer: &SearchResponse) -> Vec<String> {
    answer.results.iter().map(|result| result.item.as_ref().unwrap().id.clone()).collect()
}

#[tokio::test]
async fn what_the_shop_says_changes_the_next_answer() {
    let (server, client) = shop().await;
    let plain = found(&client, "mug").await;
    assert_eq!(plain[..3], ["mug-red", "mug-blue", "mug-green"]);

    let for_mugs =
        Condition { queries: vec![QueryMatch { text: "Mugs".into(), partial: false }], ..Condition::default() };
    let pin = Action::Pin(Pin { item_id: "cup".into(), position: 2 });
    put(&client, Control { condition: Some(for_mugs), ..control("pin", pin) }).await;
    let answer = client.search(text_search("mug")).await.unwrap();
    assert_eq!(ids(&answer)[..3], ["mug-red", "cup", "mug-blue"]);
    assert_eq!((answer.total_size, answer.applied_controls), (6, vec![format!("{CATALOG}/controls/pin")]));
    assert!(answer.results[1].stages.iter().any(|stage| stage.stage == "pinned"));
    assert_eq!(found(&client, "mug red").await[0], "mug-red", "the condition does not hold");
    // The customer's filter and order go before it.
    let filtered = SearchRequest { filter: "brand = \"Lumen\"".into(), ..text_search("mug") };
    assert_eq!(ids(&client.search(filtered).await.unwrap()), ["mug-travel", "mug-glass"]);
    let ordered = SearchRequest { order_by: "price".into(), ..text_search("mug") };
    assert_eq!(client.search(ordered).await.unwrap().total_size, 5);

    put(&client, control("bury", Action::Bury(Bury { filter: "id = \"mug-red\"".into() }))).await;
    assert_eq!(found(&client, "mug").await.last().unwrap(), "mug-red");
    put(&client, control("hide", Action::Hide(Hide { filter: "id = \"mug-blue\"".into() }))).await;
    let facets = vec![FacetRequest { key: "brand".into(), ..FacetRequest::default() }];
    let answer = client.search(SearchRequest { facets, ..text_search("mug") }).await.unwrap();
    assert_eq!(ids(&answer)[..2], ["mug-green", "cup"]);
    assert_eq!((answer.total_size, answer.facets[0].values[0].count), (5, 2));
    put(
        &client,
        control("words", Action::Synonyms(Synonyms { terms: vec!["beaker".into()], queries: vec!["tumbler".into()] })),
    )
    .await;
    let both = Synonyms { terms: vec!["tumbler".into(), "mug".into()], queries: Vec::new() };
    put(&client, control("words", Action::Synonyms(both))).await;
    assert_eq!(found(&client, "tumbler").await.len(), 4);
    let sale = Condition { queries: vec![QueryMatch { text: "sale".into(), partial: true }], ..Condition::default() };
    let redirect = Action::Redirect(Redirect { uri: "/sale".into() });
    put(&client, Control { condition: Some(sale), ..control("sale", redirect) }).await;
    let answer = client.search(text_search("mug sale")).await.unwrap();
    assert_eq!(answer.redirect_uri, "/sale");

    // All of it is on disk.
    let server = server.kill().run();
    let client = server.client().await;
    eventually("the index is back", async || (found(&client, "mug").await.len() == 5).then_some(())).await;
    assert_eq!(found(&client, "mug").await[..2], ["mug-green", "cup"]);
    let list = ListControlsRequest { parent: CATALOG.into(), page_size: 3, ..Default::default() };
    let page = client.list_controls(list.clone()).await.unwrap();
    let rest = client.list_controls(ListControlsRequest { page_token: page.next_page_token, ..list }).await.unwrap();
    let names = page.controls.iter().chain(&rest.controls).map(|control| control.name.rsplit('/').next().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["bury", "hide", "pin", "sale", "words"]);
    assert_eq!(rest.next_page_token, "");
    for id in ["bury", "hide", "pin", "sale", "words"] {
        drop_control(&client, id).await;
    }
    assert_eq!(found(&client, "mug").await, plain);
}

#[tokio::test]
async fn boosts_of_a_request_move_its_results_only() {
    let (_server, client) = shop().await;
    let boosts = vec![Boost { filter: "brand = \"Lumen\"".into(), strength: 1.0 }];
    let answer = client.search(SearchRequest { boosts, ..text_search("mug") }).await.unwrap();
    assert_eq!(ids(&answer)[..2], ["mug-travel", "mug-glass"]);
    assert!(
        answer.results[0].stages.iter().any(|stage| stage.stage == "boosted") && answer.applied_controls.is_empty()
    );
    assert_eq!(found(&client, "mug").await[0], "mug-red");
}

#[tokio::test]
async fn variants_are_shown_as_one_result() {
    let (_server, client) = shop().await;
    let grouped = SearchRequest { group_by: "attributes.model".into(), group_size: 2, ..text_search("mug") };
    let answer = client.search(grouped.clone()).await.unwrap();
    assert_eq!(ids(&answer), ["mug-red", "mug-travel", "mug-glass"]);
    assert_eq!((answer.total_size, answer.results[0].group_total), (3, 3));
    let variants: Vec<&str> =
        answer.results[0].variants.iter().map(|variant| variant.item.as_ref().unwrap().id.as_str()).collect();
    assert_eq!(variants, ["mug-blue"]);
    // Pages are of groups, and a pinned item stands for its group.
    put(&client, control("pin", Action::Pin(Pin { item_id: "mug-green".into(), position: 2 }))).await;
    let first = client.search(SearchRequest { page_size: 2, ..grouped.clone() }).await.unwrap();
    assert_eq!(ids(&first), ["mug-travel", "mug-green"]);
    let page_token = first.next_page_token.clone();
    let second = client.search(SearchRequest { page_token, ..grouped }).await.unwrap();
    assert_eq!((ids(&second), second.next_page_token.as_str()), (vec!["mug-glass".to_owned()], ""));
}

#[tokio::test]
async fn recommendations_obey_too_and_say_so() {
    let (_server, client) = shop().await;
    let events = ["mug-red", "mug-red", "mug-blue", "cup"];
    let events = (0..).zip(events).map(|(n, id)| purchase(&format!("e{n}"), &format!("u{n}"), id)).collect();
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    put(&client, control("hide", Action::Hide(Hide { filter: "id = \"mug-red\"".into() }))).await;
    put(&client, control("boost", Action::Boost(Boost { filter: "id = \"cup\"".into(), strength: 0.5 }))).await;
    put(&client, control("pin", Action::Pin(Pin { item_id: "mug-glass".into(), position: 1 }))).await;
    let mut request = recommend(Target::Popular(Popular::default()));
    (request.page_size, request.explain) = (2, true);
    let answer = client.recommend(request.clone()).await.unwrap();
    let ids: Vec<&str> = answer.results.iter().map(|result| result.item.as_ref().unwrap().id.as_str()).collect();
    assert_eq!(ids, ["mug-glass", "cup"]);
    let reason = answer.results[0].reason.as_ref().unwrap();
    assert_eq!((reason.code(), reason.text.as_str()), (ReasonCode::Pinned, "chosen by the shop"));
    assert_eq!(answer.applied_controls.len(), 3);
    request.page_token = answer.next_page_token;
    let answer = client.recommend(request).await.unwrap();
    assert_eq!(answer.results[0].item.as_ref().unwrap().id, "mug-blue", "a pin is not repeated on the next page");
}

#[tokio::test]
async fn wrong_controls_are_refused_and_named() {
    let (_server, client) = shop().await;
    let hide = |filter: &str| Action::Hide(Hide { filter: filter.into() });
    let check = async |control: Option<Control>| {
        refused(client.put_control(PutControlRequest { control, validate_only: true }).await)
    };
    for (control, field) in [
        (None, "control"),
        (Some(Control { name: "catalogs/shop/items/x".into(), ..control("x", hide("id:*")) }), "control.name"),
        (Some(control("UPPER", hide("id:*"))), "control.name"),
        (Some(control("x", hide("brand = "))), "control.hide.filter"),
        (Some(Control { action: None, ..control("x", hide("")) }), "control.action"),
    ] {
        let error = check(control).await;
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, field));
    }
    let fine = PutControlRequest { control: Some(control("x", hide("id:*"))), validate_only: true };
    client.put_control(fine).await.unwrap();
    let get = GetControlRequest { name: format!("{CATALOG}/controls/x") };
    assert_eq!(refused(client.get_control(get.clone()).await).code, Code::NotFound, "it was only checked");
    let delete = DeleteControlRequest { name: get.name, allow_missing: false };
    assert_eq!(refused(client.delete_control(delete.clone()).await).code, Code::NotFound);
    client.delete_control(DeleteControlRequest { allow_missing: true, ..delete }).await.unwrap();
    let lines = [
        (SearchRequest { group_by: "price".into(), ..text_search("mug") }, "group_by"),
        (SearchRequest { group_by: "brand".into(), group_size: -1, ..text_search("mug") }, "group_size"),
        (SearchRequest { group_size: 2, ..text_search("mug") }, "group_size"),
        (
            SearchRequest { boosts: vec![Boost { filter: "id:*".into(), strength: 2.0 }], ..text_search("mug") },
            "boosts[0].strength",
        ),
        (SearchRequest { boosts: vec![Boost::default(); 21], ..text_search("mug") }, "boosts"),
    ];
    for (request, field) in lines {
        let error = refused(client.search(request).await);
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, field));
    }
}
