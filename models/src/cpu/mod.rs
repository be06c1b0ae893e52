//! Networks on the CPU, on kernels of our own. Rows are ragged: nothing is padded.
//!
//! ```text
//! load ──▶ network ── attention ── linear ──▶ tile, finish, norm, softmax   written once, over
//!             │                                  kernels, simd              what an instruction set offers:
//!        blocks, team, rates                     portable, avx2, avx512, avx512bf16, amx with tiles,
//!                                                avx2int16 and avx512int16 with a grid
//! ```
//!
//! - [`Isa`]: the instruction sets, and which of them is used.
//! - `tile`, `finish`, `norm`, `softmax`: the operations; each is compiled for each instruction set.
//! - `linear`, `attention`, `network`, `load`: the layers of BERT, and their weights packed for the products.
//! - `dense`: a linear layer on its own, for other networks.
//! - [`Products`]: inner products of one vector with many, for vector search.
//! - `accumulate`: products of matrices, for convolutions.
//! - `blocks`, `team`, `rates`: how rows are shared between threads.
//!
//! This is the only place with `unsafe` code: instructions that not every CPU has, and matrices that threads share.
#![allow(unsafe_code, reason = "each block says why it may")]
#![allow(clippy::inline_always, reason = "only what is inlined is compiled for the instruction set")]

mod accumulate;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2int16;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
#[cfg(target_arch = "x86_64")]
mod avx512int16;
mod bf16;
mod blocks;
mod dense;
mod finish;
mod grid;
#[cfg(target_arch = "x86_64")]
mod int16;
mod isa;
mod kernels;
mod linear;
mod load;
mod network;
mod norm;
mod portable;
mod products;
mod rates;
mod runner;
mod shared;
mod simd;
mod softmax;
mod team;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(test)]
mod twins;

use std::io;

use candle_core::Result as CandleResult;
use candle_nn::VarBuilder;
use candle_transformers::models::bert::Config;

pub(crate) use self::accumulate::Matrix;
pub(crate) use self::dense::{CpuLinear, linear};
pub use self::isa::Isa;
use self::kernels::Kernels;
pub(crate) use self::load::unsupported;
pub use self::products::Products;
use self::runner::Runner;
use crate::Ragged;
use crate::buckets::Cost;
use crate::pooling::Pooling;

/// A loaded network with all it needs to run.
pub(crate) trait CpuNetwork: Send {
    /// Vectors f32 `[rows, hidden]` of rows that the network knows, none of them empty.
    fn embed(&mut self, rows: &Ragged, pooling: Pooling) -> Vec<f32>;

    /// Lets so many threads share the work from now on, the caller one of them. The others inherit the priority of the
    /// thread that calls this.
    fn share_work(&mut self, threads: usize) -> io::Result<()>;
}

/// Loads BERT for an instruction set that this CPU has; `config` is one that [`unsupported`] has nothing against.
pub(crate) fn load(
    isa: Isa,
    config: &Config,
    cost: Cost,
    weights: &VarBuilder<'_>,
) -> CandleResult<Box<dyn CpuNetwork>> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => load_for::<amx::Amx>(config, cost, weights),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Int16 => load_for::<avx512int16::Avx512Int16>(config, cost, weights),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 => load_for::<avx512bf16::Avx512Bf16>(config, cost, weights),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => load_for::<avx512::Avx512>(config, cost, weights),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2Int16 => load_for::<avx2int16::Avx2Int16>(config, cost, weights),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => load_for::<avx2::Avx2>(config, cost, weights),
        _ => load_for::<portable::Portable>(config, cost, weights),
    }
}

fn load_for<K: Kernels>(config: &Config, cost: Cost, weights: &VarBuilder<'_>) -> CandleResult<Box<dyn CpuNetwork>> {
    Ok(Box::new(Runner::new(load::network(on::<K>()?, config, weights)?, cost)))
}

/// The kernels of an instruction set that this CPU must have.
fn on<K: Kernels>() -> CandleResult<K> {
    K::detect().ok_or_else(|| candle_core::Error::msg(format!("this CPU has no {}", K::ISA)))
}

impl Isa {
    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::Amx::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Int16 => avx512int16::Avx512Int16::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => avx512bf16::Avx512Bf16::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Int16 => avx2int16::Avx2Int16::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::detect().is_some(),
            Self::Portable => true,
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}
