//! One shop: its items, its events, and the indexes made from them.
//!
//! - [`Catalog`]: one of them; [`catalogs`]: all that a server has on disk.
//! - [`items`]: the items as they are now, in memory.
//! - [`projection`]: what keeps indexes up to date with the items.
//! - [`export`]: all events, page by page.

pub mod catalogs;
pub mod export;
pub mod items;
pub mod projection;

mod checkpoint;
mod id;
mod plan;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;
use vitrine::v1::Control;

pub use id::{CatalogId, CatalogIdError};

use crate::Doc;
use crate::behaviour::Behaviour;
use crate::log::{Appended, Change, ControlId, Followed, ImportPosition, Log, LogError, Record, Records, Seq, Who};
use checkpoint::Checkpoint;
use items::{Items, Table};
use projection::ItemChange;
use writer::{Erase, Writer};

/// Events read at once while a catalog is opened.
const REPLAY_PAGE: usize = 8_192;
/// More records than a log has.
const EVERYTHING: usize = i64::MAX as usize;

/// How a catalog is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogOptions {
    /// How many bytes of changes may wait to be recorded, with 256 added for each change; callers wait for room.
    pub queue_bytes: usize,
    /// How many bytes, counted alike, are recorded together at most (a single larger call is recorded whole).
    pub group_bytes: usize,
    /// The least number of new events after which a checkpoint of what users did is written.
    pub checkpoint_events: u64,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self { queue_bytes: 64 << 20, group_bytes: 8 << 20, checkpoint_events: 50_000 }
    }
}

/// The shop's rules, by id.
pub type Controls = BTreeMap<ControlId, Arc<Control>>;

/// One shop's catalog. Reads never wait for writes to the disk.
pub struct Catalog {
    /// Its name.
    pub id: CatalogId,
    /// The items as they are now.
    pub items: Arc<Items>,
    /// What users did.
    pub behaviour: Arc<RwLock<Behaviour>>,
    dir: PathBuf,
    created_ms: i64,
    state: Arc<State>,
    writer: Writer,
}

/// What the catalog and its writer share.
struct State {
    log: Arc<dyn Log>,
    items: Arc<Items>,
    behaviour: Arc<RwLock<Behaviour>>,
    controls: ArcSwap<Controls>,
    head: watch::Sender<Seq>,
    event_count: AtomicU64,
}

impl Catalog {
    /// Opens a catalog on its log. `dir` is where its checkpoint is kept, and its indexes may be.
    pub fn open(id: CatalogId, dir: &Path, log: Arc<dyn Log>, options: &CatalogOptions) -> Result<Self, LogError> {
        let contents = log.load()?;
        let mut table = Table::default();
        for id in &contents.ids {
            table.intern(id);
        }
        if table.doc_count() != contents.ids.len() {
            return Err(LogError::Corrupt { path: dir.to_path_buf(), detail: "an item id has two docs".into() });
        }
        for item in contents.items {
            table.upsert(Arc::new(item));
        }
        for (doc, hash) in contents.pictures {
            table.put_picture(doc, hash);
        }
        let checkpoint = Checkpoint::new(dir, contents.created_ms);
        let (mut behaviour, at) = checkpoint.load(contents.head);
        let replayed = replay(&*log, at, &table, &mut behaviour)?;
        let items = Arc::new(Items::new(table));
        let behaviour = Arc::new(RwLock::new(behaviour));
        let state = Arc::new(State {
            log,
            items: Arc::clone(&items),
            behaviour: Arc::clone(&behaviour),
            controls: ArcSwap::from_pointee(
                contents.controls.into_iter().map(|(id, control)| (id, Arc::new(control))).collect(),
            ),
            head: watch::Sender::new(contents.head),
            event_count: AtomicU64::new(contents.event_count),
        });
        let writer = Writer::start(&id, Arc::clone(&state), checkpoint, replayed, options)
            .map_err(|error| LogError::Io { path: dir.to_path_buf(), source: Arc::new(error) })?;
        Ok(Self { id, items, behaviour, dir: dir.to_path_buf(), created_ms: contents.created_ms, state, writer })
    }

    /// Records changes, all or none. They are durable when it returns, and `items` and `behaviour` show them.
    /// Answers one result for each change, in order.
    pub async fn append(&self, changes: Vec<Change>) -> Result<Vec<Appended>, LogError> {
        self.append_import(changes, None).await
    }

    /// As [`append`](Self::append); the position of an import is recorded with its changes, or neither is.
    pub async fn append_import(
        &self,
        changes: Vec<Change>,
        import: Option<ImportPosition>,
    ) -> Result<Vec<Appended>, LogError> {
        if changes.is_empty() && import.is_none() {
            return Ok(Vec::new());
        }
        self.writer.append(changes, import).await
    }

    /// Erases a person's events, in the log and in what is made from it; answers how many there were. What many did
    /// together (popularity, items bought together) keeps its sums, in which nobody can be told apart.
    ///
    /// Whoever writes waits only for the last part: most of the log is searched before.
    pub async fn erase(&self, who: Who) -> Result<u64, LogError> {
        let until = *self.state.head.borrow();
        let log = Arc::clone(&self.state.log);
        let events_of = Records::Of(who.clone());
        let found = tokio::task::spawn_blocking(move || log.read(Seq(0), EVERYTHING, &events_of)).await;
        let found = found.map_err(|_| LogError::Closed)??;
        self.writer.erase(Erase { who, found, until }).await
    }

    /// How far the import of this id has come. 0: it is not known.
    pub fn import_position(&self, import_id: &str) -> Result<u64, LogError> {
        self.state.log.import_position(import_id)
    }

    /// The records after `after`, at most `limit`. Reads the disk.
    pub fn read(&self, after: Seq, limit: usize) -> Result<Vec<Record>, LogError> {
        self.state.log.read(after, limit, &Records::All)
    }

    /// The changes of items after `after`, at most `limit`; an item that changed several times comes once, at its last
    /// change. Fewer than `limit` means that all were read up to the head as it was before the call. Reads the disk.
    pub fn read_items(&self, after: Seq, limit: usize) -> Result<Vec<ItemChange>, LogError> {
        let changed = self.changed(Followed::Items, after, limit)?;
        let table = self.items.read();
        let change = |(seq, doc): (Seq, Doc)| ItemChange { seq: seq.0, doc, item: table.item(doc).cloned() };
        Ok(changed.into_iter().map(change).collect())
    }

    /// Positions and items of what changed after `after`, each once, as [`read_items`](Self::read_items). Reads the disk.
    pub fn changed(&self, what: Followed, after: Seq, limit: usize) -> Result<Vec<(Seq, Doc)>, LogError> {
        self.state.log.changed(what, after, *self.state.head.borrow(), limit)
    }

    /// The file of an item's picture, if it has one. Reads the disk.
    pub fn picture(&self, doc: Doc) -> Result<Option<Bytes>, LogError> {
        self.state.log.picture(doc)
    }

    /// The last position that is durable and shows. It only grows.
    pub fn head(&self) -> watch::Receiver<Seq> {
        self.state.head.subscribe()
    }

    /// The controls as they are now: the same map until one of them changes.
    pub fn controls(&self) -> Arc<Controls> {
        self.state.controls.load_full()
    }

    /// How many events were recorded.
    pub fn event_count(&self) -> u64 {
        self.state.event_count.load(Ordering::Relaxed)
    }

    /// How many items exist. Waits for nobody.
    pub fn item_count(&self) -> usize {
        self.items.count()
    }

    /// How many items have a picture. Waits for nobody.
    pub fn picture_count(&self) -> usize {
        self.items.picture_count()
    }

    /// When it was made, in unix milliseconds.
    pub fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// Its directory, where its indexes are kept beside the log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Refuses new changes, finishes those that wait, saves a checkpoint. Blocks until that is done.
    pub fn close(&self) {
        self.writer.close();
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.close();
    }
}

/// Applies the events after `at`. Answers how many there were.
fn replay(log: &dyn Log, mut at: Seq, table: &Table, behaviour: &mut Behaviour) -> Result<u64, LogError> {
    let mut replayed = 0;
    let mut docs = Vec::new();
    loop {
        let page = log.read(at, REPLAY_PAGE, &Records::Events)?;
        let Some(last) = page.last() else { return Ok(replayed) };
        at = last.seq;
        replayed += page.len() as u64;
        for record in &page {
            if let Change::Event(event) = &record.change {
                docs.clear();
                docs.extend(event.items.iter().filter_map(|item| table.doc(&item.id)));
                behaviour.apply(event, &docs, record.recorded_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests;
