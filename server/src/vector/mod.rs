//! Vector retrieval: the vectors that one version of an encoder made of one catalog's items (an index generation).
//!
//! - [`VectorIndex`]: the generation; searched exactly while it is small, by a graph when it is large.
//! - [`Indexer`]: the thread that fills it from the catalogue's changes; [`Texts`], [`Pictures`], [`item_text`]: what of an item is embedded.
//! - [`Metric`], `rows`, `code`: vectors in half precision, a quicker look at them, and how near they are.
//! - `state`, `graph`: in memory, and how they are searched; `store`, `graph_file`: on disk.
//! - `worker`, `backlog`, `background`: what the indexer does, in which order, and on which threads.
//!
//! Fusing with other retrievers, and what the query vector is made of, are not its business.

mod background;
mod backlog;
mod code;
mod contents;
mod error;
#[cfg(test)]
mod fakes;
mod graph;
mod graph_file;
mod index;
mod indexer;
mod metric;
mod rows;
mod state;
mod store;
mod text;
mod worker;

pub use contents::{Pictures, Texts};
pub use error::VectorError;
pub use index::{VectorIndex, VectorOptions};
pub use indexer::{Changes, Indexer, IndexerOptions, Progress};
pub use metric::Metric;
pub use text::{content_hash, item_text};
