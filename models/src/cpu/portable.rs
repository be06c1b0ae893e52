//! Plain Rust for any CPU, in loops that compilers turn into the vectors of the platform's baseline.

use super::Isa;
use super::kernels::{Kernels, Operation, units_of_f32};
use super::simd::Simd;

#[derive(Clone, Copy)]
pub(super) struct Portable;

#[derive(Clone, Copy)]
pub(super) struct Four([f32; 4]);

impl Four {
    #[inline(always)]
    fn zip(self, other: Self, of: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| of(self.0[lane], other.0[lane])))
    }
}

impl Simd for Four {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; f32s need no more alignment as an array.
        unsafe { Self(from.cast::<[f32; 4]>().read()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { to.cast::<[f32; 4]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        // Not `f32::mul_add`: without an instruction for it, that is a call for each number.
        self.zip(by, |a, b| a * b).zip(plus, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn exp2(self) -> Self {
        // A whole number, written into the exponent's bits.
        Self(self.0.map(|n| f32::from_bits(((n as i32 + 127) << 23) as u32)))
    }
}

impl Kernels for Portable {
    const ISA: Isa = Isa::Portable;
    type Vector = Four;
    const ROWS: usize = 4;

    fn detect() -> Option<Self> {
        Some(Self)
    }

    #[inline]
    fn run<O: Operation<Self>>(self, operation: O) -> O::Output {
        // SAFETY: these are no special instructions.
        unsafe { operation.run() }
    }

    units_of_f32!(Four);
}
