//! What decides for a registry whose folder is only a mirror: changes go there first, reads stay with the folder.

use std::{fmt, path::Path};

use crate::{
    error::RegistryError,
    labels::{Before, Change, Labels},
    manifest::Manifest,
    name::ModelName,
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

    /// Publishes the files of a folder there under the next free number, and moves the folder into the mirror.
    fn publish(
        &self,
        mirror: &Registry,
        model: &ModelName,
        staged: &Path,
        manifest: Manifest,
    ) -> Result<VersionDir, RegistryError>;
}
