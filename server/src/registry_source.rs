//! Where versions come from: the registry directory, or the mirror of one in a store.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use metrics::gauge;
use vitrine_registry::{
    Location, Mirror, ModelName, Registry, RegistryError, Version, WatchOptions,
    remote::{Following, LeftOut},
};

/// When the registry was last read, in seconds since 1970: what serves is as stale as this is long ago.
pub const LAST_READ: &str = "vitrine_registry_last_read_timestamp_seconds";

/// Where versions come from. Clones are the same source.
#[derive(Clone, Debug)]
pub enum RegistrySource {
    /// A directory, which need not be there yet.
    Folder(PathBuf),
    /// A directory that is kept in step with a store, and what keeps it so.
    Mirror(Mirror, Arc<Following>),
}

impl RegistrySource {
    /// Begins to mirror a store into `cache`, looking every `poll`; a directory needs no beginning. Does not wait for the
    /// store.
    pub fn open(location: &Location, cache: &Path, poll: Duration) -> Result<Self, RegistryError> {
        match location {
            Location::Folder(path) => Ok(Self::Folder(path.clone())),
            Location::Store(url) => {
                let mirror = Mirror::open(url, cache)?;
                let following = Arc::new(mirror.start(poll)?);
                Ok(Self::Mirror(mirror, following))
            }
        }
    }

    /// The registry: read from the directory here, changed where the versions come from. May wait for a disk or a network:
    /// not for an async task.
    pub fn registry(&self) -> Result<Registry, RegistryError> {
        match self {
            Self::Folder(path) => Registry::open(path),
            Self::Mirror(mirror, _) => Ok(mirror.registry()),
        }
    }

    /// The same, made if it is a directory that is not there: who has no models may try out other things.
    pub fn make(&self) -> Result<Registry, RegistryError> {
        match self {
            Self::Folder(path) => Registry::create(path),
            Self::Mirror(mirror, _) => Ok(mirror.registry()),
        }
    }

    /// Sees to it that a version is here if it is anywhere. Waits as [`registry`](Self::registry) does.
    ///
    /// # Errors
    /// What keeps a version that is not here from being fetched. That it is nowhere is none.
    pub fn bring(&self, model: &ModelName, version: Version) -> Result<(), RegistryError> {
        let Self::Mirror(mirror, _) = self else { return Ok(()) };
        let is_here = || mirror.registry().version(model, version).is_ok();
        if is_here() {
            return Ok(());
        }
        match mirror.sync() {
            Err(error) if !is_here() => Err(error),
            Err(_) => Ok(()),
            Ok(synced) => {
                let of_it = |left_out: &LeftOut| left_out.model == *model && left_out.version == Some(version);
                let unusable =
                    |LeftOut { reason, .. }| RegistryError::Unusable { model: model.clone(), version, reason };
                synced.left_out.into_iter().find(of_it).map_or(Ok(()), |left_out| Err(unusable(left_out)))
            }
        }
    }

    /// How often to look for changes that nobody tells of: for a mirror as often as it is brought in step.
    pub fn poll_interval(&self) -> Duration {
        let usual = WatchOptions::default().poll_interval;
        match self {
            Self::Folder(_) => usual,
            Self::Mirror(_, following) => usual.min(following.poll_interval()),
        }
    }

    /// Takes note that the directory here was read, for [`LAST_READ`].
    pub fn note_read(&self) {
        let behind = match self {
            Self::Folder(_) => Some(Duration::ZERO),
            Self::Mirror(mirror, _) => mirror.status().behind,
        };
        let read = behind.and_then(|behind| SystemTime::now().checked_sub(behind));
        if let Some(since) = read.and_then(|read| read.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            gauge!(LAST_READ).set(since.as_secs_f64());
        }
    }
}
