//! AVX-512: sixteen f32 a vector, 32 registers.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_scalef_ps, _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::Isa;
use super::kernels::{Kernels, Operation, units_of_f32};
use super::simd::Simd;

/// Only [`Kernels::detect`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

#[derive(Clone, Copy)]
pub(super) struct Sixteen(pub(super) __m512);

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

impl Kernels for Avx512 {
    const ISA: Isa = Isa::Avx512;
    type Vector = Sixteen;
    const ROWS: usize = 12;

    fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    #[inline]
    fn run<O: Operation<Self>>(self, operation: O) -> O::Output {
        #[target_feature(enable = "avx512f")]
        fn compiled<O: Operation<Avx512>>(operation: O) -> O::Output {
            // SAFETY: whoever called had the CPU checked.
            unsafe { operation.run() }
        }
        // SAFETY: `detect` has seen that the CPU has it.
        unsafe { compiled(operation) }
    }

    units_of_f32!(Sixteen);
}
