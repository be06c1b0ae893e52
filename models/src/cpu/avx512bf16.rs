//! AVX-512 with BF16: two bf16 times two bf16 added to an f32, in sixteen lanes, on AMD's processors at the rate of the f32
//! multiplication: twice the arithmetic, and half the memory of the weights. On Intel's it is slower than f32. Everything between
//! products stays f32.

use std::arch::x86_64::{
    __m512, __m512bh, _mm512_castps_si512, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_set1_epi32,
    _mm512_storeu_ps,
};
use std::mem::transmute;

use super::Isa;
use super::avx512::{Avx512, Sixteen, SixteenSums};
use super::bf16::Pair;
use super::kernels::{Kernels, runs_with};

/// Only [`Kernels::detect`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16(());

impl Kernels for Avx512Bf16 {
    const ISA: Isa = Isa::Avx512Bf16;
    type Vector = Sixteen;
    type Sums = SixteenSums;
    type Unit = Pair;
    type Units = __m512bh;
    type Accumulator = Sixteen;
    type Attention = Self;
    const DEPTH: usize = 2;
    const ROWS: usize = 12;

    fn detect() -> Option<Self> {
        (Avx512::detect().is_some() && is_x86_feature_detected!("avx512bf16")).then_some(Self(()))
    }

    fn attention(self) -> Self {
        self
    }

    runs_with!("avx512f,avx512bw,avx512bf16");

    fn unit(numbers: &[f32]) -> Pair {
        Pair::of(numbers)
    }

    fn across(rows: &[&[Pair]], to: &mut [Pair]) {
        Pair::across(rows, to);
    }

    #[inline(always)]
    unsafe fn splat_unit(from: *const Pair) -> __m512bh {
        // SAFETY: the caller's; any bits are bf16s.
        unsafe { transmute(_mm512_set1_epi32(from.cast::<i32>().read())) }
    }

    #[inline(always)]
    unsafe fn load_units(from: *const Pair) -> __m512bh {
        // SAFETY: the caller's; any bits are bf16s.
        unsafe { transmute(_mm512_castps_si512(_mm512_loadu_ps(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn store_units(first: Sixteen, second: Sixteen, to: *mut Pair) {
        // SAFETY: the caller's; 32 bf16s are one vector.
        unsafe { _mm512_storeu_ps(to.cast(), transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second.0, first.0))) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: Sixteen, a: __m512bh, b: __m512bh) -> Sixteen {
        // SAFETY: the caller's.
        unsafe { Sixteen(_mm512_dpbf16_ps(sum.0, a, b)) }
    }
}
