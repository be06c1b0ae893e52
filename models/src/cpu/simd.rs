//! Vectors of f32, one type an instruction set, so that kernels are written once.

use half::f16;

/// As many f32 as a register holds.
///
/// # Safety
/// Every function may only run on a CPU that has the instruction set, inside a function that is compiled for it (see
/// [`Kernels::run`](super::kernels::Kernels::run)); pointers must be good for [`LANES`](Self::LANES) numbers.
pub(super) trait Simd: Copy {
    /// Numbers in a vector, at most [`MOST_LANES`].
    const LANES: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// From finite halves.
    unsafe fn load_half(from: *const f16) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// `self * by + plus`, rounded once where there is an instruction for it.
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self;
    /// 2 to the power of whole numbers from -126 to 127.
    unsafe fn exp2(self) -> Self;

    /// The first `count` numbers, and `fill` after them.
    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize, fill: f32) -> Self {
        let mut numbers = [fill; MOST_LANES];
        // SAFETY: the caller's pointer is good for `count` numbers, which is less than a vector.
        unsafe {
            numbers.as_mut_ptr().copy_from_nonoverlapping(from, count);
            Self::load(numbers.as_ptr())
        }
    }

    /// Stores the first `count` numbers.
    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        let mut numbers = [0.0; MOST_LANES];
        // SAFETY: the caller's pointer is good for `count` numbers, which is less than a vector.
        unsafe {
            self.store(numbers.as_mut_ptr());
            to.copy_from_nonoverlapping(numbers.as_ptr(), count);
        }
    }

    /// All numbers added up.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut numbers = [0.0; MOST_LANES];
        // SAFETY: there is room for the largest vector.
        unsafe { self.store(numbers.as_mut_ptr()) };
        numbers[..Self::LANES].iter().sum()
    }

    /// The largest number.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let mut numbers = [0.0; MOST_LANES];
        // SAFETY: there is room for the largest vector.
        unsafe { self.store(numbers.as_mut_ptr()) };
        numbers[..Self::LANES].iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// As many i32 as a register holds, sums of products of whole numbers.
///
/// # Safety
/// As for [`Simd`]; pointers must be good for [`STEP`](Self::STEP) numbers.
pub(super) trait Sums: Copy {
    /// Numbers that are multiplied at once, at most [`MOST_STEP`].
    const STEP: usize;

    unsafe fn zero() -> Self;
    /// Adds the products of numbers with whole numbers that are at most half as wide.
    unsafe fn add_products(self, a: *const i16, b: *const i8) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// All sums added up.
    unsafe fn total(self) -> i32;
}

/// The sums of a product while it runs, as many as a vector has numbers.
///
/// # Safety
/// As for [`Simd`].
pub(super) trait Accumulator<V>: Copy {
    unsafe fn none() -> Self;
    unsafe fn numbers(self) -> V;
}

impl<V: Simd> Accumulator<V> for V {
    #[inline(always)]
    unsafe fn none() -> V {
        // SAFETY: the caller's.
        unsafe { V::splat(0.0) }
    }

    #[inline(always)]
    unsafe fn numbers(self) -> V {
        self
    }
}

/// Numbers in the largest step of [`Sums`].
pub(super) const MOST_STEP: usize = 32;

/// Numbers in the largest vector.
pub(super) const MOST_LANES: usize = 16;

/// e to the power of `x`, within 2 units in the last place from -87 to 88; smaller ones give what -87 gives.
///
/// Cephes' `expf`: x = n ln 2 + r, a polynomial for e^r, and n added to the exponent.
#[inline(always)]
pub(super) unsafe fn exp<V: Simd>(x: V) -> V {
    // Added and subtracted again, this rounds to whole numbers.
    const ROUND: f32 = 12_582_912.0;
    const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // SAFETY: the caller's.
    unsafe {
        let x = x.max(V::splat(-87.0)).min(V::splat(88.0));
        let n = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUND)).sub(V::splat(ROUND));
        // ln 2 in two parts, the first exact in few bits.
        let r = n.mul_add(V::splat(-0.693_359_4), x);
        let r = n.mul_add(V::splat(2.121_944_4e-4), r);
        let mut p = V::splat(POLYNOMIAL[0]);
        for coefficient in &POLYNOMIAL[1..] {
            p = p.mul_add(r, V::splat(*coefficient));
        }
        p.mul_add(r.mul(r), r).add(V::splat(1.0)).mul(n.exp2())
    }
}

/// The error function, within 4e-7: `x P(x²) / Q(x²)`, for |x| up to 4, where it is 1 in f32. The coefficients are
/// those of Eigen's `erf`.
#[inline(always)]
pub(super) unsafe fn erf<V: Simd>(x: V) -> V {
    const P: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const Q: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    // SAFETY: the caller's.
    unsafe {
        let x = x.max(V::splat(-4.0)).min(V::splat(4.0));
        let square = x.mul(x);
        let (mut p, mut q) = (V::splat(P[0]), V::splat(Q[0]));
        for coefficient in &P[1..] {
            p = p.mul_add(square, V::splat(*coefficient));
        }
        for coefficient in &Q[1..] {
            q = q.mul_add(square, V::splat(*coefficient));
        }
        x.mul(p).div(q)
    }
}

/// "Gaussian Error Linear Units" (<https://arxiv.org/abs/1606.08415>): `x Φ(x)`, by the error function.
#[inline(always)]
pub(super) unsafe fn gelu<V: Simd>(x: V) -> V {
    // SAFETY: the caller's.
    unsafe {
        let half = x.mul(V::splat(0.5));
        half.mul_add(erf(x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2))), half)
    }
}
