//! The Vitrine server: search, recommendation and feedback over gRPC.
//!
//! A map of the crate, from the outside in:
//!
//! - [`run`]: the life of a server, from opening to draining.
//! - [`config`]: what an operator sets; [`telemetry`]: logs and metrics.
//! - [`rpc`]: the gRPC services; they check every field, call what is below, and turn errors into statuses.
//! - [`search`], [`recommend`]: the pipelines behind the two main calls.
//! - [`control`]: the shop's own rules for what they show; [`ads`]: campaigns that pay for it.
//! - [`serving`]: a catalog with its indexes, kept up to date.
//! - [`catalog`]: one shop's items and events; [`log`]: the durable log it is made from.
//! - [`lexical`], [`vector`], [`behaviour`]: what is made from the log: full-text index, vectors, histories.
//! - [`filter`]: the filter language, and counting by facets.
//! - [`model`]: the versions of a model that are loaded, whatever its task; [`encoder`]: text encoders; [`image_encoder`]: image encoders; [`sequence`]: networks
//!   that say what comes next; [`ranker`]: networks that foretell clicks; [`generator`]: networks that make pictures; [`batch`]: queues and workers that run them.
//! - [`token`]: page tokens and attribution tokens.

pub mod ads;
pub mod batch;
pub mod behaviour;
pub mod catalog;
mod check;
pub mod config;
pub mod control;
pub mod encoder;
pub mod error;
pub mod experiment;
pub mod filter;
pub mod generator;
mod hash;
pub mod image_encoder;
pub mod lexical;
pub mod log;
pub mod model;
mod priority;
pub mod ranker;
pub mod recommend;
pub mod registry_source;
pub mod rpc;
mod run;
pub mod search;
pub mod sequence;
pub mod serving;
pub mod telemetry;
pub mod token;
pub mod vector;

pub use run::{run, serve};

/// A time in milliseconds since 1970; the earliest or the latest that there is, for what is beyond them.
pub(crate) fn unix_ms(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos) / 1_000_000)
}

/// A day in seconds.
pub(crate) const DAY: u32 = 86_400;
/// And in milliseconds.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// An item's id, interned: dense from 0, given once in a catalog to every item id ever seen, in items or in events,
/// and kept on disk. Indexes and histories hold these instead of strings.
pub type Doc = u32;
