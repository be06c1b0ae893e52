//! Softmax over scores, with their scale in it. What it leaves out is the division by the sum: that is done to the
//! product, which is narrower.

use super::kernels::{Kernels, Operation, store_some_units};
use super::simd::{Simd, exp};

/// `e^(scale · (score - largest))` in every row.
pub(super) struct Softmax<'a, K: Kernels> {
    /// f32 `[panels, ROWS, WIDTH]`.
    pub(super) scores: &'a [f32],
    /// Scores of a row that count, at least 1.
    pub(super) keys: usize,
    pub(super) scale: f32,
    /// Number of rows.
    pub(super) rows: usize,
    /// The results, `[rows, stride]` units.
    pub(super) to: &'a mut [K::Unit],
    pub(super) stride: usize,
    /// One over the sum of each row.
    pub(super) shares: &'a mut [f32],
}

impl<K: Kernels> Operation<K> for Softmax<'_, K> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let panels = self.keys.div_ceil(K::WIDTH);
        assert!(self.rows <= K::ROWS && self.scores.len() >= panels * K::ROWS * K::WIDTH);
        assert!(self.stride >= self.keys.div_ceil(K::DEPTH) && self.to.len() >= self.rows * self.stride);
        // SAFETY: the CPU has the instructions; the lengths were just checked.
        unsafe {
            for row in 0..self.rows {
                let scores = self.scores.as_ptr().add(row * K::WIDTH);
                let to = self.to.as_mut_ptr().add(row * self.stride);
                self.shares[row] = 1.0 / weigh::<K>(scores, self.keys, self.scale, to);
            }
        }
    }
}

/// One row, its panels `ROWS * WIDTH` apart; returns the sum.
#[inline(always)]
unsafe fn weigh<K: Kernels>(scores: *const f32, keys: usize, scale: f32, to: *mut K::Unit) -> f32 {
    let lanes = K::Vector::LANES;
    // SAFETY: the caller's: whole panels are there to read, and units for all keys to write.
    unsafe {
        let load = |panel: usize, half: usize| {
            let from = scores.add(panel * K::ROWS * K::WIDTH + half * lanes);
            let left = keys.saturating_sub(panel * K::WIDTH + half * lanes).min(lanes);
            if left == lanes { K::Vector::load(from) } else { K::Vector::load_some(from, left, f32::NEG_INFINITY) }
        };
        let panels = keys.div_ceil(K::WIDTH);
        let mut largest = K::Vector::splat(f32::NEG_INFINITY);
        for panel in 0..panels {
            largest = largest.max(load(panel, 0)).max(load(panel, 1));
        }
        let largest = K::Vector::splat(largest.largest());
        let scale = K::Vector::splat(scale);
        let mut sum = K::Vector::splat(0.0);
        for panel in 0..panels {
            let first = exp(load(panel, 0).sub(largest).mul(scale));
            let second = exp(load(panel, 1).sub(largest).mul(scale));
            sum = sum.add(first).add(second);
            let count = (keys - panel * K::WIDTH).min(K::WIDTH);
            store_some_units::<K>(first, second, to.add(panel * K::WIDTH / K::DEPTH), count);
        }
        sum.sum()
    }
}
