//! A batch is learnt as two halves, each on a thread: most of what `candle` does keeps only one busy. There are two whatever the machine has,
//! so that the same seed gives the same weights.

use anyhow::Result;
use candle_core::Device;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rayon::prelude::*;
use vitrine_models::Mode;

/// A half of a batch.
pub struct Half<'a, E> {
    pub examples: &'a [E],
    pub random: StdRng,
    /// Whether the other half moves what is learnt without a gradient.
    pub beside: bool,
}

/// Both halves, or the only one.
pub fn of<'a, E>(batch: &'a [E], random: &mut StdRng) -> Vec<Half<'a, E>> {
    let halves = batch.chunks(batch.len().div_ceil(2).max(1)).enumerate();
    let half = |(place, examples)| Half { examples, random: StdRng::seed_from_u64(random.random()), beside: place > 0 };
    halves.map(half).collect()
}

/// Does the same with each part, at the same time on a CPU. A GPU has one queue, and what feeds it is not for two threads.
pub fn each<P: Send, R: Send>(
    parts: Vec<P>,
    device: &Device,
    work: impl Fn(P) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    if device.is_cpu() { parts.into_par_iter().map(work).collect() } else { parts.into_iter().map(work).collect() }
}

impl<E> Half<'_, E> {
    /// For the networks' forward passes.
    pub fn mode(&mut self) -> Mode<'_> {
        let mode = Mode::training(&mut self.random);
        if self.beside { mode.beside() } else { mode }
    }
}
