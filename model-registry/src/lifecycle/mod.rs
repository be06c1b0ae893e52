//! What a server does with the versions of a model: decided by a pure function, so that it can be tested without one.
//!
//! ```text
//! Start → Loading → Warming → Indexing → Available → Draining → Ended
//!            └─────────┴──────────┴→ Failed                 (Start again when it is wanted anew)
//! ```
//!
//! [`Policy`] says which versions are wanted. [`plan`] compares that with what the server has and names the next
//! [`Action`]s; the server performs them, reports what became of them as a new [`Observed`], and asks again. It keeps these
//! promises, each a property test:
//!
//! - a label is never moved to a version that is not available, and what it answers with stays until its new version is;
//! - there are never fewer available versions than before unless somebody asked for it;
//! - a version that fails blocks no other;
//! - what is loaded together fits the memory;
//! - when the world rests, so does the plan: everything wanted is available or failed, and nothing else is in memory.

mod plan;
pub mod policy;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::name::{Label, Version};

pub use plan::plan;
pub use policy::{Policy, PolicyError};

/// Where a version is on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Wanted, and not begun.
    Start,
    /// Being checked and read.
    Loading,
    /// Running its recorded rows.
    Warming,
    /// In memory; its vectors are being made.
    Indexing,
    /// Ready for requests.
    Available,
    /// Finishing its last requests.
    Draining,
    /// Gone from memory.
    Ended,
    /// Not usable. Not tried again before somebody asks or its files change.
    Failed,
}

impl Phase {
    /// Whether it takes memory, or is about to.
    pub fn takes_memory(self) -> bool {
        matches!(self, Self::Loading | Self::Warming | Self::Indexing | Self::Available | Self::Draining)
    }
}

/// A version as the server has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Where it is.
    pub phase: Phase,
    /// The memory it takes, or would take, in bytes.
    pub memory: u64,
}

/// What the server has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its versions. One that is not here has not been begun.
    pub versions: BTreeMap<Version, Seen>,
    /// What each label answers with here.
    pub labels: BTreeMap<Label, Version>,
    /// The memory that versions may take together, in bytes.
    pub memory: u64,
}

/// What the server is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Versions that are to be available.
    pub versions: BTreeSet<Version>,
    /// What each label is to answer with.
    pub labels: BTreeMap<Label, Version>,
    /// What labels answered with before the server was started anew: they do so again until their new version can.
    pub restored: BTreeMap<Label, Version>,
    /// Versions to keep, if there is memory, for a quick way back.
    pub kept: BTreeSet<Version>,
    /// Versions that somebody asked to unload. One that a label answers with stays.
    pub dismissed: BTreeSet<Version>,
    /// Versions that may take the memory of what their label answers with, which is gone until they are available.
    pub unload_first: BTreeSet<Version>,
}

/// What to do next. Performing one twice does no more than performing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Begin to load a version.
    Load(Version),
    /// Give up loading a version.
    Cancel(Version),
    /// Do not load a version: there is no room.
    Refuse {
        /// The version.
        version: Version,
        /// The memory it needs, in bytes.
        needed: u64,
        /// The memory it could have, in bytes.
        free: u64,
    },
    /// Let a version answer while its vectors are still being made: nothing else answers.
    Admit(Version),
    /// Let a label answer with a version.
    Point(Label, Version),
    /// Let a label answer with nothing.
    Unpoint(Label),
    /// Take no more requests for a version, and unload it with its last one.
    Unload(Version),
}
