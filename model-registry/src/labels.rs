//! Labels: movable names for versions, kept in `labels.json` of a model and changed by compare-and-set.

use std::{collections::BTreeMap, fs, io, path::Path};

use crate::{
    disk::{self, ModelLock},
    error::{Context as _, RegistryError},
    name::{Label, ModelName, Version},
    registry::Registry,
};

/// The labels' file in a model's folder.
pub const LABELS: &str = "labels.json";

impl Registry {
    /// What each label of a model names. A model whose labels were never set has none.
    pub fn labels(&self, model: &ModelName) -> Result<BTreeMap<Label, Version>, RegistryError> {
        let folder = self.model_folder(model);
        if !folder.is_dir() {
            return Err(RegistryError::UnknownModel(model.clone()));
        }
        read(&folder.join(LABELS))
    }

    /// Makes `label` name `version`, provided that it names `expected` now (`None`: no version yet).
    ///
    /// The version has to be usable. If the label names something else by now, the error carries what.
    pub fn set_label(
        &self,
        model: &ModelName,
        label: &Label,
        version: Version,
        expected: Option<Version>,
    ) -> Result<(), RegistryError> {
        self.version(model, version)?;
        self.change_label(model, label, expected, Some(version))
    }

    /// Removes `label`, provided that it names `expected` now.
    pub fn remove_label(&self, model: &ModelName, label: &Label, expected: Version) -> Result<(), RegistryError> {
        self.change_label(model, label, Some(expected), None)
    }

    fn change_label(
        &self,
        model: &ModelName,
        label: &Label,
        expected: Option<Version>,
        new: Option<Version>,
    ) -> Result<(), RegistryError> {
        let folder = self.model_folder(model);
        if !folder.is_dir() {
            return Err(RegistryError::UnknownModel(model.clone()));
        }
        let _lock = ModelLock::take(&folder)?;
        if let Some(version) = new {
            // Again, now that nobody can collect it.
            self.version(model, version)?;
        }
        let path = folder.join(LABELS);
        let mut labels = read(&path)?;
        let actual = labels.get(label).copied();
        if actual != expected {
            return Err(RegistryError::LabelMoved { model: model.clone(), label: label.clone(), expected, actual });
        }
        if actual == new {
            return Ok(());
        }
        match new {
            Some(version) => labels.insert(label.clone(), version),
            None => labels.remove(label),
        };
        let mut text = serde_json::to_vec_pretty(&labels).map_err(io::Error::from).context("writing", &path)?;
        text.push(b'\n');
        disk::replace(&path, &text).context("writing", &path)
    }
}

fn read(path: &Path) -> Result<BTreeMap<Label, Version>, RegistryError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(RegistryError::Io { action: "reading", path: path.to_owned(), source }),
    };
    serde_json::from_slice(&text)
        .map_err(|error| RegistryError::Labels { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::publish::PublishRequest;

    fn three_versions(dir: &Path) -> (Registry, ModelName) {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("config.json"), "{}").unwrap();
        let registry = Registry::create(dir).unwrap();
        let model: ModelName = "minilm".parse().unwrap();
        for _ in 0..3 {
            let request = PublishRequest::from_folder(&model, "bert", "text-embedding", source.path()).unwrap();
            registry.publish(&request).unwrap();
        }
        (registry, model)
    }

    fn version(number: u32) -> Version {
        Version::new(number).unwrap()
    }

    #[test]
    fn a_label_moves_when_it_names_what_was_expected() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let stable: Label = "stable".parse().unwrap();
        registry.set_label(&model, &stable, version(1), None).unwrap();
        registry.set_label(&model, &stable, version(2), Some(version(1))).unwrap();
        let text = fs::read_to_string(registry.model_folder(&model).join(LABELS)).unwrap();
        assert_eq!(text, "{\n  \"stable\": 2\n}\n");
        registry.remove_label(&model, &stable, version(2)).unwrap();
        assert!(registry.labels(&model).unwrap().is_empty());
    }

    #[test]
    fn a_label_that_was_moved_meanwhile_stays_and_its_value_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let stable: Label = "stable".parse().unwrap();
        registry.set_label(&model, &stable, version(2), None).unwrap();
        for expected in [None, Some(version(1))] {
            let error = registry.set_label(&model, &stable, version(3), expected).unwrap_err();
            assert!(matches!(error, RegistryError::LabelMoved { actual: Some(two), .. } if two == version(2)));
        }
        assert_eq!(registry.labels(&model).unwrap()[&stable], version(2));
    }

    #[test]
    fn of_many_movers_with_the_same_expectation_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let stable: Label = "stable".parse().unwrap();
        registry.set_label(&model, &stable, version(1), None).unwrap();
        let won = thread::scope(|scope| {
            let set = |new| registry.set_label(&model, &stable, version(new), Some(version(1))).is_ok();
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || set(2 + n % 2))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    }

    #[test]
    fn a_label_for_a_version_that_is_not_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let error = registry.set_label(&model, &"stable".parse().unwrap(), version(9), None).unwrap_err();
        assert!(matches!(error, RegistryError::UnknownVersion { .. }));
    }

    #[test]
    fn a_damaged_labels_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let path = registry.model_folder(&model).join(LABELS);
        for text in ["", "[]", r#"{"stable": 0}"#, r#"{"Stable": 1}"#] {
            fs::write(&path, text).unwrap();
            let error = registry.labels(&model).unwrap_err().to_string();
            assert!(error.contains(LABELS), "{error}");
        }
    }
}
