//! Text encoders: a [model](crate::model) that makes vectors of texts.
//!
//! - [`loaded`]: one loaded version: text in, vectors out.
//! - [`load`]: from a version's folder to that.

pub mod load;
pub mod loaded;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::{
    batch::BatchError,
    model::{Model, NotLoaded, Pinned},
};

pub use load::LoadEncoder;
pub use loaded::Encoder;

/// The text encoders of this server.
pub type Encoders = Model<Encoder>;

/// A text encoder, held from a request's admission to its last byte.
pub type PinnedEncoder = Pinned<Encoder>;

/// The task these models are for, as manifests name it.
pub const TEXT_EMBEDDING: &str = "text-embedding";

/// Counts queries by whether their vector was kept from before (`hit`) or not (`miss`). By model, version and outcome.
pub const QUERY_CACHE: &str = "vitrine_query_cache_total";

/// Why a text or a picture has no vector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncoderError {
    /// No such version answers now.
    #[error("no encoder: {detail}")]
    NotLoaded {
        /// Which, and why.
        detail: String,
    },
    /// Too many wait already.
    #[error("the encoder is overloaded; try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// The deadline passed, or would have passed before its turn came.
    #[error("the deadline passed before the query was encoded")]
    DeadlineExceeded,
    /// The model could not encode it.
    #[error("the encoder failed: {detail}")]
    Failed {
        /// What it said.
        detail: String,
    },
}

impl From<NotLoaded> for EncoderError {
    fn from(NotLoaded(detail): NotLoaded) -> Self {
        Self::NotLoaded { detail }
    }
}

impl From<BatchError> for EncoderError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::QueueFull { retry_after } => Self::Overloaded { retry_after },
            BatchError::DeadlineExceeded => Self::DeadlineExceeded,
            BatchError::Unavailable => Self::NotLoaded { detail: error.to_string() },
            BatchError::TooLarge { .. } | BatchError::OutOfMemory(_) => Self::Failed { detail: error.to_string() },
            BatchError::Failed(detail) => Self::Failed { detail },
        }
    }
}
