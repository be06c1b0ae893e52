//! Numbers as whole ones of 16 bits, for kernels that multiply those.
//!
//! What a layer takes has bounds that its weights give, whatever the text: a normalised vector of n numbers has the length
//! √n, so none of its numbers passes √n, and no inner product with it passes √n times the length of the other vector. So
//! numbers are multiplied with factors that are fixed when the weights are loaded, one for each column, and never pass
//! [`MOST`]. The weights of a layer are divided by the same factors, and then as finely divided as they can be without any sum of
//! products passing 32 bits: sums of whole numbers are exact in any order.

use std::borrow::Cow;

use super::kernels::Kernels;

/// The largest number in a unit: of 2⁹ to 2¹⁵, the one with which embeddings of all-MiniLM-L6-v2 were nearest to those of f32
/// (smaller ones round inputs more, larger ones leave less of the 32 bits to the weights).
const MOST: f32 = 8191.0;
/// What weights may add up to: with inputs that are a hundredth larger than [`MOST`], as rounding may make them, the sums
/// of products do not pass 32 bits.
const MOST_WEIGHTS: f32 = i32::MAX as f32 / (MOST * 1.01);

/// What numbers are multiplied with before they are units, a factor for each column. For kernels whose units hold numbers as
/// they are, it is empty.
#[derive(Default)]
pub(super) struct Grid(Vec<f32>);

impl Grid {
    /// For numbers of which none passes its bound.
    pub(super) fn of<K: Kernels>(bounds: impl Iterator<Item = f32>) -> Self {
        if !K::WHOLE {
            return Self::default();
        }
        let factor = |bound: f32| if bound == 0.0 { 0.0 } else { MOST / bound };
        // Whoever reads a whole panel at the end finds one.
        Self(bounds.map(factor).chain(std::iter::repeat_n(0.0, K::WIDTH)).collect())
    }

    /// The factors from a column on, a panel's width at least; none: numbers stay as they are.
    pub(super) fn from(&self, column: usize) -> Option<&[f32]> {
        (!self.0.is_empty()).then(|| &self.0[column..])
    }

    /// An output's weights for inputs on this grid, and what their sums of products are to be multiplied with.
    pub(super) fn weights<'a>(&self, weights: &'a [f32]) -> (Cow<'a, [f32]>, f32) {
        if self.0.is_empty() {
            return (weights.into(), 1.0);
        }
        let divided = weights.iter().zip(&self.0).map(|(weight, by)| if *by == 0.0 { 0.0 } else { weight / by });
        let mut divided: Vec<f32> = divided.collect();
        let all: f32 = divided.iter().map(|weight| weight.abs()).sum();
        let largest = divided.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
        if all == 0.0 {
            return (divided.into(), 0.0);
        }
        // Each is rounded by up to a half.
        let room = MOST_WEIGHTS - 0.5 * weights.len() as f32;
        let factor = (room / all).min(f32::from(i16::MAX) / largest);
        for weight in &mut divided {
            *weight = whole(*weight * factor);
        }
        (divided.into(), 1.0 / factor)
    }
}

/// The nearest whole number, the even one of two, for numbers up to 2²²: added to 1.5·2²³, where neighbours are 1 apart.
/// Processors without SSE4.1 have no instruction for it, so [`f32::round_ties_even`] is a call.
pub(super) fn whole(number: f32) -> f32 {
    const ONES: f32 = 12_582_912.0;
    (number + ONES) - ONES
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::avx2int16::Avx2Int16;
    use crate::cpu::portable::Portable;

    fn grid(bounds: &[f32]) -> Grid {
        Grid::of::<Avx2Int16>(bounds.iter().copied())
    }

    #[test]
    fn kernels_whose_units_hold_numbers_have_no_grid() {
        let grid = Grid::of::<Portable>([1.0, 2.0].into_iter());
        assert!(grid.from(0).is_none());
        assert_eq!(grid.weights(&[0.1, 7.5]), (Cow::from(&[0.1, 7.5][..]), 1.0));
    }

    #[test]
    fn what_is_always_zero_and_weights_of_zero_stay_so() {
        let (weights, factor) = grid(&[0.0, 1.0]).weights(&[5.0, 0.25]);
        assert_eq!((weights[0], weights[1] > 0.0, factor > 0.0), (0.0, true, true));
        let (weights, factor) = grid(&[1.0, 1.0]).weights(&[0.0, 0.0]);
        assert_eq!((&*weights, factor), (&[0.0, 0.0][..], 0.0));
    }

    proptest! {
        #[test]
        fn whole_numbers_are_the_nearest_ones(number in -32_768.0_f32..32_768.0, half in -9_999_i16..9_999) {
            for number in [number, f32::from(half) + 0.5] {
                prop_assert!((whole(number) - number.round_ties_even()).abs() < f32::EPSILON, "{number}");
            }
        }

        #[test]
        fn no_sum_passes_32_bits_and_weights_stay_near(
            // Whole numbers: among a million of its own `f32`, proptest now and then fails an assertion of its sampler.
            columns in proptest::collection::vec((1_u16..5_000, -30_000_i16..30_000), 1..2000),
        ) {
            let (bounds, weights): (Vec<f32>, Vec<f32>) =
                columns.into_iter().map(|(bound, weight)| (f32::from(bound) / 100.0, f32::from(weight) / 10_000.0)).unzip();
            let grid = grid(&bounds);
            let (whole, factor) = grid.weights(&weights);
            let worst: f64 = whole.iter().map(|weight| f64::from(weight.abs()) * f64::from(MOST) * 1.005).sum();
            prop_assert!(worst < f64::from(i32::MAX));
            prop_assert!(whole.iter().all(|weight| weight.fract() == 0.0 && weight.abs() <= f32::from(i16::MAX)));
            for (((whole, by), weight), bound) in whole.iter().zip(&grid.0).zip(&weights).zip(&bounds) {
                // Half of a step, in what the largest input makes of it.
                let off = (whole * factor * by - weight).abs() * bound;
                prop_assert!(off <= 0.51 * factor * MOST + 1e-5 * (weight * bound).abs());
            }
        }
    }
}
