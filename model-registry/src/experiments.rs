//! Experiments: one file each, `experiments/<name>.json`, changed by compare-and-set. What a file says is known to those who run experiments.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{self, ModelLock},
    error::{Context as _, RegistryError},
    name::Label,
    registry::Registry,
};

/// The folder of experiments in a registry.
pub(crate) const EXPERIMENTS: &str = "experiments";
const SUFFIX: &str = ".json";

/// The name of an experiment's file.
pub(crate) fn file_name(name: &Label) -> String {
    format!("{name}{SUFFIX}")
}

/// The experiment that a file is of.
pub(crate) fn name_of(file: &str) -> Option<Label> {
    file.strip_suffix(SUFFIX)?.parse().ok()
}

impl Registry {
    /// The files of all experiments here, by their names, which follow the rules of labels.
    pub fn experiments(&self) -> Result<BTreeMap<Label, Vec<u8>>, RegistryError> {
        let folder = self.experiments_folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(RegistryError::Io { action: "reading", path: folder, source }),
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let entry = entry.context("reading", &folder)?;
            let Some(name) = entry.file_name().to_str().and_then(name_of) else { continue };
            found.extend(read(&entry.path())?.map(|text| (name, text)));
        }
        Ok(found)
    }

    /// An experiment's file where that is decided: for a mirror that is its store, for a folder the folder.
    pub fn current_experiment(&self, name: &Label) -> Result<Option<Vec<u8>>, RegistryError> {
        match &self.origin {
            Some(origin) => origin.experiment(name),
            None => read(&self.experiments_folder().join(file_name(name))),
        }
    }

    /// Makes an experiment's file `after` if it is `before`; none is no file. Answers whether it was: if not, nothing is changed.
    pub fn change_experiment(
        &self,
        name: &Label,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<bool, RegistryError> {
        if let Some(origin) = &self.origin {
            let changed = origin.change_experiment(name, before, after)?;
            if changed {
                self.write_experiment(name, after)?;
            }
            return Ok(changed);
        }
        let folder = self.experiments_folder();
        disk::create_folders(&folder).context("creating", &folder)?;
        let _lock = ModelLock::take(&folder)?;
        if read(&folder.join(file_name(name)))?.as_deref() != before {
            return Ok(false);
        }
        self.write_experiment(name, after)?;
        Ok(true)
    }

    /// Makes the file here say so.
    pub(crate) fn write_experiment(&self, name: &Label, text: Option<&[u8]>) -> Result<(), RegistryError> {
        let folder = self.experiments_folder();
        disk::create_folders(&folder).context("creating", &folder)?;
        let path = folder.join(file_name(name));
        match text {
            Some(text) => disk::replace(&path, text).context("writing", &path),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("removing", &path),
                _ => disk::sync_folder(&folder).context("syncing", &folder),
            },
        }
    }

    fn experiments_folder(&self) -> PathBuf {
        self.root().join(EXPERIMENTS)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, RegistryError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RegistryError::Io { action: "reading", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn name() -> Label {
        "search-encoder".parse().unwrap()
    }

    #[test]
    fn an_experiment_changes_only_from_what_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::create(dir.path()).unwrap();
        assert!(registry.change_experiment(&name(), None, Some(b"1")).unwrap());
        assert!(!registry.change_experiment(&name(), None, Some(b"2")).unwrap(), "it is there already");
        assert!(!registry.change_experiment(&name(), Some(b"0"), Some(b"2")).unwrap());
        assert!(registry.change_experiment(&name(), Some(b"1"), Some(b"2")).unwrap());
        assert_eq!(registry.experiments().unwrap(), BTreeMap::from([(name(), b"2".to_vec())]));
        assert_eq!(registry.current_experiment(&name()).unwrap(), Some(b"2".to_vec()));
        assert!(registry.change_experiment(&name(), Some(b"2"), None).unwrap());
        assert_eq!(registry.experiments().unwrap(), BTreeMap::new());
    }

    #[test]
    fn of_many_who_change_it_from_the_same_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::create(dir.path()).unwrap();
        let won = thread::scope(|scope| {
            let change = |n: u8| registry.change_experiment(&name(), None, Some(&[n])).unwrap();
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || change(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    }

    #[test]
    fn other_files_are_no_experiments() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::create(dir.path()).unwrap();
        assert_eq!(registry.experiments().unwrap(), BTreeMap::new());
        registry.write_experiment(&name(), Some(b"{}")).unwrap();
        for other in ["Loud.json", "notes.txt", ".writing-1"] {
            fs::write(dir.path().join(EXPERIMENTS).join(other), "x").unwrap();
        }
        assert_eq!(registry.experiments().unwrap().into_keys().collect::<Vec<_>>(), [name()]);
    }
}
