//! What can go wrong with a registry, each with the path it went wrong at and what to do about it.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    manifest::ManifestError,
    name::{Label, ModelName, Version},
    verify::Problem,
};

/// What went wrong.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The registry folder is not there.
    #[error("{0} is no registry: the folder does not exist. `vitrine-registry pull` makes one")]
    Missing(PathBuf),
    /// The path is something else than a folder.
    #[error("{0} is no registry: it is not a folder")]
    NotAFolder(PathBuf),
    /// No such model.
    #[error("the registry has no model \"{0}\"")]
    UnknownModel(ModelName),
    /// No such version of the model.
    #[error("model \"{model}\" has no version {version}")]
    UnknownVersion {
        /// The model.
        model: ModelName,
        /// The version asked for.
        version: Version,
    },
    /// The version's folder is there, but must not be used.
    #[error("version {version} of model \"{model}\" cannot be used: {reason}")]
    Unusable {
        /// The model.
        model: ModelName,
        /// The version asked for.
        version: Version,
        /// Why.
        reason: String,
    },
    /// Compare-and-set found another value; nothing was changed. Read the labels again and decide anew.
    #[error("label \"{label}\" of model \"{model}\" names {}, not {} as expected; nothing was changed", named(*.actual), named(*.expected))]
    LabelMoved {
        /// The model.
        model: ModelName,
        /// The label.
        label: Label,
        /// What the caller expected it to name.
        expected: Option<Version>,
        /// What it names.
        actual: Option<Version>,
    },
    /// The version proved bad: no label is moved to it before the rejection is taken back.
    #[error(
        "version {version} of model \"{model}\" was rejected ({reason}); `vitrine-registry reject --undo` takes that back"
    )]
    Rejected {
        /// The model.
        model: ModelName,
        /// The version asked for.
        version: Version,
        /// Why it was.
        reason: String,
    },
    /// A version is not rejected while a label names it.
    #[error(
        "label \"{label}\" names version {version} of model \"{model}\", so it is not rejected; move the label first"
    )]
    Named {
        /// The model.
        model: ModelName,
        /// The label.
        label: Label,
        /// The version asked for.
        version: Version,
    },
    /// The label was never moved, so there is nothing to go back to.
    #[error("label \"{label}\" of model \"{model}\" named nothing before: there is nothing to roll back to")]
    NoPrevious {
        /// The model.
        model: ModelName,
        /// The label.
        label: Label,
    },
    /// `labels.json` cannot be read.
    #[error("{path}: {reason}")]
    Labels {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file to publish is not fit to be loaded.
    #[error("{0}; nothing was published")]
    Refused(Problem),
    /// What is to be published makes no valid manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// All version numbers are used up.
    #[error("model \"{0}\" has no version number left")]
    NoVersionLeft(ModelName),
    /// What was asked for is done in folders only, and this registry is on a store.
    #[error("{registry}: {what} works on a registry in a folder only")]
    FolderOnly {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: &'static str,
    },
    /// The store of a registry that is on one does not do what it should.
    #[cfg(feature = "s3")]
    #[error(transparent)]
    Store(#[from] crate::remote::StoreError),
    /// The watcher could not be started.
    #[error("cannot watch {path}: {reason}")]
    Watch {
        /// The registry.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn named(version: Option<Version>) -> String {
    version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"))
}

/// Adds to an I/O error what was being done, and where.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, RegistryError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, RegistryError> {
        self.map_err(|source| RegistryError::Io { action, path: path.into(), source })
    }
}
