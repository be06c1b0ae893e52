//! What becomes of a tile's sums while they are still in the first-level cache: bias, activation, residual, rounding.

use super::kernels::{Kernels, Operation, store_some_units};
use super::shared::Part;
use super::simd::{Simd, gelu};

/// Stores `f(sums · scale + bias)` as units.
pub(super) struct Store<'a, K: Kernels> {
    /// f32 `[rows, WIDTH]`.
    pub(super) sums: &'a [f32],
    /// One for each row; none: 1.
    pub(super) scale: Option<&'a [f32]>,
    /// `WIDTH` numbers; none: 0.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
    /// `columns` numbers a row, of which there may be fewer than `WIDTH`.
    pub(super) to: Part<'a, K::Unit>,
    pub(super) columns: usize,
}

/// What a layer does to its sums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Identity,
    Gelu,
}

impl<K: Kernels> Operation<K> for Store<'_, K> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(mut self) {
        let rows = self.to.rows();
        assert!(self.sums.len() >= rows * K::WIDTH && self.columns <= K::WIDTH);
        assert!(self.scale.is_none_or(|scale| scale.len() >= rows));
        assert!(self.bias.is_none_or(|bias| bias.len() >= K::WIDTH));
        assert!(self.to.columns() >= self.columns.div_ceil(K::DEPTH));
        // SAFETY: the CPU has the instructions; the lengths were just checked.
        unsafe {
            let lanes = K::Vector::LANES;
            let zero = K::Vector::splat(0.0);
            let bias = self
                .bias
                .map_or([zero; 2], |bias| [K::Vector::load(bias.as_ptr()), K::Vector::load(bias.as_ptr().add(lanes))]);
            for row in 0..rows {
                let sums = self.sums.as_ptr().add(row * K::WIDTH);
                let scale = K::Vector::splat(self.scale.map_or(1.0, |scale| scale[row]));
                let mut first = K::Vector::load(sums).mul_add(scale, bias[0]);
                let mut second = K::Vector::load(sums.add(lanes)).mul_add(scale, bias[1]);
                if self.activation == Activation::Gelu {
                    (first, second) = (gelu(first), gelu(second));
                }
                store_some_units::<K>(first, second, self.to.row(row), self.columns);
            }
        }
    }
}

/// Adds the sums and the bias to what is there.
pub(super) struct Add<'a> {
    /// f32 `[rows, WIDTH]`.
    pub(super) sums: &'a [f32],
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
        assert!(self.sums.len() >= rows * K::WIDTH && self.bias.len() >= K::WIDTH && columns <= K::WIDTH);
        // SAFETY: the CPU has the instructions; the lengths were just checked.
        unsafe {
            for row in 0..rows {
                let to = self.to.row(row);
                for at in (0..columns).step_by(K::Vector::LANES) {
                    let sums = K::Vector::load(self.sums.as_ptr().add(row * K::WIDTH + at));
                    let sums = sums.add(K::Vector::load(self.bias.as_ptr().add(at)));
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
