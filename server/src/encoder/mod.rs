//! The loaded versions of text encoders.
//!
//! [`Encoders`] brings up the versions that are wanted: each is checked, loaded, warmed up, waits for its vectors of every
//! catalog, and only then do labels answer with it; the version before answers until then, and leaves with its last request.
//! A version that fails never takes the place of a good one. Without any version, or without a registry, there is no
//! encoder: the reason is in [`Encoders::states`] and in [`EncoderError::NotLoaded`].
//!
//! - [`encoders`]: what is loaded, for those who ask. `answering`: which version answers for what.
//! - [`loaded`]: one loaded version: text in, vectors out.
//! - [`lifecycle`]: the thread that decides. `loader`: the thread that loads. `load`: from a version's folder to a model.
//! - [`states`]: what is done with each version. [`options`]: what an operator sets. `memory`: what there is room for.

pub mod answering;
pub mod encoders;
pub mod lifecycle;
mod load;
pub mod loaded;
mod loader;
mod memory;
pub mod options;
pub mod states;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::batch::BatchError;

pub use answering::Pinned;
pub use encoders::{Encoders, StartError};
pub use lifecycle::{Refused, Wish};
pub use loaded::Encoder;
pub use options::EncoderOptions;
pub use states::{Transition, VersionStatus};

/// The task these models are for, as manifests name it.
pub const TEXT_EMBEDDING: &str = "text-embedding";

/// Counts queries by whether their vector was kept from before (`hit`) or not (`miss`). By model, version and outcome.
pub const QUERY_CACHE: &str = "vitrine_query_cache_total";

/// The version that a label answers with on this server, 0 for none. By model and label.
pub const LABEL_VERSION: &str = "vitrine_label_version";

/// Why a text has no vector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncoderError {
    /// No such version answers now.
    #[error("no text encoder: {detail}")]
    NotLoaded {
        /// Which, and why.
        detail: String,
    },
    /// Too many texts wait already.
    #[error("the text encoder is overloaded; try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// The deadline passed, or would have passed before the text's turn came.
    #[error("the deadline passed before the text was encoded")]
    DeadlineExceeded,
    /// The model could not encode this text.
    #[error("the text encoder failed: {detail}")]
    Failed {
        /// What it said.
        detail: String,
    },
}

impl From<BatchError> for EncoderError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::QueueFull { retry_after } => Self::Overloaded { retry_after },
            BatchError::DeadlineExceeded => Self::DeadlineExceeded,
            BatchError::Unavailable => Self::NotLoaded { detail: error.to_string() },
            BatchError::TooLarge { .. } => Self::Failed { detail: error.to_string() },
            BatchError::Failed(detail) => Self::Failed { detail },
        }
    }
}
