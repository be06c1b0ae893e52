//! AVX2 with products of whole numbers of 16 bits: two times two of them added to an i32 in eight lanes, by two instructions that
//! four units of the processor can run, where only two can multiply f32. So up to twice the arithmetic, and half the memory of the
//! weights, for CPUs that have no bf16. Attention, whose factors have no useful bounds, and all between products are AVX2's in f32.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_packs_epi32, _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_storeu_si256,
};

use super::Isa;
use super::avx2::{Avx2, Eight, EightSums};
use super::int16::{self, Pair};
use super::kernels::{Kernels, runs_with};
use super::simd::{Accumulator, Sums as _};

/// Only [`Kernels::detect`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx2Int16(Avx2);

impl Accumulator<Eight> for EightSums {
    #[inline(always)]
    unsafe fn none() -> Self {
        // SAFETY: the caller's.
        unsafe { Self::zero() }
    }

    #[inline(always)]
    unsafe fn numbers(self) -> Eight {
        // SAFETY: the caller's.
        unsafe { Eight(_mm256_cvtepi32_ps(self.0)) }
    }
}

impl Kernels for Avx2Int16 {
    const ISA: Isa = Isa::Avx2Int16;
    type Vector = Eight;
    type Sums = EightSums;
    type Unit = Pair;
    type Units = __m256i;
    type Accumulator = EightSums;
    type Attention = Avx2;
    const DEPTH: usize = 2;
    const ROWS: usize = 6;
    const WHOLE: bool = true;

    fn detect() -> Option<Self> {
        Avx2::detect().map(Self)
    }

    fn attention(self) -> Avx2 {
        self.0
    }

    runs_with!("avx2,fma,f16c");

    fn unit(numbers: &[f32]) -> Pair {
        int16::pair(numbers)
    }

    fn across(rows: &[&[Pair]], to: &mut [Pair]) {
        int16::across(rows, to);
    }

    #[inline(always)]
    unsafe fn splat_unit(from: *const Pair) -> __m256i {
        // SAFETY: the caller's; a pair has the size of an i32.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_units(from: *const Pair) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_units(first: Eight, second: Eight, to: *mut Pair) {
        // SAFETY: the caller's; sixteen of them are one vector. They are packed by halves of vectors, and put in order.
        unsafe {
            let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(first.0), _mm256_cvtps_epi32(second.0));
            _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: EightSums, a: __m256i, b: __m256i) -> EightSums {
        // SAFETY: the caller's.
        unsafe { EightSums(_mm256_add_epi32(sum.0, _mm256_madd_epi16(a, b))) }
    }
}
