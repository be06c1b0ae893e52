//! Calls are sent again where that is safe, when the server asks for it, and never past their deadline.

#![cfg(test)]

mod fake;

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};
use vitrine::v1::{
    Control, CreateCatalogRequest, DeleteControlRequest, DeleteItemRequest, FeedbackRequest, GetItemRequest,
    PutControlRequest, Redirect, RequestContext, SearchRequest, SetLabelRequest, control::Action,
    search_request::Query,
};
use vitrine_client::{Backoff, Error, Options};

use crate::fake::{FakeShop, busy, item};

fn search() -> SearchRequest {
    let context = RequestContext { catalog: "catalogs/shop".into(), ..Default::default() };
    SearchRequest { context: Some(context), query: Some(Query::Text("Item".into())), ..Default::default() }
}

fn patient() -> Options {
    Options { timeout: Duration::from_mins(1), ..Options::default() }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_waited_out_for_as_long_as_it_asks() {
    let shop = FakeShop::default();
    shop.fail_next(busy(Duration::from_secs(3))).fail_next(busy(Duration::from_secs(4)));
    let begun = Instant::now();
    shop.client(patient()).search(search()).await.unwrap();
    assert!((7..8).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(shop.calls("Search"), 3);
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_server_is_tried_as_often_as_allowed() {
    let shop = FakeShop::default();
    (0..9).for_each(|_| _ = shop.fail_next(Status::unavailable("starting")));
    let error = shop.client(Options { retries: 4, ..patient() }).search(search()).await.unwrap_err();
    assert_eq!((error.code(), shop.calls("Search")), (Code::Unavailable, 5));
    assert!(error.to_string().contains("starting (tried 5 times)"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn events_are_sent_again_because_they_count_once() {
    let shop = FakeShop::default();
    shop.fail_next(Status::unavailable("restarting"));
    shop.client(patient()).feedback(FeedbackRequest::default()).await.unwrap();
    assert_eq!(shop.calls("Feedback"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_would_find_its_own_work_is_sent_once() {
    let shop = FakeShop::default();
    let client = shop.client(patient());
    shop.fail_next(Status::unavailable("?"));
    client.create_catalog(CreateCatalogRequest::default()).await.unwrap_err();
    shop.fail_next(busy(Duration::ZERO));
    client.set_label(SetLabelRequest::default()).await.unwrap_err();
    shop.fail_next(Status::unavailable("?"));
    client.delete_item(DeleteItemRequest::default()).await.unwrap_err();
    shop.fail_next(Status::unavailable("?"));
    client.delete_control(DeleteControlRequest::default()).await.unwrap_err();
    let counts = ["CreateCatalog", "SetLabel", "DeleteItem", "DeleteControl"].map(|method| shop.calls(method));
    assert_eq!(counts, [1, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_may_find_nothing_is_sent_again() {
    let shop = FakeShop::default();
    shop.fail_next(Status::unavailable("?"));
    let request = DeleteItemRequest { name: "catalogs/shop/items/a".into(), allow_missing: true };
    shop.client(patient()).delete_item(request).await.unwrap();
    assert_eq!(shop.calls("DeleteItem"), 2);
    shop.fail_next(Status::unavailable("?"));
    let request = DeleteControlRequest { name: "catalogs/shop/controls/a".into(), allow_missing: true };
    shop.client(patient()).delete_control(request).await.unwrap();
    assert_eq!(shop.calls("DeleteControl"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_control_is_put_again_because_that_changes_nothing() {
    let shop = FakeShop::default();
    shop.fail_next(Status::unavailable("restarting"));
    let action = Some(Action::Redirect(Redirect { uri: "/sale".into() }));
    let control = Control { name: "catalogs/shop/controls/a".into(), action, ..Default::default() };
    let request = PutControlRequest { control: Some(control), validate_only: false };
    shop.client(patient()).put_control(request).await.unwrap();
    assert_eq!((shop.calls("PutControl"), shop.state().controls.len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_end_after_the_deadline_is_not_begun() {
    let shop = FakeShop::default();
    shop.fail_next(busy(Duration::from_mins(2)));
    let begun = Instant::now();
    let error = shop.client(patient()).search(search()).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 0);
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.hint().unwrap().contains("120"), "{:?}", error.hint());
}

#[tokio::test(start_paused = true)]
async fn the_server_is_told_how_much_time_is_left() {
    let shop = FakeShop::default();
    shop.fail_next(busy(Duration::from_secs(5)));
    let backoff = Backoff { initial: Duration::ZERO, max: Duration::ZERO };
    let options = Options { timeout: Duration::from_secs(8), backoff, ..Options::default() };
    shop.client(options).search(search()).await.unwrap();
    let millis = |text: &String| {
        let (digits, unit) = text.split_at(text.len() - 1);
        digits.parse::<f64>().unwrap()
            * [("n", 1e-6), ("u", 1e-3), ("m", 1.0), ("S", 1e3)].iter().find(|u| u.0 == unit).unwrap().1
    };
    let told: Vec<f64> = shop.state().timeouts.iter().map(millis).collect();
    assert_eq!(told.len(), 2);
    assert!((7_990.0..=8_000.0).contains(&told[0]) && (2_980.0..=3_000.0).contains(&told[1]), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_costs_no_more_than_the_deadline() {
    let shop = FakeShop::default();
    shop.state().silent = true;
    let begun = Instant::now();
    let options = Options { timeout: Duration::from_secs(2), ..Options::default() };
    let error = shop.client(options).search(search()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert!(error.to_string().contains("no answer within 2s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_repeated() {
    let shop = FakeShop::default();
    let request = GetItemRequest { name: "catalogs/shop/items/nope".into() };
    let error = shop.client(patient()).get_item(request).await.unwrap_err();
    assert!(matches!(&error, Error::Call(call) if call.code == Code::NotFound && call.attempts == 1), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_larger_than_the_limit_is_refused_with_advice() {
    let shop = FakeShop::default();
    shop.state().items.insert("a".into(), vitrine::v1::Item { description: "x".repeat(5000), ..item("a") });
    let client = shop.client(Options { max_message_bytes: 1000, ..patient() });
    let error = client.get_item(GetItemRequest { name: "catalogs/shop/items/a".into() }).await.unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("ask for a smaller page"), "{error}");
}
