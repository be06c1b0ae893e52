//! A registry on S3, or on a store that speaks its protocol, mirrored to a folder.
//!
//! The objects are named as the files of a registry in a folder. Reads stay with the folder, so that a server keeps its
//! versions whatever happens to the store; changes go to the store by conditional write, so that of two that collide one
//! is told.
//!
//! | file | what |
//! |---|---|
//! | `address` | `s3://bucket/prefix`, and the settings |
//! | `store`, `trouble` | blocking calls on objects, and errors that say what to do |
//! | `listing` | what the objects' names say |
//! | `sync`, `fetch` | bringing the folder in step: versions, then labels, then removals |
//! | `cache` | whose folder it is, and who synchronises it |
//! | `labels`, `experiments`, `publish` | changes, which go to the store |
//! | `follow` | synchronising from a thread, and how far behind the folder is |
//!
//! ```no_run
//! use std::time::Duration;
//! use vitrine_registry::Mirror;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mirror = Mirror::open(&"s3://models/prod".parse()?, "/var/cache/vitrine/registry")?;
//! mirror.sync()?;
//! let following = mirror.start(Duration::from_secs(10))?;
//! let registry = mirror.registry();
//! registry.set_label(&"minilm".parse()?, &"stable".parse()?, "2".parse()?, Some("1".parse()?))?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything here waits for the network: call none of it from an async task, but from a thread that may wait, as tokio's
//! `spawn_blocking` gives one. (Dropping is fine anywhere.)

mod address;
mod cache;
mod error;
mod experiments;
mod fetch;
mod follow;
mod labels;
mod listing;
mod publish;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod trouble;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

pub use address::{Location, StoreUrl};
pub use error::StoreError;
pub use follow::{Following, MirrorStatus};
pub use sync::{LeftOut, Synced};

use crate::{
    error::RegistryError,
    labels::Labels,
    name::ModelName,
    registry::{Registry, UnusableVersion, VersionDir, Versions},
};
use follow::{Bell, Progress};
use listing::{Listing, MODELS};
use store::Store;

/// A registry on a store, and the folder that mirrors it. Clones are the same mirror.
#[derive(Debug, Clone)]
pub struct Mirror {
    registry: Registry,
    remote: Arc<Remote>,
}

/// The store's side of a mirror.
#[derive(Debug)]
struct Remote {
    store: Store,
    /// What was found out about versions; locked while the folder is being synchronised.
    known: Mutex<sync::Known>,
    progress: Mutex<Progress>,
    bell: Bell,
}

/// A model as the store has it, without a byte of its versions fetched.
#[derive(Debug)]
pub struct StoredModel {
    /// Its name.
    pub model: ModelName,
    /// Its labels.
    pub labels: Labels,
    /// Its versions; their `path` is where the mirror puts them.
    pub versions: Versions,
}

impl Mirror {
    /// Mirrors a store to a folder of its own, which is made if it is not there. The store is not asked for anything yet,
    /// so that what the folder holds can be used while the store is away.
    ///
    /// Settings are the environment's, as every S3 tool reads them: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_REGION`, and for other stores than Amazon's `AWS_ENDPOINT_URL`; `AWS_ALLOW_HTTP=true` for one without TLS.
    /// Without keys, those of the machine's role are asked for. Profiles in `~/.aws` are not read.
    pub fn open(url: &StoreUrl, cache: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::open_with(url, cache, std::env::vars_os().filter_map(text))
    }

    /// As [`Mirror::open`], with other settings than the environment's, named as its variables.
    pub fn open_with(
        url: &StoreUrl,
        cache: impl Into<PathBuf>,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, RegistryError> {
        Self::of(url.connect(settings)?, cache.into())
    }

    fn of(store: Store, cache: PathBuf) -> Result<Self, RegistryError> {
        cache::claim(&cache, &store)?;
        let mut registry = Registry::create(cache)?;
        let progress = Mutex::new(Progress::since(cache::last_success(registry.root())));
        let remote = Arc::new(Remote { store, known: Mutex::default(), progress, bell: Bell::default() });
        registry.origin = Some(Arc::clone(&remote) as _);
        Ok(Self { registry, remote })
    }

    /// The registry: reads the folder, changes the store.
    ///
    /// What is published or labelled through it is in the folder at once; a label whose version is not there yet follows
    /// with the next synchronisation.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Brings the folder in step with the store: fetches new versions, then moves labels, then removes what the store no
    /// longer has. Waits while another process synchronises the same folder.
    ///
    /// A version that is damaged is left out and told, and holds nothing up but the labels that name it: these stay where
    /// they were. On an error the folder holds what it held, whole, and the next call goes on.
    pub fn sync(&self) -> Result<Synced, RegistryError> {
        self.sync_until(&AtomicBool::new(false))
    }

    /// Synchronises from a thread of its own, now and whenever `poll_interval` has passed, until the result is dropped.
    pub fn start(&self, poll_interval: Duration) -> Result<Following, RegistryError> {
        Following::start(self.clone(), poll_interval)
    }

    /// How far the folder is behind.
    pub fn status(&self) -> MirrorStatus {
        follow::locked(&self.remote.progress).status()
    }

    /// What the store holds now. Reads manifests and labels, and fetches nothing.
    pub fn stored(&self) -> Result<Vec<StoredModel>, RegistryError> {
        let listing = Listing::of(self.remote.store.list(MODELS)?);
        let mut models = Vec::new();
        for (model, all) in listing.models {
            let labels = self.remote.read_labels(&model)?.map(|(labels, _)| labels).unwrap_or_default();
            let mut versions = Versions::default();
            for (version, objects) in all {
                let path = self.registry.model_folder(&model).join(version.to_string());
                match self.remote.usable(&model, version, &objects) {
                    Ok(manifest) => {
                        versions.usable.push(VersionDir { model: model.clone(), version, path, manifest });
                    }
                    Err(RegistryError::Unusable { reason, .. }) => {
                        versions.unusable.push(UnusableVersion { version, reason });
                    }
                    Err(RegistryError::UnknownVersion { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            models.push(StoredModel { model, labels, versions });
        }
        Ok(models)
    }

    fn sync_until(&self, stop: &AtomicBool) -> Result<Synced, RegistryError> {
        let done = sync::run(&self.registry, &self.remote, stop);
        if done.is_ok() {
            cache::note_success(self.registry.root());
        }
        follow::locked(&self.remote.progress).note(&done);
        done
    }
}
