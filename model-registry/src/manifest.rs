//! `manifest.json`: what a version is, and the size and checksum of each of its files.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{checksum::Sha256, name::Version};

/// The manifest's name in a version's folder.
pub const MANIFEST: &str = "manifest.json";
/// The longest manifest that is read, in bytes.
pub const MAX_MANIFEST: u64 = 16 << 20;

/// The format of manifests that this program writes, and the latest that it reads.
pub const FORMAT: u32 = 1;

/// Ends of file names that hold weights in formats that are never loaded: most can run code when read.
const FORBIDDEN: [&str; 20] = [
    "bin", "ckpt", "dill", "ggml", "gguf", "h5", "hdf5", "joblib", "keras", "mar", "msgpack", "npy", "npz", "onnx",
    "pb", "pickle", "pkl", "pt", "pth", "tflite",
];

/// What a version is. Written once when it is published, and never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the manifest itself: [`FORMAT`], also where it is absent.
    #[serde(default = "format")]
    pub format: u32,
    /// The network's architecture, as `bert`.
    pub kind: String,
    /// What the model is for, as `text-embedding`.
    pub task: String,
    /// Every file of the version but the manifest itself.
    pub files: BTreeMap<FilePath, FileEntry>,
    /// The version that training started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Version>,
    /// Evaluation figures, as `ndcg@10`. Finite.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// What it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_data: Option<TrainingData>,
    /// The licence of the weights as an SPDX expression, as `Apache-2.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Where the files were fetched from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How far an element of the recorded rows' output may be from its recording on other devices. Absent: what the network's
    /// kind allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden_tolerance: Option<f32>,
    /// The memory that serving it takes, in bytes: checked before it is loaded.
    pub memory_bytes: u64,
    /// When it was published.
    pub created: Timestamp,
}

fn format() -> u32 {
    FORMAT
}

/// Size and checksum of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Checksum of its content.
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
}

/// What a version was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingData {
    /// The data's name, as a catalog's resource name.
    pub name: String,
    /// Up to where the log was read: its position there, or the time in microseconds since 1970, as whoever published it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<u64>,
    /// Tells other data apart, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// A file's path inside a version's folder: relative, `/` between parts, never leaving the folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(String);

/// Why a manifest was refused.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// There is none, or it cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is longer than any manifest should be.
    #[error("{0} is larger than {MAX_MANIFEST} bytes")]
    TooLarge(PathBuf),
    /// It is no JSON, a field is missing, or a field has the wrong type.
    #[error("{path}: {source}")]
    Json {
        /// The manifest.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field's value is not allowed.
    #[error("manifest field \"{field}\": {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// The path would leave the version's folder, or is hidden.
    #[error(
        "\"{0}\" is no path inside a version: use a relative path of visible names with \"/\" between them, other than {MANIFEST}"
    )]
    Path(String),
}

#[derive(Deserialize)]
struct Format {
    #[serde(default = "format")]
    format: u32,
}

impl Manifest {
    /// Reads and checks the manifest of a version's folder.
    pub fn read(folder: &Path) -> Result<Self, ManifestError> {
        let path = folder.join(MANIFEST);
        let read = |source| ManifestError::Read { path: path.clone(), source };
        if fs::metadata(&path).map_err(read)?.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(path));
        }
        let text = fs::read(&path).map_err(read)?;
        Self::parse(&text, &path)
    }

    /// Checks a manifest's text, which is that of `path`.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, ManifestError> {
        let json = |source| ManifestError::Json { path: path.to_owned(), source };
        // First the format: the rest of a later one may look different.
        let Format { format } = serde_json::from_slice(text).map_err(json)?;
        if format > FORMAT {
            let reason = format!("is {format}; this program reads manifests up to format {FORMAT}: use a later one");
            return Err(ManifestError::Field { field: "format", reason });
        }
        let manifest: Self = serde_json::from_slice(text).map_err(json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks what the types leave open.
    pub fn check(&self) -> Result<(), ManifestError> {
        let field = |field, reason: String| Err(ManifestError::Field { field, reason });
        for (name, value) in [("kind", &self.kind), ("task", &self.task)] {
            if value.is_empty() || !value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                return field(name, format!("\"{value}\" is not one or more characters of a-z, 0-9 and \"-\""));
            }
        }
        if self.files.is_empty() {
            return field("files", "a version has at least one file".to_owned());
        }
        if let Some(file) = self.files.keys().find(|file| file.is_forbidden_format()) {
            return field("files", format!("\"{file}\" is a format that is never loaded; weights are safetensors"));
        }
        if let Some((name, _)) = self.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return field("metrics", format!("\"{name}\" is not finite"));
        }
        if let Some(tolerance) = self.golden_tolerance.filter(|tolerance| !tolerance.is_finite() || *tolerance <= 0.0) {
            return field("golden_tolerance", format!("{tolerance} is not a finite number above 0"));
        }
        Ok(())
    }

    /// The size of all files together, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.size))
    }
}

impl FilePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the file is when its version is in `folder`.
    pub fn in_folder(&self, folder: &Path) -> PathBuf {
        self.0.split('/').fold(folder.to_owned(), |path, part| path.join(part))
    }

    /// Whether the name says that it holds weights in a format that is never loaded.
    pub fn is_forbidden_format(&self) -> bool {
        self.extension().is_some_and(|end| FORBIDDEN.iter().any(|bad| end.eq_ignore_ascii_case(bad)))
    }

    /// Whether the name says that it holds weights in the one format that is loaded.
    pub fn is_safetensors(&self) -> bool {
        self.extension().is_some_and(|end| end.eq_ignore_ascii_case("safetensors"))
    }

    fn extension(&self) -> Option<&str> {
        let name = self.0.rsplit('/').next()?;
        name.rsplit_once('.').map(|(_, end)| end)
    }
}

impl FromStr for FilePath {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, ManifestError> {
        let odd = |part: &str| part.is_empty() || part.starts_with('.') || part.contains(['\\', '\0', ':']);
        if text == MANIFEST || text.len() > 1024 || text.split('/').any(odd) {
            return Err(ManifestError::Path(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for FilePath {
    type Error = ManifestError;

    fn try_from(text: String) -> Result<Self, ManifestError> {
        text.parse()
    }
}

impl From<FilePath> for String {
    fn from(path: FilePath) -> Self {
        path.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        let entry = FileEntry { sha256: Sha256::of_bytes(b"{}"), size: 2 };
        Manifest {
            format: FORMAT,
            kind: "bert".to_owned(),
            task: "text-embedding".to_owned(),
            files: [("config.json".parse().unwrap(), entry)].into(),
            parent: None,
            metrics: BTreeMap::new(),
            training_data: None,
            licence: None,
            source: None,
            golden_tolerance: None,
            memory_bytes: 10,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_manifest_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut written = manifest();
        written.parent = Version::new(2);
        written.metrics.insert("ndcg@10".to_owned(), 0.84);
        written.training_data = Some(TrainingData {
            name: "catalogs/grocery".to_owned(),
            watermark: Some(7),
            hash: Some("2c26b46b".to_owned()),
        });
        fs::write(folder.path().join(MANIFEST), serde_json::to_vec(&written).unwrap()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), written);
    }

    #[test]
    fn a_manifest_that_lists_a_pickle_is_refused() {
        let mut bad = manifest();
        let entry = FileEntry { sha256: Sha256::of_bytes(b""), size: 0 };
        bad.files.insert("pytorch_model.BIN".parse().unwrap(), entry);
        assert!(bad.check().unwrap_err().to_string().contains("pytorch_model.BIN"));
    }

    #[test]
    fn a_manifest_from_a_later_release_with_more_fields_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut value = serde_json::to_value(manifest()).unwrap();
        value["later"] = serde_json::json!({"any": "thing"});
        fs::write(folder.path().join(MANIFEST), value.to_string()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), manifest());
    }

    #[test]
    fn a_manifest_of_a_later_format_is_refused_whatever_it_looks_like() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), r#"{"format": 2, "kind": ["bert"]}"#).unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("\"format\"") && error.contains("later"), "{error}");
    }

    #[test]
    fn fields_with_bad_values_are_named() {
        let bad = Manifest { kind: "Bert!".to_owned(), ..manifest() };
        assert!(bad.check().unwrap_err().to_string().contains("\"kind\""));
        let bad = Manifest { files: BTreeMap::new(), ..manifest() };
        assert!(bad.check().unwrap_err().to_string().contains("\"files\""));
        let bad = Manifest { metrics: [("ndcg".to_owned(), f64::NAN)].into(), ..manifest() };
        assert!(bad.check().unwrap_err().to_string().contains("\"ndcg\""));
        for tolerance in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let bad = Manifest { golden_tolerance: Some(tolerance), ..manifest() };
            assert!(bad.check().unwrap_err().to_string().contains("\"golden_tolerance\""));
        }
    }

    proptest! {
        #[test]
        fn a_path_never_leaves_the_folder(text in "[./\\\\a-c:]{0,12}") {
            if let Ok(path) = text.parse::<FilePath>() {
                let joined = path.in_folder(Path::new("/registry/v"));
                prop_assert!(joined.starts_with("/registry/v"));
                prop_assert!(joined.components().all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir)));
            }
        }
    }
}
