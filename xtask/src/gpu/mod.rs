//! CUDA: `cargo xtask gpu-build` makes programs for it on a machine that has none, `cargo xtask gpu-check` tries them on one
//! that does, and a stand-in for its compiler lets `cargo ci` check the types.

pub mod build;
pub mod check;
pub mod stand_in;
mod toolkit;

/// What the programs are made of: the version of CUDA, as cudarc's build script reads it. A driver runs what is as new as
/// itself or older: CUDA 13.0 needs a driver of series 580.
const CUDARC_CUDA_VERSION: (&str, &str) = ("CUDARC_CUDA_VERSION", "13000");
