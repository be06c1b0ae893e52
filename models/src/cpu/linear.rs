//! A linear layer, its weights packed once into the panels that products read from end to end.

use std::ops::Range;

use super::grid::Grid;
use super::kernels::Kernels;
use super::shared::Shared;
use super::tile::Tile;

/// Weights `[outputs, inputs]` and a bias.
pub(super) struct Linear<K: Kernels> {
    /// `[panels, steps, WIDTH]`; columns beyond the outputs are 0.
    panels: Vec<K::Unit>,
    steps: usize,
    outputs: usize,
    /// What sums are multiplied with.
    factors: Vec<f32>,
    bias: Vec<f32>,
}

/// A tile's place, and its sums.
pub(super) struct Product<'a> {
    pub(super) rows: Range<usize>,
    /// Outputs; fewer than `WIDTH` in the last panel.
    pub(super) columns: Range<usize>,
    /// f32 `[rows, WIDTH]`.
    pub(super) sums: &'a [f32],
    /// `WIDTH` numbers that the sums are to be multiplied with.
    pub(super) factors: &'a [f32],
    /// `WIDTH` numbers.
    pub(super) bias: &'a [f32],
}

impl<K: Kernels> Linear<K> {
    /// A layer of zeros.
    pub(super) fn new(inputs: usize, outputs: usize) -> Self {
        let (steps, panels) = (inputs.div_ceil(K::DEPTH), outputs.div_ceil(K::WIDTH));
        Self {
            panels: vec![K::Unit::default(); panels * steps * K::WIDTH],
            steps,
            outputs,
            factors: vec![1.0; panels * K::WIDTH],
            bias: vec![0.0; panels * K::WIDTH],
        }
    }

    /// Sets the weights and biases of outputs from `first` on: `[outputs, inputs]`, by rows, for inputs on a grid.
    pub(super) fn set(&mut self, first: usize, weights: &[f32], bias: &[f32], (inputs, grid): (usize, &Grid)) {
        self.bias[first..first + bias.len()].copy_from_slice(bias);
        for (output, weights) in (first..).zip(weights.chunks_exact(inputs)) {
            let (weights, factor) = grid.weights(weights);
            self.factors[output] = factor;
            let start = output / K::WIDTH * self.steps * K::WIDTH + output % K::WIDTH;
            let column = self.panels[start..].iter_mut().step_by(K::WIDTH);
            for (unit, numbers) in column.zip(weights.chunks(K::DEPTH)) {
                *unit = K::unit(numbers);
            }
        }
    }

    /// Number of panels.
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(K::WIDTH)
    }

    /// The outputs of the first `rows`, f32 `[rows, outputs]`.
    ///
    /// # Safety
    /// No thread writes the rows meanwhile.
    pub(super) unsafe fn outputs(&self, kernels: K, from: &Shared<K::Unit>, rows: usize) -> Vec<f32> {
        // What were left out would show.
        let mut out = vec![f32::NAN; rows * self.outputs];
        // SAFETY: the caller's.
        unsafe {
            self.apply(kernels, from, (0..rows, 0..self.panels()), |Product { rows, columns, sums, factors, bias }| {
                for (row, sums) in rows.zip(sums.chunks_exact(K::WIDTH)) {
                    let to = &mut out[row * self.outputs..][columns.clone()];
                    for (to, ((sum, factor), bias)) in to.iter_mut().zip(sums.iter().zip(factors).zip(bias)) {
                        *to = sum * factor + bias;
                    }
                }
            });
        }
        out
    }

    /// Multiplies rows with panels, and hands out the sums tile by tile, before factors and bias.
    ///
    /// # Safety
    /// No thread writes the rows meanwhile.
    pub(super) unsafe fn apply(
        &self,
        kernels: K,
        from: &Shared<K::Unit>,
        (rows, panels): (Range<usize>, Range<usize>),
        mut finish: impl FnMut(Product<'_>),
    ) {
        let mut sums = [0.0; MOST_SUMS];
        for panel in panels {
            let units = &self.panels[panel * self.steps * K::WIDTH..][..self.steps * K::WIDTH];
            let columns = panel * K::WIDTH..((panel + 1) * K::WIDTH).min(self.outputs);
            let whole = panel * K::WIDTH..(panel + 1) * K::WIDTH;
            let (factors, bias) = (&self.factors[whole.clone()], &self.bias[whole]);
            let next = self.panels.get((panel + 1) * self.steps * K::WIDTH..).unwrap_or_default();
            let next = &next[..next.len().min(units.len())];
            let count = rows.len().div_ceil(K::ROWS);
            for (tile, rows) in tiles(rows.clone(), K::ROWS).enumerate() {
                let soon = &next[share(0..next.len(), tile, count)];
                // SAFETY: nobody writes the rows, as the caller says.
                let left = unsafe { from.rows(rows.clone()) };
                let stride = from.columns();
                kernels.product(Tile { rows: left, stride, count: rows.len(), panel: units, out: &mut sums, soon });
                finish(Product { rows, columns: columns.clone(), sums: &sums, factors, bias });
            }
        }
    }
}

/// Product of the largest tile of all instruction sets.
pub(super) const MOST_SUMS: usize = 32 * 32;

/// Splits rows into the fewest tiles of at most `most`, nearly equal ones: a short last one would cost as much as a
/// longer one.
pub(super) fn tiles(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.len().div_ceil(most);
    (0..count).map(move |tile| share(rows.clone(), tile, count))
}

/// The part of a range that is `index`'s, of `of` nearly equal ones.
pub(super) fn share(range: Range<usize>, index: usize, of: usize) -> Range<usize> {
    let at = |index: usize| range.start + range.len() * index / of;
    at(index)..at(index + 1)
}
