//! Reading a version's files, with errors that name the file.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::ModelError;

/// The whole file. `hint` says what it is for, or how to get it; empty, or starts with `; `.
pub(crate) fn bytes(path: &Path, hint: &'static str) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| ModelError::File { path: path.to_owned(), source, hint })
}

/// The file as JSON.
pub(crate) fn json<T: DeserializeOwned>(path: &Path, hint: &'static str) -> Result<T, ModelError> {
    serde_json::from_slice(&bytes(path, hint)?).map_err(|error| ModelError::format(path, error))
}
