//! A catalog with its indexes: what a query needs, kept up to date by threads of its own.
//!
//! [`Shops`] holds one [`Shop`] a catalog. A shop has one full-text index, and one [`Generation`] of vectors for each
//! loaded text encoder, so that a query is only ever compared with vectors of the version that embedded it.

mod generation;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use vitrine::v1::VectorIndexStatus;

use crate::{
    catalog::{
        Catalog, CatalogId, CatalogOptions,
        catalogs::{Catalogs, CatalogsError},
        projection::{Tail, TailOptions, tail},
    },
    encoder::{Encoder, Encoders},
    lexical::{LexicalError, LexicalIndex},
};

pub use generation::Generation;

/// Every catalog of the server, with its indexes.
pub struct Shops {
    catalogs: Catalogs,
    open: RwLock<BTreeMap<CatalogId, Arc<Shop>>>,
    /// Held while a catalog is made, so that two callers do not make the same one.
    creating: Mutex<()>,
    loaded: watch::Receiver<Vec<Arc<Encoder>>>,
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
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl Shops {
    /// Opens every catalog under `data_dir`, and keeps their vectors in step with the loaded encoders.
    pub fn open(data_dir: &Path, encoders: &Encoders) -> Result<Arc<Self>, ServingError> {
        let catalogs = Catalogs::open(data_dir, CatalogOptions::default())?;
        let loaded = encoders.subscribe();
        let mut shops = BTreeMap::new();
        for catalog in catalogs.list() {
            shops.insert(catalog.id.clone(), Arc::new(Shop::open(catalog, &loaded.borrow())?));
        }
        let shops =
            Arc::new(Self { catalogs, open: RwLock::new(shops), creating: Mutex::new(()), loaded: loaded.clone() });
        tokio::spawn(follow(Arc::downgrade(&shops), loaded));
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
        let shop = Arc::new(Shop::open(catalog, &self.loaded.borrow())?);
        self.open.write().insert(id.clone(), Arc::clone(&shop));
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

/// Opens and drops generations of vectors as encoders come and go.
async fn follow(shops: Weak<Shops>, mut loaded: watch::Receiver<Vec<Arc<Encoder>>>) {
    while loaded.changed().await.is_ok() {
        let Some(shops) = shops.upgrade() else { return };
        let encoders = loaded.borrow_and_update().clone();
        let applied = tokio::task::spawn_blocking(move || {
            for shop in shops.list() {
                shop.serve(&encoders);
            }
        });
        if let Err(error) = applied.await {
            tracing::error!(%error, "cannot follow the loaded encoders");
        }
    }
}

/// A catalog with its indexes.
pub struct Shop {
    catalog: Arc<Catalog>,
    lexical: Arc<LexicalIndex>,
    tail: Mutex<Option<Tail>>,
    generations: ArcSwap<Vec<Arc<Generation>>>,
}

impl Shop {
    fn open(catalog: Arc<Catalog>, encoders: &[Arc<Encoder>]) -> Result<Self, ServingError> {
        let lexical = Arc::new(LexicalIndex::open(&catalog.dir().join("lexical"))?);
        let tail = tail("lexical", Arc::clone(&catalog), Arc::clone(&lexical), TailOptions::default())?;
        let shop = Self { catalog, lexical, tail: Mutex::new(Some(tail)), generations: ArcSwap::default() };
        shop.serve(encoders);
        Ok(shop)
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

    /// Its vectors made by `encoder`, if they are open.
    pub fn generation(&self, encoder: &Encoder) -> Option<Arc<Generation>> {
        self.generations.load().iter().find(|generation| generation.is_of(encoder)).cloned()
    }

    /// How far each generation is.
    pub fn vector_statuses(&self) -> Vec<VectorIndexStatus> {
        self.generations.load().iter().map(|generation| generation.status()).collect()
    }

    /// Opens the generations of new encoders, and closes those of encoders that are gone.
    fn serve(&self, encoders: &[Arc<Encoder>]) {
        let before = self.generations.load_full();
        let mut after = Vec::new();
        for encoder in encoders {
            match before.iter().find(|generation| generation.is_of(encoder)) {
                Some(generation) => after.push(Arc::clone(generation)),
                None => match Generation::open(&self.catalog, encoder) {
                    Ok(generation) => after.push(Arc::new(generation)),
                    Err(error) => {
                        let (catalog, model, version) = (self.catalog.id.as_str(), &encoder.model, encoder.version);
                        tracing::error!(catalog, model, version, %error, "cannot open vectors; searching by words only");
                    }
                },
            }
        }
        self.generations.store(Arc::new(after));
        for generation in before.iter() {
            if !encoders.iter().any(|encoder| generation.is_of(encoder)) {
                generation.close();
            }
        }
    }

    fn close(&self) {
        self.serve(&[]);
        drop(self.tail.lock().take());
    }
}
