//! The catalog as a whole: what it promises about changes that were acknowledged.

mod crash;
mod following;
mod pictures;
mod replay;

use std::path::Path;
use std::sync::Arc;

use vitrine::v1::{Event, EventItem, EventType, Item};

use super::*;
use crate::log::sqlite::SqliteLog;

fn open_log(dir: &Path) -> Arc<SqliteLog> {
    Arc::new(SqliteLog::open(&dir.join("log.db")).unwrap())
}

fn open(dir: &Path) -> Catalog {
    Catalog::open("shop".parse().unwrap(), dir, open_log(dir), &CatalogOptions::default()).unwrap()
}

fn item(id: &str, title: &str) -> Change {
    Change::UpsertItem(Item { id: id.into(), title: title.into(), ..Item::default() })
}

fn event(id: &str, items: &[&str]) -> Change {
    let items = items.iter().map(|&id| EventItem { id: id.into(), ..EventItem::default() }).collect();
    let kind = EventType::View.into();
    Change::Event(Event { event_id: id.into(), user_id: "u".into(), r#type: kind, items, ..Event::default() })
}

fn accepted(seq: u64, docs: &[Doc], existed: bool, unknown: &[&str]) -> Appended {
    let unknown = unknown.iter().map(|&id| id.to_owned()).collect();
    Appended::Accepted { seq: Seq(seq), docs: docs.to_vec(), existed, unknown }
}

#[tokio::test]
async fn each_change_is_answered_and_shows() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let answers = catalog
        .append(vec![item("a", "A"), event("e1", &["a", "b"]), item("a", "A"), Change::DeleteItem("a".into())])
        .await
        .unwrap();
    assert_eq!(
        answers,
        [
            accepted(1, &[0], false, &[]),
            accepted(2, &[0, 1], false, &["b"]),
            accepted(2, &[0], true, &[]),
            accepted(3, &[0], true, &[]),
        ]
    );
    assert_eq!(*catalog.head().borrow(), Seq(3));
    assert_eq!((catalog.item_count(), catalog.event_count(), catalog.behaviour.read().events()), (0, 1, 1));
    assert_eq!(catalog.append(Vec::new()).await.unwrap(), []);
}

#[tokio::test]
async fn an_event_counts_once_however_often_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let twice = catalog.append(vec![event("e1", &["a"]), event("e1", &["a"]), event("e2", &["a"])]).await.unwrap();
    assert_eq!(twice, [accepted(1, &[0], false, &["a"]), Appended::Duplicate, accepted(2, &[0], false, &["a"])]);
    let (first, second) = tokio::join!(catalog.append(vec![event("e3", &[])]), catalog.append(vec![event("e3", &[])]));
    let answers = [first.unwrap(), second.unwrap()].concat();
    assert_eq!(answers.iter().filter(|&answer| *answer == Appended::Duplicate).count(), 1);
    drop(catalog);
    let catalog = open(dir.path());
    assert_eq!(catalog.append(vec![event("e2", &["z"])]).await.unwrap(), [Appended::Duplicate]);
    assert_eq!((catalog.event_count(), *catalog.head().borrow()), (3, Seq(3)));
    // An item may have the id of an event.
    assert_eq!(catalog.append(vec![item("e1", "E")]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_import_goes_on_where_its_changes_end() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let at = |position| Some(ImportPosition { id: "goods.jsonl".into(), position });
    assert_eq!(catalog.import_position("goods.jsonl").unwrap(), 0);
    catalog.append_import(vec![item("a", "A")], at(10)).await.unwrap();
    catalog.append_import(Vec::new(), at(12)).await.unwrap();
    catalog.append_import(Vec::new(), at(11)).await.unwrap();
    assert_eq!(catalog.import_position("goods.jsonl").unwrap(), 12);
    assert_eq!(catalog.import_position("other").unwrap(), 0);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let catalog = open_with(dir.path(), Arc::clone(&log));
    let at = |position| Some(ImportPosition { id: "i".into(), position });
    catalog.append_import(vec![item("a", "A"), event("e", &["a"])], at(1)).await.unwrap();
    let head = *catalog.head().borrow();
    log.limit_pages(Some(1));
    let large = "long ".repeat(10_000);
    for _ in 0..3 {
        let refused = catalog.append_import(vec![item("b", &large), event("f", &["b", "c"])], at(2)).await;
        assert!(matches!(refused, Err(LogError::Full)), "{refused:?}");
    }
    assert_eq!(*catalog.head().borrow(), head);
    assert_eq!((catalog.item_count(), catalog.event_count(), catalog.items.read().doc_count()), (1, 1, 1));
    assert_eq!((catalog.read(Seq(0), 10).unwrap().len(), catalog.import_position("i").unwrap()), (2, 1));
    log.limit_pages(None);
    let answers = catalog.append_import(vec![item("b", &large), event("f", &["b", "c"])], at(2)).await.unwrap();
    assert_eq!(answers, [accepted(3, &[1], false, &[]), accepted(4, &[1, 2], false, &["c"])]);
    drop((catalog, log));
    let catalog = open(dir.path());
    assert_eq!((catalog.item_count(), catalog.event_count(), catalog.import_position("i").unwrap()), (2, 2, 2));
}

fn open_with(dir: &Path, log: Arc<SqliteLog>) -> Catalog {
    Catalog::open("shop".parse().unwrap(), dir, log, &CatalogOptions::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_on_a_short_queue_are_all_answered() {
    let dir = tempfile::tempdir().unwrap();
    let options = CatalogOptions { queue_bytes: 2_000, group_bytes: 1_000, checkpoint_events: 100 };
    let catalog = Arc::new(Catalog::open("shop".parse().unwrap(), dir.path(), open_log(dir.path()), &options).unwrap());
    let callers: Vec<_> = (0..16)
        .map(|caller| {
            let catalog = Arc::clone(&catalog);
            tokio::spawn(async move {
                for n in 0..20 {
                    let answers = catalog.append(vec![event(&format!("{caller}-{n}"), &["a"])]).await.unwrap();
                    assert!(matches!(&answers[..], [Appended::Accepted { .. }]));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!((catalog.event_count(), catalog.behaviour.read().events()), (320, 320));
    // More than the whole queue holds.
    assert_eq!(catalog.append(vec![item("large", &"x".repeat(5_000))]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_closed_catalog_refuses_changes_and_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    catalog.append(vec![item("a", "A")]).await.unwrap();
    catalog.close();
    assert!(matches!(catalog.append(vec![item("b", "B")]).await, Err(LogError::Closed)));
    assert_eq!(catalog.read(Seq(0), 10).unwrap().len(), 1);
}

#[tokio::test]
async fn changes_of_items_come_once_at_their_last_position() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let changes = [item("a", "A"), item("b", "B"), event("e", &["a"]), item("a", "A2"), Change::DeleteItem("b".into())];
    catalog.append(changes.to_vec()).await.unwrap();
    let read = |after| {
        let title = |item: Arc<Item>| item.title.clone();
        let changes = catalog.read_items(Seq(after), 10).unwrap();
        changes.into_iter().map(|change| (change.seq, change.doc, change.item.map(title))).collect::<Vec<_>>()
    };
    assert_eq!(read(0), [(4, 0, Some("A2".into())), (5, 1, None)]);
    assert_eq!(read(4), [(5, 1, None)]);
    assert_eq!(read(5), []);
}

#[tokio::test]
async fn events_are_exported_by_their_own_time() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(open(dir.path()));
    let timed = |n: i64| match event(&format!("e{n}"), &["a"]) {
        Change::Event(mut event) => {
            event.time = Some(prost_types::Timestamp { seconds: n, nanos: 0 });
            Change::Event(event)
        }
        other => other,
    };
    let mut changes: Vec<_> = (0..5_000).map(timed).collect();
    changes.extend([item("a", "A"), event("now", &["a"])]);
    catalog.append(changes).await.unwrap();
    let ids = |times| {
        let pages = catalog.events(times).collect::<Result<Vec<_>, _>>().unwrap();
        pages.concat().into_iter().map(|event| event.event_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(i64::MIN..i64::MAX).len(), 5_001);
    assert_eq!(ids(10_000..12_000), ["e10", "e11"]);
    assert_eq!(ids(4_999_000..i64::MAX), ["e4999", "now"]);
}

#[tokio::test]
async fn a_start_needs_the_checkpoint_only_for_speed() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    catalog.append(vec![event("e1", &["a"]), event("e2", &["b"])]).await.unwrap();
    drop(catalog);
    let file = dir.path().join("behaviour.checkpoint");
    assert!(file.is_file());
    assert_eq!(open(dir.path()).behaviour.read().events(), 2);
    std::fs::write(&file, "damaged").unwrap();
    let catalog = open(dir.path());
    assert_eq!(catalog.behaviour.read().events(), 2);
    catalog.append(vec![event("e3", &["b"])]).await.unwrap();
    drop(catalog);
    assert_eq!(open(dir.path()).behaviour.read().events(), 3);
}
