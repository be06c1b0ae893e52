//! What the instructions do, by Intel's manual, in plain Rust; and products made with them on any CPU.

use proptest::prelude::*;

use super::{MOST_ROWS, Pair, Shapes, TILE_BYTES, TILE_ROWS, Tiles, WIDTH, is_right, multiply};

/// Rows of four bytes each: pairs or sums.
type Tile = [[u32; TILE_BYTES / 4]; TILE_ROWS];

/// The eight tiles. What makes a processor raise an exception fails the test.
#[derive(Default)]
struct Emulated {
    /// Rows and bytes in a row; none: no configuration is loaded.
    shapes: Option<[(usize, usize); 8]>,
    tiles: [Tile; 8],
}

impl Emulated {
    fn shape_of(&self, tile: usize) -> (usize, usize) {
        let (rows, bytes) = self.shapes.expect("a configuration")[tile];
        assert!(rows > 0 && bytes > 0, "tile {tile} has no shape");
        (rows, bytes / 4)
    }
}

impl Tiles for Emulated {
    unsafe fn shape(&mut self, count: usize) {
        let shapes = Shapes::of(count);
        assert_eq!(size_of::<Shapes>(), 64);
        assert_eq!((shapes.palette, shapes.start_row, shapes.reserved), (1, 0, [0; 14]));
        assert!(shapes.rows[8..].iter().all(|&rows| rows == 0), "there are eight tiles");
        assert!(shapes.row_bytes[8..].iter().all(|&bytes| bytes == 0), "there are eight tiles");
        let shape = |tile: usize| (usize::from(shapes.rows[tile]), usize::from(shapes.row_bytes[tile]));
        let shapes = std::array::from_fn(shape);
        for (rows, bytes) in shapes {
            assert!(rows <= TILE_ROWS && bytes <= TILE_BYTES && (rows == 0) == (bytes == 0), "{rows} × {bytes}");
        }
        *self = Self { shapes: Some(shapes), ..Self::default() };
        // What a tile holds before it is loaded or cleared is anything.
        self.tiles = [[[f32::NAN.to_bits(); TILE_BYTES / 4]; TILE_ROWS]; 8];
    }

    unsafe fn clear<const TILE: usize>(&mut self) {
        self.shape_of(TILE);
        self.tiles[TILE] = Default::default();
    }

    unsafe fn load<const TILE: usize>(&mut self, from: *const Pair, stride: usize) {
        let (rows, columns) = self.shape_of(TILE);
        self.tiles[TILE] = Default::default();
        for row in 0..rows {
            let to = &mut self.tiles[TILE][row];
            // SAFETY: the caller's.
            unsafe { from.byte_add(row * stride).cast::<u32>().copy_to_nonoverlapping(to.as_mut_ptr(), columns) };
        }
    }

    unsafe fn store<const TILE: usize>(&mut self, to: *mut f32, stride: usize) {
        let (rows, columns) = self.shape_of(TILE);
        for row in 0..rows {
            let from = &self.tiles[TILE][row];
            // SAFETY: the caller's.
            unsafe { to.byte_add(row * stride).cast::<u32>().copy_from_nonoverlapping(from.as_ptr(), columns) };
        }
    }

    unsafe fn multiply_add<const SUMS: usize, const LEFT: usize, const RIGHT: usize>(&mut self) {
        let [(rows, columns), (left_rows, steps), (right_rows, right_columns)] =
            [SUMS, LEFT, RIGHT].map(|tile| self.shape_of(tile));
        assert_eq!((left_rows, right_rows, right_columns), (rows, steps, columns));
        assert!(SUMS != LEFT && SUMS != RIGHT && LEFT != RIGHT);
        let numbers = |bits: u32| [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)];
        for row in 0..rows {
            for step in 0..steps {
                let left = numbers(self.tiles[LEFT][row][step]);
                for column in 0..columns {
                    let right = numbers(self.tiles[RIGHT][step][column]);
                    let sum = &mut self.tiles[SUMS][row][column];
                    *sum = (f32::from_bits(*sum) + left[0] * right[0] + left[1] * right[1]).to_bits();
                }
            }
        }
    }
}

/// With some instruction wrong: additions of the second half of a panel do nothing.
#[derive(Default)]
struct Broken(Emulated);

impl Tiles for Broken {
    unsafe fn shape(&mut self, count: usize) {
        unsafe { Tiles::shape(&mut self.0, count) }
    }

    unsafe fn clear<const TILE: usize>(&mut self) {
        unsafe { self.0.clear::<TILE>() }
    }

    unsafe fn load<const TILE: usize>(&mut self, from: *const Pair, stride: usize) {
        unsafe { self.0.load::<TILE>(from, stride) }
    }

    unsafe fn store<const TILE: usize>(&mut self, to: *mut f32, stride: usize) {
        unsafe { self.0.store::<TILE>(to, stride) }
    }

    unsafe fn multiply_add<const SUMS: usize, const LEFT: usize, const RIGHT: usize>(&mut self) {
        if RIGHT == 6 {
            unsafe { self.0.multiply_add::<SUMS, LEFT, RIGHT>() }
        }
    }
}

#[test]
fn a_processor_is_believed_when_its_products_are_right() {
    assert!(is_right(&mut Emulated::default()));
    assert!(!is_right(&mut Broken::default()));
}

#[test]
fn the_configuration_is_laid_out_as_the_processor_reads_it() {
    let shapes = Shapes::of(19);
    assert_eq!(std::mem::offset_of!(Shapes, row_bytes), 16);
    assert_eq!(std::mem::offset_of!(Shapes, rows), 48);
    assert_eq!(shapes.rows[..8], [16, 16, 3, 3, 16, 3, 16, 16]);
    assert_eq!(Shapes::of(16).row_bytes[..8], [64, 64, 0, 0, 64, 0, 64, 64]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_product_of_any_shape_is_that_of_plain_arithmetic(
        seed: u64, count in 1..=MOST_ROWS, steps in 1_usize..70, gap in 0_usize..5,
    ) {
        let numbers = crate::cpu::twins::random(seed, 2 * (steps + gap) * MOST_ROWS);
        let rows: Vec<Pair> = numbers.chunks(2).map(Pair::of).take((count - 1) * (steps + gap) + steps).collect();
        let numbers = crate::cpu::twins::random(seed ^ 1, 2 * steps * WIDTH);
        let panel: Vec<Pair> = numbers.chunks(2).map(Pair::of).collect();
        let mut out = vec![f32::NAN; count * WIDTH];
        multiply(&mut Emulated::default(), (&rows, steps + gap, count), &panel, &[], &mut out);
        for (at, sum) in out.iter().enumerate() {
            let (row, column) = (at / WIDTH, at % WIDTH);
            let products = (0..steps).map(|step| {
                let left = rows[row * (steps + gap) + step].numbers();
                let right = panel[step * WIDTH + column].numbers();
                f64::from(left[0]) * f64::from(right[0]) + f64::from(left[1]) * f64::from(right[1])
            });
            let wanted = products.sum::<f64>();
            prop_assert!((f64::from(*sum) - wanted).abs() < 1e-4 * (1.0 + wanted.abs()), "{sum} and {wanted}");
        }
    }
}
