//! An index generation: the vectors of one catalog made by one encoder version, and the thread that fills them; and all of a catalog.

use std::{
    fs,
    future::pending,
    io,
    path::Path,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use vitrine::v1::{Degraded, DegradedReason, VectorIndexStatus};

use super::Embedder;
use crate::{
    catalog::Catalog,
    model::Opened,
    vector::{Indexer, IndexerOptions, VectorError, VectorIndex, VectorOptions},
};

/// Says in a generation's folder which version made it.
const MADE_BY: &str = "made-by";

/// The vectors of one catalog made by one encoder version.
pub struct Generation<E> {
    model: String,
    version: u32,
    /// The generation must not keep a version in memory that has left.
    encoder: Weak<E>,
    catalog: Arc<Catalog>,
    index: Arc<VectorIndex>,
    indexer: Mutex<Option<Indexer>>,
}

impl<E> std::fmt::Debug for Generation<E> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Generation({}/{})", self.model, self.version)
    }
}

impl<E: Embedder> Generation<E> {
    /// Opens what is on disk, and starts to make what is missing.
    pub fn open(catalog: &Arc<Catalog>, encoder: &Arc<E>) -> Result<Self, VectorError> {
        let Opened { model, version, published, .. } = encoder.opened();
        let (model, version) = (model.clone(), *version);
        let dir = catalog.dir().join("vectors").join(format!("{model}-{version}"));
        keep_if_made_by(&dir, published).map_err(|source| VectorError::Io { path: dir.join(MADE_BY), source })?;
        let index = Arc::new(VectorIndex::open(&dir, VectorOptions::new(encoder.dimensions()))?);
        let (embedder, of) = (Arc::downgrade(encoder), Arc::clone(catalog));
        let embed = move |contents| {
            let (embedder, of) = (embedder.upgrade(), Arc::clone(&of));
            async move {
                match embedder {
                    Some(embedder) => embedder.embed_contents(&of, contents).await,
                    // The version has left: the generation is closed in a moment.
                    None => pending().await,
                }
            }
        };
        let contents = E::contents(Arc::clone(catalog));
        let indexer = Indexer::start("vectors", Arc::clone(&index), contents, embed, IndexerOptions::default())?;
        let (encoder, catalog) = (Arc::downgrade(encoder), Arc::clone(catalog));
        Ok(Self { model, version, encoder, catalog, index, indexer: Mutex::new(Some(indexer)) })
    }

    /// Whether this loaded encoder makes these vectors.
    pub fn is_of(&self, encoder: &E) -> bool {
        std::ptr::eq(self.encoder.as_ptr(), encoder)
    }

    /// Whether any request may still ask for these vectors.
    pub fn is_needed(&self) -> bool {
        self.encoder.strong_count() > 0
    }

    /// Resolves when every item that there was has its vector, and of those that came meanwhile all but the last few: those
    /// that came while the ones before were made. False when the generation is closed before.
    pub async fn caught_up(&self) -> bool {
        // Each round is as long as the one before let changes in, which is short after the first two.
        for _ in 0..3 {
            let head = self.catalog.head().borrow().0;
            let Some(mut progress) = self.indexer.lock().as_ref().map(Indexer::progress) else { return false };
            if progress.wait_for(|progress| progress.done >= head).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The vectors.
    pub fn index(&self) -> &Arc<VectorIndex> {
        &self.index
    }

    /// Says so while items lack their vectors.
    pub fn incomplete(&self) -> Option<Degraded> {
        let (indexed, due) = (self.index.len(), E::due(&self.catalog));
        (indexed < due).then(|| Degraded {
            reason: DegradedReason::IndexIncomplete as i32,
            detail: format!("{indexed} of {due} items have their vector so far; {}", E::LACKING),
        })
    }

    /// How far it is.
    pub fn status(&self) -> VectorIndexStatus {
        let progress =
            self.indexer.lock().as_ref().map(|indexer| indexer.progress().borrow().clone()).unwrap_or_default();
        let pending = E::due(&self.catalog).saturating_sub(self.index.len());
        VectorIndexStatus {
            model: self.model.clone(),
            version: self.version,
            indexed_items: self.index.len() as i64,
            pending_items: pending as i64,
            items_per_second: progress.items_per_second,
            algorithm: self.index.algorithm().to_owned(),
            task: E::TASK.to_owned(),
        }
    }

    /// Stops the thread that fills it. Searches under way go on.
    pub fn close(&self) {
        drop(self.indexer.lock().take());
    }
}

/// A catalog's vectors by all loaded versions of a task.
pub struct Generations<E> {
    open: ArcSwap<Vec<Arc<Generation<E>>>>,
    /// Held while they are exchanged.
    serving: Mutex<()>,
}

impl<E> Default for Generations<E> {
    fn default() -> Self {
        Self { open: ArcSwap::default(), serving: Mutex::new(()) }
    }
}

impl<E: Embedder> Generations<E> {
    /// Those made by `encoder`, if they are open.
    pub fn of(&self, encoder: &E) -> Option<Arc<Generation<E>>> {
        self.open.load().iter().find(|generation| generation.is_of(encoder)).cloned()
    }

    /// How far each is.
    pub fn statuses(&self) -> Vec<VectorIndexStatus> {
        self.open.load().iter().map(|generation| generation.status()).collect()
    }

    /// Opens those of new encoders, and closes those that no request can ask for any more.
    pub fn serve(&self, catalog: &Arc<Catalog>, encoders: &[Arc<E>]) {
        let _serving = self.serving.lock();
        let before = self.open.load_full();
        let (mut after, gone): (Vec<_>, Vec<_>) = before.iter().cloned().partition(|generation| generation.is_needed());
        // First: a version that comes again goes on where its generation was.
        for generation in &gone {
            generation.close();
        }
        for encoder in encoders {
            if after.iter().any(|generation| generation.is_of(encoder)) {
                continue;
            }
            match Generation::open(catalog, encoder) {
                Ok(generation) => after.push(Arc::new(generation)),
                Err(error) => {
                    let (catalog, Opened { model, version, .. }) = (catalog.id.as_str(), encoder.opened());
                    tracing::error!(catalog, model, version, %error, "cannot open vectors; searching without them");
                }
            }
        }
        self.open.store(Arc::new(after));
    }

    /// Stops the threads that fill them.
    pub fn close(&self) {
        for generation in self.open.swap(Arc::default()).iter() {
            generation.close();
        }
    }
}

/// Removes vectors that another version of the same number made: its folder was deleted, and its number given again.
fn keep_if_made_by(dir: &Path, published: &str) -> io::Result<()> {
    let mark = dir.join(MADE_BY);
    match fs::read_to_string(&mark) {
        Ok(before) if before == published => return Ok(()),
        Ok(_) => fs::remove_dir_all(dir)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir_all(dir)?;
    fs::write(mark, published)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_kept_for_the_version_that_made_them_only() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, vectors) = (dir.path().join("minilm-2"), dir.path().join("minilm-2/vectors"));
        keep_if_made_by(&dir, "monday").unwrap();
        fs::write(&vectors, "made on monday").unwrap();
        keep_if_made_by(&dir, "monday").unwrap();
        assert!(vectors.exists());
        keep_if_made_by(&dir, "tuesday").unwrap();
        assert!(!vectors.exists());
        // Of a release that did not write it down.
        fs::write(&vectors, "made long ago").unwrap();
        fs::remove_file(dir.join(MADE_BY)).unwrap();
        keep_if_made_by(&dir, "tuesday").unwrap();
        assert!(vectors.exists());
    }
}
