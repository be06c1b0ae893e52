//! AVX-512 with VNNI: two whole numbers of 16 bits times two of them added to an i32, in sixteen lanes, by one instruction, at the rate of
//! the f32 multiplication: twice the arithmetic, and half the memory of the weights. Attention, whose factors have no useful bounds, and
//! all between products are AVX-512's in f32.

use std::arch::asm;
use std::arch::x86_64::{
    __m512i, _mm256_storeu_si256, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_cvtsepi32_epi16, _mm512_loadu_si512,
    _mm512_set1_epi32,
};

use super::Isa;
use super::avx512::{Avx512, Sixteen, SixteenSums};
use super::int16::{self, Pair};
use super::kernels::{Kernels, runs_with};
use super::simd::{Accumulator, Simd as _, Sums as _};

/// Only [`Kernels::detect`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx512Int16(Avx512);

impl Accumulator<Sixteen> for SixteenSums {
    #[inline(always)]
    unsafe fn none() -> Self {
        // SAFETY: the caller's.
        unsafe { Self::zero() }
    }

    #[inline(always)]
    unsafe fn numbers(self) -> Sixteen {
        // SAFETY: the caller's.
        unsafe { Sixteen(_mm512_cvtepi32_ps(self.0)) }
    }
}

impl Kernels for Avx512Int16 {
    const ISA: Isa = Isa::Avx512Int16;
    type Vector = Sixteen;
    type Sums = SixteenSums;
    type Unit = Pair;
    type Units = __m512i;
    type Accumulator = SixteenSums;
    type Attention = Avx512;
    const DEPTH: usize = 2;
    const ROWS: usize = 12;
    const WHOLE: bool = true;

    fn detect() -> Option<Self> {
        Avx512::detect().filter(|_| is_x86_feature_detected!("avx512vnni")).map(Self)
    }

    fn attention(self) -> Avx512 {
        self.0
    }

    runs_with!("avx512f,avx512bw,avx512vnni");

    fn unit(numbers: &[f32]) -> Pair {
        int16::pair(numbers)
    }

    fn across(rows: &[&[Pair]], to: &mut [Pair]) {
        int16::across(rows, to);
    }

    #[inline(always)]
    unsafe fn splat_unit(from: *const Pair) -> __m512i {
        // SAFETY: the caller's; a pair has the size of an i32.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_units(from: *const Pair) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_units(first: Sixteen, second: Sixteen, to: *mut Pair) {
        // SAFETY: the caller's; sixteen whole numbers are half a vector.
        unsafe {
            for (half, numbers) in [first, second].into_iter().enumerate() {
                let numbers = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(numbers.0));
                _mm256_storeu_si256(to.add(half * Sixteen::LANES / 2).cast(), numbers);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: SixteenSums, a: __m512i, b: __m512i) -> SixteenSums {
        // SAFETY: the caller's.
        unsafe { SixteenSums(add_products(sum.0, a, b)) }
    }
}

/// LLVM makes two instructions of the intrinsic, a multiplication and an addition, unless it compiles for one of a few processors.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_products(mut sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "vpdpwssd {sums}, {a}, {b}", sums = inout(zmm_reg) sums, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
