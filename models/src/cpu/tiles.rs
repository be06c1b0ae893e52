//! Products on AMX's tile registers. A tile is up to 16 rows of 64 bytes: 32 bf16, or 16 sums in f32.
//!
//! What the instructions do is behind [`Tiles`], so that the order in which they are used can be tested on a CPU that lacks
//! them: `tiles/emulated.rs` does what Intel's manual says of each, and refuses what the processor refuses.

#[cfg(test)]
mod emulated;

use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::cell::Cell;

use super::amx::Amx;
use super::bf16::Pair;

/// Rows of a product: two tiles.
pub(super) const MOST_ROWS: usize = 2 * TILE_ROWS;
/// Columns of a panel: two tiles.
const WIDTH: usize = 2 * TILE_ROWS;
/// Rows of a tile, and steps of a product that one instruction makes.
const TILE_ROWS: usize = 16;
/// Bytes in a row of a tile.
const TILE_BYTES: usize = 64;

/// The instructions of AMX that products need. Tiles are numbered from 0 to 7.
///
/// # Safety
/// The CPU has them; pointers are good for the rows and bytes that the tile is configured for, `stride` bytes from one row
/// to the next.
pub(super) trait Tiles {
    /// Has the shapes for so many rows set, if they are not yet.
    unsafe fn shape(&mut self, count: usize);
    /// Sets a tile to 0.
    unsafe fn clear<const TILE: usize>(&mut self);
    unsafe fn load<const TILE: usize>(&mut self, from: *const Pair, stride: usize);
    unsafe fn store<const TILE: usize>(&mut self, to: *mut f32, stride: usize);
    /// Adds to the sums what rows of pairs times columns of pairs are.
    unsafe fn multiply_add<const SUMS: usize, const LEFT: usize, const RIGHT: usize>(&mut self);
}

/// What LDTILECFG reads.
#[repr(C, align(64))]
pub(super) struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Tiles 0 to 3 hold sums, 4 and 5 up to 32 rows of the left side, 6 and 7 a panel's two halves.
    fn of(count: usize) -> Self {
        let first = count.min(TILE_ROWS) as u8;
        let second = (count - usize::from(first)) as u8;
        let full = TILE_ROWS as u8;
        let mut shapes = Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.rows[..8].copy_from_slice(&[first, first, second, second, first, second, full, full]);
        for (bytes, rows) in shapes.row_bytes.iter_mut().zip(shapes.rows) {
            *bytes = if rows > 0 { TILE_BYTES as u16 } else { 0 };
        }
        shapes
    }
}

/// `out = rows · panel`: rows of pairs, `stride` pairs from one to the next, and a panel `[steps, WIDTH]` of pairs; f32
/// `[count, WIDTH]`.
///
/// The order of additions is that of the steps, whatever the number of rows.
#[inline]
pub(super) fn multiply<T: Tiles>(
    tiles: &mut T,
    (rows, stride, count): (&[Pair], usize, usize),
    panel: &[Pair],
    soon: &[Pair],
    out: &mut [f32],
) {
    let steps = panel.len() / WIDTH;
    assert!((1..=MOST_ROWS).contains(&count) && out.len() >= count * WIDTH);
    assert!(rows.len() >= (count - 1) * stride + steps);
    let (whole, rest) = (steps / TILE_ROWS * TILE_ROWS, steps % TILE_ROWS);
    let mut soon = soon.chunks(soon.len().div_ceil((whole / TILE_ROWS).max(1)).max(1));
    // SAFETY: whoever made `tiles` had the CPU checked. Tiles are as large as `Shapes::of` has them, and the lengths were
    // just checked.
    unsafe {
        tiles.shape(count);
        tiles.clear::<0>();
        tiles.clear::<1>();
        if count > TILE_ROWS {
            tiles.clear::<2>();
            tiles.clear::<3>();
        }
        for step in (0..whole).step_by(TILE_ROWS) {
            soon.next().into_iter().for_each(fetch);
            multiply_add(tiles, count, (rows.as_ptr().add(step), stride), panel.as_ptr().add(step * WIDTH));
        }
        if rest > 0 {
            // A tile's worth of steps, those that are missing 0.
            let mut left = [Pair::default(); MOST_ROWS * TILE_ROWS];
            let mut right = [Pair::default(); TILE_ROWS * WIDTH];
            for (row, to) in left.chunks_exact_mut(TILE_ROWS).take(count).enumerate() {
                to[..rest].copy_from_slice(&rows[row * stride + whole..][..rest]);
            }
            right[..rest * WIDTH].copy_from_slice(&panel[whole * WIDTH..][..rest * WIDTH]);
            multiply_add(tiles, count, (left.as_ptr(), TILE_ROWS), right.as_ptr());
        }
        let (out, stride) = (out.as_mut_ptr(), WIDTH * size_of::<f32>());
        tiles.store::<0>(out, stride);
        tiles.store::<1>(out.add(TILE_ROWS), stride);
        if count > TILE_ROWS {
            let out = out.add(TILE_ROWS * WIDTH);
            tiles.store::<2>(out, stride);
            tiles.store::<3>(out.add(TILE_ROWS), stride);
        }
    }
}

/// Brings what is multiplied soon into the second-level cache.
#[inline(always)]
fn fetch(soon: &[Pair]) {
    for line in soon.chunks(64 / size_of::<Pair>()) {
        // SAFETY: fetching is no access.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

/// A tile's worth of steps.
///
/// # Safety
/// As for [`Tiles`].
#[inline(always)]
unsafe fn multiply_add<T: Tiles>(
    tiles: &mut T,
    count: usize,
    (left, stride): (*const Pair, usize),
    panel: *const Pair,
) {
    // SAFETY: the caller's.
    unsafe {
        let bytes = stride * size_of::<Pair>();
        tiles.load::<6>(panel, WIDTH * size_of::<Pair>());
        tiles.load::<4>(left, bytes);
        tiles.multiply_add::<0, 4, 6>();
        tiles.load::<7>(panel.add(TILE_ROWS), WIDTH * size_of::<Pair>());
        tiles.multiply_add::<1, 4, 7>();
        if count > TILE_ROWS {
            tiles.load::<5>(left.add(TILE_ROWS * stride), bytes);
            tiles.multiply_add::<2, 5, 6>();
            tiles.multiply_add::<3, 5, 7>();
        }
    }
}

/// Whether a product of small whole numbers, which has no rounding, is right to the last number.
#[allow(clippy::float_cmp, reason = "without rounding it is exact or wrong")]
pub(super) fn is_right<T: Tiles>(tiles: &mut T) -> bool {
    const STEPS: usize = 21;
    let number = |at: usize| (at * 7 % 11) as f32 - 5.0;
    let pairs = |count: usize| (0..count).map(|at| Pair::of(&[number(2 * at), number(2 * at + 1)])).collect::<Vec<_>>();
    [MOST_ROWS, TILE_ROWS, 3].into_iter().all(|count| {
        let (rows, panel) = (pairs(count * STEPS), pairs(STEPS * WIDTH));
        let mut out = vec![f32::NAN; count * WIDTH];
        multiply(tiles, (&rows, STEPS, count), &panel, &[], &mut out);
        out.iter().enumerate().all(|(at, &sum)| {
            let (row, column) = (at / WIDTH, at % WIDTH);
            let products = (0..STEPS).map(|step| {
                let ([a, b], [c, d]) = (rows[row * STEPS + step].numbers(), panel[step * WIDTH + column].numbers());
                a * c + b * d
            });
            sum == products.sum::<f32>()
        })
    })
}

thread_local! {
    /// For how many rows this thread's tiles have their shapes; 0: they have none yet.
    static SET: Cell<usize> = const { Cell::new(0) };
}

/// The processor's own.
pub(super) struct Instructions(());

impl Instructions {
    pub(super) fn on_a_cpu_that_has_them(_proof: Amx) -> Self {
        Self(())
    }

    /// To try whether they work; the caller has asked the CPU and the system.
    pub(super) fn on_a_cpu_that_may_have_them() -> Self {
        Self(())
    }
}

// SAFETY of every block below: the caller's, as `Tiles` asks for it. The compiler keeps nothing in tiles, and does not
// move such blocks past each other.
impl Tiles for Instructions {
    /// Shapes stay set on a thread from product to product: to set them takes as long as a third of one. The system keeps them with the
    /// thread's other registers.
    #[inline(always)]
    unsafe fn shape(&mut self, count: usize) {
        if SET.get() != count {
            let shapes = Shapes::of(count);
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, preserves_flags, readonly)) }
            SET.set(count);
        }
    }

    #[inline(always)]
    unsafe fn clear<const TILE: usize>(&mut self) {
        unsafe { asm!("tilezero tmm{tile}", tile = const TILE, options(nostack, preserves_flags, nomem)) }
    }

    #[inline(always)]
    unsafe fn load<const TILE: usize>(&mut self, from: *const Pair, stride: usize) {
        unsafe {
            asm!("tileloadd tmm{tile}, [{from} + {stride}]", tile = const TILE, from = in(reg) from, stride = in(reg) stride,
                options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    unsafe fn store<const TILE: usize>(&mut self, to: *mut f32, stride: usize) {
        unsafe {
            asm!("tilestored [{to} + {stride}], tmm{tile}", tile = const TILE, to = in(reg) to, stride = in(reg) stride,
                options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn multiply_add<const SUMS: usize, const LEFT: usize, const RIGHT: usize>(&mut self) {
        unsafe {
            asm!("tdpbf16ps tmm{sums}, tmm{left}, tmm{right}", sums = const SUMS, left = const LEFT, right = const RIGHT,
                options(nostack, preserves_flags, nomem));
        }
    }
}
