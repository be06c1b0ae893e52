//! What can go wrong with vectors.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use vitrine_models::ModelError;

/// Why a vector was refused, or an index could not be opened or written.
#[derive(Debug, Error)]
pub enum VectorError {
    /// The vector is not one of this encoder: send one of its width.
    #[error("the vector has {actual} numbers, this encoder's have {expected}")]
    Width {
        /// The encoder's.
        expected: usize,
        /// The vector's.
        actual: usize,
    },
    /// A number is infinite or none, or more than half precision has where the length counts.
    #[error("the vector's number {position} (from 0) is not finite")]
    NotFinite {
        /// The first such, from 0.
        position: usize,
    },
    /// All numbers are zero: such a vector has no direction to compare.
    #[error("the vector is all zeros")]
    Zero,
    /// The file of vectors could not be read or written; what is in memory goes on being served.
    #[error("vector file {path}: {source}")]
    Store {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A file beside it could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file just made anew cannot be read back: the disk is not to be trusted.
    #[error("{path}: a new file reads back damaged")]
    Unusable {
        /// The file.
        path: PathBuf,
    },
    /// The environment names an instruction set that there is not.
    #[error(transparent)]
    InstructionSet(#[from] ModelError),
    /// A thread could not be started.
    #[error("no thread for the indexer: {0}")]
    Thread(io::Error),
}
