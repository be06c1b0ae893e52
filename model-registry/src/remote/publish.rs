//! Publishing to a store: a number is claimed by a conditional write, the files are sent, and the manifest last, so that a
//! version is seen whole or not at all.

use std::path::Path;

use super::{
    Remote, fetch,
    listing::{Keys, Listing},
    store::Written,
};
use crate::{
    error::{Context as _, RegistryError},
    labels::{Before, Change, Labels},
    manifest::{MANIFEST, Manifest},
    name::{Label, ModelName, Version},
    origin::Origin,
    registry::{Registry, VersionDir},
};

impl Origin for Remote {
    fn address(&self) -> &str {
        &self.store.identity
    }

    fn labels(&self, model: &ModelName) -> Result<Labels, RegistryError> {
        self.current_labels(model)
    }

    fn change_label(&self, mirror: &Registry, change: &Change<'_>) -> Result<Before, RegistryError> {
        self.change(mirror, change)
    }

    fn experiment(&self, name: &Label) -> Result<Option<Vec<u8>>, RegistryError> {
        self.read_experiment(name)
    }

    fn change_experiment(
        &self,
        name: &Label,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<bool, RegistryError> {
        self.write_experiment(name, before, after)
    }

    fn publish(
        &self,
        mirror: &Registry,
        model: &ModelName,
        staged: &Path,
        manifest: Manifest,
    ) -> Result<VersionDir, RegistryError> {
        let version = self.claim(model)?;
        if let Err(error) = self.send(model, version, staged, &manifest) {
            self.withdraw(model, version, &manifest);
            return Err(error);
        }
        fetch::install(mirror, model, version, staged)?;
        let path = mirror.model_folder(model).join(version.to_string());
        Ok(VersionDir { model: model.clone(), version, path, manifest })
    }
}

impl Remote {
    /// The next free number, ours from now on, also if nothing comes of it.
    fn claim(&self, model: &ModelName) -> Result<Version, RegistryError> {
        let keys = Keys(model);
        let listing = Listing::of(self.store.list(&keys.to_string())?);
        let last = listing.models.get(model).and_then(|versions| versions.keys().last().copied());
        let mut next = last.map_or(Some(Version::FIRST), Version::next);
        while let Some(version) = next {
            let when = jiff::Timestamp::now().to_string();
            match self.store.put_if(&keys.claim(version), when.into_bytes(), None)? {
                Written::Done => return Ok(version),
                Written::Overtaken => next = version.next(),
            }
        }
        Err(RegistryError::NoVersionLeft(model.clone()))
    }

    fn send(
        &self,
        model: &ModelName,
        version: Version,
        staged: &Path,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        let keys = Keys(model);
        for file in manifest.files.keys() {
            self.store.upload(&keys.file(version, file), &file.in_folder(staged))?;
        }
        let path = staged.join(MANIFEST);
        let text = std::fs::read(&path).context("reading", &path)?;
        let key = keys.manifest(version);
        match self.store.put_if(&key, text, None)? {
            Written::Done => Ok(()),
            // Someone copied files there by hand. Theirs is a version, ours is none.
            Written::Overtaken => Err(RegistryError::Unusable {
                model: model.clone(),
                version,
                reason: format!("{key} is there already"),
            }),
        }
    }

    /// Takes back what was sent, as far as the store lets us. Nobody can see it: it only takes room.
    fn withdraw(&self, model: &ModelName, version: Version, manifest: &Manifest) {
        let keys = Keys(model);
        let gone = manifest.files.keys().try_for_each(|file| self.store.delete(&keys.file(version, file)));
        if let Err(error) = gone {
            let version = keys.version(version);
            tracing::warn!(%error, version, "files of a version that was not published are left in the store");
        }
    }
}
