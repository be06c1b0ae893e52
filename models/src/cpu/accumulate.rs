//! Products of matrices as convolutions have them: many short rows, and a second matrix small enough to stay in the cache, so that nothing
//! needs to be packed. Libraries pack both, and at 16 to 128 outputs that takes as long as multiplying.

use super::Products;
use super::kernels::{Kernels, Operation};
use super::products::OnEach;
use super::simd::Simd;

/// A matrix whose number in row r and column c is at `r · steps[0] + c · steps[1]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) numbers: &'a [f32],
    pub(crate) steps: [usize; 2],
}

impl Products {
    /// Adds the product of `a` `[rows, inner]` and `b` `[inner, columns]`, which lies row after row, to `to`, which does so, too.
    ///
    /// # Panics
    /// A matrix is too short.
    #[inline(never)]
    pub(crate) fn accumulate(self, to: &mut [f32], a: Matrix<'_>, b: &[f32], [rows, columns, inner]: [usize; 3]) {
        if rows == 0 || columns == 0 || inner == 0 {
            return;
        }
        let last = (rows - 1) * a.steps[0] + (inner - 1) * a.steps[1];
        assert!(to.len() >= rows * columns && b.len() >= inner * columns && a.numbers.len() > last);
        self.run(Accumulate { to, a, b, rows, columns, inner });
    }
}

struct Accumulate<'a> {
    to: &'a mut [f32],
    a: Matrix<'a>,
    b: &'a [f32],
    rows: usize,
    columns: usize,
    inner: usize,
}

impl OnEach for Accumulate<'_> {}

impl<K: Kernels> Operation<K> for Accumulate<'_> {
    type Output = ();

    /// Columns first: those of `b` that a tile needs stay in the first cache for all rows.
    #[inline(always)]
    unsafe fn run(self) {
        let Self { to, a, b, rows, columns, inner } = self;
        let width = 2 * K::Vector::LANES;
        let whole = columns / width * width;
        // SAFETY: the caller's; two vectors lie at each step of `b` and `to`, whose lengths were checked.
        unsafe {
            for column in (0..whole).step_by(width) {
                down_the_rows::<K>(&mut to[column..], a, &b[column..], [rows, columns, inner]);
            }
            if whole < columns {
                // The last columns, filled up with zeros.
                let (mut wide_b, mut wide_to) = (vec![0.0; inner * width], vec![0.0; rows * width]);
                for (wide, b) in wide_b.chunks_exact_mut(width).zip(b.chunks_exact(columns)) {
                    wide[..columns - whole].copy_from_slice(&b[whole..]);
                }
                down_the_rows::<K>(&mut wide_to, a, &wide_b, [rows, width, inner]);
                for (to, wide) in to.chunks_exact_mut(columns).zip(wide_to.chunks_exact(width)) {
                    to[whole..].iter_mut().zip(wide).for_each(|(to, sum)| *to += sum);
                }
            }
        }
    }
}

/// Two vectors of columns, for all rows: twelve rows of sums fill 24 of the 32 registers that AVX-512 has, six rows twelve of AVX2's sixteen.
///
/// # Safety
/// As for [`Simd`]; `b` and `to` have two vectors at each of their steps, `a` so many rows and columns.
#[inline(always)]
unsafe fn down_the_rows<K: Kernels>(to: &mut [f32], a: Matrix<'_>, b: &[f32], [rows, columns, inner]: [usize; 3]) {
    let mut row = 0;
    while row < rows {
        let to = &mut to[row * columns..];
        let a = Matrix { numbers: &a.numbers[row * a.steps[0]..], ..a };
        // SAFETY: the caller's.
        row += unsafe {
            match rows - row {
                12.. if K::ROWS >= 12 => tile::<K::Vector, 12>(to, a, b, columns, inner),
                6.. => tile::<K::Vector, 6>(to, a, b, columns, inner),
                3.. => tile::<K::Vector, 3>(to, a, b, columns, inner),
                _ => tile::<K::Vector, 1>(to, a, b, columns, inner),
            }
        };
    }
}

/// Returns how many rows it has: `ROWS`.
///
/// # Safety
/// As for [`Simd`]; `a` has `ROWS` rows, `b` and `to` two vectors at each of their steps.
#[inline(always)]
unsafe fn tile<V: Simd, const ROWS: usize>(
    to: &mut [f32],
    a: Matrix<'_>,
    b: &[f32],
    columns: usize,
    inner: usize,
) -> usize {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::splat(0.0); 2]; ROWS];
        let [down, right] = a.steps;
        let (mut of_a, mut of_b) = (a.numbers.as_ptr(), b.as_ptr());
        for _ in 0..inner {
            let b = [V::load(of_b), V::load(of_b.add(V::LANES))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let a = V::splat(*of_a.add(row * down));
                *sums = [a.mul_add(b[0], sums[0]), a.mul_add(b[1], sums[1])];
            }
            of_a = of_a.wrapping_add(right);
            of_b = of_b.wrapping_add(columns);
        }
        let mut to = to.as_mut_ptr();
        for sums in &sums {
            for (half, sum) in sums.iter().enumerate() {
                let to = to.add(half * V::LANES);
                sum.add(V::load(to)).store(to);
            }
            to = to.wrapping_add(columns);
        }
    }
    ROWS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn products_of_all_sizes_are_those_of_the_definition() {
        for isa in Isa::available() {
            for (rows, columns, inner) in
                [(6, 16, 3), (13, 70, 9), (1, 1, 1), (6, 48, 20), (12, 15, 0), (0, 4, 4), (4, 0, 4)]
            {
                let numbers =
                    |count: usize, seed: usize| (0..count).map(|at| ((at * 37 + seed) % 23) as f32).collect::<Vec<_>>();
                let (a, b) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
                for steps in [[inner, 1], [1, rows]] {
                    let mut to = vec![1.0; rows * columns];
                    Products::on(isa).accumulate(&mut to, Matrix { numbers: &a, steps }, &b, [rows, columns, inner]);
                    for (at, sum) in to.iter().enumerate() {
                        let (row, column) = (at / columns, at % columns);
                        let product = |at: usize| a[row * steps[0] + at * steps[1]] * b[at * columns + column];
                        let wanted = 1.0 + (0..inner).map(product).sum::<f32>();
                        assert!((sum - wanted).abs() < 1e-2, "{isa}: {rows} × {columns}, {inner}");
                    }
                }
            }
        }
    }
}
