//! What computes a network.

use std::fmt;

use crate::Isa;

/// What computes a loaded network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Our own kernels, on the CPU.
    Kernels(Isa),
    /// candle.
    Candle {
        /// Why not our kernels, where they could have been.
        reason: Option<String>,
    },
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernels(isa) => isa.fmt(f),
            Self::Candle { reason: None } => f.write_str("candle"),
            Self::Candle { reason: Some(reason) } => write!(f, "candle ({reason})"),
        }
    }
}
