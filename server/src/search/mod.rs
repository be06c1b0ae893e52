//! The pipeline behind Search.

pub mod fusion;
pub mod mmr;
