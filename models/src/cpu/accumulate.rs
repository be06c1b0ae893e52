//! Products of matrices as convolutions have them: many short rows, and a second matrix small enough to stay in the cache, so that nothing
//! needs to be packed. Libraries pack both, and at 16 to 128 outputs that takes as long as multiplying.

use super::Products;
use super::kernels::{Kernels, Operation};
use super::products::OnEach;
use super::simd::Simd;

/// Rows of a tile, of two vectors each: its sums fill twelve of the sixteen registers that AVX2 has.
const ROWS: usize = 6;

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
        for column in (0..columns).step_by(width) {
            for row in (0..rows).step_by(ROWS) {
                let (to, b) = (&mut to[row * columns + column..], &b[column..]);
                let a = Matrix { numbers: &a.numbers[row * a.steps[0]..], ..a };
                let (tall, wide) = (ROWS.min(rows - row), width.min(columns - column));
                if tall == ROWS && wide == width {
                    // SAFETY: the tile lies in all three matrices, whose lengths were checked.
                    unsafe { tile::<K::Vector>(to, a, b, columns, inner) };
                } else {
                    some_of_a_tile(to, a, b, [tall, wide], columns, inner);
                }
            }
        }
    }
}

/// # Safety
/// As for [`Simd`]; `a` has [`ROWS`] rows, `b` and `to` two vectors at each of their steps.
#[inline(always)]
unsafe fn tile<V: Simd>(to: &mut [f32], a: Matrix<'_>, b: &[f32], columns: usize, inner: usize) {
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
}

/// At the edges.
#[inline(always)]
fn some_of_a_tile(to: &mut [f32], a: Matrix<'_>, b: &[f32], [tall, wide]: [usize; 2], columns: usize, inner: usize) {
    for row in 0..tall {
        let to = &mut to[row * columns..][..wide];
        for at in 0..inner {
            let a = a.numbers[row * a.steps[0] + at * a.steps[1]];
            to.iter_mut().zip(&b[at * columns..][..wide]).for_each(|(to, b)| *to += a * b);
        }
    }
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
