//! The inner product: a few rows times one panel, the sums in registers from the first step to the last.

use super::kernels::{Kernels, Operation};
use super::simd::{Accumulator as _, Simd as _};

/// `out = rows · panel`.
pub(super) struct Tile<'a, K: Kernels> {
    /// The rows' units, `stride` units from one row to the next.
    pub(super) rows: &'a [K::Unit],
    pub(super) stride: usize,
    /// Number of rows, from 1 to [`Kernels::ROWS`].
    pub(super) count: usize,
    /// `[steps, WIDTH]` units.
    pub(super) panel: &'a [K::Unit],
    /// f32 `[count, WIDTH]`.
    pub(super) out: &'a mut [f32],
    /// What is multiplied soon, to be fetched meanwhile where that is not done by itself.
    pub(super) soon: &'a [K::Unit],
}

/// How far ahead a panel is fetched, in bytes: about what arrives from the third-level cache meanwhile.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 2048;

impl<K: Kernels> Operation<K> for Tile<'_, K> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(mut self) {
        let steps = self.panel.len() / K::WIDTH;
        assert!(self.count <= K::ROWS && self.out.len() >= self.count * K::WIDTH);
        assert!(self.count >= 1 && self.rows.len() >= (self.count - 1) * self.stride + steps);
        // SAFETY: the lengths were just checked.
        unsafe {
            match self.count {
                1 => rows::<K, 1>(&mut self, steps),
                2 => rows::<K, 2>(&mut self, steps),
                3 => rows::<K, 3>(&mut self, steps),
                4 => rows::<K, 4>(&mut self, steps),
                5 => rows::<K, 5>(&mut self, steps),
                6 => rows::<K, 6>(&mut self, steps),
                7 => rows::<K, 7>(&mut self, steps),
                8 => rows::<K, 8>(&mut self, steps),
                9 => rows::<K, 9>(&mut self, steps),
                10 => rows::<K, 10>(&mut self, steps),
                11 => rows::<K, 11>(&mut self, steps),
                _ => rows::<K, 12>(&mut self, steps),
            }
        }
    }
}

/// The order of additions is that of the steps, whatever the number of rows: a row's sums do not depend on its
/// neighbours.
#[inline(always)]
unsafe fn rows<K: Kernels, const ROWS: usize>(tile: &mut Tile<'_, K>, steps: usize) {
    if ROWS > K::ROWS {
        return;
    }
    let (rows, panel, out) = (tile.rows.as_ptr(), tile.panel.as_ptr(), tile.out.as_mut_ptr());
    // SAFETY: the caller has checked that rows, panel and out are as long as this reads and writes; fetching ahead is
    // no access.
    unsafe {
        let mut sums = [[K::Accumulator::none(); 2]; ROWS];
        for step in 0..steps {
            let right = panel.add(step * K::WIDTH);
            #[cfg(target_arch = "x86_64")]
            for line in 0..(K::WIDTH * size_of::<K::Unit>() / 64) {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T0>(right.cast::<i8>().wrapping_add(AHEAD + 64 * line));
            }
            let right = [K::load_units(right), K::load_units(right.add(K::Vector::LANES))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = K::splat_unit(rows.add(row * tile.stride + step));
                sums[0] = K::multiply_add(sums[0], left, right[0]);
                sums[1] = K::multiply_add(sums[1], left, right[1]);
            }
        }
        for (row, [first, second]) in sums.into_iter().enumerate() {
            first.numbers().store(out.add(row * K::WIDTH));
            second.numbers().store(out.add(row * K::WIDTH + K::Vector::LANES));
        }
    }
}
