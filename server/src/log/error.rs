//! What can go wrong with a log, by what the caller can do about it.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{ErrorCode, ffi};

/// Why the log did not do what was asked. One error may answer many callers, so it is cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing was recorded. Make room and try again; reads go on meanwhile.
    #[error("the disk is full")]
    Full,
    /// The catalog is being closed. Nothing was recorded by this call, or its outcome is not known.
    #[error("the catalog is closed")]
    Closed,
    /// The directory or file may not be written to.
    #[error("{} cannot be written", path.display())]
    ReadOnly {
        /// The log's file.
        path: PathBuf,
    },
    /// A newer Vitrine made it; run that one.
    #[error("{} has format {found}, and this version of Vitrine knows formats up to {known}", path.display())]
    Newer {
        /// The log's file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest known one.
        known: i64,
    },
    /// The file holds what was never written. Restore it.
    #[error("{} is damaged: {detail}", path.display())]
    Corrupt {
        /// The log's file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The disk or the file system failed. Nothing was recorded; trying again may help.
    #[error("{}: {source}", path.display())]
    Io {
        /// The log's file.
        path: PathBuf,
        /// What the engine said.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

impl LogError {
    /// Sorts an error of the file system.
    pub(crate) fn io(path: &std::path::Path, error: std::io::Error) -> Self {
        let path = path.to_path_buf();
        match error.kind() {
            std::io::ErrorKind::StorageFull => Self::Full,
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ => Self::Io { path, source: Arc::new(error) },
        }
    }

    /// Sorts an error of SQLite.
    pub(crate) fn sqlite(path: &std::path::Path, error: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        let extended = error.sqlite_error().map(|error| error.extended_code);
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) => {
                Self::Corrupt { path, detail: error.to_string() }
            }
            // Where SQLite reports a full disk while it extends the file it shares with readers.
            _ if extended == Some(ffi::SQLITE_IOERR_SHMSIZE) => Self::Full,
            _ => Self::Io { path, source: Arc::new(error) },
        }
    }
}
