//! Removes versions that no label names, and what interrupted publishers left behind.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    disk::ModelLock,
    error::{Context as _, RegistryError},
    name::{ModelName, Version},
    publish::STAGING,
    registry::Registry,
};

/// How the names of versions begin that are being removed.
pub(crate) const REMOVED: &str = ".removed-";
/// A staging folder without a change for this long was left by a publisher that died.
const ABANDONED: Duration = Duration::from_hours(24);

/// What to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcOptions {
    /// How many of the newest usable versions to keep beside those that labels name. At least 1, so that a number is
    /// never given twice.
    pub keep_newest: u32,
    /// Versions to keep in any case.
    pub keep: BTreeSet<Version>,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Versions, in order.
    pub versions: Vec<Version>,
    /// How many leftovers of interrupted work.
    pub leftovers: usize,
    /// The size of all of it in bytes.
    pub bytes: u64,
}

impl Registry {
    /// Removes the versions of a model that no label names or named before its last move, and that `options` do not keep.
    ///
    /// A version disappears in one step. Folders that are no usable versions are left alone unless they are older than the
    /// oldest version kept: they may be on their way.
    pub fn gc(&self, model: &ModelName, options: &GcOptions) -> Result<Collected, RegistryError> {
        if let Some(origin) = &self.origin {
            return Err(RegistryError::FolderOnly { registry: origin.address().to_owned(), what: "removing versions" });
        }
        let folder = self.model_folder(model);
        let all = self.numbers(model)?;
        let _lock = ModelLock::take(&folder)?;
        let versions = self.versions(model)?;
        let newest = versions.usable.iter().rev().take(options.keep_newest.max(1) as usize).map(|v| v.version);
        let mut kept: BTreeSet<Version> = newest.collect();
        let labels = self.labels(model)?;
        kept.extend(labels.named.values().chain(labels.previous.values()));
        kept.extend(&options.keep);
        let Some(&oldest_kept) = kept.first() else {
            return Ok(Collected { versions: Vec::new(), leftovers: 0, bytes: 0 });
        };
        let usable: BTreeSet<Version> = versions.usable.iter().map(|v| v.version).collect();

        let mut collected = Collected { versions: Vec::new(), leftovers: 0, bytes: 0 };
        for version in all.into_iter().filter(|version| !kept.contains(version)) {
            if !usable.contains(&version) && version > oldest_kept {
                continue;
            }
            let path = folder.join(version.to_string());
            collected.bytes += size(&path).context("measuring", &path)?;
            collected.versions.push(version);
            if !options.dry_run {
                remove(&folder, version)?;
            }
        }
        for entry in fs::read_dir(&folder).context("listing", &folder)? {
            let path = entry.context("listing", &folder)?.path();
            if is_leftover(&path) {
                collected.bytes += size(&path).context("measuring", &path)?;
                collected.leftovers += 1;
                if !options.dry_run {
                    fs::remove_dir_all(&path).context("removing", &path)?;
                }
            }
        }
        Ok(collected)
    }
}

/// Removes a version of a model's folder so that it disappears in one step. For who holds the model's lock.
pub(crate) fn remove(folder: &Path, version: Version) -> Result<(), RegistryError> {
    let (path, removed) = (folder.join(version.to_string()), folder.join(format!("{REMOVED}{version}")));
    match fs::remove_dir_all(&removed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context("removing", &removed),
        _ => {}
    }
    fs::rename(&path, &removed).context("removing", &path)?;
    fs::remove_dir_all(&removed).context("removing", &removed)
}

fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with(REMOVED) {
        return true;
    }
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = changed.map(|changed| SystemTime::now().duration_since(changed).unwrap_or_default());
    name.starts_with(STAGING) && age.is_ok_and(|age| age > ABANDONED)
}

fn size(path: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::publish::PublishRequest;

    fn five_versions(dir: &Path) -> (Registry, ModelName) {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("config.json"), "{}").unwrap();
        let registry = Registry::create(dir).unwrap();
        let model: ModelName = "minilm".parse().unwrap();
        for _ in 0..5 {
            let request = PublishRequest::from_folder(&model, "bert", "text-embedding", source.path()).unwrap();
            registry.publish(&request).unwrap();
        }
        registry.set_label(&model, &"stable".parse().unwrap(), Version::new(2).unwrap(), None).unwrap();
        (registry, model)
    }

    fn options(keep_newest: u32) -> GcOptions {
        GcOptions { keep_newest, keep: BTreeSet::new(), dry_run: false }
    }

    fn left(registry: &Registry, model: &ModelName) -> Vec<u32> {
        registry.numbers(model).unwrap().into_iter().map(Version::get).collect()
    }

    #[test]
    fn labelled_newest_and_given_versions_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = five_versions(dir.path());
        let keep = GcOptions { keep: [Version::new(3).unwrap()].into(), ..options(1) };
        let collected = registry.gc(&model, &keep).unwrap();
        assert_eq!(collected.versions.iter().map(|v| v.get()).collect::<Vec<_>>(), [1, 4]);
        assert!(collected.bytes > 0);
        assert_eq!(left(&registry, &model), [2, 3, 5]);
    }

    #[test]
    fn a_dry_run_says_the_same_and_removes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = five_versions(dir.path());
        let dry = registry.gc(&model, &GcOptions { dry_run: true, ..options(1) }).unwrap();
        assert_eq!(left(&registry, &model), [1, 2, 3, 4, 5]);
        assert_eq!(registry.gc(&model, &options(1)).unwrap(), dry);
        assert_eq!(left(&registry, &model), [2, 5]);
    }

    #[test]
    fn the_newest_stays_even_when_none_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = five_versions(dir.path());
        registry.gc(&model, &options(0)).unwrap();
        assert_eq!(left(&registry, &model), [2, 5]);
    }

    #[test]
    fn a_folder_on_its_way_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = five_versions(dir.path());
        fs::create_dir(registry.model_folder(&model).join("6")).unwrap();
        registry.gc(&model, &options(1)).unwrap();
        assert_eq!(left(&registry, &model), [2, 5, 6]);
    }

    #[test]
    fn only_abandoned_staging_folders_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = five_versions(dir.path());
        let folder = registry.model_folder(&model);
        let (old, new) = (folder.join(".staging-old"), folder.join(".staging-new"));
        fs::create_dir(&old).unwrap();
        fs::create_dir(&new).unwrap();
        File::open(&old).unwrap().set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        assert_eq!(registry.gc(&model, &options(9)).unwrap().leftovers, 1);
        assert!(!old.exists() && new.exists());
    }
}
