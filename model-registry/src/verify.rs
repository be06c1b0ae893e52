//! Checks a version's files against its manifest, and that whatever holds weights is safetensors.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use safetensors::tensor::Metadata;
use serde::Serialize;
use thiserror::Error;

use crate::{
    checksum::Sha256,
    error::RegistryError,
    manifest::FilePath,
    publish,
    registry::{Registry, VersionDir},
};

/// The longest safetensors header, as the format says.
const MAX_HEADER: u64 = 100_000_000;

/// What is wrong with a file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
pub enum Problem {
    /// It cannot be read.
    #[error("\"{file}\" cannot be read: {reason}")]
    Unreadable {
        /// The file.
        file: FilePath,
        /// Why.
        reason: String,
    },
    /// Its content is not what was published.
    #[error("\"{file}\" is not what was published: its checksum is {actual}, the manifest says {expected}")]
    Checksum {
        /// The file.
        file: FilePath,
        /// What the manifest says.
        expected: Sha256,
        /// What it is.
        actual: Sha256,
    },
    /// It holds weights in a format that is never loaded.
    #[error("\"{file}\" holds weights in a format that is never loaded; convert it to safetensors")]
    ForbiddenFormat {
        /// The file.
        file: FilePath,
    },
    /// It is named as safetensors, and is not.
    #[error("\"{file}\" is no safetensors file: {reason}")]
    NotSafetensors {
        /// The file.
        file: FilePath,
        /// Why.
        reason: String,
    },
    /// It lies in the folder, and the manifest does not know it.
    #[error("\"{file}\" is not in the manifest")]
    Unlisted {
        /// The file.
        file: FilePath,
    },
}

impl Registry {
    /// Reads every file of a version and lists what is wrong. An empty list: all is as it was published.
    pub fn verify(&self, version: &VersionDir) -> Result<Vec<Problem>, RegistryError> {
        version.verify()
    }
}

impl VersionDir {
    /// Reads every file and lists what is wrong. An empty list: all is as it was published.
    pub fn verify(&self) -> Result<Vec<Problem>, RegistryError> {
        self.verify_resting(&|| ())
    }

    /// The same, and calls `rest` after every millisecond or so: for whoever verifies beside more urgent work.
    pub fn verify_resting(&self, rest: &dyn Fn()) -> Result<Vec<Problem>, RegistryError> {
        let mut problems = Vec::new();
        for (file, entry) in &self.manifest.files {
            let path = file.in_folder(&self.path);
            match Sha256::of_file_resting(&path, rest) {
                Ok(actual) if actual == entry.sha256 => {}
                Ok(actual) => {
                    problems.push(Problem::Checksum { file: file.clone(), expected: entry.sha256, actual });
                }
                Err(error) => {
                    problems.push(Problem::Unreadable { file: file.clone(), reason: error.to_string() });
                    continue;
                }
            }
            problems.extend(weights_problem(file, &path));
        }
        for file in publish::files_in(&self.path)?.into_keys() {
            if !self.manifest.files.contains_key(&file) {
                let forbidden = file.is_forbidden_format();
                problems.push(if forbidden { Problem::ForbiddenFormat { file } } else { Problem::Unlisted { file } });
            }
        }
        Ok(problems)
    }
}

/// What makes a file unfit to be loaded: weights that are no safetensors, by name or by content.
pub(crate) fn weights_problem(file: &FilePath, path: &Path) -> Option<Problem> {
    let unreadable = |error: io::Error| Problem::Unreadable { file: file.clone(), reason: error.to_string() };
    if file.is_safetensors() {
        let reason = header(path).err()?;
        return Some(Problem::NotSafetensors { file: file.clone(), reason });
    }
    if file.is_forbidden_format() {
        return Some(Problem::ForbiddenFormat { file: file.clone() });
    }
    match is_pickle(path) {
        Ok(false) => None,
        Ok(true) => Some(Problem::ForbiddenFormat { file: file.clone() }),
        Err(error) => Some(unreadable(error)),
    }
}

/// Whether the content begins as a pickle of protocol 2 to 5, or as the zip archive that pickles are put in.
fn is_pickle(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(matches!(start.as_slice(), [0x80, 2..=5, ..] | b"PK\x03\x04"))
}

/// Reads the header of a safetensors file and checks that its tensors fill the file exactly.
///
/// The format: <https://huggingface.co/docs/safetensors/index#format>.
pub(crate) fn header(path: &Path) -> Result<Metadata, String> {
    let text = |error: io::Error| error.to_string();
    let size = fs::metadata(path).map_err(text)?.len();
    let mut file = File::open(path).map_err(text)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| "it is too short for a header".to_owned())?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > size - 8 {
        return Err(format!("its header would have {length} bytes"));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(text)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    let expected = 8 + length + metadata.data_len() as u64;
    if expected == size { Ok(metadata) } else { Err(format!("it has {size} bytes, its header says {expected}")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::publish::PublishRequest;

    /// The smallest file with one tensor of two floats.
    fn safetensors() -> Vec<u8> {
        let header = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  "#;
        [&(header.len() as u64).to_le_bytes(), header.as_slice(), &[0; 8]].concat()
    }

    fn published(dir: &Path) -> (Registry, VersionDir) {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("config.json"), "{}").unwrap();
        fs::write(source.path().join("model.safetensors"), safetensors()).unwrap();
        let registry = Registry::create(dir).unwrap();
        let model = "minilm".parse().unwrap();
        let request = PublishRequest::from_folder(&model, "bert", "text-embedding", source.path()).unwrap();
        let version = registry.publish(&request).unwrap();
        (registry, version)
    }

    #[test]
    fn a_version_as_published_has_no_problem() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, version) = published(dir.path());
        assert_eq!(registry.verify(&version).unwrap(), []);
    }

    #[test]
    fn a_changed_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, version) = published(dir.path());
        let path = version.path.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let problems = registry.verify(&version).unwrap();
        assert!(
            matches!(problems.as_slice(), [Problem::Checksum { file, .. }] if file.as_str() == "model.safetensors")
        );
    }

    #[test]
    fn files_that_were_added_or_lost_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, version) = published(dir.path());
        fs::write(version.path.join("notes.txt"), "").unwrap();
        fs::write(version.path.join("weights.pt"), "").unwrap();
        fs::remove_file(version.path.join("config.json")).unwrap();
        let problems = registry.verify(&version).unwrap();
        let files = |wanted: fn(&Problem) -> bool| problems.iter().filter(|problem| wanted(problem)).count();
        assert_eq!(files(|p| matches!(p, Problem::Unlisted { .. })), 1);
        assert_eq!(files(|p| matches!(p, Problem::ForbiddenFormat { .. })), 1);
        assert_eq!(files(|p| matches!(p, Problem::Unreadable { .. })), 1);
    }

    #[test]
    fn a_pickle_is_known_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in
            [("weights.dat", b"\x80\x04K\x01.".as_slice()), ("model", b"PK\x03\x04data.pkl"), ("a/b.PTH", b"")]
        {
            let path = dir.path().join("file");
            fs::write(&path, content).unwrap();
            let problem = weights_problem(&name.parse().unwrap(), &path);
            assert!(matches!(problem, Some(Problem::ForbiddenFormat { .. })), "{name}");
        }
        let path = dir.path().join("file");
        fs::write(&path, b"\x80\x04K\x01.").unwrap();
        let problem = weights_problem(&"model.safetensors".parse().unwrap(), &path);
        assert!(matches!(problem, Some(Problem::NotSafetensors { .. })));
    }

    #[test]
    fn a_header_that_does_not_fit_its_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let whole = safetensors();
        fs::write(&path, &whole).unwrap();
        assert_eq!(header(&path).map(drop), Ok(()));
        fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
        assert!(header(&path).unwrap_err().contains("bytes"));
        fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
        assert!(header(&path).unwrap_err().contains("header"));
    }

    proptest! {
        #[test]
        fn a_cut_safetensors_file_is_always_refused(kept in 0usize..71) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("model.safetensors");
            let whole = safetensors();
            fs::write(&path, &whole[..kept.min(whole.len() - 1)]).unwrap();
            prop_assert!(header(&path).is_err());
        }
    }
}
