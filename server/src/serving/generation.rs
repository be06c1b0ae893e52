//! An index generation: the vectors of one catalog made by one encoder version, and the thread that fills them.

use std::sync::Arc;

use parking_lot::Mutex;
use vitrine::v1::{Degraded, DegradedReason, VectorIndexStatus};

use crate::{
    catalog::Catalog,
    encoder::{Encoder, EncoderError},
    vector::{Indexer, IndexerOptions, VectorError, VectorIndex, VectorOptions},
};

/// The vectors of one catalog made by one encoder version.
pub struct Generation {
    model: String,
    version: u32,
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
        let (model, version) = (encoder.model.clone(), encoder.version);
        let dir = catalog.dir().join("vectors").join(format!("{model}-{version}"));
        let index = Arc::new(VectorIndex::open(&dir, VectorOptions::new(encoder.dimensions()))?);
        // The generation must not keep a version in memory that has left: the encoder is held weakly.
        let embedder = Arc::downgrade(encoder);
        let embed = move |texts| {
            let embedder = embedder.upgrade();
            async move {
                let gone = || EncoderError::NotLoaded { detail: "this version has left".into() };
                embedder.ok_or_else(gone)?.embed_bulk(texts).await
            }
        };
        let indexer =
            Indexer::start("vectors", Arc::clone(&index), Arc::clone(catalog), embed, IndexerOptions::default())?;
        Ok(Self { model, version, catalog: Arc::clone(catalog), index, indexer: Mutex::new(Some(indexer)) })
    }

    /// Whether `encoder` made these vectors.
    pub fn is_of(&self, encoder: &Encoder) -> bool {
        self.version == encoder.version && self.model == encoder.model
    }

    /// The vectors.
    pub fn index(&self) -> &Arc<VectorIndex> {
        &self.index
    }

    /// Says so while items lack their vectors.
    pub fn incomplete(&self) -> Option<Degraded> {
        let status = self.status();
        (status.pending_items > 0).then(|| Degraded {
            reason: DegradedReason::IndexIncomplete as i32,
            detail: format!(
                "{} of {} items have their vector so far; the others are found by words only",
                status.indexed_items,
                status.indexed_items + status.pending_items
            ),
        })
    }

    /// How far it is.
    pub fn status(&self) -> VectorIndexStatus {
        let progress = self.indexer.lock().as_ref().map(Indexer::progress).unwrap_or_default();
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
