//! A catalog with its indexes: what a query needs, kept up to date by threads of its own.
//!
//! [`Shops`] holds one [`Shop`] a catalog. A shop has one full-text index, and one [`Generation`] of vectors for each
//! loaded encoder of texts or of pictures ([`Embedder`]), so that a query is only ever compared with vectors of the version that
//! embedded it. A generation lives as long as its encoder, which is as long as a request holds it.

mod embedder;
mod generation;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use vitrine::v1::{IndexingProgress, VectorIndexStatus};

use crate::{
    catalog::{
        Catalog, CatalogId, CatalogOptions,
        catalogs::{Catalogs, CatalogsError},
        projection::{Tail, TailOptions, tail},
    },
    control::Controls,
    encoder::{Encoder, Encoders},
    experiment::Exposures,
    image_encoder::{ImageEncoder, ImageEncoders},
    lexical::{LexicalError, LexicalIndex},
    log::LogError,
    model::{Model, Pinned},
    sequence::{Places, Sequencer},
};

pub use embedder::Embedder;
pub use generation::{Generation, Generations};

/// Every catalog of the server, with its indexes.
pub struct Shops {
    catalogs: Catalogs,
    open: RwLock<BTreeMap<CatalogId, Arc<Shop>>>,
    /// Held while a catalog is made, so that two callers do not make the same one.
    creating: Mutex<()>,
    texts: watch::Receiver<Vec<Arc<Encoder>>>,
    /// Of image encoders, if there is a model for it.
    pictures: Option<watch::Receiver<Vec<Arc<ImageEncoder>>>>,
}

/// Why the catalogs cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// A catalog cannot be opened or made.
    #[error(transparent)]
    Catalog(#[from] CatalogsError),
    /// Its full-text index cannot be opened.
    #[error(transparent)]
    Lexical(#[from] LexicalError),
    /// What was shown in experiments cannot be opened.
    #[error("cannot open the exposures: {0}")]
    Exposures(#[from] LogError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl Shops {
    /// Opens every catalog under `data_dir`, and keeps their vectors in step with the loaded encoders.
    pub fn open(
        data_dir: &Path,
        encoders: &Arc<Encoders>,
        image_encoders: Option<&Arc<ImageEncoders>>,
    ) -> Result<Arc<Self>, ServingError> {
        let catalogs = Catalogs::open(data_dir, CatalogOptions::default())?;
        let mut open = BTreeMap::new();
        for catalog in catalogs.list() {
            open.insert(catalog.id.clone(), Arc::new(Shop::open(catalog)?));
        }
        let (texts, pictures) = (encoders.subscribe(), image_encoders.map(|encoders| encoders.subscribe()));
        let shops = Arc::new(Self { catalogs, open: RwLock::new(open), creating: Mutex::new(()), texts, pictures });
        tokio::spawn(follow(Arc::downgrade(&shops), Arc::downgrade(encoders), encoders.subscribe()));
        if let Some(encoders) = image_encoders {
            tokio::spawn(follow(Arc::downgrade(&shops), Arc::downgrade(encoders), encoders.subscribe()));
        }
        Ok(shops)
    }

    /// The catalog of that id.
    pub fn get(&self, id: &CatalogId) -> Option<Arc<Shop>> {
        self.open.read().get(id).cloned()
    }

    /// All of them, by id.
    pub fn list(&self) -> Vec<Arc<Shop>> {
        self.open.read().values().cloned().collect()
    }

    /// Makes an empty catalog. Waits for the disk.
    pub fn create(&self, id: &CatalogId) -> Result<Arc<Shop>, ServingError> {
        let _creating = self.creating.lock();
        let catalog = self.catalogs.create(id)?;
        let shop = Arc::new(Shop::open(catalog)?);
        // First into the list: an encoder that is loaded meanwhile is seen by whoever comes second.
        self.open.write().insert(id.clone(), Arc::clone(&shop));
        let loaded = self.texts.borrow().clone();
        shop.serve(&loaded);
        let loaded = self.pictures.as_ref().map(|loaded| loaded.borrow().clone());
        shop.serve(&loaded.unwrap_or_default());
        Ok(shop)
    }

    /// The catalog of that id, made if there is none. Waits for the disk.
    pub fn get_or_create(&self, id: &CatalogId) -> Result<Arc<Shop>, ServingError> {
        match self.create(id) {
            Err(ServingError::Catalog(CatalogsError::Exists(id))) => {
                self.get(&id).ok_or(CatalogsError::Exists(id).into())
            }
            result => result,
        }
    }

    /// How far the vectors of an encoder version are, over all catalogs.
    pub fn indexing(&self, model: &str, version: u32) -> IndexingProgress {
        let mut sum = IndexingProgress::default();
        for status in self.list().iter().flat_map(|shop| shop.vector_statuses()) {
            if status.model == model && status.version == version {
                sum.done_items += status.indexed_items;
                sum.total_items += status.indexed_items + status.pending_items;
                sum.items_per_second += status.items_per_second;
            }
        }
        let left = (sum.total_items - sum.done_items) as f64;
        let remaining = Duration::try_from_secs_f64(left / sum.items_per_second).ok();
        sum.remaining = remaining.and_then(|remaining| remaining.try_into().ok());
        sum
    }

    fn serve<E: Embedder>(&self, encoders: &[Arc<E>]) {
        for shop in self.list() {
            shop.serve(encoders);
        }
    }

    /// Stops the threads and closes the catalogs. Everything acknowledged is on disk already; this makes the next
    /// start quick.
    pub fn close(&self) {
        let shops = std::mem::take(&mut *self.open.write());
        for shop in shops.values() {
            shop.close();
        }
        self.catalogs.close();
    }
}

/// Opens and drops generations of vectors as encoders come and go, and tells `encoders` of each when its vectors are there.
async fn follow<E: Embedder>(shops: Weak<Shops>, encoders: Weak<Model<E>>, mut loaded: watch::Receiver<Vec<Arc<E>>>) {
    let mut known: Vec<Weak<E>> = Vec::new();
    loop {
        let Some(opening) = shops.upgrade() else { return };
        let now = loaded.borrow_and_update().clone();
        known.retain(|before| before.strong_count() > 0);
        let is_new = |encoder: &&Arc<E>| !known.iter().any(|before| before.as_ptr() == Arc::as_ptr(encoder));
        let new: Vec<Weak<E>> = now.iter().filter(is_new).map(Arc::downgrade).collect();
        let applied = tokio::task::spawn_blocking(move || opening.serve(&now));
        if let Err(error) = applied.await {
            tracing::error!(%error, "cannot follow the loaded encoders");
        }
        for encoder in &new {
            tokio::spawn(index(shops.clone(), encoders.clone(), encoder.clone()));
        }
        known.extend(new);
        if loaded.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until an encoder's vectors of every catalog are there, and says so.
async fn index<E: Embedder>(shops: Weak<Shops>, encoders: Weak<Model<E>>, encoder: Weak<E>) {
    let Some(version) = encoder.upgrade().map(|encoder| encoder.opened().version) else { return };
    let Some(list) = shops.upgrade().map(|shops| shops.list()) else { return };
    let mut outcome = Ok(());
    for shop in list {
        let (id, opening) = (shop.catalog.id.clone(), encoder.clone());
        // It may have been made just now, and not have seen the encoder yet.
        let opened = tokio::task::spawn_blocking(move || {
            let encoder = opening.upgrade()?;
            shop.serve(std::slice::from_ref(&encoder));
            Some(shop.generation(&*encoder))
        });
        match opened.await {
            // The version is gone.
            Ok(None) => return,
            Ok(Some(Some(generation))) if !generation.caught_up().await => return,
            Ok(Some(Some(_))) => {}
            Ok(Some(None)) | Err(_) => {
                outcome = Err(format!("its vectors of catalog {id} cannot be opened; the log says why"));
            }
        }
    }
    if let Some(encoders) = encoders.upgrade() {
        encoders.indexed(version, outcome);
    }
}

/// A catalog with its indexes.
pub struct Shop {
    catalog: Arc<Catalog>,
    lexical: Arc<LexicalIndex>,
    tail: Mutex<Option<Tail>>,
    controls: ArcSwap<Controls>,
    texts: Generations<Encoder>,
    pictures: Generations<ImageEncoder>,
    /// Of each sequence model that was asked lately.
    places: Mutex<Vec<Arc<Places>>>,
    exposures: Exposures,
}

impl Shop {
    fn open(catalog: Arc<Catalog>) -> Result<Self, ServingError> {
        let lexical = Arc::new(LexicalIndex::open(&catalog.dir().join("lexical"))?);
        let tail = tail("lexical", Arc::clone(&catalog), Arc::clone(&lexical), TailOptions::default())?;
        let (tail, controls, places) = (Mutex::new(Some(tail)), ArcSwap::default(), Mutex::default());
        let (texts, pictures) = (Generations::default(), Generations::default());
        let exposures = Exposures::open(catalog.dir())?;
        Ok(Self { catalog, lexical, tail, controls, texts, pictures, places, exposures })
    }

    /// Its items and events.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Its full-text index.
    pub fn lexical(&self) -> &Arc<LexicalIndex> {
        &self.lexical
    }

    /// How many changes of the log its full-text index has not shown yet.
    pub fn lexical_lag(&self) -> u64 {
        self.tail.lock().as_ref().map_or(0, Tail::lag)
    }

    /// Its controls, as the catalog has them now.
    pub fn controls(&self) -> Arc<Controls> {
        let (ready, stored) = (self.controls.load_full(), self.catalog.controls());
        if ready.are_of(&stored) {
            return ready;
        }
        let ready = Arc::new(Controls::new(stored));
        self.controls.store(Arc::clone(&ready));
        ready
    }

    /// What was shown to whom in experiments.
    pub fn exposures(&self) -> &Exposures {
        &self.exposures
    }

    /// Its vectors made by `encoder`, if they are open.
    pub fn generation<E: Embedder>(&self, encoder: &E) -> Option<Arc<Generation<E>>> {
        E::generations(self).of(encoder)
    }

    /// Which of its items are which of a sequence model's, those included that came just now.
    pub fn places(&self, sequencer: &Pinned<Sequencer>) -> Arc<Places> {
        let places = {
            let mut open = self.places.lock();
            open.retain(|places| places.are_needed());
            if let Some(places) = open.iter().find(|places| places.are_of(sequencer)) {
                Arc::clone(places)
            } else {
                let places = Arc::new(Places::new(sequencer.downgrade()));
                open.push(Arc::clone(&places));
                places
            }
        };
        places.follow(&self.catalog.items.read());
        places
    }

    /// How far each generation is.
    pub fn vector_statuses(&self) -> Vec<VectorIndexStatus> {
        [self.texts.statuses(), self.pictures.statuses()].concat()
    }

    /// Opens the generations of new encoders, and closes those that no request can ask for any more.
    fn serve<E: Embedder>(&self, encoders: &[Arc<E>]) {
        E::generations(self).serve(&self.catalog, encoders);
    }

    fn close(&self) {
        self.texts.close();
        self.pictures.close();
        drop(self.tail.lock().take());
    }
}
