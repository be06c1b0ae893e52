//! Vector retrieval: the vectors that one version of an encoder made of one catalog's items (an index generation).
//!
//! - [`VectorIndex`]: the generation; searched exactly while it is small, by a graph when it is large.
//! - [`Indexer`]: the thread that fills it from the catalogue's changes; [`item_text`]: what of an item is embedded.
//! - `state`, `rows`, `kernel`, `graph`: vectors in half precision in memory; `store`, `graph_file`: on disk.
//! - `worker`, `backlog`: what the indexer does, and in which order.
//!
//! Fusing with other retrievers, and what the query vector is made of, are not its business.

mod backlog;
mod error;
#[cfg(test)]
mod fakes;
mod graph;
mod graph_file;
mod hash;
mod index;
mod indexer;
mod kernel;
mod rows;
mod state;
mod store;
mod text;
mod worker;

pub use error::VectorError;
pub use index::{VectorIndex, VectorOptions};
pub use indexer::{Changes, Indexer, IndexerOptions, Progress};
pub use text::{content_hash, item_text};
