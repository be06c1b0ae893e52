//! Imports go on where a broken connection left them: nothing is lost, nothing is sent for nothing.

#![cfg(test)]

mod fake;

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use bytes::Bytes;
use tonic::{Code, Status};
use vitrine::v1::{Event, EventType, Item};
use vitrine_client::{
    Error, Options,
    import::{ImportOptions, ImportUpdate, PicturedItem},
};

use crate::fake::{FakeShop, item, png};

fn items(positions: std::ops::RangeInclusive<i64>) -> impl tokio_stream::Stream<Item = (i64, Item)> + Unpin {
    tokio_stream::iter(positions.map(|position| (position, item(&format!("i{position:05}")))))
}

fn into_shop(import_id: &str) -> ImportOptions {
    ImportOptions { import_id: import_id.to_owned(), ..ImportOptions::into_catalog("catalogs/shop") }
}

#[tokio::test(start_paused = true)]
async fn everything_is_confirmed_in_order() {
    let shop = FakeShop::default();
    let mut confirmed = Vec::new();
    let update = |update: ImportUpdate<'_>| {
        if let ImportUpdate::Progress(summary) = update {
            confirmed.push(summary.durable_position);
        }
    };
    let summary = shop.client(Options::default()).import_items(into_shop(""), items(1..=95), update).await.unwrap();
    assert_eq!((summary.accepted, summary.durable_position, summary.reconnects), (95, 95, 0));
    assert_eq!(confirmed, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95]);
    assert_eq!(shop.state().items.len(), 95);
}

#[tokio::test(start_paused = true)]
async fn an_empty_source_is_no_error() {
    let shop = FakeShop::default();
    let summary = shop
        .client(Options::default())
        .import_items(into_shop(""), tokio_stream::empty::<(i64, Item)>(), |_| ())
        .await
        .unwrap();
    assert_eq!(summary.accepted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_is_made_again_and_nothing_is_lost() {
    for (import_id, rows) in [("", 1), ("", 37), ("nightly", 37), ("nightly", 500)] {
        let shop = FakeShop::default();
        shop.state().break_after_rows = Some(rows);
        let mut broke = Vec::new();
        let update = |update: ImportUpdate<'_>| {
            if let ImportUpdate::Reconnecting { error, .. } = update {
                broke.push(error.to_string());
            }
        };
        let client = shop.client(Options::default());
        let summary = client.import_items(into_shop(import_id), items(1..=500), update).await.unwrap();
        assert_eq!((summary.durable_position, summary.reconnects, broke.len()), (500, 1, 1), "{broke:?}");
        assert_eq!(shop.state().items.len(), 500, "{import_id} {rows}");
        assert_eq!(summary.accepted, 500, "{import_id} {rows}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_run_goes_on_after_the_position_kept_for_its_name() {
    let shop = FakeShop::default();
    let client = shop.client(Options::default());
    client.import_items(into_shop("nightly"), items(1..=40), |_| ()).await.unwrap();
    shop.state().items.clear();
    let summary = client.import_items(into_shop("nightly"), items(1..=60), |_| ()).await.unwrap();
    assert_eq!((summary.resumed_after, summary.accepted, summary.durable_position), (40, 20, 60));
    assert_eq!(shop.state().items.first_key_value().unwrap().0, "i00041");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_row_is_told_once_and_the_others_go_on() {
    let shop = FakeShop::default();
    shop.state().break_after_rows = Some(38);
    let rows = (1..=60).map(|position| {
        let mut item = item(&format!("i{position}"));
        if position == 35 {
            item.title.clear();
        }
        (position, item)
    });
    let mut rejected = Vec::new();
    let update = |update: ImportUpdate<'_>| {
        if let ImportUpdate::Rejected(error) = update {
            rejected.push((error.position, error.violations[0].field.clone()));
        }
    };
    let client = shop.client(Options::default());
    let summary = client.import_items(into_shop(""), tokio_stream::iter(rows), update).await.unwrap();
    assert_eq!(rejected, [(35, "title".to_owned())]);
    assert_eq!((summary.rejected, shop.state().items.len()), (1, 59));
}

#[tokio::test(start_paused = true)]
async fn a_small_window_is_no_obstacle() {
    let shop = FakeShop::default();
    let options = ImportOptions { window: 10, ..into_shop("") };
    let summary = shop.client(Options::default()).import_items(options, items(1..=95), |_| ()).await.unwrap();
    assert_eq!(summary.accepted, 95);
}

fn pictured(position: i64, picture: Bytes) -> (i64, PicturedItem) {
    (position, PicturedItem { item: item(&format!("i{position:05}")), picture })
}

#[tokio::test(start_paused = true)]
async fn pictures_go_up_with_their_items_and_again_after_a_break() {
    let shop = FakeShop::default();
    shop.state().break_after_rows = Some(15);
    let rows = tokio_stream::iter((1..=20).map(|position| pictured(position, png(position as u8))));
    let summary = shop.client(Options::default()).import_items(into_shop(""), rows, |_| ()).await.unwrap();
    assert_eq!((summary.accepted, summary.without_picture, summary.reconnects), (20, 0, 1));
    let expected = (1..=20).map(|position| (format!("i{position:05}"), png(position as u8))).collect();
    assert_eq!(shop.state().pictures, expected);
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_picture_cannot_be_used_is_no_rejected_item() {
    let shop = FakeShop::default();
    let rows = tokio_stream::iter([pictured(1, png(1)), pictured(2, "no picture".into()), pictured(3, png(3))]);
    let mut told = Vec::new();
    let update = |update: ImportUpdate<'_>| match update {
        ImportUpdate::WithoutPicture(error) => told.push((error.position, error.violations[0].field.clone())),
        ImportUpdate::Rejected(error) => panic!("{error:?}"),
        _ => {}
    };
    let summary = shop.client(Options::default()).import_items(into_shop(""), rows, update).await.unwrap();
    assert_eq!(told, [(2, "picture".to_owned())]);
    assert_eq!((summary.accepted, summary.rejected, summary.without_picture), (3, 0, 1));
    let state = shop.state();
    assert_eq!((state.items.len(), state.pictures.len()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn no_more_pictures_wait_in_memory_than_the_window_holds() {
    let shop = FakeShop::default();
    let read = Cell::new(0);
    let rows = tokio_stream::iter((1..=100).map(|position| {
        read.set(position);
        pictured(position, vec![0; 1000].into())
    }));
    // The fake confirms nothing before the tenth row, which never comes.
    let options = ImportOptions { window_bytes: 3_500, patience: Duration::from_secs(1), ..into_shop("") };
    let client = shop.client(Options { retries: 0, ..Options::default() });
    client.import_items(options, rows, |_| ()).await.unwrap_err();
    assert_eq!(read.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn pictures_that_are_confirmed_make_room_for_others() {
    let shop = FakeShop::default();
    let rows = tokio_stream::iter((1..=95).map(|position| pictured(position, png(1))));
    let options = ImportOptions { window_bytes: 10 * png(1).len(), ..into_shop("") };
    let summary = shop.client(Options::default()).import_items(options, rows, |_| ()).await.unwrap();
    assert_eq!((summary.accepted, summary.reconnects), (95, 0));
}

#[tokio::test(start_paused = true)]
async fn events_sent_twice_are_counted_as_known() {
    let shop = FakeShop::default();
    let event = |position: i64| Event {
        event_id: format!("e{}", position % 30),
        r#type: EventType::View.into(),
        user_id: "u".into(),
        ..Default::default()
    };
    let events = tokio_stream::iter((1..=45).map(|position| (position, event(position))));
    let summary = shop.client(Options::default()).import_events(into_shop(""), events, |_| ()).await.unwrap();
    assert_eq!((summary.accepted, summary.duplicates), (30, 15));
    let ids: BTreeSet<String> = shop.state().events.iter().map(|event| event.event_id.clone()).collect();
    assert_eq!(ids.len(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_refused_import_is_not_tried_again() {
    let shop = FakeShop::default();
    shop.fail_next(Status::not_found("there is no catalog `shop`"));
    let error = shop.client(Options::default()).import_items(into_shop(""), items(1..=5), |_| ()).await.unwrap_err();
    assert_eq!((error.code(), shop.calls("ImportItems")), (Code::NotFound, 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_the_retries() {
    let shop = FakeShop::default();
    shop.state().silent = true;
    let client = shop.client(Options { retries: 2, ..Options::default() });
    let options = ImportOptions { patience: Duration::from_secs(5), ..into_shop("") };
    let error = client.import_items(options, items(1..=5), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("did not answer for 5s"), "{error}");
    assert_eq!(shop.calls("ImportItems"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_what_it_confirmed_is_called_out() {
    let shop = FakeShop::default();
    shop.state().break_after_rows = Some(50);
    let forget = shop.clone();
    let update = move |update: ImportUpdate<'_>| {
        if let ImportUpdate::Reconnecting { .. } = update {
            forget.state().positions.clear();
        }
    };
    let client = shop.client(Options::default());
    let error = client.import_items(into_shop("nightly"), items(1..=100), update).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }) && error.to_string().contains("has 0"), "{error}");
}
