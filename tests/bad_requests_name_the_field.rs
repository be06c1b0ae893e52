//! Whatever is wrong with a request, the answer is `INVALID_ARGUMENT` or `NOT_FOUND`, names the field, and the server
//! goes on.

#![cfg(test)]

mod harness;

use harness::{Start, TestServer, context, eventually, item, price, recommend, refused, stock, text_search};
use prost_types::Timestamp;
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    CreateCatalogRequest, Diversity, Event, EventItem, EventType, ExcludeInteracted, FacetRequest, FeedbackRequest,
    ForSession, ForUser, Fusion, GenerateImageRequest, ImageQuery, Item, ItemList, ListItemsRequest, Popular,
    RecommendRequest, RequestContext, SearchMode, SearchRequest, SetLabelRequest, UpsertItemsRequest, VectorQuery,
    fusion, generate_image_request::Condition, recommend_request::Target, search_request::Query,
};
use vitrine_client::{CallError, Client, Code};

async fn shop() -> (TestServer, Client) {
    let server = Start::default().run();
    let client = server.client().await;
    stock(&client, (0..30).map(|n| Item { price: price("1.50"), ..item(&format!("i{n}"), "Whole milk") }).collect())
        .await;
    eventually("every item is found", || async {
        let answer = client.search(text_search("milk")).await.unwrap();
        (answer.total_size == 30).then_some(())
    })
    .await;
    (server, client)
}

fn fields(error: &CallError) -> Vec<&str> {
    error.violations.iter().map(|violation| violation.field.as_str()).collect()
}

#[track_caller]
fn assert_names(error: &CallError, field: &str) {
    assert_eq!(error.code, Code::InvalidArgument, "{error:?}");
    assert_eq!(fields(error), [field], "{error:?}");
    assert_eq!(error.reason, "INVALID_FIELD");
}

#[tokio::test]
async fn unknown_catalogs_items_and_models_are_not_found() {
    let (_server, client) = shop().await;
    let nowhere = Some(RequestContext { catalog: "catalogs/nowhere".into(), ..Default::default() });
    let error = refused(client.search(SearchRequest { context: nowhere.clone(), ..text_search("milk") }).await);
    assert_eq!((error.code, error.reason.as_str()), (Code::NotFound, "RESOURCE_NOT_FOUND"));
    assert!(error.message.contains("catalogs/nowhere"), "{}", error.message);
    // The catalog is looked up before anything else is checked.
    let worse = SearchRequest { context: nowhere, page_size: -1, ..text_search("") };
    assert_eq!(refused(client.search(worse).await).code, Code::NotFound);
    for name in ["shop", "catalogs/", "catalogs/UPPER", "catalogs/a/b", ""] {
        let context = Some(RequestContext { catalog: name.into(), ..Default::default() });
        let error = refused(client.search(SearchRequest { context, ..text_search("milk") }).await);
        assert_names(&error, "context.catalog");
    }
    assert_names(&refused(client.search(SearchRequest { context: None, ..text_search("milk") }).await), "context");
    let get = vitrine::v1::GetItemRequest { name: "catalogs/shop/items/nothing".into() };
    assert_eq!(refused(client.get_item(get).await).code, Code::NotFound);
    let all_missing = Target::SimilarToItems(ItemList { ids: vec!["nothing".into()] });
    assert_eq!(refused(client.recommend(recommend(all_missing)).await).code, Code::NotFound);
    let again = CreateCatalogRequest { name: harness::CATALOG.into() };
    assert_eq!(refused(client.create_catalog(again).await).code, Code::AlreadyExists);
}

#[tokio::test]
async fn queries_that_are_empty_or_huge_are_refused() {
    let (_server, client) = shop().await;
    assert_names(&refused(client.search(text_search("")).await), "text");
    assert_names(&refused(client.search(text_search("  \n ")).await), "text");
    assert_names(&refused(client.search(text_search(&"m".repeat(1 << 20))).await), "text");
    assert_names(&refused(client.search(SearchRequest { query: None, ..text_search("") }).await), "query");
    // Odd, but words all the same.
    for odd in ["\"", "milk AND (", "*:*", "\0", "🥛", "a:b^2~", "\u{202e}klim"] {
        client.search(text_search(odd)).await.unwrap();
    }
}

#[tokio::test]
async fn a_page_token_of_another_query_or_altered_is_refused() {
    let (_server, client) = shop().await;
    let first = client.search(SearchRequest { page_size: 5, ..text_search("milk") }).await.unwrap();
    let token = first.next_page_token;
    assert!(!token.is_empty());
    let with = |request: SearchRequest, page_token: &str| SearchRequest { page_token: page_token.into(), ..request };
    client.search(with(text_search("milk"), &token)).await.unwrap();
    for other in [
        text_search("whole"),
        SearchRequest { filter: "price < 5".into(), ..text_search("milk") },
        SearchRequest { mode: SearchMode::Lexical as i32, ..text_search("milk") },
    ] {
        assert_names(&refused(client.search(with(other, &token)).await), "page_token");
    }
    let (head, tail) = token.split_at(10);
    let altered = format!("{head}{}{}", if tail.starts_with('A') { 'B' } else { 'A' }, &tail[1..]);
    for rubbish in [altered.as_str(), "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "%%%", &"A".repeat(100_000)] {
        assert_names(&refused(client.search(with(text_search("milk"), rubbish)).await), "page_token");
    }
    let list = ListItemsRequest { parent: harness::CATALOG.into(), page_token: token, ..Default::default() };
    assert_names(&refused(client.list_items(list).await), "page_token");
}

#[tokio::test]
async fn a_broken_filter_is_refused_with_its_position() {
    let (_server, client) = shop().await;
    for (filter, position) in
        [("brand = ", "8"), ("price < cheap", "8"), ("(brand = \"A\"", "12"), ("brand = \"A\" AND AND price < 5", "16")]
    {
        let error = refused(client.search(SearchRequest { filter: filter.into(), ..text_search("milk") }).await);
        assert_names(&error, "filter");
        assert!(error.message.contains(position), "`{filter}`: {}", error.message);
    }
    let deep = "(".repeat(3_000);
    assert_names(&refused(client.search(SearchRequest { filter: deep, ..text_search("milk") }).await), "filter");
    let long = format!("title = \"{}\"", "x".repeat(4_000));
    assert_names(&refused(client.search(SearchRequest { filter: long, ..text_search("milk") }).await), "filter");
    let order = SearchRequest { order_by: "price sideways".into(), ..text_search("milk") };
    assert_names(&refused(client.search(order).await), "order_by");
}

#[tokio::test]
async fn unknown_numbers_in_any_enum_field_are_refused() {
    let (_server, client) = shop().await;
    for number in [99, -1, i32::MAX, i32::MIN] {
        let search = |request| client.search(request);
        let milk = || text_search("milk");
        assert_names(&refused(search(SearchRequest { mode: number, ..milk() }).await), "mode");
        assert_names(&refused(search(SearchRequest { spelling: number, ..milk() }).await), "spelling");
        assert_names(&refused(search(SearchRequest { view: number, ..milk() }).await), "view");
        let popular = recommend(Target::Popular(Popular::default()));
        assert_names(&refused(client.recommend(RecommendRequest { view: number, ..popular.clone() }).await), "view");
        let exclude_interacted = Some(ExcludeInteracted { types: vec![number], window_seconds: 0 });
        let exclude = RecommendRequest { exclude_interacted, ..popular };
        assert_names(&refused(client.recommend(exclude).await), "exclude_interacted.types[0]");
        let event = Event {
            r#type: number,
            items: vec![EventItem { id: "i1".into(), ..Default::default() }],
            ..Default::default()
        };
        let session = recommend(Target::ForSession(ForSession { events: vec![event] }));
        assert_names(&refused(client.recommend(session).await), "for_session.events[0].type");
        let generate = GenerateImageRequest {
            context: context(),
            condition: Some(Condition::Category("Shoes".into())),
            format: number,
            ..Default::default()
        };
        let mut images = client.generate_image(generate).await;
        let error = match &mut images {
            Ok(images) => refused(images.next().await.unwrap()),
            Err(_) => refused(images.map(|_| ())),
        };
        assert_names(&error, "format");
    }
}

#[tokio::test]
async fn numbers_outside_their_range_are_refused() {
    let (_server, client) = shop().await;
    let milk = || text_search("milk");
    assert_names(&refused(client.search(SearchRequest { page_size: -1, ..milk() }).await), "page_size");
    let coerced = client.search(SearchRequest { page_size: i32::MAX, ..milk() }).await.unwrap();
    assert_eq!(coerced.results.len(), 30);
    let diversity = Some(Diversity { mmr_lambda: Some(1.5), ..Default::default() });
    assert_names(&refused(client.search(SearchRequest { diversity, ..milk() }).await), "diversity.mmr_lambda");
    let diversity = Some(Diversity { mmr_lambda: Some(f64::NAN), ..Default::default() });
    assert_names(&refused(client.search(SearchRequest { diversity, ..milk() }).await), "diversity.mmr_lambda");
    for (cap_by, cap, field) in
        [("brand", 101, "diversity.cap"), ("", 2, "diversity.cap"), ("price", 2, "diversity.cap_by")]
    {
        let diversity = Some(Diversity { cap_by: cap_by.into(), cap, ..Default::default() });
        assert_names(&refused(client.search(SearchRequest { diversity: diversity.clone(), ..milk() }).await), field);
        let popular = recommend(Target::Popular(Popular::default()));
        assert_names(&refused(client.recommend(RecommendRequest { diversity, ..popular }).await), field);
    }
    let weights = Some(fusion::Weights { lexical: f64::NAN, semantic: 1.0 });
    let fusion = Some(Fusion { method: Some(fusion::Method::Linear(fusion::Linear { weights })) });
    assert_names(&refused(client.search(SearchRequest { fusion, ..milk() }).await), "fusion.linear.weights");
    let facets = vec![FacetRequest { key: String::new(), ..Default::default() }];
    assert_names(&refused(client.search(SearchRequest { facets, ..milk() }).await), "facets[0].key");
    let popular = recommend(Target::Popular(Popular { window_seconds: -1, ..Default::default() }));
    assert_names(&refused(client.recommend(popular).await), "popular.window_seconds");
    let negative = RecommendRequest { page_size: -1, ..recommend(Target::ForUser(ForUser {})) };
    assert_names(&refused(client.recommend(negative).await), "page_size");
    let none = RecommendRequest { context: context(), ..Default::default() };
    assert_names(&refused(client.recommend(none).await), "target");
}

#[tokio::test]
async fn vectors_that_are_not_finite_or_zero_are_refused() {
    let (_server, client) = shop().await;
    for values in [vec![f32::NAN; 384], vec![f32::INFINITY; 384], vec![0.0; 384], vec![]] {
        let request = SearchRequest { query: Some(Query::Vector(VectorQuery { values })), ..text_search("") };
        assert_names(&refused(client.search(request).await), "vector.values");
    }
}

#[tokio::test]
async fn bytes_that_are_no_picture_are_refused() {
    let (_server, client) = shop().await;
    for data in [&b""[..], b"hello", &[0xff, 0xd8, 0xff], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"] {
        let query = Some(Query::Image(ImageQuery { data: data.to_vec().into() }));
        assert_names(&refused(client.search(SearchRequest { query, ..text_search("") }).await), "image.data");
    }
}

#[tokio::test]
async fn a_bad_item_is_refused_and_its_neighbours_are_not_stored() {
    let (_server, client) = shop().await;
    let future = Some(Timestamp { seconds: 10_000_000_000, nanos: 0 });
    let cases = [
        (item("", "No id"), "items[1].id"),
        (item(&"x".repeat(300), "Long id"), "items[1].id"),
        (item("no-title", ""), "items[1].title"),
        (Item { created: future, ..item("future", "From the future") }, "items[1].created"),
        (Item { price: price("-1"), ..item("negative", "Negative price") }, "items[1].price.amount"),
    ];
    for (bad, field) in cases {
        let request = UpsertItemsRequest {
            parent: harness::CATALOG.into(),
            items: vec![item("good", "Good"), bad],
            update_mask: None,
        };
        assert_names(&refused(client.upsert_items(request).await), field);
    }
    let get = vitrine::v1::GetItemRequest { name: "catalogs/shop/items/good".into() };
    assert_eq!(refused(client.get_item(get).await).code, Code::NotFound);
    let many = (0..1_001).map(|n| item(&format!("m{n}"), "Many")).collect();
    let request = UpsertItemsRequest { parent: harness::CATALOG.into(), items: many, update_mask: None };
    assert_names(&refused(client.upsert_items(request).await), "items");
}

#[tokio::test]
async fn too_many_events_in_a_call_are_refused_whole() {
    let (_server, client) = shop().await;
    let events = (0..10_001).map(|n| harness::purchase(&format!("e{n}"), "u1", "i1")).collect();
    let error = refused(client.feedback(FeedbackRequest { catalog: harness::CATALOG.into(), events }).await);
    assert_names(&error, "events");
    assert!(error.message.contains("10001") && error.message.contains("10000"), "{}", error.message);
    let none = FeedbackRequest { catalog: harness::CATALOG.into(), events: Vec::new() };
    assert_names(&refused(client.feedback(none).await), "events");
}

#[tokio::test]
async fn a_missing_task_is_named() {
    let (_server, client) = shop().await;
    let generate = GenerateImageRequest {
        context: context(),
        condition: Some(Condition::Category("Shoes".into())),
        ..Default::default()
    };
    let error = match client.generate_image(generate).await {
        Ok(mut images) => refused(images.next().await.unwrap()),
        Err(error) => refused::<()>(Err(error)),
    };
    assert_eq!((error.code, error.reason.as_str()), (Code::NotFound, "NO_MODEL_FOR_TASK"));
    assert!(error.message.contains("image-generation"), "{}", error.message);
    let semantic = SearchRequest { mode: SearchMode::Semantic as i32, ..text_search("milk") };
    let error = refused(client.search(semantic).await);
    assert_eq!((error.code, error.reason.as_str()), (Code::Unavailable, "ENCODER_NOT_LOADED"));
    let label =
        SetLabelRequest { name: "models/nothing".into(), label: "stable".into(), version: 1, ..Default::default() };
    assert!(matches!(refused(client.set_label(label).await).code, Code::NotFound | Code::Unavailable));
}

#[tokio::test]
async fn one_bad_event_does_not_fail_its_neighbours() {
    use vitrine::v1::EventStatus::{Accepted, Duplicate, Rejected};
    let (_server, client) = shop().await;
    let good = harness::purchase("e1", "u1", "i1");
    let events = vec![
        good.clone(),
        Event { event_id: String::new(), ..good.clone() },
        Event { event_id: "e2".into(), r#type: 99, ..good.clone() },
        harness::purchase("e3", "u1", "unknown-item"),
        good.clone(),
        Event { event_id: "e4".into(), user_id: String::new(), ..good.clone() },
        Event { event_id: "e5".into(), r#type: EventType::Rate as i32, weight: Some(f64::NAN), ..good },
    ];
    let answer = client.feedback(FeedbackRequest { catalog: harness::CATALOG.into(), events }).await.unwrap();
    let statuses: Vec<_> = answer.results.iter().map(vitrine::v1::EventResult::status).collect();
    assert_eq!(statuses, [Accepted, Rejected, Rejected, Accepted, Duplicate, Rejected, Rejected]);
    let named: Vec<&str> =
        answer.results.iter().flat_map(|result| &result.violations).map(|violation| violation.field.as_str()).collect();
    assert_eq!(named, ["event_id", "type", "user_id", "weight"]);
    assert_eq!(answer.results[3].unknown_items, ["unknown-item"]);
}
