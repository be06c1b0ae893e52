//! What an instruction set offers, and the operations that are compiled for each.

use std::fmt::Debug;

use super::Isa;
use super::simd::{Accumulator, Simd, Sums};
use super::tile::Tile;

/// The kernels of one instruction set. A value of the type is the proof that this CPU has it.
///
/// Products run over *units*: what one step of a multiplication takes of a row, one f32, two bf16 or two whole numbers. The
/// left side is stored by rows, each of them units end to end; the right side in *panels* of [`WIDTH`](Self::WIDTH)
/// columns, in which the units of one step stand side by side.
pub(super) trait Kernels: Copy + Send + Sync + 'static {
    /// Which instruction set.
    const ISA: Isa;
    /// Its vectors.
    type Vector: Simd;
    /// Its sums of whole numbers.
    type Sums: Sums;
    /// What a step takes of a row.
    type Unit: Copy + Default + Send + Sync + Debug;
    /// As many units as a vector has numbers.
    type Units: Copy;
    /// Their sums of products.
    type Accumulator: Accumulator<Self::Vector>;
    /// What attention runs on: kernels whose units hold numbers without bounds. They have the same instructions.
    type Attention: Kernels<Vector = Self::Vector>;
    /// Numbers in a unit.
    const DEPTH: usize;
    /// Whether units hold whole numbers: others are multiplied first, as a [`Grid`](super::grid::Grid) has it.
    const WHOLE: bool = false;
    /// The most rows of a tile, as many as there are registers for.
    const ROWS: usize;
    /// Columns of a panel.
    const WIDTH: usize = 2 * Self::Vector::LANES;

    /// The kernels, if this CPU has the instruction set.
    fn detect() -> Option<Self>;

    /// The kernels for attention.
    fn attention(self) -> Self::Attention;

    /// Runs an operation inside a function that is compiled for the instruction set.
    fn run<O: Operation<Self>>(self, operation: O) -> O::Output;

    /// A product of rows and a panel.
    #[inline]
    fn product(self, tile: Tile<'_, Self>) {
        self.run(tile);
    }

    /// A unit of up to [`DEPTH`](Self::DEPTH) numbers; missing ones are 0.
    fn unit(numbers: &[f32]) -> Self::Unit;

    /// Units across rows of units of one length: from [`DEPTH`](Self::DEPTH) rows, or fewer with zeros for the missing
    /// ones, to a unit for each number of a row. `to` has room for all numbers of a row.
    fn across(rows: &[&[Self::Unit]], to: &mut [Self::Unit]);

    /// The unit at `from` in all places.
    ///
    /// # Safety
    /// As for [`Simd`]; `from` is good for a unit.
    unsafe fn splat_unit(from: *const Self::Unit) -> Self::Units;

    /// # Safety
    /// As for [`Simd`]; `from` is good for a vector of units.
    unsafe fn load_units(from: *const Self::Unit) -> Self::Units;

    /// Two vectors of numbers as units, stored.
    ///
    /// # Safety
    /// As for [`Simd`]; `to` is good for [`WIDTH`](Self::WIDTH) numbers in units.
    unsafe fn store_units(first: Self::Vector, second: Self::Vector, to: *mut Self::Unit);

    /// Adds the products of units.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn multiply_add(sum: Self::Accumulator, a: Self::Units, b: Self::Units) -> Self::Accumulator;
}

/// The part of [`Kernels`] of those that multiply f32 as it is: a unit is a number, and units are a vector of numbers.
macro_rules! units_of_f32 {
    ($vector:ty) => {
        type Unit = f32;
        type Units = $vector;
        type Accumulator = $vector;
        type Attention = Self;
        const DEPTH: usize = 1;

        fn attention(self) -> Self {
            self
        }

        fn unit(numbers: &[f32]) -> f32 {
            numbers[0]
        }

        fn across(rows: &[&[f32]], to: &mut [f32]) {
            to.copy_from_slice(rows[0]);
        }

        #[inline(always)]
        unsafe fn splat_unit(from: *const f32) -> $vector {
            // SAFETY: the caller's.
            unsafe { <$vector>::splat(*from) }
        }

        #[inline(always)]
        unsafe fn load_units(from: *const f32) -> $vector {
            // SAFETY: the caller's.
            unsafe { <$vector>::load(from) }
        }

        #[inline(always)]
        unsafe fn store_units(first: $vector, second: $vector, to: *mut f32) {
            // SAFETY: the caller's.
            unsafe {
                first.store(to);
                second.store(to.add(<$vector>::LANES));
            }
        }

        #[inline(always)]
        unsafe fn multiply_add(sum: $vector, a: $vector, b: $vector) -> $vector {
            // SAFETY: the caller's.
            unsafe { a.mul_add(b, sum) }
        }
    };
}
pub(super) use units_of_f32;

/// [`Kernels::run`] of those that need instructions of these names, of which `detect` has seen all.
#[cfg(target_arch = "x86_64")]
macro_rules! runs_with {
    ($features:literal) => {
        #[inline]
        fn run<O: $crate::cpu::kernels::Operation<Self>>(self, operation: O) -> O::Output {
            #[target_feature(enable = $features)]
            fn compiled<K: Kernels, O: $crate::cpu::kernels::Operation<K>>(operation: O) -> O::Output {
                // SAFETY: whoever called had the CPU checked.
                unsafe { operation.run() }
            }
            // SAFETY: `detect` has seen that the CPU has all of them.
            unsafe { compiled::<Self, O>(operation) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use runs_with;

/// Something that is compiled for every instruction set.
pub(super) trait Operation<K: Kernels> {
    /// What it returns.
    type Output;

    /// Does it. Must be `#[inline(always)]`, as everything it calls, to be compiled for the instruction set.
    ///
    /// # Safety
    /// The CPU has the instruction set.
    unsafe fn run(self) -> Self::Output;
}

/// `count` numbers of a panel's row as units, from two vectors.
///
/// # Safety
/// As for [`Simd`]; `to` is good for `count` numbers in units, at most [`Kernels::WIDTH`].
#[inline(always)]
pub(super) unsafe fn store_some_units<K: Kernels>(first: K::Vector, second: K::Vector, to: *mut K::Unit, count: usize) {
    // SAFETY: the caller's, and the buffer is as large as the widest panel.
    unsafe {
        if count == K::WIDTH {
            K::store_units(first, second, to);
        } else {
            let mut units = [K::Unit::default(); 2 * super::simd::MOST_LANES];
            K::store_units(first, second, units.as_mut_ptr());
            to.copy_from_nonoverlapping(units.as_ptr(), count.div_ceil(K::DEPTH));
        }
    }
}
