//! Fetching files of a Hugging Face repository over HTTPS, quickly giving up where the network does not let us through.

use std::{
    collections::BTreeMap,
    error::Error as _,
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Duration,
};

use reqwest::blocking::Client;

use super::{Progress, PullOptions, PullRequest, SourceError, check, parent_folder, source::Fetched};
use crate::{
    checksum::{self, Sha256},
    manifest::FilePath,
};

/// Some networks do not refuse, they just never answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest silence, both before the answer and between two pieces of it.
const SILENCE: Duration = Duration::from_secs(15);

pub(super) fn fetch(
    repository: &str,
    request: &PullRequest,
    options: &PullOptions,
    progress: &Progress,
) -> Result<Fetched, SourceError> {
    if request.files.is_empty() {
        return Err(SourceError::FilesNotNamed);
    }
    let folder = options.cache.join("hf").join(repository);
    let base = format!("{}/{repository}/resolve/main", options.hugging_face.trim_end_matches('/'));
    let mut client = None;
    let mut files = BTreeMap::new();
    // Weights last: a source that does not do is known before the large file.
    let (weights, small): (Vec<_>, Vec<_>) = request.files.iter().partition(|file| file.is_safetensors());
    for file in small.into_iter().chain(weights) {
        let path = file.in_folder(&folder);
        if !is_cached(request, file, &path) {
            let client = match &client {
                Some(client) => client,
                None => client.insert(new_client(&base)?),
            };
            download(client, &format!("{base}/{file}"), file, &path, request, progress)?;
        }
        files.insert(file.clone(), path);
    }
    Ok(Fetched { files, folder: None })
}

/// Only a file whose checksum is known can be trusted to be still the right one.
fn is_cached(request: &PullRequest, file: &FilePath, path: &Path) -> bool {
    let Some(expected) = request.sha256.get(file) else { return false };
    Sha256::of_file(path).is_ok_and(|actual| actual == *expected)
}

fn new_client(url: &str) -> Result<Client, SourceError> {
    // Fails when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(SILENCE);
    builder.user_agent(concat!("vitrine-registry/", env!("CARGO_PKG_VERSION"))).build().map_err(|e| unreachable(url, e))
}

fn download(
    client: &Client,
    url: &str,
    file: &FilePath,
    path: &Path,
    request: &PullRequest,
    progress: &Progress,
) -> Result<(), SourceError> {
    let response = client.get(url).send().map_err(|error| unreachable(url, error))?;
    if !response.status().is_success() {
        return Err(SourceError::Status { url: url.to_owned(), status: response.status().as_u16() });
    }
    parent_folder(path)?;
    let partial = path.with_extension("partial");
    let bar = progress.bytes(file.to_string(), response.content_length());
    let mut target = File::create(&partial).map_err(|error| SourceError::io(&partial, error))?;
    let copied = checksum::copy(&mut bar.wrap_read(response), &mut target);
    bar.finish_and_clear();
    let checked = copied
        .and_then(|(sum, _)| target.flush().map(|()| sum))
        .map_err(|error| SourceError::io(&partial, error))
        .and_then(|sum| check(request, file, sum));
    if checked.is_ok() {
        return fs::rename(&partial, path).map_err(|error| SourceError::io(path, error));
    }
    // What is left of it would only take room.
    let _ = fs::remove_file(&partial);
    checked
}

fn unreachable(url: &str, error: reqwest::Error) -> SourceError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    SourceError::Unreachable { url: url.to_owned(), reason }
}
