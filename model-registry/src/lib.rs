//! The registry directory of model versions: what is in it, how it changes, and how it is watched.
//!
//! ```text
//! <registry>/models/<model>/<version>/manifest.json config.json tokenizer.json model.safetensors …
//! <registry>/models/<model>/labels.json
//! <registry>/experiments/<name>.json
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`name`] | model names, version numbers, labels: parsed once, trusted afterwards |
//! | [`manifest`] | `manifest.json`: what a version is and the checksums of its files |
//! | [`registry`] | opening a registry and reading what it holds |
//! | [`publish`] | adding a version so that it is seen whole or not at all |
//! | [`labels`] | movable names, changed by compare-and-set |
//! | [`experiments`] | what servers try out, changed by compare-and-set |
//! | [`lifecycle`] | which versions a server loads and lets go, as a pure function |
//! | [`verify`] | checking files against the manifest, and that weights are safetensors |
//! | [`gc`] | removing versions nobody names |
//! | [`watch`] | telling when models change |
//! | [`pull`] | fetching a version from elsewhere and publishing it |
//! | `remote` | a registry on S3, mirrored to a folder (feature `s3`) |
//!
//! ```
//! use vitrine_registry::{PublishRequest, Registry};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let source = tempfile::tempdir()?;
//! # std::fs::write(source.path().join("config.json"), "{}")?;
//! let registry = Registry::create(dir.path())?;
//! let model = "minilm".parse()?;
//! let published = registry.publish(&PublishRequest::from_folder(&model, "bert", "text-embedding", source.path())?)?;
//! registry.set_label(&model, &"stable".parse()?, published.version, None)?;
//! assert_eq!(registry.labels(&model)?.named.len(), 1);
//! # Ok(())
//! # }
//! ```

pub mod checksum;
mod disk;
pub mod error;
pub mod experiments;
pub mod gc;
pub mod labels;
pub mod lifecycle;
pub mod manifest;
mod memory;
pub mod name;
mod origin;
pub mod publish;
pub mod pull;
pub mod registry;
#[cfg(feature = "s3")]
pub mod remote;
pub mod verify;
pub mod watch;

pub use checksum::Sha256;
pub use error::RegistryError;
pub use labels::Labels;
pub use manifest::{FileEntry, FilePath, Manifest, TrainingData};
pub use name::{Label, ModelName, NameError, Version};
pub use publish::PublishRequest;
pub use registry::{Registry, UnusableVersion, VersionDir, Versions};
#[cfg(feature = "s3")]
pub use remote::{Location, Mirror, StoreError};
pub use watch::{Watch, WatchOptions};
