//! Fetching one version: into a hidden folder, held against its manifest, synced, and renamed into place whole.

use std::{
    fs::{self, File},
    path::Path,
    sync::atomic::AtomicBool,
};

use super::{
    Remote, cache,
    error::StoreError,
    listing::{Keys, Objects},
};
use crate::{
    disk::{self, ModelLock},
    error::{Context as _, RegistryError},
    gc,
    manifest::{FileEntry, FilePath, MANIFEST, MAX_MANIFEST, Manifest},
    name::{ModelName, Version},
    publish,
    registry::Registry,
    verify,
};

/// A version to fetch.
pub(super) struct Fetch<'a> {
    pub registry: &'a Registry,
    pub remote: &'a Remote,
    pub stop: &'a AtomicBool,
    pub model: &'a ModelName,
    pub version: Version,
    pub objects: &'a Objects,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetched {
    New,
    /// It was there, and is the same.
    Here,
}

/// Why a version was not fetched.
pub(super) enum Unfit {
    /// It is not what its manifest says. It stays so until its objects change.
    Damaged(String),
    /// It was removed meanwhile.
    Gone,
    /// It may go better next time.
    Failed(RegistryError),
}

impl From<RegistryError> for Unfit {
    fn from(error: RegistryError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Unfit {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Fetch<'_> {
    pub fn run(&self) -> Result<Fetched, Unfit> {
        let key = Keys(self.model).manifest(self.version);
        let text = self.remote.store.get(&key, MAX_MANIFEST)?.ok_or(Unfit::Gone)?.bytes;
        let folder = self.registry.model_folder(self.model);
        let here = fs::read(folder.join(self.version.to_string()).join(MANIFEST)).is_ok_and(|here| here == text);
        if here && self.registry.version(self.model, self.version).is_ok() {
            return Ok(Fetched::Here);
        }
        let damaged = |error: crate::manifest::ManifestError| Unfit::Damaged(error.to_string());
        let manifest = Manifest::parse(&text, Path::new(&key)).map_err(damaged)?;
        if let Some(problem) = self.objects.problem(&manifest) {
            return Err(Unfit::Damaged(problem));
        }
        disk::create_folders(&folder).context("creating", &folder)?;
        // Removed with all in it when this ends badly, as when the disk is full.
        let staging = tempfile::Builder::new().prefix(cache::FETCHING).tempdir_in(&folder);
        let staging = staging.context("creating a folder in", &folder)?;
        // A folder of our own inside: the outer one is private to its owner, a version is not.
        let staged = staging.path().join("version");
        fs::create_dir(&staged).context("creating", &staged)?;
        for (file, entry) in &manifest.files {
            self.file(file, *entry, &file.in_folder(&staged))?;
        }
        let path = staged.join(MANIFEST);
        disk::replace(&path, &text).context("writing", &path)?;
        publish::sync_folders(&staged).context("syncing", &staged)?;
        install(self.registry, self.model, self.version, &staged)?;
        Ok(Fetched::New)
    }

    fn file(&self, file: &FilePath, entry: FileEntry, to: &Path) -> Result<(), Unfit> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).context("creating", parent)?;
        }
        let mut target = File::create_new(to).context("creating", to)?;
        let key = Keys(self.model).file(self.version, file);
        let read = self.remote.store.download(&key, &mut target, to, self.stop)?;
        let (sha256, size) = read.ok_or_else(|| Unfit::Damaged(format!("\"{file}\" is not in the store")))?;
        if size != entry.size {
            return Err(Unfit::Damaged(format!("\"{file}\" has {size} of {} bytes in the store", entry.size)));
        }
        if sha256 != entry.sha256 {
            let problem = verify::Problem::Checksum { file: file.clone(), expected: entry.sha256, actual: sha256 };
            return Err(Unfit::Damaged(problem.to_string()));
        }
        target.sync_all().context("syncing", to)?;
        verify::weights_problem(file, to).map_or(Ok(()), |problem| Err(Unfit::Damaged(problem.to_string())))
    }
}

/// Moves a version's files into place, instead of any that are there and damaged.
pub(super) fn install(
    registry: &Registry,
    model: &ModelName,
    version: Version,
    staged: &Path,
) -> Result<(), RegistryError> {
    let folder = registry.model_folder(model);
    let path = folder.join(version.to_string());
    let _lock = ModelLock::take(&folder)?;
    if path.exists() {
        gc::remove(&folder, version)?;
    }
    fs::rename(staged, &path).context("publishing to", &path)?;
    disk::sync_folder(&folder).context("syncing", &folder)
}
