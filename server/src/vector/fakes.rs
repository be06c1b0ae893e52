//! A log and an encoder to test an indexer with.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;

use super::{Changes, IndexerOptions, VectorIndex, VectorOptions, content_hash};
use crate::Doc;

pub const WIDTH: usize = 8;

/// An item and its title, or none where it was removed.
type Titled = (Doc, Option<String>);

/// A catalog's log, as far as an indexer sees it.
#[derive(Clone)]
pub struct Log {
    changes: Arc<Mutex<Vec<Titled>>>,
    head: watch::Sender<u64>,
}

impl Log {
    pub fn new() -> Self {
        Self { changes: Arc::default(), head: watch::Sender::new(0) }
    }

    pub fn change(&self, doc: Doc, title: Option<&str>) {
        self.changes.lock().push((doc, title.map(str::to_owned)));
        self.head.send_modify(|head| *head += 1);
    }
}

impl Changes for Log {
    type Content = String;

    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Doc)>, Box<dyn Error + Send + Sync>> {
        let last: BTreeMap<Doc, u64> =
            (1..).zip(self.changes.lock().iter()).map(|(seq, change)| (change.0, seq)).collect();
        let mut changes: Vec<(u64, Doc)> =
            last.into_iter().map(|(doc, seq)| (seq, doc)).filter(|&(seq, _)| seq > after).collect();
        changes.sort_unstable();
        changes.truncate(limit);
        Ok(changes)
    }

    fn content(&self, doc: Doc) -> Option<(u64, String)> {
        let title = self.changes.lock().iter().rev().find(|change| change.0 == doc)?.1.clone()?;
        Some((content_hash(&title), title))
    }

    fn head(&self) -> u64 {
        *self.head.borrow()
    }

    async fn beyond(&self, position: u64) {
        let _ = self.head.subscribe().wait_for(|head| *head > position).await;
    }
}

pub fn vector_of(text: &str) -> Vec<f32> {
    content_hash(text).to_le_bytes().iter().map(|&byte| f32::from(byte) + 1.0).collect()
}

pub fn open(dir: &TempDir) -> Arc<VectorIndex> {
    Arc::new(VectorIndex::open(dir.path(), VectorOptions::new(WIDTH)).unwrap())
}

pub fn options() -> IndexerOptions {
    let none = Duration::ZERO;
    IndexerOptions { chunk: 4, page: 10, gather: none, back_off: none, back_off_most: none }
}
