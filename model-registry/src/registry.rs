//! Opening a registry and reading what it holds: models, usable versions, and what is in the way of the others.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk,
    error::{Context as _, RegistryError},
    manifest::Manifest,
    name::{ModelName, Version},
    origin::Origin,
};

/// A registry directory. Holds nothing but its path: what it says is read when asked.
///
/// One that a mirror of a store gives out reads the mirror's folder, and changes the store.
#[derive(Debug, Clone)]
pub struct Registry {
    root: PathBuf,
    pub(crate) origin: Option<Arc<dyn Origin>>,
}

/// A version that can be loaded: every file of its manifest is there with its size.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionDir {
    /// The model.
    pub model: ModelName,
    /// Its number.
    pub version: Version,
    /// The folder of its files.
    pub path: PathBuf,
    /// What it is.
    pub manifest: Manifest,
}

/// A folder with a version's name that cannot be used, as one that is half copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableVersion {
    /// Its number.
    pub version: Version,
    /// Why it cannot be used.
    pub reason: String,
}

/// The versions of a model, each list in numeric order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Versions {
    /// Those that can be loaded.
    pub usable: Vec<VersionDir>,
    /// Those that cannot, with the reason.
    pub unusable: Vec<UnusableVersion>,
}

impl Versions {
    /// The usable version with the highest number.
    pub fn newest(&self) -> Option<&VersionDir> {
        self.usable.last()
    }

    /// The numbers of all, usable ones first.
    pub fn numbers(&self) -> impl Iterator<Item = Version> {
        let unusable = self.unusable.iter().map(|found| found.version);
        self.usable.iter().map(|found| found.version).chain(unusable)
    }
}

impl Registry {
    /// Opens a registry that exists. It may be read-only, and it may be empty.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let root = path.into();
        match fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { root, origin: None }),
            Ok(_) => Err(RegistryError::NotAFolder(root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(RegistryError::Missing(root)),
            Err(source) => Err(RegistryError::Io { action: "opening", path: root, source }),
        }
    }

    /// Opens a registry, making the folder first if it is not there.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let root = path.into();
        let models = root.join("models");
        disk::create_folders(&models).context("creating", &models)?;
        Self::open(root)
    }

    /// The registry's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The models by name. A folder whose name is no model name is not one.
    pub fn models(&self) -> Result<Vec<ModelName>, RegistryError> {
        let mut models: Vec<ModelName> = folders(&self.root.join("models"))?;
        models.sort();
        Ok(models)
    }

    /// The versions of a model in numeric order. Names that are no positive integers are ignored.
    pub fn versions(&self, model: &ModelName) -> Result<Versions, RegistryError> {
        let mut versions = Versions::default();
        for version in self.numbers(model)? {
            match self.version(model, version) {
                Ok(usable) => versions.usable.push(usable),
                Err(RegistryError::Unusable { reason, .. }) => {
                    versions.unusable.push(UnusableVersion { version, reason });
                }
                Err(RegistryError::UnknownVersion { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(versions)
    }

    /// One version of a model. Sizes are checked here, checksums by [`VersionDir::verify`].
    pub fn version(&self, model: &ModelName, version: Version) -> Result<VersionDir, RegistryError> {
        let path = self.model_folder(model).join(version.to_string());
        if !path.is_dir() {
            return Err(if self.model_folder(model).is_dir() {
                RegistryError::UnknownVersion { model: model.clone(), version }
            } else {
                RegistryError::UnknownModel(model.clone())
            });
        }
        let unusable = |reason| RegistryError::Unusable { model: model.clone(), version, reason };
        let manifest = Manifest::read(&path).map_err(|error| unusable(error.to_string()))?;
        for (file, entry) in &manifest.files {
            match fs::metadata(file.in_folder(&path)) {
                Ok(found) if found.is_file() && found.len() == entry.size => {}
                Ok(found) => {
                    return Err(unusable(format!("\"{file}\" has {} of {} bytes", found.len(), entry.size)));
                }
                Err(error) => return Err(unusable(format!("\"{file}\": {error}"))),
            }
        }
        Ok(VersionDir { model: model.clone(), version, path, manifest })
    }

    pub(crate) fn model_folder(&self, model: &ModelName) -> PathBuf {
        self.root.join("models").join(model.as_str())
    }

    /// The numbers of all version folders, usable or not, in order.
    pub(crate) fn numbers(&self, model: &ModelName) -> Result<Vec<Version>, RegistryError> {
        let folder = self.model_folder(model);
        if !folder.is_dir() {
            return Err(RegistryError::UnknownModel(model.clone()));
        }
        let mut numbers: Vec<Version> = folders(&folder)?;
        numbers.sort();
        Ok(numbers)
    }
}

impl PartialEq for Registry {
    fn eq(&self, other: &Self) -> bool {
        let origins = (self.origin.as_deref().map(Origin::address), other.origin.as_deref().map(Origin::address));
        self.root == other.root && origins.0 == origins.1
    }
}

impl Eq for Registry {}

/// The folders in `path` whose names parse as `T`. A `path` that does not exist holds none.
fn folders<T: std::str::FromStr>(path: &Path) -> Result<Vec<T>, RegistryError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(RegistryError::Io { action: "listing", path: path.to_owned(), source }),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.context("listing", path)?;
        let name = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // `is_dir` follows links: a version may be a link to a mounted volume.
        if let Some(name) = name
            && entry.path().is_dir()
        {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::MANIFEST, publish::PublishRequest};

    fn published(dir: &Path) -> (Registry, ModelName) {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("config.json"), "{}").unwrap();
        let registry = Registry::create(dir).unwrap();
        let model: ModelName = "minilm".parse().unwrap();
        let request = PublishRequest::from_folder(&model, "bert", "text-embedding", source.path()).unwrap();
        registry.publish(&request).unwrap();
        (registry, model)
    }

    #[test]
    fn a_missing_registry_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Registry::open(dir.path().join("nowhere")).unwrap_err();
        assert!(matches!(&error, RegistryError::Missing(_)), "{error}");
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(Registry::open(dir.path().join("file")), Err(RegistryError::NotAFolder(_))));
    }

    #[test]
    fn an_empty_folder_is_an_empty_registry() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Registry::open(dir.path()).unwrap().models().unwrap(), []);
    }

    #[test]
    fn versions_come_in_numeric_order_and_odd_names_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = published(dir.path());
        let folder = registry.model_folder(&model);
        for name in ["10", "9", "02", "latest", "0"] {
            fs::create_dir(folder.join(name)).unwrap();
            for file in [MANIFEST, "config.json"] {
                fs::copy(folder.join("1").join(file), folder.join(name).join(file)).unwrap();
            }
        }
        let numbers: Vec<u32> = registry.versions(&model).unwrap().usable.iter().map(|v| v.version.get()).collect();
        assert_eq!(numbers, [1, 9, 10]);
    }

    #[test]
    fn a_half_copied_folder_is_reported_and_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = published(dir.path());
        let folder = registry.model_folder(&model);
        fs::create_dir(folder.join("2")).unwrap();
        fs::create_dir(folder.join("3")).unwrap();
        fs::copy(folder.join("1").join(MANIFEST), folder.join("3").join(MANIFEST)).unwrap();
        fs::write(folder.join("3/config.json"), "{").unwrap();
        let versions = registry.versions(&model).unwrap();
        assert_eq!(versions.newest().map(|v| v.version.get()), Some(1));
        let reasons: Vec<&str> = versions.unusable.iter().map(|v| v.reason.as_str()).collect();
        assert!(reasons[0].contains(MANIFEST), "{reasons:?}");
        assert!(reasons[1].contains("1 of 2 bytes"), "{reasons:?}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = published(dir.path());
        let missing = registry.version(&model, Version::new(7).unwrap());
        assert!(matches!(missing, Err(RegistryError::UnknownVersion { .. })));
        let missing = registry.versions(&"other".parse().unwrap());
        assert!(matches!(missing, Err(RegistryError::UnknownModel(_))));
    }
}
