//! An index generation: the vectors of one catalog made by one version, in memory to be searched and on disk to stay.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock, RwLockUpgradableReadGuard};
use roaring::RoaringBitmap;
use vitrine_models::Products;

use super::VectorError;
use super::background;
use super::graph_file;
use super::metric::{Metric, to_row};
use super::rows::Shape;
use super::state::{State, Wanted};
use super::store::Store;
use crate::Doc;

const VECTORS_FILE: &str = "vectors.db";
const GRAPH_FILE: &str = "graph.bin";
/// Rows whose places in the graph are sought at once: enough for all cores, few enough to be put there in no time.
const PLACED_TOGETHER: usize = 32;

/// How a generation is kept.
#[derive(Clone, Copy, Debug)]
pub struct VectorOptions {
    /// How many numbers a vector of this encoder has.
    pub dimensions: usize,
    /// With fewer vectors than this every one is looked at; from here on a graph is made.
    pub exact_below: usize,
    /// How many candidates a walk through the graph keeps at least: more finds more of the true neighbours, and takes
    /// longer (efSearch).
    pub width: usize,
    /// How vectors are compared. A generation is opened with the metric it was made with.
    pub metric: Metric,
}

impl VectorOptions {
    /// Vectors of `dimensions` numbers, compared by their directions, and searched exactly below 5,000.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, exact_below: 5_000, width: 128, metric: Metric::Cosine }
    }
}

/// The vectors that one version of an encoder made of one catalog's items.
///
/// Searches see every change made before they began. Changes stay in memory until [`VectorIndex::flush`]; after a crash
/// the generation is as of some flush, and [`VectorIndex::watermark`] says which changes are to be made again.
#[derive(Debug)]
pub struct VectorIndex {
    options: VectorOptions,
    state: RwLock<State>,
    disk: Mutex<Disk>,
    watermark: AtomicU64,
    /// Nodes the graph has on disk.
    saved_nodes: AtomicUsize,
    graph_path: PathBuf,
}

#[derive(Debug)]
struct Disk {
    store: Store,
    /// What has changed since the last flush.
    dirty: RoaringBitmap,
}

impl VectorIndex {
    /// Opens the generation in `dir`, or begins one. Of a damaged one the good vectors are kept, and the watermark is 0.
    pub fn open(dir: &Path, options: VectorOptions) -> Result<Self, VectorError> {
        fs::create_dir_all(dir).map_err(|source| VectorError::Io { path: dir.to_owned(), source })?;
        let (store, found) = Store::open(&dir.join(VECTORS_FILE), options.dimensions)?;
        let graph_path = dir.join(GRAPH_FILE);
        let products = Products::chosen()?;
        let shape = Shape { dimensions: options.dimensions, metric: options.metric, products };
        let state = graph_file::load(&graph_path, shape, &found.entries);
        Ok(Self {
            options,
            saved_nodes: AtomicUsize::new(state.graph().len()),
            state: RwLock::new(state),
            disk: Mutex::new(Disk { store, dirty: RoaringBitmap::new() }),
            watermark: AtomicU64::new(found.watermark),
            graph_path,
        })
    }

    /// How many numbers a vector has.
    pub fn dimensions(&self) -> usize {
        self.options.dimensions
    }

    /// Gives a document its vector (of any length but 0 if only its direction counts), and remembers what it was made of.
    pub fn upsert(&self, doc: Doc, content_hash: u64, vector: &[f32]) -> Result<(), VectorError> {
        let row = to_row(&self.prepared(vector)?);
        let mut disk = self.disk.lock();
        self.state.write().upsert(doc, content_hash, &row);
        disk.dirty.insert(doc);
        Ok(())
    }

    /// Gives a document the vector that was made from the same content before, if there is one: it says.
    pub fn share(&self, doc: Doc, content_hash: u64) -> bool {
        let mut disk = self.disk.lock();
        let shared = self.state.write().share(doc, content_hash);
        if shared {
            disk.dirty.insert(doc);
        }
        shared
    }

    /// Takes a document's vector away: no later search finds it.
    pub fn remove(&self, doc: Doc) {
        let mut disk = self.disk.lock();
        if self.state.write().remove(doc) {
            disk.dirty.insert(doc);
        }
    }

    /// What a document's vector was made of, if it has one.
    pub fn content_hash(&self, doc: Doc) -> Option<u64> {
        self.state.read().get(doc).map(|(content_hash, _)| content_hash)
    }

    /// A document's vector, at length 1 if only its direction counts.
    pub fn vector(&self, doc: Doc) -> Option<Vec<f32>> {
        self.state.read().get(doc).map(|(_, row)| row.iter().map(|value| value.to_f32()).collect())
    }

    /// The documents that have a vector.
    pub fn docs(&self) -> RoaringBitmap {
        self.state.read().docs()
    }

    /// How many documents have a vector.
    pub fn len(&self) -> usize {
        self.state.read().len()
    }

    /// Whether there is no vector at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something has changed since the last flush.
    pub fn has_changes(&self) -> bool {
        !self.disk.lock().dirty.is_empty()
    }

    /// Writes what has changed, and that everything up to `watermark` is in it, as one. After an error all of it is tried
    /// again with the next flush.
    pub fn flush(&self, watermark: u64) -> Result<(), VectorError> {
        let mut disk = self.disk.lock();
        let Disk { store, dirty } = &mut *disk;
        if dirty.is_empty() && watermark == self.watermark() {
            return Ok(());
        }
        let state = self.state.read();
        store.write(dirty.iter().map(|doc| (doc, state.get(doc))), watermark)?;
        dirty.clear();
        self.watermark.store(watermark, Ordering::Release);
        Ok(())
    }

    /// The position in the log up to which the generation is on disk. 0: it is new, or was damaged.
    pub fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::Acquire)
    }

    /// The `k` nearest documents among `allowed` (all, if absent), best first, with their cosines; where distances count,
    /// with those, below 0.
    pub fn search(
        &self,
        vector: &[f32],
        k: usize,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<Vec<(Doc, f32)>, VectorError> {
        let vector = self.prepared(vector)?;
        let wanted = Wanted { k, width: self.options.width, allowed };
        let state = self.state.read();
        let mut nearest = state.nearest(&state.rows().probe(vector), wanted);
        for (_, score) in &mut nearest {
            *score = self.options.metric.similarity(*score);
        }
        Ok(nearest)
    }

    /// How most searches are answered now: `exact`, or `hnsw` (by the graph).
    pub fn algorithm(&self) -> &'static str {
        let state = self.state.read();
        if state.after_graph() <= state.graph().len() && state.graph().len() > 0 { "hnsw" } else { "exact" }
    }

    /// How near `docs` are to a vector, as [`VectorIndex::search`] says it, in their order; a document without a vector is
    /// left out.
    pub fn similarities(
        &self,
        vector: &[f32],
        docs: impl IntoIterator<Item = Doc>,
    ) -> Result<Vec<(Doc, f32)>, VectorError> {
        let vector = self.prepared(vector)?;
        let state = self.state.read();
        let probe = state.rows().probe(vector);
        let similarity = |doc| Some((doc, self.options.metric.similarity(state.score(&probe, doc)?)));
        Ok(docs.into_iter().filter_map(similarity).collect())
    }

    fn prepared(&self, vector: &[f32]) -> Result<Vec<f32>, VectorError> {
        self.options.metric.prepared(vector, self.options.dimensions)
    }

    /// Does up to `rows` rows' worth of what makes later searches quicker: puts vectors into the graph, drops obsolete
    /// ones, saves the graph. Says whether more is to be done. Searches go on meanwhile.
    pub fn tend(&self, rows: usize) -> Result<bool, VectorError> {
        if self.compact() {
            return Ok(true);
        }
        if self.len() < self.options.exact_below {
            return Ok(false);
        }
        for _ in 0..rows.div_ceil(PLACED_TOGETHER) {
            let guard = self.state.upgradable_read();
            let state: &State = &guard;
            let count = state.after_graph().min(PLACED_TOGETHER);
            if count == 0 {
                drop(guard);
                return self.save_graph_if_grown().map(|()| false);
            }
            let placement = background::share(|| state.graph().place(state.rows(), count));
            RwLockUpgradableReadGuard::upgrade(guard).graph_mut().put(placement);
        }
        Ok(true)
    }

    /// Writes the graph, if it has changed, so that the next start need not make it again.
    pub fn save_graph(&self) -> Result<(), VectorError> {
        let state = self.state.read();
        let nodes = state.graph().len();
        if nodes != self.saved_nodes.load(Ordering::Acquire) {
            graph_file::save(&self.graph_path, &state)
                .map_err(|source| VectorError::Io { path: self.graph_path.clone(), source })?;
            self.saved_nodes.store(nodes, Ordering::Release);
        }
        Ok(())
    }

    fn save_graph_if_grown(&self) -> Result<(), VectorError> {
        let (nodes, saved) = (self.state.read().graph().len(), self.saved_nodes.load(Ordering::Acquire));
        if nodes.abs_diff(saved) * 20 > nodes { self.save_graph() } else { Ok(()) }
    }

    fn compact(&self) -> bool {
        let state = self.state.upgradable_read();
        let worn = state.is_worn();
        if worn {
            let fresh = state.compacted();
            *RwLockUpgradableReadGuard::upgrade(state) = fresh;
            self.saved_nodes.store(usize::MAX, Ordering::Release); // what is on disk has other slots
        }
        worn
    }
}

#[cfg(test)]
mod tests;
