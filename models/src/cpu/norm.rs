//! "Layer Normalization" (<https://arxiv.org/abs/1607.06450>) of rows where they are, and as units for the next product.

use super::grid::Grid;
use super::kernels::{Kernels, Operation, store_some_units};
use super::shared::Part;
use super::simd::Simd;

/// The layer's weights: one of each for every number of a row.
pub(super) struct NormWeights {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) epsilon: f32,
    /// What makes units of the results.
    pub(super) grid: Grid,
}

impl NormWeights {
    /// Weights for vectors of one length.
    pub(super) fn new<K: Kernels>(scale: Vec<f32>, shift: Vec<f32>, epsilon: f32) -> Self {
        let length = (scale.len() as f32).sqrt();
        let grid = Grid::of::<K>(scale.iter().zip(&shift).map(|(scale, shift)| length * scale.abs() + shift.abs()));
        Self { scale, shift, epsilon, grid }
    }

    /// What no inner product with `weights`, with `bias` added, passes.
    pub(super) fn bound(&self, weights: &[f32], bias: f32) -> f32 {
        let (mut squares, mut centre) = (0.0, bias);
        for ((weight, scale), shift) in weights.iter().zip(&self.scale).zip(&self.shift) {
            squares += (weight * scale).powi(2);
            centre += weight * shift;
        }
        (self.scale.len() as f32 * squares).sqrt() + centre.abs()
    }
}

/// `(x - mean) / sqrt(variance + epsilon) · scale + shift` in every row.
pub(super) struct Norm<'a, K: Kernels> {
    pub(super) weights: &'a NormWeights,
    pub(super) rows: Part<'a, f32>,
    pub(super) units: Part<'a, K::Unit>,
}

impl<K: Kernels> Operation<K> for Norm<'_, K> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(mut self) {
        let columns = self.rows.columns();
        assert!(self.weights.scale.len() == columns && self.weights.shift.len() == columns);
        assert!(self.units.rows() == self.rows.rows() && self.units.columns() >= columns.div_ceil(K::DEPTH));
        // SAFETY: the CPU has the instructions; the lengths were just checked.
        unsafe {
            for row in 0..self.rows.rows() {
                normalize::<K>(self.weights, self.rows.row(row), self.units.row(row));
            }
        }
    }
}

#[inline(always)]
unsafe fn normalize<K: Kernels>(weights: &NormWeights, row: *mut f32, units: *mut K::Unit) {
    let columns = weights.scale.len();
    let lanes = K::Vector::LANES;
    let whole = columns / lanes * lanes;
    let left = columns - whole;
    // SAFETY: the caller's: the row and its units have as many columns as there are weights.
    unsafe {
        let mut sum = K::Vector::splat(0.0);
        for at in (0..whole).step_by(lanes) {
            sum = sum.add(K::Vector::load(row.add(at)));
        }
        if left > 0 {
            sum = sum.add(K::Vector::load_some(row.add(whole), left, 0.0));
        }
        let mean = sum.sum() / columns as f32;
        let centre = K::Vector::splat(mean);
        let mut squares = K::Vector::splat(0.0);
        for at in (0..whole).step_by(lanes) {
            let centred = K::Vector::load(row.add(at)).sub(centre);
            squares = centred.mul_add(centred, squares);
        }
        if left > 0 {
            let centred = K::Vector::load_some(row.add(whole), left, mean).sub(centre);
            squares = centred.mul_add(centred, squares);
        }
        let factor = K::Vector::splat(1.0 / (squares.sum() / columns as f32 + weights.epsilon).sqrt());
        for at in (0..columns).step_by(K::WIDTH) {
            let mut pair = [K::Vector::splat(0.0); 2];
            for (half, normal) in pair.iter_mut().enumerate() {
                let at = at + half * lanes;
                let (scale, shift) = (weights.scale.as_ptr().wrapping_add(at), weights.shift.as_ptr().wrapping_add(at));
                let left = columns.saturating_sub(at);
                let row = row.wrapping_add(at);
                if left >= lanes {
                    let centred = K::Vector::load(row).sub(centre).mul(factor);
                    *normal = centred.mul_add(K::Vector::load(scale), K::Vector::load(shift));
                    normal.store(row);
                } else if left > 0 {
                    let centred = K::Vector::load_some(row, left, 0.0).sub(centre).mul(factor);
                    let scale = K::Vector::load_some(scale, left, 0.0);
                    *normal = centred.mul_add(scale, K::Vector::load_some(shift, left, 0.0));
                    normal.store_some(row, left);
                }
            }
            let count = (columns - at).min(K::WIDTH);
            if let Some(grid) = weights.grid.from(at) {
                let grid = grid[..K::WIDTH].as_ptr();
                pair = [pair[0].mul(K::Vector::load(grid)), pair[1].mul(K::Vector::load(grid.add(lanes)))];
            }
            store_some_units::<K>(pair[0], pair[1], units.add(at / K::DEPTH), count);
        }
    }
}
