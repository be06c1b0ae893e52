//! What is done to the server: versions loaded and unloaded, the label moved, items changed; and what it tells meanwhile.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use prost_types::FieldMask;
use tokio::{task::JoinHandle, time::interval};
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    Item, LoadVersionRequest, RollbackRequest, SetLabelRequest, UnloadVersionRequest, UpsertItemsRequest, VersionState,
    WatchVersionsRequest,
};
use vitrine_client::{Client, Error};

use super::{
    super::{
        process::{self, Sample, Ticks},
        shop::{CATALOG, MODEL},
    },
    label::Move,
    searches::{Record, Search, by_vector},
};

const LABEL: &str = "stable";
/// How long loading with a whole index may take.
const PATIENCE: Duration = Duration::from_mins(30);
/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The server, and its process.
pub struct Server {
    pub client: Client,
    pub process: u32,
}

impl Server {
    /// Loads a version, and waits until it is available.
    pub async fn load(&self, version: u32) -> Result<()> {
        let request = LoadVersionRequest { name: version_name(version), unload_first: false };
        let client = self.client.with_timeout(PATIENCE);
        client.load_version(request).await.with_context(|| format!("version {version} cannot be loaded"))?;
        Ok(())
    }

    /// Unloads a version, and waits until its memory is free.
    pub async fn unload(&self, version: u32) -> Result<()> {
        let request = UnloadVersionRequest { name: version_name(version) };
        self.client.unload_version(request).await.with_context(|| format!("version {version} cannot be unloaded"))?;
        Ok(())
    }

    /// Moves the label to a version that is loaded.
    pub async fn set_label(&self, from: u32, to: u32, record: &Record) -> Result<Move> {
        let request = SetLabelRequest {
            name: model_name(),
            label: LABEL.to_owned(),
            version: to,
            expected_version: from,
            unload_first: false,
        };
        self.moved(to, record, self.client.set_label(request)).await
    }

    /// Moves the label back to `to`, where it was before.
    pub async fn roll_back(&self, to: u32, record: &Record) -> Result<Move> {
        let request = RollbackRequest { name: model_name(), label: LABEL.to_owned() };
        self.moved(to, record, self.client.rollback(request)).await
    }

    /// Makes the call, and searches, one search after the other, until one is answered by the new version.
    async fn moved<A>(&self, to: u32, record: &Record, call: impl Future<Output = Result<A, Error>>) -> Result<Move> {
        let sent = Instant::now();
        let call = async {
            call.await.with_context(|| format!("the label cannot be moved to version {to}"))?;
            Ok(Instant::now())
        };
        let (done, first) = tokio::try_join!(call, self.first_answer(to, record))?;
        Ok(Move { to, sent, done, first })
    }

    /// When the version answers its first search. These searches count as the others do.
    async fn first_answer(&self, version: u32, record: &Record) -> Result<Instant> {
        loop {
            let due = Instant::now();
            let outcome = by_vector(&self.client).await.map_err(|error| error.code());
            record.add(Search { due, latency: due.elapsed(), outcome, probe: true });
            if outcome.is_ok_and(|answer| answer.version == Some(version)) {
                return Ok(Instant::now());
            }
        }
    }

    /// Who has had the processors by now.
    pub fn ticks(&self) -> Result<Ticks> {
        Ok(Ticks::now(self.process)?)
    }

    /// The memory that it takes now.
    pub fn memory(&self) -> io::Result<Sample> {
        Ok(Sample { at: Instant::now(), bytes: process::resident(self.process)? })
    }
}

/// A version that came into a state.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub at: Instant,
    pub version: u32,
    pub state: VersionState,
}

/// What goes on beside the searches and the swaps.
pub struct Background {
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<()>; 3],
}

/// What was seen there.
#[derive(Debug, Default)]
pub struct Seen {
    pub memory: Vec<Sample>,
    pub changes: Vec<Change>,
    pub failed_writes: usize,
    /// Of the version whose index is being made: how many items have their vector, and how many there are.
    pub indexing: Option<(i64, i64)>,
}

impl Background {
    /// Changes `items` in turn, `writes` of them a second, each so that it needs another vector; and watches the server.
    pub async fn start(server: &Server, items: Vec<Item>, writes: f64) -> Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut watched = server.client.watch_versions(WatchVersionsRequest { name: model_name() }).await?;
        let states = Arc::clone(&seen);
        let states = tokio::spawn(async move {
            while let Some(Ok(told)) = watched.next().await {
                let Some(version) = told.version else { continue };
                let mut seen = states.lock();
                if told.previous_state != version.state {
                    let (at, state) = (Instant::now(), version.state());
                    seen.changes.push(Change { at, version: version.version, state });
                }
                seen.indexing = version.indexing.map(|indexing| (indexing.done_items, indexing.total_items));
            }
        });
        let (looked, process) = (Arc::clone(&seen), server.process);
        let looking = tokio::spawn(async move {
            let mut ticks = interval(LOOK);
            loop {
                ticks.tick().await;
                // Fails only when the server is gone: then the searches fail too.
                if let Ok(bytes) = process::resident(process) {
                    looked.lock().memory.push(Sample { at: Instant::now(), bytes });
                }
            }
        });
        let (written, client) = (Arc::clone(&seen), server.client.clone());
        let writing = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs_f64(1.0 / writes));
            for (number, item) in items.iter().cycle().enumerate() {
                ticks.tick().await;
                if client.upsert_items(changed(item, number)).await.is_err() {
                    written.lock().failed_writes += 1;
                }
            }
        });
        Ok(Self { seen, tasks: [states, looking, writing] })
    }

    /// What was seen so far.
    pub fn seen(&self) -> &Arc<Mutex<Seen>> {
        &self.seen
    }

    /// Ends it.
    pub fn stop(self) -> Seen {
        for task in &self.tasks {
            task.abort();
        }
        std::mem::take(&mut *self.seen.lock())
    }
}

/// The item with another tag: its text is another one, and so is its vector.
fn changed(item: &Item, number: usize) -> UpsertItemsRequest {
    UpsertItemsRequest {
        parent: CATALOG.to_owned(),
        items: vec![Item { id: item.id.clone(), tags: vec![format!("offer {number}")], ..Item::default() }],
        update_mask: Some(FieldMask { paths: vec!["tags".to_owned()] }),
    }
}

fn model_name() -> String {
    format!("models/{MODEL}")
}

fn version_name(version: u32) -> String {
    format!("models/{MODEL}/versions/{version}")
}
