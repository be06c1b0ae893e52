//! Fetching a version from elsewhere and publishing it: sources are tried in order, every file is held against one checksum
//! whichever source it came from, and what is already published is not fetched again.

mod hugging_face;
mod progress;
mod pypi;
pub mod recipe;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use thiserror::Error;

pub use progress::Progress;
pub use source::{Source, SourceError, SourceParseError};

use crate::{
    checksum::Sha256,
    error::RegistryError,
    manifest::FilePath,
    name::{Label, ModelName},
    publish::PublishRequest,
    registry::{Registry, VersionDir},
};

/// The file that names the network's architecture in a Hugging Face repository.
const CONFIG: &str = "config.json";

/// A version to fetch and publish.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The model that gets the version.
    pub model: ModelName,
    /// The network's architecture. Absent: `model_type` of the fetched `config.json`.
    pub kind: Option<String>,
    /// What the model is for, as `text-embedding`.
    pub task: String,
    /// The licence of the weights.
    pub licence: Option<String>,
    /// Where to fetch from: the first that has everything, with the right checksums, is taken.
    pub sources: Vec<Source>,
    /// The files to fetch. Empty: all of a folder or of a package's folder.
    pub files: BTreeSet<FilePath>,
    /// Checksums the files must have.
    pub sha256: BTreeMap<FilePath, Sha256>,
    /// Files that come with this program, and not from a source.
    pub bundled: BTreeMap<FilePath, &'static [u8]>,
    /// Labels that are to name the version.
    pub labels: Vec<Label>,
}

/// Where fetched files are kept, and where repositories are asked for.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Folder for what was fetched.
    pub cache: PathBuf,
    /// Where Hugging Face repositories are, as `https://huggingface.co`.
    pub hugging_face: String,
}

impl PullOptions {
    /// Fetches from huggingface.co and PyPI, and keeps what it fetched in `cache`.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), hugging_face: "https://huggingface.co".to_owned() }
    }

    /// The default cache: `$VITRINE_CACHE`, else `~/.cache/vitrine`, else `.cache/vitrine` here.
    pub fn default_cache() -> PathBuf {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("VITRINE_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("vitrine")))
            .unwrap_or_else(|| set("HOME").unwrap_or_default().join(".cache/vitrine"))
    }
}

/// What a pull did.
#[derive(Debug, Clone, PartialEq)]
pub struct Pulled {
    /// The version that has the wanted files.
    pub version: VersionDir,
    /// Whether it was there before, and nothing was published.
    pub unchanged: bool,
    /// The sources that were tried in vain, with the reason.
    pub failed: Vec<FailedSource>,
}

/// A source that was tried in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedSource {
    /// The source.
    pub source: String,
    /// Why it did not do.
    pub reason: String,
}

/// Why a pull failed. Nothing was published.
#[derive(Debug, Error)]
pub enum PullError {
    /// No source was given.
    #[error("no source is given: name at least one with --from")]
    NoSources,
    /// No source had the files.
    #[error("no source has the files of model \"{model}\":{}", list(.failed))]
    NoSourceLeft {
        /// The model.
        model: ModelName,
        /// Each source and why it did not do.
        failed: Vec<FailedSource>,
    },
    /// The network's architecture is not known.
    #[error("the kind of model \"{model}\" cannot be told from its config.json ({reason}): give it with --kind")]
    UnknownKind {
        /// The model.
        model: ModelName,
        /// Why.
        reason: String,
    },
    /// There is no such recipe.
    #[error("there is no recipe \"{name}\"; there are: {}. To pull anything else, give --from and --task", .known.join(", "))]
    UnknownRecipe {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The cache folder cannot be used.
    #[error("the cache folder {path} cannot be used: {source}")]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading or changing the registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

fn list(failed: &[FailedSource]) -> String {
    let lines: Vec<String> = failed.iter().map(|tried| format!("\n  {}: {}", tried.source, tried.reason)).collect();
    lines.concat()
}

/// Fetches a version and publishes it, unless the registry has it already.
pub fn pull(
    registry: &Registry,
    request: &PullRequest,
    options: &PullOptions,
    progress: &Progress,
) -> Result<Pulled, PullError> {
    if let Some(version) = known_without_fetching(registry, request)? {
        set_labels(registry, request, &version, Moving::IfUnset)?;
        return Ok(Pulled { version, unchanged: true, failed: Vec::new() });
    }
    if request.sources.is_empty() {
        return Err(PullError::NoSources);
    }
    fs::create_dir_all(&options.cache).map_err(|source| PullError::Cache { path: options.cache.clone(), source })?;
    let mut failed = Vec::new();
    for source in &request.sources {
        progress.note(&format!("fetching \"{}\" from {source}", request.model));
        match source.fetch(request, options, progress) {
            Ok(fetched) => {
                let mut files = fetched.files().clone();
                files.extend(unpack_bundled(request, options)?);
                let publish = publish_request(request, source, files)?;
                let (version, unchanged) = match same_files(registry, &publish)? {
                    Some(version) => (version, true),
                    None => (registry.publish(&publish)?, false),
                };
                set_labels(registry, request, &version, if unchanged { Moving::IfUnset } else { Moving::Always })?;
                return Ok(Pulled { version, unchanged, failed });
            }
            Err(error) => {
                progress.note(&format!("{source} does not do: {error}"));
                failed.push(FailedSource { source: source.to_string(), reason: error.to_string() });
            }
        }
    }
    Err(PullError::NoSourceLeft { model: request.model.clone(), failed })
}

/// The newest version that has the wanted checksums, if these say enough to tell without fetching.
fn known_without_fetching(registry: &Registry, request: &PullRequest) -> Result<Option<VersionDir>, RegistryError> {
    let weights: Vec<&FilePath> = request.files.iter().filter(|file| file.is_safetensors()).collect();
    if weights.is_empty() || weights.iter().any(|file| !request.sha256.contains_key(file)) {
        return Ok(None);
    }
    newest_that(registry, &request.model, |version| {
        let files = &version.manifest.files;
        let fetched = request.files.iter().map(|file| (file, request.sha256.get(file).copied()));
        let bundled = request.bundled.iter().map(|(file, content)| (file, Some(Sha256::of_bytes(content))));
        fetched
            .chain(bundled)
            .all(|(file, wanted)| files.get(file).is_some_and(|entry| wanted.is_none_or(|sum| sum == entry.sha256)))
    })
}

/// Puts the files that come with this program into the cache, where publishing finds them.
fn unpack_bundled(request: &PullRequest, options: &PullOptions) -> Result<BTreeMap<FilePath, PathBuf>, PullError> {
    let folder = options.cache.join("bundled");
    let unpack = |(file, content): (&FilePath, &&[u8])| {
        let path = folder.join(Sha256::of_bytes(content).to_string());
        fs::create_dir_all(&folder)?;
        fs::write(&path, content)?;
        Ok((file.clone(), path))
    };
    let unpacked = request.bundled.iter().map(unpack).collect::<io::Result<_>>();
    unpacked.map_err(|source| PullError::Cache { path: folder, source })
}

/// The newest version that has the very files that are to be published.
fn same_files(registry: &Registry, publish: &PublishRequest) -> Result<Option<VersionDir>, RegistryError> {
    let sums = publish.files.iter().map(|(file, path)| Ok((file, Sha256::of_file(path)?)));
    let sums: BTreeMap<_, _> = sums.collect::<io::Result<_>>().map_err(|source| RegistryError::Io {
        action: "reading the fetched files of",
        path: publish.model.as_str().into(),
        source,
    })?;
    newest_that(registry, &publish.model, |version| {
        let files = &version.manifest.files;
        files.len() == sums.len() && files.iter().all(|(file, entry)| sums.get(file) == Some(&entry.sha256))
    })
}

fn newest_that(
    registry: &Registry,
    model: &ModelName,
    wanted: impl Fn(&VersionDir) -> bool,
) -> Result<Option<VersionDir>, RegistryError> {
    match registry.versions(model) {
        Ok(versions) => Ok(versions.usable.into_iter().rev().find(wanted)),
        Err(RegistryError::UnknownModel(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn publish_request(
    request: &PullRequest,
    source: &Source,
    files: BTreeMap<FilePath, PathBuf>,
) -> Result<PublishRequest, PullError> {
    let kind = match &request.kind {
        Some(kind) => kind.clone(),
        None => detect_kind(&files)
            .map_err(|reason| PullError::UnknownKind { model: request.model.clone(), reason: reason.to_owned() })?,
    };
    let mut publish = PublishRequest::new(&request.model, &kind, &request.task, files);
    publish.licence.clone_from(&request.licence);
    publish.source = Some(source.to_string());
    Ok(publish)
}

fn detect_kind(files: &BTreeMap<FilePath, PathBuf>) -> Result<String, &'static str> {
    let config = files.iter().find(|(file, _)| file.as_str() == CONFIG).ok_or("there is none")?;
    let text = fs::read(config.1).map_err(|_| "it cannot be read")?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|_| "it is no JSON")?;
    value.get("model_type").and_then(|kind| kind.as_str()).map(str::to_owned).ok_or("it has no model_type")
}

/// Whether a label that names another version is moved. One that an operator moved back stays where it is when the
/// same version is pulled again.
#[derive(Clone, Copy, PartialEq)]
enum Moving {
    Always,
    IfUnset,
}

fn set_labels(
    registry: &Registry,
    request: &PullRequest,
    version: &VersionDir,
    moving: Moving,
) -> Result<(), RegistryError> {
    let labels = registry.current_labels(&request.model)?;
    for label in &request.labels {
        let current = labels.get(label);
        if current.is_none() || (moving == Moving::Always && current != Some(version.version)) {
            registry.set_label(&request.model, label, version.version, current)?;
        }
    }
    Ok(())
}

/// Holds a file against the checksum it must have, if one is given.
fn check(request: &PullRequest, file: &FilePath, actual: Sha256) -> Result<(), SourceError> {
    match request.sha256.get(file) {
        Some(&expected) if expected != actual => Err(SourceError::Checksum { file: file.clone(), expected, actual }),
        _ => Ok(()),
    }
}

/// Makes the folder a file goes to.
fn parent_folder(path: &Path) -> Result<(), SourceError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|error| SourceError::io(parent, error))
}

#[cfg(test)]
mod tests;
