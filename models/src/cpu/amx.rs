//! AMX: tiles of bf16 multiplied by a unit of the processor's own, at several times the rate of its vectors. Everything
//! between products is that of AVX-512 with BF16, and so is the layout of weights: a panel is two tiles side by side.
//!
//! [`Amx::detect`] asks the processor, then Linux, and then multiplies once and compares: a machine on which any of the three
//! says no uses the next best kernels.

use std::arch::x86_64::{__cpuid_count, __m512bh, _xgetbv};
use std::sync::LazyLock;

use super::Isa;
use super::avx512::{Sixteen, SixteenSums};
use super::avx512bf16::Avx512Bf16;
use super::bf16::Pair;
use super::kernels::{Kernels, runs_with};
use super::tile::Tile;
use super::tiles::{self, Instructions};

/// Only [`Kernels::detect`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Amx(());

impl Kernels for Amx {
    const ISA: Isa = Isa::Amx;
    type Vector = Sixteen;
    type Sums = SixteenSums;
    type Unit = Pair;
    type Units = __m512bh;
    type Accumulator = Sixteen;
    type Attention = Self;
    const DEPTH: usize = 2;
    const ROWS: usize = tiles::MOST_ROWS;

    fn detect() -> Option<Self> {
        static WORKS: LazyLock<bool> = LazyLock::new(|| is_there() && is_permitted() && multiplies());
        (Avx512Bf16::detect().is_some() && *WORKS).then_some(Self(()))
    }

    fn attention(self) -> Self {
        self
    }

    runs_with!("avx512f,avx512bw,avx512bf16");

    fn product(self, tile: Tile<'_, Self>) {
        let Tile { rows, stride, count, panel, out, soon } = tile;
        let mut instructions = Instructions::on_a_cpu_that_has_them(self);
        tiles::multiply(&mut instructions, (rows, stride, count), panel, soon, out);
    }

    fn unit(numbers: &[f32]) -> Pair {
        Avx512Bf16::unit(numbers)
    }

    fn across(rows: &[&[Pair]], to: &mut [Pair]) {
        Avx512Bf16::across(rows, to);
    }

    #[inline(always)]
    unsafe fn splat_unit(from: *const Pair) -> __m512bh {
        // SAFETY: the caller's.
        unsafe { Avx512Bf16::splat_unit(from) }
    }

    #[inline(always)]
    unsafe fn load_units(from: *const Pair) -> __m512bh {
        // SAFETY: the caller's.
        unsafe { Avx512Bf16::load_units(from) }
    }

    #[inline(always)]
    unsafe fn store_units(first: Sixteen, second: Sixteen, to: *mut Pair) {
        // SAFETY: the caller's.
        unsafe { Avx512Bf16::store_units(first, second, to) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: Sixteen, a: __m512bh, b: __m512bh) -> Sixteen {
        // SAFETY: the caller's.
        unsafe { Avx512Bf16::multiply_add(sum, a, b) }
    }
}

/// Whether the processor has tiles of bf16, and the system keeps them when it changes threads: Intel's Architecture
/// Instruction Set Extensions Programming Reference, section 3.3.
fn is_there() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const OSXSAVE: u32 = 1 << 27;
    // The tiles' shapes, and what is in them.
    const KEPT: u64 = 0b11 << 17;

    #[target_feature(enable = "xsave")]
    fn kept() -> u64 {
        // SAFETY: the system has turned the register on.
        unsafe { _xgetbv(0) }
    }
    if __cpuid_count(0, 0).eax < 7 || __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: it has just been seen that the system uses XSAVE, and so that the CPU has it.
    features & BF16 != 0 && features & TILE != 0 && unsafe { kept() } & KEPT == KEPT
}

/// Asks Linux to keep this process's tiles; it does so for those that ask, as they take 8 KiB a thread
/// (Documentation/arch/x86/xstate.rst).
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: sets a permission, and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Other systems keep tiles without being asked, or have not turned them on.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    true
}

/// Whether a product is what it has to be: an emulator or a hypervisor may have the instructions and not their results.
fn multiplies() -> bool {
    let mut instructions = Instructions::on_a_cpu_that_may_have_them();
    tiles::is_right(&mut instructions)
}
