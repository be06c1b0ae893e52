//! Where versions come from: the registry directory, or the mirror of one in a store.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use metrics::gauge;
use vitrine_registry::{Location, Mirror, Registry, RegistryError, remote::Following};

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
