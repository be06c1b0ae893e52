//! Adding a version: its files are copied to a hidden staging folder, synced, and renamed into place, so that a version
//! is seen whole or not at all. Publishers that run at the same time get different numbers.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::{
    checksum,
    disk::{self, ModelLock},
    error::{Context as _, RegistryError},
    manifest::{FORMAT, FileEntry, FilePath, MANIFEST, Manifest, TrainingData},
    name::{ModelName, Version},
    registry::{Registry, VersionDir},
    verify::{self, Problem},
};

/// How the names of staging folders begin. They are no version numbers, so nobody takes them for one.
pub(crate) const STAGING: &str = ".staging-";
/// Serving takes the weights, and about as much again for buffers of a batch.
const MEMORY_FACTOR: u64 = 2;

/// A version to publish.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// The model that gets a new version; made if it is not there.
    pub model: ModelName,
    /// The network's architecture, as `bert`.
    pub kind: String,
    /// What the model is for, as `text-embedding`.
    pub task: String,
    /// The files: where they go in the version, and where they are now.
    pub files: BTreeMap<FilePath, PathBuf>,
    /// The version that training started from.
    pub parent: Option<Version>,
    /// Evaluation figures. Finite.
    pub metrics: BTreeMap<String, f64>,
    /// What it was trained on.
    pub training_data: Option<TrainingData>,
    /// The licence of the weights as an SPDX expression.
    pub licence: Option<String>,
    /// Where the files were fetched from.
    pub source: Option<String>,
    /// How far recorded rows may come out from their recording. Absent: what the network's kind allows.
    pub golden_tolerance: Option<f32>,
    /// The memory that serving takes in bytes. Absent: estimated from the size of the weights.
    pub memory_bytes: Option<u64>,
}

impl PublishRequest {
    /// A request for these files, with nothing else said about them.
    pub fn new(model: &ModelName, kind: &str, task: &str, files: BTreeMap<FilePath, PathBuf>) -> Self {
        Self {
            model: model.clone(),
            kind: kind.to_owned(),
            task: task.to_owned(),
            files,
            parent: None,
            metrics: BTreeMap::new(),
            training_data: None,
            licence: None,
            source: None,
            golden_tolerance: None,
            memory_bytes: None,
        }
    }

    /// A request for everything in a folder but hidden files and a manifest at its top.
    pub fn from_folder(model: &ModelName, kind: &str, task: &str, folder: &Path) -> Result<Self, RegistryError> {
        Ok(Self::new(model, kind, task, files_in(folder)?))
    }

    fn manifest(&self, files: BTreeMap<FilePath, FileEntry>) -> Manifest {
        let weights: u64 = files.iter().filter(|(file, _)| file.is_safetensors()).map(|(_, entry)| entry.size).sum();
        let memory_bytes = self.memory_bytes.unwrap_or(MEMORY_FACTOR * weights);
        Manifest {
            format: FORMAT,
            kind: self.kind.clone(),
            task: self.task.clone(),
            memory_bytes,
            files,
            parent: self.parent,
            metrics: self.metrics.clone(),
            training_data: self.training_data.clone(),
            licence: self.licence.clone(),
            source: self.source.clone(),
            golden_tolerance: self.golden_tolerance,
            created: Timestamp::now(),
        }
    }
}

/// Every visible file under a folder, but for a manifest at its top.
pub fn files_in(folder: &Path) -> Result<BTreeMap<FilePath, PathBuf>, RegistryError> {
    let mut files = BTreeMap::new();
    let mut open = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = open.pop() {
        for entry in fs::read_dir(&path).context("listing", &path)? {
            let entry = entry.context("listing", &path)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let inside = format!("{prefix}{name}");
            if name.starts_with('.') || inside == MANIFEST {
                continue;
            }
            if entry.path().is_dir() {
                open.push((entry.path(), inside + "/"));
            } else {
                files.insert(inside.parse()?, entry.path());
            }
        }
    }
    Ok(files)
}

impl Registry {
    /// Publishes a version under the next free number. When it returns, the version is on disk for good.
    ///
    /// On an error nothing can be seen. If the process dies, a hidden staging folder may be left: [`Registry::gc`]
    /// removes it.
    pub fn publish(&self, request: &PublishRequest) -> Result<VersionDir, RegistryError> {
        if let Some(file) = request.files.keys().find(|file| file.is_forbidden_format()) {
            return Err(RegistryError::Refused(Problem::ForbiddenFormat { file: file.clone() }));
        }
        let folder = self.model_folder(&request.model);
        disk::create_folders(&folder).context("creating", &folder)?;
        let staging =
            tempfile::Builder::new().prefix(STAGING).tempdir_in(&folder).context("creating a folder in", &folder)?;
        // A folder of our own inside: the outer one is private to its owner, a version is not.
        let staged = staging.path().join("version");
        let manifest = stage(request, &staged)?;
        if let Some(origin) = &self.origin {
            return origin.publish(self, &request.model, &staged, manifest);
        }

        let _lock = ModelLock::take(&folder)?;
        // A number that a label names, or that was rejected, is taken, whatever has become of its folder.
        let labels = self.labels(&request.model).unwrap_or_default();
        let named = labels.named.into_values().chain(labels.previous.into_values()).chain(labels.rejected.into_keys());
        let last = self.numbers(&request.model)?.into_iter().chain(named).max();
        let version = match last {
            None => Version::FIRST,
            Some(last) => last.next().ok_or_else(|| RegistryError::NoVersionLeft(request.model.clone()))?,
        };
        let path = folder.join(version.to_string());
        fs::rename(&staged, &path).context("publishing to", &path)?;
        disk::sync_folder(&folder).context("syncing", &folder)?;
        Ok(VersionDir { model: request.model.clone(), version, path, manifest })
    }
}

/// Writes all files and the manifest to `staged`, and syncs them.
fn stage(request: &PublishRequest, staged: &Path) -> Result<Manifest, RegistryError> {
    fs::create_dir(staged).context("creating", staged)?;
    let mut entries = BTreeMap::new();
    for (file, from) in &request.files {
        let to = file.in_folder(staged);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).context("creating", parent)?;
        }
        let mut source = File::open(from).context("opening", from)?;
        let mut target = File::create_new(&to).context("creating", &to)?;
        let (sha256, size) = checksum::copy(&mut source, &mut target).context("copying", from)?;
        target.sync_all().context("syncing", &to)?;
        if let Some(problem) = verify::weights_problem(file, &to) {
            return Err(RegistryError::Refused(problem));
        }
        entries.insert(file.clone(), FileEntry { sha256, size });
    }
    let manifest = request.manifest(entries);
    manifest.check()?;
    let path = staged.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from).context("writing", &path)?;
    disk::replace(&path, &text).context("writing", &path)?;
    sync_folders(staged).context("syncing", staged)?;
    Ok(manifest)
}

pub(crate) fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    disk::sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn source() -> tempfile::TempDir {
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("1_Pooling")).unwrap();
        fs::write(source.path().join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
        fs::write(source.path().join("1_Pooling/config.json"), "{}").unwrap();
        fs::write(source.path().join(".gitattributes"), "").unwrap();
        source
    }

    fn request(source: &Path) -> PublishRequest {
        PublishRequest::from_folder(&"minilm".parse().unwrap(), "bert", "text-embedding", source).unwrap()
    }

    #[test]
    fn publishing_copies_files_and_records_their_checksums() {
        let (dir, source) = (tempfile::tempdir().unwrap(), source());
        let registry = Registry::create(dir.path()).unwrap();
        let published = registry.publish(&request(source.path())).unwrap();
        assert_eq!(registry.version(&published.model, published.version).unwrap(), published);
        let names: Vec<&str> = published.manifest.files.keys().map(FilePath::as_str).collect();
        assert_eq!(names, ["1_Pooling/config.json", "config.json"]);
        assert_eq!(published.manifest.size_bytes(), 24);
    }

    #[test]
    fn publishers_at_the_same_time_get_different_versions() {
        let (dir, source) = (tempfile::tempdir().unwrap(), source());
        let registry = Registry::create(dir.path()).unwrap();
        let request = request(source.path());
        let mut numbers: Vec<u32> = thread::scope(|scope| {
            let publish = || registry.publish(&request).unwrap().version.get();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(publish)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(registry.versions(&request.model).unwrap().usable.len(), 8);
    }

    #[test]
    fn the_number_of_a_version_that_a_label_names_is_not_given_again() {
        let (dir, source) = (tempfile::tempdir().unwrap(), source());
        let registry = Registry::create(dir.path()).unwrap();
        let request = request(source.path());
        let publish = || registry.publish(&request).unwrap().version;
        let (one, two, stable) = (publish(), publish(), "stable".parse().unwrap());
        registry.set_label(&request.model, &stable, two, None).unwrap();
        registry.set_label(&request.model, &stable, one, Some(two)).unwrap();
        for version in [one, two] {
            fs::remove_dir_all(registry.model_folder(&request.model).join(version.to_string())).unwrap();
        }
        assert_eq!(publish().get(), 3);
    }

    #[test]
    fn an_interrupted_publish_leaves_nothing_to_see() {
        let (dir, source) = (tempfile::tempdir().unwrap(), source());
        let registry = Registry::create(dir.path()).unwrap();
        let mut bad = request(source.path());
        bad.files.insert("model.safetensors".parse().unwrap(), source.path().join("not-there"));
        assert!(registry.publish(&bad).is_err());
        // Killed while copying: the staging folder stays, and is no version.
        let killed = registry.model_folder(&bad.model).join(format!("{STAGING}killed")).join("version");
        fs::create_dir_all(&killed).unwrap();
        fs::write(killed.join("config.json"), "{}").unwrap();
        assert_eq!(registry.versions(&bad.model).unwrap(), crate::Versions::default());
        let next = registry.publish(&request(source.path())).unwrap();
        assert_eq!(next.version, Version::FIRST);
    }

    #[test]
    fn a_number_is_not_taken_from_a_folder_that_is_being_copied() {
        let (dir, source) = (tempfile::tempdir().unwrap(), source());
        let registry = Registry::create(dir.path()).unwrap();
        let request = request(source.path());
        registry.publish(&request).unwrap();
        fs::create_dir(registry.model_folder(&request.model).join("2")).unwrap();
        assert_eq!(registry.publish(&request).unwrap().version.get(), 3);
    }

    #[test]
    fn pickled_weights_are_refused_by_name() {
        let (dir, source) = (tempfile::tempdir().unwrap(), source());
        fs::write(source.path().join("pytorch_model.bin"), "").unwrap();
        let registry = Registry::create(dir.path()).unwrap();
        let error = registry.publish(&request(source.path())).unwrap_err();
        assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
        assert_eq!(registry.models().unwrap(), []);
    }

    #[cfg(unix)]
    #[test]
    fn a_version_can_be_read_by_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, source) = (tempfile::tempdir().unwrap(), source());
        let registry = Registry::create(dir.path()).unwrap();
        let published = registry.publish(&request(source.path())).unwrap();
        let reference = source.path().join("1_Pooling");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&published.path), mode(&reference));
        assert_eq!(mode(&published.path.join(MANIFEST)), mode(&published.path.join("config.json")));
    }
}
