//! What users do changes what the very next call recommends, counts once, and is credited to the answer that led to it.

#![cfg(test)]

mod harness;

use std::collections::HashSet;

use harness::{CATALOG, Start, TestServer, item, purchase, recommend, stock};
use vitrine::v1::{
    CreateCatalogRequest, Event, EventItem, EventResult, EventStatus, EventType, ExcludeInteracted, FeedbackRequest,
    ForSession, ForUser, Item, ItemList, Popular, ReasonCode, RecommendRequest, RecommendResponse, RequestContext,
    UpsertItemsRequest, recommend_request::Target,
};
use vitrine_client::Client;

/// A shop where pasta is bought with pesto, chips with salsa, and milk by everybody.
async fn shop() -> (TestServer, Client) {
    let server = Start::default().run();
    let client = server.client().await;
    let mut goods: Vec<Item> = ["milk", "pasta", "pesto", "chips", "salsa", "soap"].map(|id| item(id, id)).into();
    goods.extend((0..30).map(|n| item(&format!("other{n}"), &format!("Other {n}"))));
    stock(&client, goods).await;
    let mut events = Vec::new();
    for n in 0..8 {
        events.push(order(&format!("a{n}"), &["pasta", "pesto"]));
        events.push(order(&format!("b{n}"), &["chips", "salsa"]));
        events.extend((0..3).map(|m| purchase(&format!("m{n}-{m}"), &format!("milk-lover-{n}-{m}"), "milk")));
    }
    events.extend((0..30).map(|n| purchase(&format!("o{n}"), &format!("other-user-{n}"), &format!("other{n}"))));
    let results = send(&client, events).await;
    assert!(results.iter().all(|result| result.status() == EventStatus::Accepted), "{results:?}");
    (server, client)
}

/// One purchase of several items in one order, by a user of its own.
fn order(id: &str, items: &[&str]) -> Event {
    Event {
        items: items.iter().map(|id| EventItem { id: (*id).into(), ..Default::default() }).collect(),
        order_id: format!("order-{id}"),
        ..purchase(id, &format!("buyer-{id}"), "")
    }
}

fn event(event_id: &str, r#type: EventType, item: &str) -> Event {
    Event { r#type: r#type as i32, ..purchase(event_id, "u1", item) }
}

async fn send(client: &Client, events: Vec<Event>) -> Vec<EventResult> {
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap().results
}

/// For `u1`, with reasons.
fn for_user() -> RecommendRequest {
    RecommendRequest { explain: true, ..recommend(Target::ForUser(ForUser {})) }
}

fn popular() -> RecommendRequest {
    recommend(Target::Popular(Popular::default()))
}

fn together(ids: &[&str]) -> RecommendRequest {
    let list = ItemList { ids: ids.iter().map(|&id| id.to_owned()).collect() };
    RecommendRequest { explain: true, ..recommend(Target::BoughtTogether(list)) }
}

fn ids(answer: &RecommendResponse) -> Vec<&str> {
    answer.results.iter().map(|result| result.item.as_ref().unwrap().id.as_str()).collect()
}

fn code(answer: &RecommendResponse, place: usize) -> ReasonCode {
    answer.results[place].reason.as_ref().unwrap().code()
}

#[tokio::test]
async fn an_unknown_user_gets_what_is_popular_and_is_told_so() {
    let (_server, client) = shop().await;
    let answer = client.recommend(for_user()).await.unwrap();
    assert_eq!((ids(&answer)[0], answer.results.len()), ("milk", 10));
    for result in &answer.results {
        let reason = result.reason.as_ref().unwrap();
        assert_eq!((reason.code(), reason.text.as_str()), (ReasonCode::Popular, "popular"));
    }
    assert_eq!(ids(&answer), ids(&client.recommend(popular()).await.unwrap()));
}

#[tokio::test]
async fn a_purchase_changes_the_very_next_answer() {
    let (_server, client) = shop().await;
    let mut before = client.recommend(for_user()).await.unwrap();
    for (n, (bought, follows)) in [("pasta", "pesto"), ("chips", "salsa")].into_iter().enumerate() {
        send(&client, vec![event(&format!("mine-{n}"), EventType::Purchase, bought)]).await;
        let after = client.recommend(for_user()).await.unwrap();
        assert_ne!(ids(&after), ids(&before));
        assert_eq!(ids(&after)[0], follows, "{after:?}");
        let reason = after.results[0].reason.as_ref().unwrap();
        assert!(matches!(reason.code(), ReasonCode::BoughtTogether | ReasonCode::Follows), "{reason:?}");
        assert_eq!(reason.source_items, [bought]);
        assert!(reason.text.contains(bought), "{}", reason.text);
        before = after;
    }
    // Somebody else's answer is as it was.
    let context = Some(RequestContext { user_id: "u9".into(), ..harness::context().unwrap() });
    let other = client.recommend(RecommendRequest { context, ..for_user() }).await.unwrap();
    assert_eq!(code(&other, 0), ReasonCode::Popular);
}

#[tokio::test]
async fn a_session_is_heard_and_not_recorded() {
    let (_server, client) = shop().await;
    let events = vec![event("", EventType::View, "chips")];
    let session = recommend(Target::ForSession(ForSession { events }));
    let answer = client.recommend(session).await.unwrap();
    assert_eq!(ids(&answer)[0], "salsa");
    assert_eq!(code(&client.recommend(for_user()).await.unwrap(), 0), ReasonCode::Popular);
}

#[tokio::test]
async fn orders_tell_what_is_bought_together() {
    let (_server, client) = shop().await;
    let answer = client.recommend(together(&["pasta", "no-such-item"])).await.unwrap();
    assert_eq!((ids(&answer)[0], code(&answer, 0)), ("pesto", ReasonCode::BoughtTogether));
    assert_eq!(answer.missing_ids, ["no-such-item"]);
    assert_eq!(answer.results[0].reason.as_ref().unwrap().text, "bought with pasta");
    assert!(!ids(&answer).contains(&"pasta"));
    assert!(client.recommend(together(&["soap"])).await.unwrap().results.is_empty());
    // An order may come in several events.
    for n in 0..4 {
        let part = |id: &str| Event { order_id: format!("parts-{n}"), ..order(&format!("{id}-{n}"), &[id]) };
        send(&client, vec![part("soap"), part("milk")]).await;
    }
    assert_eq!(ids(&client.recommend(together(&["soap"])).await.unwrap()), ["milk"]);
}

#[tokio::test]
async fn an_event_sent_again_counts_once() {
    let (_server, client) = shop().await;
    let soap = |id: &str| purchase(id, "soap-buyer", "soap");
    send(&client, vec![soap("s1"), soap("s2")]).await;
    let scores = async || {
        let answer = client.recommend(RecommendRequest { page_size: 100, ..popular() }).await.unwrap();
        let of = |id: &str| answer.results[ids(&answer).iter().position(|found| *found == id).unwrap()].score;
        (of("soap"), of("milk"))
    };
    let before = scores().await;
    for _ in 0..3 {
        let results = send(&client, vec![soap("s1"); 20]).await;
        assert!(results.iter().all(|result| result.status() == EventStatus::Duplicate), "{results:?}");
    }
    let after = scores().await;
    assert!((before.0 / before.1 - after.0 / after.1).abs() < 1e-3, "{before:?} {after:?}");
    send(&client, vec![soap("s3"), soap("s4")]).await;
    let more = scores().await;
    assert!(more.0 / more.1 > before.0 / before.1 * 1.2, "others do count: {before:?} {more:?}");
}

#[tokio::test]
async fn pages_never_repeat_an_item() {
    let (_server, client) = shop().await;
    send(&client, vec![event("mine", EventType::Purchase, "pasta")]).await;
    for request in [for_user(), popular()] {
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = RecommendRequest { page_size: 7, page_token, ..request.clone() };
            let page = client.recommend(page).await.unwrap();
            assert_eq!(page.results[0].rank as usize, seen.len() + 1);
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
            // What happens between two pages does not bring an item again.
            let late = purchase(&format!("late-{}-{}", seen.len(), request.explain), "late", &seen[0]);
            send(&client, vec![late]).await;
        }
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len(), "{seen:?}");
        assert!(seen.len() >= 34, "everything that was bought comes up: {seen:?}");
    }
}

#[tokio::test]
async fn what_is_excluded_is_not_proposed() {
    let (_server, client) = shop().await;
    let named = RecommendRequest { exclude_items: vec!["milk".into(), "nothing".into()], ..popular() };
    assert!(!ids(&client.recommend(named).await.unwrap()).contains(&"milk"));
    let events = vec![
        event("mine-1", EventType::Purchase, "pasta"),
        event("mine-2", EventType::View, "milk"),
        event("mine-3", EventType::Hide, "salsa"),
    ];
    send(&client, events).await;
    let all = |types: Vec<EventType>| RecommendRequest {
        page_size: 100,
        exclude_interacted: Some(ExcludeInteracted {
            types: types.into_iter().map(|r#type| r#type as i32).collect(),
            window_seconds: 0,
        }),
        ..for_user()
    };
    let bought = client.recommend(all(vec![EventType::Purchase])).await.unwrap();
    assert!(!ids(&bought).contains(&"pasta") && ids(&bought).contains(&"milk"), "{:?}", ids(&bought));
    let any = client.recommend(all(Vec::new())).await.unwrap();
    assert!(!ids(&any).contains(&"pasta") && !ids(&any).contains(&"milk"), "{:?}", ids(&any));
    // What the user hid never comes again, whatever the request says.
    let plain = client.recommend(RecommendRequest { page_size: 100, ..for_user() }).await.unwrap();
    assert!(!ids(&plain).contains(&"salsa") && ids(&plain).contains(&"pesto"), "{:?}", ids(&plain));
}

#[tokio::test]
async fn a_filter_is_kept_unless_it_may_be_relaxed() {
    let (_server, client) = shop().await;
    let strict = RecommendRequest { filter: "title = \"milk\"".into(), ..popular() };
    let answer = client.recommend(strict.clone()).await.unwrap();
    assert_eq!((ids(&answer), answer.degraded.len()), (vec!["milk"], 0));
    let relaxed = client.recommend(RecommendRequest { strict_filter: Some(false), ..strict }).await.unwrap();
    assert_eq!((ids(&relaxed)[0], relaxed.results.len()), ("milk", 10));
    assert_eq!(relaxed.degraded[0].reason(), vitrine::v1::DegradedReason::FilterRelaxed);
}

#[tokio::test]
async fn events_are_credited_to_the_answer_whose_token_they_bring() {
    let (_server, client) = shop().await;
    let token = client.recommend(popular()).await.unwrap().attribution_token;
    let searched = client.search(harness::text_search("milk")).await.unwrap().attribution_token;
    client.create_catalog(CreateCatalogRequest { name: "catalogs/other".into() }).await.unwrap();
    let items = vec![item("milk", "milk")];
    client
        .upsert_items(UpsertItemsRequest { parent: "catalogs/other".into(), items, update_mask: None })
        .await
        .unwrap();
    let elsewhere = Some(RequestContext { catalog: "catalogs/other".into(), ..Default::default() });
    let of_another_catalog =
        client.recommend(RecommendRequest { context: elsewhere, ..popular() }).await.unwrap().attribution_token;
    let (_stranger, strange) = shop().await;
    let of_another_server = strange.recommend(popular()).await.unwrap().attribution_token;
    let page_token = client.recommend(popular()).await.unwrap().next_page_token;
    let mut altered = token.clone().into_bytes();
    altered[10] = if altered[10] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    assert!(!token.is_empty() && !of_another_catalog.is_empty() && !page_token.is_empty());

    let cases = [
        (token, true),
        (searched, true),
        (String::new(), false),
        (altered, false),
        ("rubbish".into(), false),
        (of_another_catalog, false),
        (of_another_server, false),
        (page_token, false),
    ];
    let events = cases.iter().enumerate().map(|(n, (token, _))| Event {
        attribution_token: token.clone(),
        position: 1,
        ..event(&format!("click-{n}"), EventType::Click, "milk")
    });
    let results = send(&client, events.collect()).await;
    for (result, (token, attributed)) in results.iter().zip(&cases) {
        assert_eq!(result.status(), EventStatus::Accepted, "{token}: {result:?}");
        assert_eq!(result.attributed, *attributed, "{token}: {result:?}");
    }
}
