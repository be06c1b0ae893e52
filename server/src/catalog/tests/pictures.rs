//! Pictures belong to their items.

use rusqlite::Connection;

use super::*;

fn picture(id: &str, data: &'static [u8]) -> Change {
    Change::PutPicture(id.into(), Bytes::from_static(data))
}

#[tokio::test]
async fn a_picture_is_of_an_item_that_is_there_and_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let answers =
        catalog.append(vec![picture("a", b"early"), item("a", "A"), picture("a", b"one"), picture("a", b"one")]);
    let of_none = Appended::Accepted { seq: Seq(0), docs: Vec::new(), existed: false, unknown: Vec::new() };
    let (put, again) = (accepted(2, &[0], true, &[]), accepted(2, &[0], true, &[]));
    assert_eq!(answers.await.unwrap(), [of_none, accepted(1, &[0], false, &[]), put, again]);
    catalog.append(vec![item("a", "A2")]).await.unwrap();
    assert_eq!(catalog.picture(0).unwrap().unwrap(), &b"one"[..]);
    assert_eq!(catalog.changed(Followed::Pictures, Seq(0), 10).unwrap(), [(Seq(2), 0)]);

    catalog.append(vec![Change::DeleteItem("a".into()), item("a", "A3")]).await.unwrap();
    assert_eq!((catalog.picture_count(), catalog.picture(0).unwrap()), (0, None));
    assert_eq!(catalog.changed(Followed::Pictures, Seq(2), 10).unwrap(), [(Seq(4), 0)]);
    let removed = catalog.append(vec![Change::DeletePicture("a".into())]).await.unwrap();
    assert!(!removed[0].existed());
}

#[tokio::test]
async fn the_log_keeps_nothing_of_a_picture_that_was_replaced_or_went() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    catalog.append(vec![item("a", "A"), picture("a", b"a face"), picture("a", b"a chair")]).await.unwrap();
    let kept = || {
        let log = Connection::open(dir.path().join("log.db")).unwrap();
        let mut kept = log.prepare("SELECT seq FROM log WHERE length(payload) > 0 ORDER BY seq").unwrap();
        kept.query_map([], |row| row.get(0)).unwrap().collect::<Result<Vec<i64>, _>>().unwrap()
    };
    assert_eq!(kept(), [1, 3]);
    catalog.append(vec![Change::DeletePicture("a".into())]).await.unwrap();
    assert_eq!(kept(), [1]);
}
