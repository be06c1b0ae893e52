//! Plain Rust for any CPU, in loops that compilers turn into the vectors of the platform's baseline.

use half::f16;

use super::Isa;
use super::kernels::{Kernels, Operation, units_of_f32};
use super::simd::{Simd, Sums};

#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

#[derive(Clone, Copy)]
pub(super) struct Four([f32; 4]);

#[derive(Clone, Copy)]
pub(super) struct FourSums([i32; 4]);

/// 2¹¹²: what is left between the exponent biases of a half (15) and a single (127) after the bits are moved.
const REBIAS: f32 = f32::from_bits((127 + 112) << 23);

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
    unsafe fn load_half(from: *const f16) -> Self {
        // SAFETY: the caller's; f16s need no more alignment as an array.
        let halves = unsafe { from.cast::<[f16; 4]>().read() };
        // By integer shifts, as no conversion is vectorised: the sign is spread over the upper bits; the mask keeps one
        // of them, the exponent and the mantissa.
        let moved = halves.map(|half| ((i32::from(half.to_bits().cast_signed()) << 13) as u32) & 0x8fff_e000);
        Self(moved.map(|bits| f32::from_bits(bits) * REBIAS))
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

impl Sums for FourSums {
    const STEP: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0; 4])
    }

    #[inline(always)]
    unsafe fn add_products(self, a: *const i16, b: *const i8) -> Self {
        // SAFETY: the caller's; arrays of numbers need no more alignment than a number.
        let (a, b) = unsafe { (a.cast::<[i16; 8]>().read(), b.cast::<[i8; 8]>().read()) };
        let product = |n: usize| i32::from(a[n]) * i32::from(b[n]);
        Self(std::array::from_fn(|lane| self.0[lane] + product(2 * lane) + product(2 * lane + 1)))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }

    #[inline(always)]
    unsafe fn total(self) -> i32 {
        self.0.iter().sum()
    }
}

impl Kernels for Portable {
    const ISA: Isa = Isa::Portable;
    type Vector = Four;
    type Sums = FourSums;
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
