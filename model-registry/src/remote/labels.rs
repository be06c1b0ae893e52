//! Labels on a store: changed by conditional write, copied to the mirror as far as the mirror has their versions.

use std::{collections::BTreeMap, path::Path};

use object_store::UpdateVersion;

use super::{
    Remote,
    error::StoreError,
    listing::{Keys, Listing, Objects},
    store::Written,
};
use crate::{
    disk::ModelLock,
    error::{Context as _, RegistryError},
    labels::{Applied, Before, Change, Labels},
    manifest::{MANIFEST, MAX_MANIFEST, Manifest},
    name::{Label, ModelName, Version},
    registry::Registry,
};

/// The longest `labels.json` that is read, in bytes.
const MAX_LABELS: u64 = 1 << 20;
/// How often a change is decided anew when others were faster.
const ATTEMPTS: u32 = 100;

impl Remote {
    /// The labels of a model, and the state for a conditional write. None if there are none yet.
    pub fn read_labels(&self, model: &ModelName) -> Result<Option<(Labels, UpdateVersion)>, RegistryError> {
        let key = Keys(model).labels();
        let Some(found) = self.store.get(&key, MAX_LABELS)? else { return Ok(None) };
        Ok(Some((Labels::parse(&found.bytes, Path::new(&key))?, found.state)))
    }

    /// What the labels say now; an unknown model has none.
    pub fn current_labels(&self, model: &ModelName) -> Result<Labels, RegistryError> {
        match self.read_labels(model)? {
            Some((labels, _)) => Ok(labels),
            None if self.store.list(&Keys(model).to_string())?.is_empty() => {
                Err(RegistryError::UnknownModel(model.clone()))
            }
            None => Ok(Labels::default()),
        }
    }

    /// Changes labels in the store, then in the mirror.
    pub fn change(&self, mirror: &Registry, change: &Change<'_>) -> Result<Before, RegistryError> {
        // Nobody copies older labels to the mirror between the two.
        let folder = mirror.model_folder(change.model);
        let lock = folder.is_dir().then(|| ModelLock::take(&folder)).transpose()?;
        let (before, labels) = self.change_in_store(change)?;
        if lock.is_some() {
            match copy(mirror, change.model, &labels) {
                Ok(held) if held.is_empty() => {}
                Ok(_) => self.bell.ring(),
                // It is done where it counts: the next synchronisation brings it here.
                Err(error) => tracing::warn!(%error, "a label was moved in the store, and not yet in its mirror"),
            }
        }
        Ok(before)
    }

    fn change_in_store(&self, change: &Change<'_>) -> Result<(Before, Labels), RegistryError> {
        let key = Keys(change.model).labels();
        for _ in 0..ATTEMPTS {
            let (mut labels, state) = self.read_labels(change.model)?.unzip();
            let labels = labels.get_or_insert_default();
            let Applied { before, is_changed, needs } = labels.apply(change)?;
            if !is_changed {
                return Ok((before, std::mem::take(labels)));
            }
            if let Some(version) = needs {
                self.check_usable(change.model, version)?;
            }
            let text = labels.to_text().context("writing", &key)?;
            if self.store.put_if(&key, text, state)? == Written::Done {
                return Ok((before, std::mem::take(labels)));
            }
        }
        Err(StoreError::Busy { store: self.store.name.clone(), model: change.model.clone() }.into())
    }

    /// Whether a version in the store can be used, as far as names and sizes tell.
    fn check_usable(&self, model: &ModelName, version: Version) -> Result<(), RegistryError> {
        let mut listing = Listing::of(self.store.list(&Keys(model).version(version))?);
        let objects = listing.models.get_mut(model).and_then(|versions| versions.remove(&version));
        match objects {
            Some(objects) => self.usable(model, version, &objects).map(drop),
            None if self.store.list(&Keys(model).to_string())?.is_empty() => {
                Err(RegistryError::UnknownModel(model.clone()))
            }
            None => Err(RegistryError::UnknownVersion { model: model.clone(), version }),
        }
    }

    /// The manifest of a version that can be used, as far as names and sizes tell.
    pub fn usable(&self, model: &ModelName, version: Version, objects: &Objects) -> Result<Manifest, RegistryError> {
        let unusable = |reason| RegistryError::Unusable { model: model.clone(), version, reason };
        let key = Keys(model).manifest(version);
        let text = if objects.is_published() { self.store.get(&key, MAX_MANIFEST)? } else { None };
        let text = text.ok_or_else(|| RegistryError::UnknownVersion { model: model.clone(), version })?;
        let manifest =
            Manifest::parse(&text.bytes, Path::new(MANIFEST)).map_err(|error| unusable(error.to_string()))?;
        objects.problem(&manifest).map_or(Ok(manifest), |problem| Err(unusable(problem)))
    }
}

/// Copies labels to the mirror as far as it has their versions; returns those that have to wait, with their version.
/// For who holds the model's lock.
pub(super) fn copy(
    mirror: &Registry,
    model: &ModelName,
    wanted: &Labels,
) -> Result<BTreeMap<Label, Version>, RegistryError> {
    // Those that cannot be read are replaced.
    let old = mirror.labels(model).ok();
    let (labels, held) = applicable(wanted, old.as_ref(), |version: Version| mirror.version(model, version).is_ok());
    if old.is_none_or(|old| old != labels) {
        mirror.write_labels(model, &labels)?;
    }
    Ok(held)
}

/// What of the wanted labels can be: a label never names a version that is not here. One whose version is not stays where
/// it was, and is told.
fn applicable(
    wanted: &Labels,
    old: Option<&Labels>,
    is_here: impl Fn(Version) -> bool,
) -> (Labels, BTreeMap<Label, Version>) {
    let (mut labels, mut held) = (Labels::default(), BTreeMap::new());
    for (label, &version) in &wanted.named {
        if is_here(version) {
            labels.named.insert(label.clone(), version);
            continue;
        }
        held.insert(label.clone(), version);
        if let Some(old) = old.and_then(|old| old.get(label)).filter(|old| is_here(*old)) {
            labels.named.insert(label.clone(), old);
        }
    }
    let previous = wanted.previous.iter().filter(|(_, version)| is_here(**version));
    labels.previous = previous.map(|(label, version)| (label.clone(), *version)).collect();
    labels.rejected.clone_from(&wanted.rejected);
    (labels, held)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn labels() -> impl Strategy<Value = Labels> {
        let map = || {
            let label = "[ab]".prop_map(|label| label.parse::<Label>().unwrap());
            proptest::collection::btree_map(label, version(), 0..3)
        };
        let rejected = proptest::collection::btree_map(version(), "[ab]", 0..3);
        (map(), map(), rejected).prop_map(|(named, previous, rejected)| Labels { named, previous, rejected })
    }

    fn version() -> impl Strategy<Value = Version> {
        (1u32..5).prop_map(|number| Version::new(number).unwrap())
    }

    proptest! {
        #[test]
        fn no_label_ever_names_a_version_that_is_not_here(
            wanted in labels(), old in labels(), here in proptest::collection::btree_set(version(), 0..4),
        ) {
            let here: BTreeSet<Version> = here;
            let (labels, held) = applicable(&wanted, Some(&old), |version| here.contains(&version));
            prop_assert!(labels.named.values().chain(labels.previous.values()).all(|version| here.contains(version)));
            prop_assert_eq!(&labels.rejected, &wanted.rejected);
            for (label, version) in &wanted.named {
                if here.contains(version) {
                    prop_assert_eq!(labels.get(label), Some(*version));
                } else {
                    prop_assert_eq!(held.get(label), Some(version));
                    prop_assert_eq!(labels.get(label), old.get(label).filter(|old| here.contains(old)));
                }
            }
        }
    }
}
