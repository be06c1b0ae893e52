//! The networks Vitrine serves: loading one from a version's directory, turning text into rows, running rows.
//!
//! ```text
//! text ── Tokenizer ──▶ Row ─┐
//! text ── Tokenizer ──▶ Row ─┴▶ Ragged ── TextEncoder::embed ──▶ one vector a row
//! ```
//!
//! - [`Tokenizer`]: text to token ids, as the version's `tokenizer.json` says; shared by any number of threads.
//! - [`Ragged`]: rows of different lengths, end to end.
//! - [`TextEncoder`]: a loaded version of task `text-embedding`; kinds: `bert`.
//! - [`write_golden`], [`check_golden`]: recorded rows that prove a loaded version computes what it should.
//! - [`Products`]: inner products of a vector with many stored ones, on the same instruction sets.
//! - [`DeviceSpec`]: where a version runs, `cpu` or `cuda:N`; [`Backend`], [`Isa`], [`Precision`]: on what.
//!
//! What this crate leaves to its neighbours: which version to load and whether its files are whole
//! (`vitrine-registry`), and which rows run together and when (the server's batcher, helped by
//! [`TextEncoder::cost`]).

mod backend;
mod bert;
mod buckets;
mod cpu;
mod device;
mod error;
mod files;
mod golden;
mod head;
mod padded_bert;
mod pooling;
mod precision;
mod ragged;
mod text_encoder;
mod tokenizer;
mod weights;

pub use backend::Backend;
pub use cpu::{Isa, Products};
pub use device::DeviceSpec;
pub use error::ModelError;
pub use golden::{GoldenCheck, check_golden, golden_tolerance, write_golden};
pub use precision::Precision;
pub use ragged::{Ragged, Row};
pub use text_encoder::TextEncoder;
pub use tokenizer::Tokenizer;
