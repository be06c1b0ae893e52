//! Bringing the folder in step with the store: versions that labels name, the labels, all other versions, and then what
//! the store no longer has. Nothing is ever removed or half there that a label names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    Remote, cache,
    error::StoreError,
    experiments,
    fetch::{Fetch, Fetched, Unfit},
    follow::locked,
    labels,
    listing::{Listing, MODELS, Objects, by_need},
};
use crate::{
    disk::{LOCK, ModelLock},
    error::{Context as _, RegistryError},
    gc,
    labels::{LABELS, Labels},
    name::{Label, ModelName, Version},
    registry::Registry,
};

/// What a synchronisation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// Versions that were fetched.
    pub fetched: Vec<(ModelName, Version)>,
    /// Versions that the store no longer has.
    pub removed: Vec<(ModelName, Version)>,
    /// What the store has, and cannot be used.
    pub left_out: Vec<LeftOut>,
}

/// Something in the store that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The model.
    pub model: ModelName,
    /// The version; none if it is the model's labels.
    pub version: Option<Version>,
    /// Why.
    pub reason: String,
}

/// What was found out about versions, and holds until their objects change. Saves fetching them again.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Versions that are here, by the state of their manifest.
    here: HashMap<(ModelName, Version), String>,
    damaged: HashMap<(ModelName, Version), (Objects, String)>,
    /// Experiments that are here, by the state of their object.
    experiments: HashMap<Label, String>,
}

struct Pass<'a> {
    registry: &'a Registry,
    remote: &'a Remote,
    stop: &'a AtomicBool,
    known: &'a mut Known,
    done: Synced,
    /// The first of what went wrong and did not stop the rest.
    failure: Option<RegistryError>,
}

/// Synchronises until done, or told to stop.
pub(super) fn run(registry: &Registry, remote: &Remote, stop: &AtomicBool) -> Result<Synced, RegistryError> {
    let mut known = locked(&remote.known);
    let _lock = cache::lock(registry.root())?;
    cache::remove_leftovers(registry)?;
    let listing = Listing::of(remote.store.list(MODELS)?);
    let here = registry.models()?;
    if listing.is_empty() {
        for model in &here {
            if !registry.numbers(model)?.is_empty() {
                let (store, cache) = (remote.store.name.clone(), registry.root().to_owned());
                return Err(StoreError::Emptied { store, cache }.into());
            }
        }
    }
    let mut models = listing.models;
    for model in here {
        models.entry(model).or_default();
    }
    let mut pass = Pass { registry, remote, stop, known: &mut known, done: Synced::default(), failure: None };
    pass.run(&models)?;
    let copied = experiments::copy(registry, remote, &mut pass.known.experiments);
    pass.note(copied)?;
    pass.failure.map_or(Ok(pass.done), Err)
}

impl Pass<'_> {
    fn run(&mut self, models: &BTreeMap<ModelName, BTreeMap<Version, Objects>>) -> Result<(), RegistryError> {
        let mut later = Vec::new();
        for (model, versions) in models {
            let labels = self.read_labels(model)?;
            let named: BTreeSet<Version> = labels
                .iter()
                .flat_map(|labels| labels.named.values().chain(labels.previous.values()))
                .copied()
                .collect();
            let published = versions.iter().filter(|(_, objects)| objects.is_published()).map(|(version, _)| *version);
            for version in by_need(published, &named) {
                if named.contains(&version) {
                    self.bring(model, version, &versions[&version])?;
                } else {
                    later.push((model, version, &versions[&version]));
                }
            }
            let copied = self.copy_labels(model, versions);
            self.note(copied)?;
        }
        for (model, version, objects) in later {
            self.bring(model, version, objects)?;
        }
        for (model, versions) in models {
            let removed = self.remove(model, versions);
            self.note(removed)?;
        }
        Ok(())
    }

    /// Fetches a version unless it is here, or known to be damaged.
    fn bring(&mut self, model: &ModelName, version: Version, objects: &Objects) -> Result<(), RegistryError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(StoreError::Stopped { store: self.remote.store.name.clone() }.into());
        }
        let (registry, remote, stop) = (self.registry, self.remote, self.stop);
        let name = (model.clone(), version);
        let state = objects.manifest().and_then(|manifest| manifest.tag.clone());
        let is_known = state.is_some() && self.known.here.get(&name) == state.as_ref();
        if is_known && registry.version(model, version).is_ok() {
            return Ok(());
        }
        if let Some((_, reason)) = self.known.damaged.get(&name).filter(|(then, _)| then == objects) {
            self.done.left_out.push(LeftOut { model: name.0, version: Some(version), reason: reason.clone() });
            return Ok(());
        }
        if self.is_full() {
            return Ok(());
        }
        match (Fetch { registry, remote, stop, model, version, objects }).run() {
            Ok(fetched) => {
                self.known.damaged.remove(&name);
                self.known.here.extend(state.map(|state| (name.clone(), state)));
                if fetched == Fetched::New {
                    tracing::info!(model = model.as_str(), version = version.get(), "fetched a version");
                    self.done.fetched.push(name);
                }
                Ok(())
            }
            Err(Unfit::Damaged(reason)) => {
                tracing::warn!(model = model.as_str(), version = version.get(), reason, "a version is left out");
                self.known.damaged.insert(name.clone(), (objects.clone(), reason.clone()));
                self.done.left_out.push(LeftOut { model: name.0, version: Some(version), reason });
                Ok(())
            }
            Err(Unfit::Gone) => Ok(()),
            Err(Unfit::Failed(error)) => self.note(Err(error)),
        }
    }

    fn read_labels(&mut self, model: &ModelName) -> Result<Option<Labels>, RegistryError> {
        match self.remote.read_labels(model) {
            Ok(found) => Ok(found.map(|(labels, _)| labels)),
            // Told when they are copied.
            Err(RegistryError::Labels { .. }) => Ok(None),
            Err(error) => self.note(Err(error)).map(|()| None),
        }
    }

    fn copy_labels(&mut self, model: &ModelName, versions: &BTreeMap<Version, Objects>) -> Result<(), RegistryError> {
        let folder = self.registry.model_folder(model);
        if !folder.is_dir() {
            return Ok(());
        }
        // Whoever changes a label through this folder holds it too, so that no older labels replace newer ones.
        let _lock = ModelLock::take(&folder)?;
        let found = match self.remote.read_labels(model) {
            Err(RegistryError::Labels { path, reason }) => {
                let reason = format!("{}: {reason}", path.display());
                self.done.left_out.push(LeftOut { model: model.clone(), version: None, reason });
                return Ok(());
            }
            found => found?,
        };
        let wanted = found.map(|(labels, _)| labels).unwrap_or_default();
        for (label, version) in labels::copy(self.registry, model, &wanted)? {
            if !versions.get(&version).is_some_and(Objects::is_published) {
                let reason = format!("label \"{label}\" names it, and the store does not have it");
                self.done.left_out.push(LeftOut { model: model.clone(), version: Some(version), reason });
            }
        }
        Ok(())
    }

    /// Removes the versions that the store no longer has, and the model with the last of them.
    fn remove(&mut self, model: &ModelName, versions: &BTreeMap<Version, Objects>) -> Result<(), RegistryError> {
        let folder = self.registry.model_folder(model);
        if !folder.is_dir() {
            return Ok(());
        }
        let _lock = ModelLock::take(&folder)?;
        let labels = self.registry.labels(model)?;
        let named: BTreeSet<&Version> = labels.named.values().chain(labels.previous.values()).collect();
        for version in self.registry.numbers(model)? {
            let is_published = versions.get(&version).is_some_and(Objects::is_published);
            if !is_published && !named.contains(&version) {
                gc::remove(&folder, version)?;
                tracing::info!(model = model.as_str(), version = version.get(), "removed a version, as the store did");
                self.known.here.remove(&(model.clone(), version));
                self.done.removed.push((model.clone(), version));
            }
        }
        if versions.is_empty() && self.registry.numbers(model)?.is_empty() {
            remove_model(&folder)?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(&self.failure, Some(RegistryError::Io { source, .. }) if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Keeps an error of one thing from holding up the others, unless these would fail alike.
    fn note(&mut self, result: Result<(), RegistryError>) -> Result<(), RegistryError> {
        match result {
            Ok(()) => Ok(()),
            Err(RegistryError::Store(error)) if !matches!(error, StoreError::Failed { .. }) => Err(error.into()),
            Err(error) => {
                self.failure.get_or_insert(error);
                Ok(())
            }
        }
    }
}

/// Removes a model's folder unless somebody is about to publish to it.
fn remove_model(folder: &Path) -> Result<(), RegistryError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).context("listing", folder)? {
        names.push(entry.context("listing", folder)?.file_name());
    }
    if names.iter().all(|name| name == LABELS || name == LOCK) {
        fs::remove_dir_all(folder).context("removing", folder)?;
    }
    Ok(())
}
