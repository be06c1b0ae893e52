//! Inner products of one vector with many stored ones, the inner loop of vector search.
//!
//! Stored vectors are in half precision, or in 8-bit whole numbers. Sums of whole numbers are exact, so that they are the
//! same on every CPU; sums of halves differ by rounding between instruction sets.

use std::fmt::{self, Debug, Formatter};

use half::f16;

use super::Isa;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
use super::kernels::{Kernels, Operation};
use super::portable::Portable;
use super::simd::{MOST_LANES, MOST_STEP, Simd, Sums};
use crate::ModelError;

/// Sums that do not wait for one another.
const APART: usize = 4;
/// So many rows are asked for before they are needed: they are anywhere in memory.
const AHEAD: usize = 2;

/// The products of an instruction set.
///
/// ```
/// # use vitrine_models::Products;
/// let mut products = [0; 2];
/// Products::chosen()?.whole(&[1, 2, 3], &[&[1, 1, 1], &[-1, 0, 100]], &mut products);
/// assert_eq!(products, [6, 299]);
/// # Ok::<(), vitrine_models::ModelError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Products(Kind);

#[derive(Clone, Copy)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable(Portable),
}

impl Products {
    /// On the instruction set that is [chosen](Isa::chosen).
    ///
    /// # Errors
    /// The environment names an instruction set that there is not.
    pub fn chosen() -> Result<Self, ModelError> {
        Isa::chosen().map(Self::on)
    }

    /// On the best instruction set of this CPU up to `isa`.
    pub fn on(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let is_wide = matches!(isa, Isa::Amx | Isa::Avx512Int16 | Isa::Avx512Bf16 | Isa::Avx512);
            let wide = is_wide.then(Avx512::detect).flatten();
            let narrow = (isa != Isa::Portable).then(Avx2::detect).flatten();
            if let Some(kind) = wide.map(Kind::Avx512).or(narrow.map(Kind::Avx2)) {
                return Self(kind);
            }
        }
        let _ = isa;
        Self(Kind::Portable(Portable))
    }

    /// Which instruction set it is.
    pub fn isa(self) -> Isa {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => Isa::Avx512,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => Isa::Avx2,
            Kind::Portable(_) => Isa::Portable,
        }
    }

    /// The products of `vector` with `rows` of finite halves, each as long as it: what is longer is not looked at.
    // Compiled here, where no checks are compiled into inner loops, and not where it is called.
    #[inline(never)]
    pub fn half(self, vector: &[f32], rows: &[&[f16]], products: &mut [f32]) {
        self.run(Halves { vector, rows, products });
    }

    /// The products of `vector` with `rows` of whole numbers, each as long as it: what is longer is not looked at. The
    /// products of all numbers, with their signs or without, must add up to less than 2³¹.
    // As above.
    #[inline(never)]
    pub fn whole(self, vector: &[i16], rows: &[&[i8]], products: &mut [i32]) {
        self.run(Wholes { vector, rows, products });
    }

    pub(super) fn run(self, operation: impl OnEach) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(kernels) => kernels.run(operation),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(kernels) => kernels.run(operation),
            Kind::Portable(kernels) => kernels.run(operation),
        }
    }
}

impl Debug for Products {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Products").field(&self.isa()).finish()
    }
}

/// An operation that every instruction set can run.
#[cfg(target_arch = "x86_64")]
pub(super) trait OnEach:
    Operation<Portable, Output = ()> + Operation<Avx2, Output = ()> + Operation<Avx512, Output = ()>
{
}
#[cfg(not(target_arch = "x86_64"))]
pub(super) trait OnEach: Operation<Portable, Output = ()> {}
impl OnEach for Halves<'_> {}
impl OnEach for Wholes<'_> {}

struct Halves<'a> {
    vector: &'a [f32],
    rows: &'a [&'a [f16]],
    products: &'a mut [f32],
}

impl<K: Kernels> Operation<K> for Halves<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        for (place, (row, to)) in self.rows.iter().zip(self.products).enumerate() {
            prefetch_from(self.rows, place);
            // SAFETY: the caller's.
            *to = unsafe { half::<K::Vector>(self.vector, row) };
        }
    }
}

struct Wholes<'a> {
    vector: &'a [i16],
    rows: &'a [&'a [i8]],
    products: &'a mut [i32],
}

impl<K: Kernels> Operation<K> for Wholes<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        for (place, (row, to)) in self.rows.iter().zip(self.products).enumerate() {
            prefetch_from(self.rows, place);
            // SAFETY: the caller's.
            *to = unsafe { whole::<K::Sums>(self.vector, row) };
        }
    }
}

/// Asks for the rows that come after the one at `place`, each once.
#[inline(always)]
fn prefetch_from<T>(rows: &[&[T]], place: usize) {
    if place == 0 {
        rows.iter().take(AHEAD).for_each(|row| prefetch(row));
    }
    if let Some(row) = rows.get(place + AHEAD) {
        prefetch(row);
    }
}

/// Asks for a row, where there is an instruction for it.
#[inline(always)]
fn prefetch<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of_val(row)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has it, and it is only a hint.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().cast::<i8>().wrapping_add(offset)) };
    }
    let _ = row;
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn half<V: Simd>(vector: &[f32], row: &[f16]) -> f32 {
    let count = vector.len().min(row.len());
    let (a, b) = (vector.as_ptr(), row.as_ptr());
    // SAFETY: the caller's, and nothing is read from `count` on.
    unsafe {
        let mut sums = [V::splat(0.0); APART];
        let mut at = 0;
        while at + APART * V::LANES <= count {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let at = at + lane * V::LANES;
                *sum = V::load(a.add(at)).mul_add(V::load_half(b.add(at)), *sum);
            }
            at += APART * V::LANES;
        }
        while at + V::LANES <= count {
            sums[0] = V::load(a.add(at)).mul_add(V::load_half(b.add(at)), sums[0]);
            at += V::LANES;
        }
        if at < count {
            let mut rest = [f16::ZERO; MOST_LANES];
            rest[..count - at].copy_from_slice(&row[at..count]);
            sums[1] = V::load_some(a.add(at), count - at, 0.0).mul_add(V::load_half(rest.as_ptr()), sums[1]);
        }
        let mut lanes = [0.0; MOST_LANES];
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(lanes.as_mut_ptr());
        // By halves: one after the other they would wait for each other.
        let mut width = V::LANES;
        while width > 1 {
            width /= 2;
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
        }
        lanes[0]
    }
}

/// # Safety
/// As for [`Sums`].
#[inline(always)]
unsafe fn whole<S: Sums>(vector: &[i16], row: &[i8]) -> i32 {
    let count = vector.len().min(row.len());
    let (a, b) = (vector.as_ptr(), row.as_ptr());
    // SAFETY: the caller's, and nothing is read from `count` on.
    unsafe {
        let mut sums = [S::zero(); APART];
        let mut at = 0;
        while at + APART * S::STEP <= count {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let at = at + lane * S::STEP;
                *sum = sum.add_products(a.add(at), b.add(at));
            }
            at += APART * S::STEP;
        }
        while at + S::STEP <= count {
            sums[0] = sums[0].add_products(a.add(at), b.add(at));
            at += S::STEP;
        }
        if at < count {
            let (mut rest_a, mut rest_b) = ([0; MOST_STEP], [0; MOST_STEP]);
            rest_a[..count - at].copy_from_slice(&vector[at..count]);
            rest_b[..count - at].copy_from_slice(&row[at..count]);
            sums[1] = sums[1].add_products(rest_a.as_ptr(), rest_b.as_ptr());
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::StdRng};

    /// Vectors of whole numbers are as large as their products may be at the largest length below.
    const LARGEST: i16 = 8000;

    #[test]
    fn what_is_not_there_falls_back_to_what_is() {
        assert_eq!(Products::on(Isa::Portable).isa(), Isa::Portable);
        for isa in Isa::available() {
            let ours = Products::on(isa).isa();
            let without_rounding = if isa == Isa::Avx2Int16 { Isa::Avx2 } else { Isa::Avx512 };
            assert!(ours == isa || (isa.rounds() && ours == without_rounding));
        }
    }

    #[test]
    fn every_finite_half_is_read_as_its_value() {
        let rows: Vec<[f16; 1]> = (0..=u16::MAX).map(|bits| [f16::from_bits(bits)]).collect();
        let rows: Vec<&[f16]> = rows.iter().filter(|row| row[0].is_finite()).map(|row| &row[..]).collect();
        for isa in Isa::available() {
            let mut products = vec![f32::NAN; rows.len()];
            Products::on(isa).half(&[1.0], &rows, &mut products);
            let values: Vec<f32> = rows.iter().map(|row| row[0].to_f32()).collect();
            assert_eq!(products, values, "{isa}");
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_has_the_products_of_plain_arithmetic(
            seed: u64, count in 0_usize..10, length in 0_usize..300,
        ) {
            let mut random = StdRng::seed_from_u64(seed);
            let vector: Vec<f32> = (0..length).map(|_| random.random_range(-1.0..1.0)).collect();
            let whole: Vec<i16> = (0..length).map(|_| random.random_range(-LARGEST..=LARGEST)).collect();
            let mut half_row = || (0..length).map(|_| f16::from_f32(random.random_range(-1.0..1.0))).collect();
            let halves: Vec<Vec<f16>> = (0..count).map(|_| half_row()).collect();
            let mut whole_row = || (0..length).map(|_| random.random::<i8>()).collect();
            let wholes: Vec<Vec<i8>> = (0..count).map(|_| whole_row()).collect();
            let half_rows: Vec<&[f16]> = halves.iter().map(Vec::as_slice).collect();
            let whole_rows: Vec<&[i8]> = wholes.iter().map(Vec::as_slice).collect();
            for products in Isa::available().map(Products::on) {
                let (mut half, mut exact) = (vec![f32::NAN; count], vec![-1; count]);
                products.half(&vector, &half_rows, &mut half);
                products.whole(&whole, &whole_rows, &mut exact);
                for place in 0..count {
                    let plain: f64 = vector.iter().zip(&halves[place]).map(|(&a, b)| f64::from(a) * b.to_f64()).sum();
                    prop_assert!((f64::from(half[place]) - plain).abs() < 1e-4, "{products:?}");
                    let plain: i32 = whole.iter().zip(&wholes[place]).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
                    prop_assert_eq!(exact[place], plain, "{:?}", products);
                }
            }
        }
    }
}
