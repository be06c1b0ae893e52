//! What computes a network.

use std::fmt;

use crate::{Isa, Precision};

/// What computes a loaded network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Our own kernels, on the CPU.
    Kernels(Isa),
    /// candle.
    Candle {
        /// In these numbers.
        precision: Precision,
        /// Why not our kernels, where they could have been.
        reason: Option<String>,
    },
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernels(isa) => isa.fmt(f),
            Self::Candle { precision, reason: None } => write!(f, "candle {precision}"),
            Self::Candle { precision, reason: Some(reason) } => write!(f, "candle {precision} ({reason})"),
        }
    }
}
