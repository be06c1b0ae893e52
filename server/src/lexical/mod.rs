//! Full-text retrieval, on tantivy: what is searched, and how well it matches.
//!
//! - `words` cuts text into words and terms, whatever the script;
//! - `index` keeps the index on disk in step with the items;
//! - `query` understands a query: its words, their stems, compounds and misspellings;
//! - `synonyms`: words that stand for each other;
//! - `rank` scores the items that match;
//! - `highlight` marks the matching words in an item.
//!
//! Title, brand, categories, tags, description and all text attributes are searched without any configuration. A query
//! is words in any order; it is never parsed as a language, so that quotes, colons and stars do no harm.

mod follow;
mod highlight;
mod index;
mod query;
mod rank;
mod synonyms;
#[cfg(test)]
mod tests;
mod words;

use std::io;
use std::sync::Arc;

use roaring::RoaringBitmap;
use tantivy::TantivyError;
use tantivy::directory::error::{OpenDirectoryError, OpenReadError, OpenWriteError};
use thiserror::Error;

pub use highlight::Highlighter;
pub use index::LexicalIndex;
pub use rank::Ranking;
pub use synonyms::{Phrase, Synonyms};

use crate::Doc;

/// What to search for.
#[derive(Debug, Clone, Copy)]
pub struct LexicalQuery<'a> {
    /// Words in any order.
    pub text: &'a str,
    /// Only these items. None: all.
    pub allowed: Option<&'a RoaringBitmap>,
    /// How many of the best to return.
    pub limit: usize,
    /// Whether words that no item has also match words one or two letters away.
    pub spelling: bool,
    /// What stands for words of the query. Such words are never taken for misspelt.
    pub synonyms: &'a [Arc<Synonyms>],
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct LexicalHits {
    /// The best, best first; equal scores by `Doc`.
    pub hits: Vec<(Doc, f32)>,
    /// What an item scores whose title is the query and that has its words nowhere else.
    pub title_match: f32,
    /// Every matching item that is allowed.
    pub matched: RoaringBitmap,
    /// The query as it was understood, when words of it were corrected.
    pub corrected: Option<String>,
    /// Marks the query's words in what was found.
    pub marks: Highlighter,
}

/// Why the index could not be read or written. After a failed write everything since
/// [`LexicalIndex::watermark`] is forgotten and is to be applied again; searches go on with what was committed.
#[derive(Debug, Clone, Error)]
pub enum LexicalError {
    /// The disk is full: free some space, then go on.
    #[error("the disk is full")]
    Full,
    /// The folder cannot be written.
    #[error("the index cannot be written: {0}")]
    ReadOnly(Arc<io::Error>),
    /// Another process has the index open, or another instance in this one.
    #[error("the index is in use by another process")]
    InUse,
    /// Anything else that tantivy or the file system reports.
    #[error("full-text index: {0}")]
    Index(TantivyError),
}

impl From<io::Error> for LexicalError {
    fn from(error: io::Error) -> Self {
        Self::from_io(Arc::new(error))
    }
}

impl LexicalError {
    fn from_io(error: Arc<io::Error>) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly(error),
            _ => Self::Index(TantivyError::IoError(error)),
        }
    }
}

impl From<TantivyError> for LexicalError {
    fn from(error: TantivyError) -> Self {
        match error {
            TantivyError::IoError(io_error)
            | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError { io_error, .. })
            | TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. })
            | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error, .. }) => Self::from_io(io_error),
            TantivyError::LockFailure(tantivy::directory::error::LockError::IoError(io_error), _) => {
                Self::from_io(io_error)
            }
            TantivyError::LockFailure(..) => Self::InUse,
            // The error of a thread arrives as text only.
            TantivyError::ErrorInThread(text) if text.contains("StorageFull") || text.contains("No space left") => {
                Self::Full
            }
            error => Self::Index(error),
        }
    }
}
