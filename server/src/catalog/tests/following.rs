//! A projection follows its catalog, whatever happens to either.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::catalog::projection::{Projection, TailOptions, tail};

/// Titles by doc: what was applied, and what of it was committed.
struct Titles {
    applied: Mutex<BTreeMap<Doc, String>>,
    committed: Mutex<(BTreeMap<Doc, String>, u64)>,
    commits: Sender<u64>,
    /// So many calls fail, and lose what was not committed.
    failures: AtomicU32,
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is full")]
struct Full;

impl Titles {
    fn new(failures: u32) -> (Arc<Self>, Receiver<u64>) {
        let (commits, committed) = channel();
        let titles =
            Self { applied: Mutex::default(), committed: Mutex::default(), commits, failures: failures.into() };
        (Arc::new(titles), committed)
    }

    fn fail(&self) -> Result<(), Full> {
        let failing = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if failing.is_ok() {
            *self.applied.lock() = self.committed.lock().0.clone();
            return Err(Full);
        }
        Ok(())
    }
}

impl Projection for Titles {
    type Error = Full;

    fn watermark(&self) -> u64 {
        self.committed.lock().1
    }

    fn apply(&self, changes: &[ItemChange]) -> Result<(), Full> {
        self.fail()?;
        let mut applied = self.applied.lock();
        for change in changes {
            match &change.item {
                Some(item) => applied.insert(change.doc, item.title.clone()),
                None => applied.remove(&change.doc),
            };
        }
        Ok(())
    }

    fn commit(&self, watermark: u64) -> Result<(), Full> {
        self.fail()?;
        *self.committed.lock() = (self.applied.lock().clone(), watermark);
        self.commits.send(watermark).map_err(|_| Full)
    }
}

fn options() -> TailOptions {
    TailOptions { interval: Duration::from_millis(1), chunk: 3, commit_after: 10 }
}

fn wait_for(commits: &Receiver<u64>, watermark: u64) {
    while commits.recv().unwrap() < watermark {}
}

#[tokio::test]
async fn a_projection_gets_what_was_there_and_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(open(dir.path()));
    let many = (0..50).map(|n| item(&format!("i{n}"), "old")).collect();
    catalog.append(many).await.unwrap();
    let (titles, commits) = Titles::new(0);
    let mut tail = tail("titles", Arc::clone(&catalog), Arc::clone(&titles), options()).unwrap();
    wait_for(&commits, 50);
    catalog.append(vec![item("i1", "new"), Change::DeleteItem("i2".into()), event("e", &["i1"])]).await.unwrap();
    wait_for(&commits, 52);
    tail.stop();
    let committed = titles.committed.lock();
    assert_eq!((committed.0.len(), committed.0[&1].as_str(), committed.0.get(&2)), (49, "new", None));
}

#[tokio::test]
async fn a_projection_that_fails_is_tried_again_from_its_watermark() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(open(dir.path()));
    catalog.append((0..20).map(|n| item(&format!("i{n}"), "A")).collect()).await.unwrap();
    let (titles, commits) = Titles::new(9);
    let tail = tail("titles", Arc::clone(&catalog), Arc::clone(&titles), options()).unwrap();
    wait_for(&commits, 20);
    assert_eq!(titles.committed.lock().0.len(), 20);
    drop(tail);
    assert_eq!(titles.watermark(), 20);
}

#[tokio::test]
async fn a_projection_goes_on_from_its_watermark_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(open(dir.path()));
    catalog.append(vec![item("a", "A"), item("b", "B")]).await.unwrap();
    let (titles, commits) = Titles::new(0);
    drop(tail("titles", Arc::clone(&catalog), Arc::clone(&titles), options()).unwrap());
    catalog.append(vec![item("c", "C")]).await.unwrap();
    let tail = tail("titles", Arc::clone(&catalog), Arc::clone(&titles), options()).unwrap();
    wait_for(&commits, 3);
    assert_eq!(titles.committed.lock().0.len(), 3);
    drop(tail);
}

#[tokio::test]
async fn a_projection_of_another_log_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(open(dir.path()));
    catalog.append(vec![item("a", "A"), item("b", "B")]).await.unwrap();
    let (titles, commits) = Titles::new(0);
    titles.committed.lock().1 = 99;
    let tail = tail("titles", Arc::clone(&catalog), Arc::clone(&titles), options()).unwrap();
    assert_eq!(commits.recv().unwrap(), 2);
    assert_eq!(titles.committed.lock().0.len(), 2);
    drop(tail);
}
