//! An index generation: the vectors of one catalog made by one encoder version, and the thread that fills them.

use std::{
    fs,
    future::pending,
    io,
    path::Path,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use vitrine::v1::{Degraded, DegradedReason, VectorIndexStatus};

use crate::{
    catalog::Catalog,
    encoder::Encoder,
    model::{Loaded as _, Opened},
    vector::{Indexer, IndexerOptions, VectorError, VectorIndex, VectorOptions},
};

/// Says in a generation's folder which version made it.
const MADE_BY: &str = "made-by";

/// The vectors of one catalog made by one encoder version.
pub struct Generation {
    model: String,
    version: u32,
    /// The generation must not keep a version in memory that has left.
    encoder: Weak<Encoder>,
    catalog: Arc<Catalog>,
    index: Arc<VectorIndex>,
    indexer: Mutex<Option<Indexer>>,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Generation({}/{})", self.model, self.version)
    }
}

impl Generation {
    /// Opens what is on disk, and starts to make what is missing.
    pub fn open(catalog: &Arc<Catalog>, encoder: &Arc<Encoder>) -> Result<Self, VectorError> {
        let Opened { model, version, published, .. } = encoder.opened();
        let (model, version) = (model.clone(), *version);
        let dir = catalog.dir().join("vectors").join(format!("{model}-{version}"));
        keep_if_made_by(&dir, published).map_err(|source| VectorError::Io { path: dir.join(MADE_BY), source })?;
        let index = Arc::new(VectorIndex::open(&dir, VectorOptions::new(encoder.dimensions()))?);
        let embedder = Arc::downgrade(encoder);
        let embed = move |texts| {
            let embedder = embedder.upgrade();
            async move {
                match embedder {
                    Some(embedder) => embedder.embed_bulk(texts).await,
                    // The version has left: the generation is closed in a moment.
                    None => pending().await,
                }
            }
        };
        let indexer =
            Indexer::start("vectors", Arc::clone(&index), Arc::clone(catalog), embed, IndexerOptions::default())?;
        let (encoder, catalog) = (Arc::downgrade(encoder), Arc::clone(catalog));
        Ok(Self { model, version, encoder, catalog, index, indexer: Mutex::new(Some(indexer)) })
    }

    /// Whether this loaded encoder makes these vectors.
    pub fn is_of(&self, encoder: &Encoder) -> bool {
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
        let (indexed, items) = (self.index.len(), self.catalog.item_count());
        (indexed < items).then(|| Degraded {
            reason: DegradedReason::IndexIncomplete as i32,
            detail: format!("{indexed} of {items} items have their vector so far; the others are found by words only"),
        })
    }

    /// How far it is.
    pub fn status(&self) -> VectorIndexStatus {
        let progress =
            self.indexer.lock().as_ref().map(|indexer| indexer.progress().borrow().clone()).unwrap_or_default();
        let pending = self.catalog.item_count().saturating_sub(self.index.len());
        VectorIndexStatus {
            model: self.model.clone(),
            version: self.version,
            indexed_items: self.index.len() as i64,
            pending_items: pending as i64,
            items_per_second: progress.items_per_second,
            algorithm: self.index.algorithm().to_owned(),
        }
    }

    /// Stops the thread that fills it. Searches under way go on.
    pub fn close(&self) {
        drop(self.indexer.lock().take());
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
