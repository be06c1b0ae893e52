//! Rows of one width, addressed by the place they were put in, and how near they are to a vector.
//!
//! A row is a vector in 16-bit floats: half the memory of single precision, and half the time. Beside it is its code
//! (`code`), again half of that, by which most rows are told apart.

use std::cmp::Ordering;

use half::f16;
use vitrine_models::Products;

use super::code::{CodeProbe, Probe, Worth, length};
use super::metric::Metric;

/// Rows a block: a new block is made when one is full, so that growing copies nothing.
const BLOCK: usize = 1024;
/// Rows that are multiplied in one go.
pub const BATCH: usize = 32;

/// A row and how near it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// The inner product with the vector sought, less both [offsets](Metric::offset): more is nearer.
    pub score: f32,
    /// Where the row is.
    pub slot: u32,
}

impl Eq for Near {}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.slot.cmp(&self.slot))
    }
}

/// What rows are like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many numbers a row has.
    pub dimensions: usize,
    /// How rows are compared.
    pub metric: Metric,
    /// By what they are multiplied.
    pub products: Products,
}

/// Vectors in half precision and in codes, in slots from 0.
#[derive(Debug)]
pub struct Rows {
    shape: Shape,
    blocks: Vec<Block>,
    len: usize,
    /// Length of the longest row.
    longest: f32,
}

#[derive(Debug)]
struct Block {
    rows: Vec<f16>,
    codes: Vec<i8>,
    worth: Vec<Worth>,
}

impl Rows {
    /// No rows yet.
    pub fn new(shape: Shape) -> Self {
        Self { shape, blocks: Vec::new(), len: 0, longest: 0.0 }
    }

    /// What they are like.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a row of the right width and returns its slot.
    pub fn push(&mut self, row: &[f16]) -> u32 {
        debug_assert_eq!(row.len(), self.shape.dimensions);
        if self.len.is_multiple_of(BLOCK) {
            let numbers = BLOCK * self.shape.dimensions;
            self.blocks.push(Block {
                rows: Vec::with_capacity(numbers),
                codes: Vec::with_capacity(numbers),
                worth: Vec::with_capacity(BLOCK),
            });
        }
        if let Some(block) = self.blocks.last_mut() {
            block.rows.extend_from_slice(row);
            block.worth.push(Worth::encode(row, self.shape.metric, &mut block.codes));
        }
        self.longest = self.longest.max(length(row.iter().map(|value| value.to_f32())));
        self.len += 1;
        (self.len - 1) as u32
    }

    /// The row in `slot`, which must have been given by [`Rows::push`].
    pub fn row(&self, slot: u32) -> &[f16] {
        &self.blocks[block_of(slot)].rows[self.place_of(slot)]
    }

    /// A vector that is [prepared](Metric::prepared), to be compared with rows.
    pub fn probe(&self, vector: Vec<f32>) -> Probe {
        Probe::new(vector, self.shape.metric)
    }

    /// A row, to be compared with others by codes.
    pub fn code_probe(&self, slot: u32) -> CodeProbe {
        let code = self.code(slot).iter().map(|&number| i16::from(number)).collect();
        let Worth { step, offset, .. } = *self.worth(slot);
        CodeProbe { code, step, offset }
    }

    /// How near rows are by their codes; appended to `near` in the order of `slots`.
    pub fn compare_codes(&self, probe: &CodeProbe, slots: &[u32], near: &mut Vec<Near>) {
        for slots in slots.chunks(BATCH) {
            let (mut codes, mut products) = ([&[] as &[i8]; BATCH], [0; BATCH]);
            for (code, &slot) in codes.iter_mut().zip(slots) {
                *code = self.code(slot);
            }
            self.shape.products.whole(&probe.code, &codes[..slots.len()], &mut products);
            near.extend(slots.iter().zip(products).map(|(&slot, product)| {
                let Worth { step, offset, .. } = *self.worth(slot);
                Near { score: product as f32 * (probe.step * step) - (probe.offset + offset), slot }
            }));
        }
    }

    /// How near rows are; appended to `near` in the order of `slots`.
    pub fn compare(&self, probe: &Probe, slots: &[u32], near: &mut Vec<Near>) {
        for slots in slots.chunks(BATCH) {
            let (mut rows, mut products) = ([&[] as &[f16]; BATCH], [0.0; BATCH]);
            for (row, &slot) in rows.iter_mut().zip(slots) {
                *row = self.row(slot);
            }
            self.shape.products.half(&probe.vector, &rows[..slots.len()], &mut products);
            near.extend(slots.iter().zip(products).map(|(&slot, product)| Near {
                score: product - (probe.coded.offset + self.worth(slot).offset),
                slot,
            }));
        }
    }

    /// The most that [`Rows::compare`] can say of a row of which [`Rows::compare_codes`] says `near`.
    pub fn at_most(&self, probe: &Probe, near: Near) -> f32 {
        near.score + probe.margin(self.worth(near.slot).error, self.longest)
    }

    fn code(&self, slot: u32) -> &[i8] {
        &self.blocks[block_of(slot)].codes[self.place_of(slot)]
    }

    fn worth(&self, slot: u32) -> &Worth {
        &self.blocks[block_of(slot)].worth[slot as usize % BLOCK]
    }

    fn place_of(&self, slot: u32) -> std::ops::Range<usize> {
        let start = slot as usize % BLOCK * self.shape.dimensions;
        start..start + self.shape.dimensions
    }
}

fn block_of(slot: u32) -> usize {
    slot as usize / BLOCK
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::vector::metric::to_row;
    use proptest::prelude::*;

    /// Of rows that are compared by their directions.
    pub fn shape(dimensions: usize) -> Shape {
        Shape { dimensions, metric: Metric::Cosine, products: Products::chosen().unwrap() }
    }

    #[test]
    fn rows_are_found_again_across_blocks() {
        let mut rows = Rows::new(shape(3));
        for n in 0..3000_u16 {
            assert_eq!(rows.push(&[f16::from_bits(n); 3]), u32::from(n));
        }
        assert_eq!(rows.len(), 3000);
        assert!((0..3000_u16).all(|n| rows.row(u32::from(n)) == [f16::from_bits(n); 3]));
    }

    proptest! {
        #[test]
        fn scores_are_those_of_plain_arithmetic_and_codes_are_off_by_no_more_than_they_say(
            vectors in proptest::collection::vec(proptest::collection::vec(-300.0..300.0_f32, 40), 2..50),
            directions: bool,
        ) {
            let metric = if directions { Metric::Cosine } else { Metric::Euclidean };
            let mut rows = Rows::new(Shape { metric, ..shape(40) });
            let vectors: Vec<Vec<f32>> = vectors.iter().map(|vector| metric.prepared(vector, 40).unwrap()).collect();
            for vector in &vectors {
                rows.push(&to_row(vector));
            }
            let slots: Vec<u32> = (0..rows.len() as u32).collect();
            let probe = rows.probe(vectors[0].clone());
            let (mut near, mut by_codes) = (Vec::new(), Vec::new());
            rows.compare(&probe, &slots, &mut near);
            rows.compare_codes(&probe.coded, &slots, &mut by_codes);
            for (near, by_codes) in near.into_iter().zip(by_codes) {
                let pairs = || vectors[0].iter().zip(rows.row(near.slot)).map(|(&a, b)| (f64::from(a), b.to_f64()));
                let plain = match metric {
                    Metric::Cosine => pairs().map(|(a, b)| a * b).sum::<f64>(),
                    Metric::Euclidean => -pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>() / 2.0,
                };
                let size = if directions { 1.0 } else { 300.0 * 300.0 * 40.0 };
                prop_assert!((f64::from(near.score) - plain).abs() < 1e-6 * size);
                prop_assert_eq!(near.slot, by_codes.slot);
                let most = rows.at_most(&probe, by_codes);
                prop_assert!(near.score <= most && most - near.score < 0.05 * size as f32);
            }
        }
    }
}
