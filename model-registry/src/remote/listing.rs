//! What the names of a store's objects say: models, their versions, and what a version still lacks. The layout is that
//! of a registry in a folder, so that either can be copied to the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::store::Object;
use crate::{
    labels::LABELS,
    manifest::{FilePath, MANIFEST, Manifest},
    name::{ModelName, Version},
};

/// Where the models are.
pub(super) const MODELS: &str = "models";
/// The object that claims a version's number. It stays, so that a number is never given twice.
const CLAIM: &str = ".claim";

/// What a store holds, as its objects' names tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub models: BTreeMap<ModelName, BTreeMap<Version, Objects>>,
}

/// The objects of a version, by their path in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Objects(BTreeMap<String, Object>);

impl Listing {
    /// Reads names below `models/`. Those that are nothing of a registry's are passed over.
    pub fn of(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut listing = Self::default();
        for object in objects {
            let mut parts = object.key.splitn(4, '/');
            let (top, model, inside) = (parts.next(), parts.next(), parts.next());
            let Some(model) = model.and_then(|name| name.parse::<ModelName>().ok()) else { continue };
            if top != Some(MODELS) {
                continue;
            }
            match (inside, parts.next()) {
                (Some(LABELS), None) => {
                    listing.models.entry(model).or_default();
                }
                (Some(version), Some(path)) => {
                    let Ok(version) = version.parse() else { continue };
                    let path = path.to_owned();
                    let versions = listing.models.entry(model).or_default();
                    versions.entry(version).or_default().0.insert(path, object);
                }
                _ => {}
            }
        }
        listing
    }

    /// Whether no version is published.
    pub fn is_empty(&self) -> bool {
        !self.models.values().flat_map(BTreeMap::values).any(Objects::is_published)
    }
}

impl Objects {
    /// The manifest comes last, so what has none is on its way, or was given up.
    pub fn is_published(&self) -> bool {
        self.manifest().is_some()
    }

    pub fn manifest(&self) -> Option<&Object> {
        self.0.get(MANIFEST)
    }

    /// What keeps the version from being used, as far as names and sizes tell.
    pub fn problem(&self, manifest: &Manifest) -> Option<String> {
        manifest.files.iter().find_map(|(file, entry)| match self.0.get(file.as_str()) {
            None => Some(format!("\"{file}\" is not in the store")),
            Some(there) if there.size != entry.size => {
                Some(format!("\"{file}\" has {} of {} bytes in the store", there.size, entry.size))
            }
            Some(_) => None,
        })
    }
}

/// The keys of a model's objects.
pub(super) struct Keys<'a>(pub &'a ModelName);

impl Keys<'_> {
    pub fn labels(&self) -> String {
        format!("{self}/{LABELS}")
    }

    pub fn version(&self, version: Version) -> String {
        format!("{self}/{version}")
    }

    pub fn manifest(&self, version: Version) -> String {
        format!("{self}/{version}/{MANIFEST}")
    }

    pub fn claim(&self, version: Version) -> String {
        format!("{self}/{version}/{CLAIM}")
    }

    pub fn file(&self, version: Version, file: &FilePath) -> String {
        format!("{self}/{version}/{file}")
    }
}

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MODELS}/{}", self.0)
    }
}

/// The order in which versions are fetched: those that labels name, then the newest first.
pub(super) fn by_need(versions: impl Iterator<Item = Version>, named: &BTreeSet<Version>) -> Vec<Version> {
    let mut order: Vec<Version> = versions.collect();
    order.sort_by_key(|version| (!named.contains(version), std::cmp::Reverse(*version)));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(key: &str) -> Object {
        Object { key: key.to_owned(), size: 2, tag: None }
    }

    fn version(number: u32) -> Version {
        Version::new(number).unwrap()
    }

    #[test]
    fn names_are_sorted_into_models_and_versions() {
        let keys = [
            "models/minilm/labels.json",
            "models/minilm/1/manifest.json",
            "models/minilm/1/1_Pooling/config.json",
            "models/minilm/2/.claim",
            "models/minilm/2/config.json",
            "models/minilm/latest/config.json",
            "models/minilm/notes.txt",
            "models/Odd Name/1/manifest.json",
            "experiments/a.json",
        ];
        let listing = Listing::of(keys.map(object));
        let versions = &listing.models[&"minilm".parse().unwrap()];
        assert_eq!(listing.models.len(), 1);
        assert_eq!(versions.keys().copied().collect::<Vec<_>>(), [version(1), version(2)]);
        assert!(versions[&version(1)].is_published() && !versions[&version(2)].is_published());
        assert!(!listing.is_empty());
    }

    #[test]
    fn a_store_with_claims_and_labels_only_has_no_versions() {
        assert!(Listing::of(["models/minilm/1/.claim", "models/minilm/labels.json"].map(object)).is_empty());
    }

    #[test]
    fn versions_that_labels_name_are_fetched_first() {
        let order = by_need((1..=4).map(version), &[version(2)].into());
        assert_eq!(order, [2, 4, 3, 1].map(version));
    }

    proptest! {
        #[test]
        fn no_name_is_misread(key in "(models/)?[a-z/.0]{0,12}") {
            let listing = Listing::of([object(&key)]);
            for (model, versions) in &listing.models {
                let start = Keys(model).to_string();
                prop_assert!(key.starts_with(&start) && versions.keys().all(|v| key.starts_with(&Keys(model).version(*v))));
            }
        }
    }
}
