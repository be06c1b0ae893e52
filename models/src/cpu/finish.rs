//! What becomes of a tile's sums while they are still in the first-level cache: bias, activation, residual, rounding.

use super::kernels::{Kernels, Operation, store_some_units};
use super::shared::Part;
use super::simd::{Simd, gelu};

/// Stores `f(sums · scale · factors + bias)` as units of other kernels with the same vectors.
pub(super) struct Store<'a, U: Kernels> {
    /// f32 `[rows, WIDTH]`.
    pub(super) sums: &'a [f32],
    /// One for each row; none: 1.
    pub(super) scale: Option<&'a [f32]>,
    /// `WIDTH` numbers; none: 1.
    pub(super) factors: Option<&'a [f32]>,
    /// `WIDTH` numbers; none: 0.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
    /// What makes units of the results, `WIDTH` numbers; none: 1.
    pub(super) grid: Option<&'a [f32]>,
    /// `columns` numbers a row, of which there may be fewer than `WIDTH`.
    pub(super) to: Part<'a, U::Unit>,
    pub(super) columns: usize,
}

/// What a layer does to its sums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Identity,
    Gelu,
}

impl<K: Kernels, U: Kernels<Vector = K::Vector>> Operation<K> for Store<'_, U> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(mut self) {
        let rows = self.to.rows();
        assert!(self.sums.len() >= rows * K::WIDTH && self.columns <= K::WIDTH);
        assert!(self.scale.is_none_or(|scale| scale.len() >= rows));
        assert!([self.factors, self.bias, self.grid].iter().flatten().all(|numbers| numbers.len() >= K::WIDTH));
        assert!(self.to.columns() >= self.columns.div_ceil(U::DEPTH));
        // SAFETY: the CPU has the instructions; the lengths were just checked.
        unsafe {
            let lanes = K::Vector::LANES;
            let pair = |numbers: Option<&[f32]>, otherwise: f32| match numbers {
                Some(numbers) => [K::Vector::load(numbers.as_ptr()), K::Vector::load(numbers.as_ptr().add(lanes))],
                None => [K::Vector::splat(otherwise); 2],
            };
            let (factors, bias, grid) = (pair(self.factors, 1.0), pair(self.bias, 0.0), pair(self.grid, 1.0));
            for row in 0..rows {
                let sums = self.sums.as_ptr().add(row * K::WIDTH);
                let scale = K::Vector::splat(self.scale.map_or(1.0, |scale| scale[row]));
                let mut first = K::Vector::load(sums).mul_add(scale.mul(factors[0]), bias[0]);
                let mut second = K::Vector::load(sums.add(lanes)).mul_add(scale.mul(factors[1]), bias[1]);
                if self.activation == Activation::Gelu {
                    (first, second) = (gelu(first), gelu(second));
                }
                let (first, second) = (first.mul(grid[0]), second.mul(grid[1]));
                store_some_units::<U>(first, second, self.to.row(row), self.columns);
            }
        }
    }
}

/// Adds `sums · factors + bias` to what is there.
pub(super) struct Add<'a> {
    /// f32 `[rows, WIDTH]`.
    pub(super) sums: &'a [f32],
    /// `WIDTH` numbers.
    pub(super) factors: &'a [f32],
    /// `WIDTH` numbers.
    pub(super) bias: &'a [f32],
    /// As many columns as are wanted, at most `WIDTH`.
    pub(super) to: Part<'a, f32>,
}

impl<K: Kernels> Operation<K> for Add<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(mut self) {
        let (rows, columns) = (self.to.rows(), self.to.columns());
        assert!(self.sums.len() >= rows * K::WIDTH && columns <= K::WIDTH);
        assert!(self.factors.len() >= K::WIDTH && self.bias.len() >= K::WIDTH);
        // SAFETY: the CPU has the instructions; the lengths were just checked.
        unsafe {
            for row in 0..rows {
                let to = self.to.row(row);
                for at in (0..columns).step_by(K::Vector::LANES) {
                    let sums = K::Vector::load(self.sums.as_ptr().add(row * K::WIDTH + at));
                    let factors = K::Vector::load(self.factors.as_ptr().add(at));
                    let sums = sums.mul_add(factors, K::Vector::load(self.bias.as_ptr().add(at)));
                    let (to, left) = (to.add(at), columns - at);
                    if left >= K::Vector::LANES {
                        sums.add(K::Vector::load(to)).store(to);
                    } else {
                        sums.add(K::Vector::load_some(to, left, 0.0)).store_some(to, left);
                    }
                }
            }
        }
    }
}
