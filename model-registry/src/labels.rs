//! Labels: movable names for versions, kept in `labels.json` of a model and changed by compare-and-set. Beside them, which versions proved
//! bad.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    disk::{self, ModelLock},
    error::{Context as _, RegistryError},
    name::{Label, ModelName, Version},
    registry::Registry,
};

/// The labels' file in a model's folder.
pub const LABELS: &str = "labels.json";

/// The labels of a model: `{"stable": 3, "canary": 4, "previous": {"stable": 2}, "rejected": {"1": "fewer clicks"}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// What each label names.
    #[serde(flatten)]
    pub named: BTreeMap<Label, Version>,
    /// What it named before: where a rollback leads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub previous: BTreeMap<Label, Version>,
    /// Versions that proved bad, and why: no label is moved to one, and no policy chooses it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<Version, String>,
}

/// What a label named before it was moved, so that the move can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// What it named.
    pub named: Option<Version>,
    /// What it had named before that.
    pub previous: Option<Version>,
}

/// A change of what `labels.json` says, whatever else in it was changed meanwhile.
pub(crate) struct Change<'a> {
    pub model: &'a ModelName,
    pub edit: Edit<'a>,
}

/// What is changed.
pub(crate) enum Edit<'a> {
    /// A label, if it names `expected`.
    Label {
        label: &'a Label,
        expected: Option<Version>,
        /// What it is to be.
        after: &'a dyn Fn(Before) -> Before,
        /// Whether it goes somewhere new, which has to be usable. Where it was it goes back in any case.
        is_new: bool,
    },
    /// Whether a version is rejected, and why.
    Rejection { version: Version, reason: Option<&'a str> },
}

/// A change that can be made.
pub(crate) struct Applied {
    /// What the label was.
    pub before: Before,
    /// Whether anything is another now.
    pub is_changed: bool,
    /// The version that has to be usable for it.
    pub needs: Option<Version>,
}

impl Labels {
    /// The version that a label names.
    pub fn get(&self, label: &Label) -> Option<Version> {
        self.named.get(label).copied()
    }

    /// Makes a change.
    pub(crate) fn apply(&mut self, change: &Change<'_>) -> Result<Applied, RegistryError> {
        match change.edit {
            Edit::Label { label, expected, after, is_new } => {
                let before = Before { named: self.get(label), previous: self.previous.get(label).copied() };
                if before.named != expected {
                    let (model, label) = (change.model.clone(), label.clone());
                    return Err(RegistryError::LabelMoved { model, label, expected, actual: before.named });
                }
                let after = after(before);
                let needs = after.named.filter(|_| is_new);
                if let Some((version, reason)) = needs.and_then(|version| self.rejected.get_key_value(&version)) {
                    let (model, version, reason) = (change.model.clone(), *version, reason.clone());
                    return Err(RegistryError::Rejected { model, version, reason });
                }
                self.set(label, after);
                Ok(Applied { before, is_changed: after != before, needs })
            }
            Edit::Rejection { version, reason } => {
                let before = Before { named: None, previous: None };
                let Some(reason) = reason else {
                    let is_changed = self.rejected.remove(&version).is_some();
                    return Ok(Applied { before, is_changed, needs: None });
                };
                if let Some((label, _)) = self.named.iter().find(|(_, named)| **named == version) {
                    let (model, label) = (change.model.clone(), label.clone());
                    return Err(RegistryError::Named { model, label, version });
                }
                let is_changed = self.rejected.insert(version, reason.to_owned()).is_none_or(|old| old != reason);
                Ok(Applied { before, is_changed, needs: Some(version) })
            }
        }
    }

    /// The content of the file at `path`.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, RegistryError> {
        serde_json::from_slice(text)
            .map_err(|error| RegistryError::Labels { path: path.to_owned(), reason: error.to_string() })
    }

    /// What `labels.json` is to hold.
    pub(crate) fn to_text(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    fn set(&mut self, label: &Label, to: Before) {
        for (map, value) in [(&mut self.named, to.named), (&mut self.previous, to.previous)] {
            match value {
                Some(version) => map.insert(label.clone(), version),
                None => map.remove(label),
            };
        }
    }
}

impl Registry {
    /// What each label of a model names. A model whose labels were never set has none.
    pub fn labels(&self, model: &ModelName) -> Result<Labels, RegistryError> {
        let folder = self.model_folder(model);
        if !folder.is_dir() {
            return Err(RegistryError::UnknownModel(model.clone()));
        }
        read(&folder.join(LABELS))
    }

    /// What each label of a model names where that is decided: for a mirror that is its store, for a folder the folder.
    pub fn current_labels(&self, model: &ModelName) -> Result<Labels, RegistryError> {
        match &self.origin {
            Some(origin) => origin.labels(model),
            None => self.labels(model),
        }
    }

    /// Makes `label` name `version`, provided that it names `expected` now (`None`: no version yet).
    ///
    /// The version has to be usable, and not rejected. If the label names something else by now, the error carries what. What it named
    /// is kept as its `previous`.
    pub fn set_label(
        &self,
        model: &ModelName,
        label: &Label,
        version: Version,
        expected: Option<Version>,
    ) -> Result<Before, RegistryError> {
        let after = |before: Before| Before {
            named: Some(version),
            previous: if before.named == Some(version) { before.previous } else { before.named },
        };
        if self.origin.is_none() {
            self.version(model, version)?;
        }
        self.change_labels(&Change { model, edit: Edit::Label { label, expected, after: &after, is_new: true } })
    }

    /// Makes `label` name what it named before its last move. Returns that version, and what to go back to.
    pub fn roll_back(&self, model: &ModelName, label: &Label) -> Result<(Version, Before), RegistryError> {
        let labels = self.current_labels(model)?;
        let unknown = || RegistryError::NoPrevious { model: model.clone(), label: label.clone() };
        let previous = labels.previous.get(label).copied().ok_or_else(unknown)?;
        let before = self.set_label(model, label, previous, labels.get(label))?;
        Ok((previous, before))
    }

    /// Takes a move of `label` to `version` back, provided that it names `version` still. What it named before need not be
    /// there any more: a server may have it in memory.
    pub fn undo_label(
        &self,
        model: &ModelName,
        label: &Label,
        version: Version,
        before: Before,
    ) -> Result<(), RegistryError> {
        let edit = Edit::Label { label, expected: Some(version), after: &|_| before, is_new: false };
        self.change_labels(&Change { model, edit }).map(drop)
    }

    /// Removes `label`, provided that it names `expected` now.
    pub fn remove_label(&self, model: &ModelName, label: &Label, expected: Version) -> Result<(), RegistryError> {
        let nothing = Before { named: None, previous: None };
        let edit = Edit::Label { label, expected: Some(expected), after: &|_| nothing, is_new: false };
        self.change_labels(&Change { model, edit }).map(drop)
    }

    /// Takes note that a version proved bad: from now on no label is moved to it, and no policy chooses it. One that a label names is not
    /// rejected. Once more: the reason is another then.
    pub fn reject(&self, model: &ModelName, version: Version, reason: &str) -> Result<(), RegistryError> {
        self.change_labels(&Change { model, edit: Edit::Rejection { version, reason: Some(reason) } }).map(drop)
    }

    /// Takes a rejection back, if there is one.
    pub fn take_rejection_back(&self, model: &ModelName, version: Version) -> Result<(), RegistryError> {
        self.change_labels(&Change { model, edit: Edit::Rejection { version, reason: None } }).map(drop)
    }

    fn change_labels(&self, change: &Change<'_>) -> Result<Before, RegistryError> {
        if let Some(origin) = &self.origin {
            return origin.change_label(self, change);
        }
        let folder = self.model_folder(change.model);
        if !folder.is_dir() {
            return Err(RegistryError::UnknownModel(change.model.clone()));
        }
        let _lock = ModelLock::take(&folder)?;
        let mut labels = read(&folder.join(LABELS))?;
        let applied = labels.apply(change)?;
        if !applied.is_changed {
            return Ok(applied.before);
        }
        if let Some(version) = applied.needs {
            // Again, now that nobody can collect it.
            self.version(change.model, version)?;
        }
        self.write_labels(change.model, &labels)?;
        Ok(applied.before)
    }

    /// Replaces the labels of a model. For who holds its lock.
    pub(crate) fn write_labels(&self, model: &ModelName, labels: &Labels) -> Result<(), RegistryError> {
        let path = self.model_folder(model).join(LABELS);
        let text = labels.to_text().context("writing", &path)?;
        disk::replace(&path, &text).context("writing", &path)
    }
}

fn read(path: &Path) -> Result<Labels, RegistryError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Labels::default()),
        Err(source) => return Err(RegistryError::Io { action: "reading", path: path.to_owned(), source }),
    };
    Labels::parse(&text, path)
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
        assert_eq!(text, "{\n  \"stable\": 2,\n  \"previous\": {\n    \"stable\": 1\n  }\n}\n");
        registry.remove_label(&model, &stable, version(2)).unwrap();
        assert_eq!(registry.labels(&model).unwrap(), Labels::default());
    }

    #[test]
    fn a_label_goes_back_to_where_it_was_and_forth_again() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let stable: Label = "stable".parse().unwrap();
        registry.set_label(&model, &stable, version(1), None).unwrap();
        let error = registry.roll_back(&model, &stable).unwrap_err();
        assert!(matches!(error, RegistryError::NoPrevious { .. }), "{error}");
        registry.set_label(&model, &stable, version(3), Some(version(1))).unwrap();
        // Naming it again is no move.
        registry.set_label(&model, &stable, version(3), Some(version(3))).unwrap();
        for wanted in [1, 3, 1] {
            assert_eq!(registry.roll_back(&model, &stable).unwrap().0, version(wanted));
            assert_eq!(registry.labels(&model).unwrap().get(&stable), Some(version(wanted)));
        }
    }

    #[test]
    fn a_move_that_is_taken_back_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let stable: Label = "stable".parse().unwrap();
        registry.set_label(&model, &stable, version(1), None).unwrap();
        registry.set_label(&model, &stable, version(2), Some(version(1))).unwrap();
        let labels = registry.labels(&model).unwrap();
        let before = registry.set_label(&model, &stable, version(3), Some(version(2))).unwrap();
        registry.undo_label(&model, &stable, version(3), before).unwrap();
        assert_eq!(registry.labels(&model).unwrap(), labels);
        let error = registry.undo_label(&model, &stable, version(3), before).unwrap_err();
        assert!(matches!(error, RegistryError::LabelMoved { .. }), "someone moved it meanwhile: {error}");
    }

    #[test]
    fn a_move_is_taken_back_also_to_a_version_whose_files_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let stable: Label = "stable".parse().unwrap();
        registry.set_label(&model, &stable, version(1), None).unwrap();
        fs::remove_dir_all(registry.model_folder(&model).join("1")).unwrap();
        let before = registry.set_label(&model, &stable, version(2), Some(version(1))).unwrap();
        registry.undo_label(&model, &stable, version(2), before).unwrap();
        assert_eq!(registry.labels(&model).unwrap().get(&stable), Some(version(1)));
        let error = registry.set_label(&model, &stable, version(1), Some(version(1))).unwrap_err();
        assert!(matches!(error, RegistryError::UnknownVersion { .. }), "{error}");
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
        assert_eq!(registry.labels(&model).unwrap().get(&stable), Some(version(2)));
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
    fn no_label_moves_to_a_rejected_version_until_the_rejection_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let stable: Label = "stable".parse().unwrap();
        registry.set_label(&model, &stable, version(1), None).unwrap();
        registry.set_label(&model, &stable, version(2), Some(version(1))).unwrap();
        let error = registry.reject(&model, version(2), "it answers").unwrap_err();
        assert!(matches!(error, RegistryError::Named { .. }), "{error}");
        registry.reject(&model, version(3), "fewer clicks").unwrap();
        registry.reject(&model, version(1), "old").unwrap();
        let text = fs::read_to_string(registry.model_folder(&model).join(LABELS)).unwrap();
        assert!(text.contains("\"rejected\": {\n    \"1\": \"old\",\n    \"3\": \"fewer clicks\"\n  }"), "{text}");
        let error = registry.set_label(&model, &stable, version(3), Some(version(2))).unwrap_err().to_string();
        assert!(error.contains("fewer clicks"), "{error}");
        assert!(matches!(registry.roll_back(&model, &stable), Err(RegistryError::Rejected { .. })));
        registry.take_rejection_back(&model, version(3)).unwrap();
        registry.set_label(&model, &stable, version(3), Some(version(2))).unwrap();
        assert_eq!(registry.labels(&model).unwrap().rejected, BTreeMap::from([(version(1), "old".to_owned())]));
        let unknown = registry.reject(&model, version(9), "not there");
        assert!(matches!(unknown, Err(RegistryError::UnknownVersion { .. })));
    }

    #[test]
    fn a_damaged_labels_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, model) = three_versions(dir.path());
        let path = registry.model_folder(&model).join(LABELS);
        for text in
            ["", "[]", r#"{"stable": 0}"#, r#"{"Stable": 1}"#, r#"{"previous": 1}"#, r#"{"rejected": {"0": "x"}}"#]
        {
            fs::write(&path, text).unwrap();
            let error = registry.labels(&model).unwrap_err().to_string();
            assert!(error.contains(LABELS), "{error}");
        }
    }
}
