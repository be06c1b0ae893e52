//! What decides for a registry whose folder is only a mirror: changes go there first, reads stay with the folder.

use std::{fmt, path::Path};

use crate::{
    error::RegistryError,
    labels::{Before, Change, Labels},
    manifest::Manifest,
    name::{Label, ModelName},
    registry::{Registry, VersionDir},
};

/// The place that a folder mirrors.
pub(crate) trait Origin: fmt::Debug + Send + Sync {
    /// Its address, for messages.
    fn address(&self) -> &str;

    /// What the labels of a model say there now.
    fn labels(&self, model: &ModelName) -> Result<Labels, RegistryError>;

    /// Changes a label there by compare-and-set, then in the mirror as far as the mirror has the versions.
    fn change_label(&self, mirror: &Registry, change: &Change<'_>) -> Result<Before, RegistryError>;

    /// An experiment's file there.
    fn experiment(&self, name: &Label) -> Result<Option<Vec<u8>>, RegistryError>;

    /// Makes an experiment's file there `after` if it is `before`, and answers whether it was.
    fn change_experiment(
        &self,
        name: &Label,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<bool, RegistryError>;

    /// Publishes the files of a folder there under the next free number, and moves the folder into the mirror.
    fn publish(
        &self,
        mirror: &Registry,
        model: &ModelName,
        staged: &Path,
        manifest: Manifest,
    ) -> Result<VersionDir, RegistryError>;
}
