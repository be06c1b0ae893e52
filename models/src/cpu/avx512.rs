//! AVX-512 (F and BW): sixteen f32 a vector, 32 registers.

use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_cvtepi8_epi16, _mm512_cvtph_ps,
    _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_madd_epi16, _mm512_max_ps,
    _mm512_min_ps, _mm512_mul_ps, _mm512_reduce_add_epi32, _mm512_scalef_ps, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_storeu_ps, _mm512_sub_ps,
};

use half::f16;

use super::Isa;
use super::kernels::{Kernels, runs_with, units_of_f32};
use super::simd::{Simd, Sums};

/// Only [`Kernels::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

#[derive(Clone, Copy)]
pub(super) struct Sixteen(pub(super) __m512);

#[derive(Clone, Copy)]
pub(super) struct SixteenSums(pub(super) __m512i);

// SAFETY of every block below: the caller's, as `Simd` asks for it: the CPU has the instruction, pointers are good for a
// vector. Loads and stores need no alignment.
impl Simd for Sixteen {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self {
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { Self(_mm512_div_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { Self(_mm512_min_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        unsafe { Self(_mm512_fmadd_ps(self.0, by.0, plus.0)) }
    }

    #[inline(always)]
    unsafe fn exp2(self) -> Self {
        unsafe { Self(_mm512_scalef_ps(_mm512_set1_ps(1.0), self.0)) }
    }
}

impl Sums for SixteenSums {
    const STEP: usize = 32;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(_mm512_setzero_si512()) }
    }

    #[inline(always)]
    unsafe fn add_products(self, a: *const i16, b: *const i8) -> Self {
        unsafe {
            let b = _mm512_cvtepi8_epi16(_mm256_loadu_si256(b.cast()));
            Self(_mm512_add_epi32(self.0, _mm512_madd_epi16(_mm512_loadu_si512(a.cast()), b)))
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self(_mm512_add_epi32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn total(self) -> i32 {
        unsafe { _mm512_reduce_add_epi32(self.0) }
    }
}

impl Kernels for Avx512 {
    const ISA: Isa = Isa::Avx512;
    type Vector = Sixteen;
    type Sums = SixteenSums;
    const ROWS: usize = 12;

    fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")).then_some(Self(()))
    }

    runs_with!("avx512f,avx512bw");

    units_of_f32!(Sixteen);
}
