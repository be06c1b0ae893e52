//! The mirror's folder: whose it is, who synchronises it now, when it was last in step, and what a dead synchronisation left
//! in it.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::SystemTime,
};

use super::{error::StoreError, store::Store};
use crate::{
    disk,
    error::{Context as _, RegistryError},
    gc::REMOVED,
    registry::Registry,
};

/// Names the store that a folder mirrors.
const MARK: &str = ".mirrors";
/// Held by who synchronises.
const LOCK: &str = ".synchronising";
/// Changed with every synchronisation that goes through.
const IN_STEP: &str = ".synchronised";
/// How the names of folders begin that versions are fetched to. A publisher's own begin otherwise.
pub(super) const FETCHING: &str = ".staging-fetch-";

/// Makes a folder the store's mirror. One that mirrors another store, or has versions of its own, stays what it is:
/// the store does not have them, so they would be removed.
pub(super) fn claim(cache: &Path, store: &Store) -> Result<(), RegistryError> {
    disk::create_folders(cache).context("creating", cache)?;
    let mark = cache.join(MARK);
    let refused = |reason| StoreError::Cache { store: store.name.clone(), cache: cache.to_owned(), reason };
    match fs::read_to_string(&mark) {
        Ok(other) if other.trim_end() == store.identity => return Ok(()),
        Ok(other) => return Err(refused(format!("mirrors {}", other.trim_end())).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context("reading", &mark),
    }
    if !Registry::open(cache)?.models()?.is_empty() {
        return Err(refused("is a registry of its own".to_owned()).into());
    }
    disk::replace(&mark, format!("{}\n", store.identity).as_bytes()).context("writing", &mark)
}

/// Waits until nobody else synchronises the folder; others wait until the result is dropped.
pub(super) fn lock(cache: &Path) -> Result<File, RegistryError> {
    let path = cache.join(LOCK);
    let file = File::options().create(true).append(true).open(&path).context("opening the lock", &path)?;
    if file.try_lock().is_err() {
        tracing::info!(cache = %cache.display(), "another process synchronises this folder: waiting for it");
        file.lock().context("locking", &path)?;
    }
    Ok(file)
}

/// When the folder was last in step; none if it never was.
pub(super) fn last_success(cache: &Path) -> Option<SystemTime> {
    fs::metadata(cache.join(IN_STEP)).and_then(|metadata| metadata.modified()).ok()
}

/// Notes that it is now. Where that cannot be written down, a program that starts later knows less.
pub(super) fn note_success(cache: &Path) {
    let touched = File::options().create(true).append(true).open(cache.join(IN_STEP));
    if let Err(error) = touched.and_then(|file| file.set_modified(SystemTime::now())) {
        tracing::debug!(%error, cache = %cache.display(), "cannot note that the mirror is in step");
    }
}

/// Removes what a synchronisation that died left behind. For who holds the lock.
pub(super) fn remove_leftovers(registry: &Registry) -> Result<(), RegistryError> {
    for model in registry.models()? {
        let folder = registry.model_folder(&model);
        for entry in fs::read_dir(&folder).context("listing", &folder)? {
            let path = entry.context("listing", &folder)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(FETCHING) || name.starts_with(REMOVED) {
                fs::remove_dir_all(&path).context("removing", &path)?;
            }
        }
    }
    Ok(())
}
