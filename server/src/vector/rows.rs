//! Rows of one width, addressed by the place they were put in.

use half::f16;

/// Rows a block: a new block is made when one is full, so that growing copies nothing.
const BLOCK: usize = 1024;

/// Vectors in half precision, in slots from 0.
#[derive(Debug)]
pub struct Rows {
    dimensions: usize,
    blocks: Vec<Vec<f16>>,
    len: usize,
}

impl Rows {
    /// No rows yet, of `dimensions` numbers each.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, blocks: Vec::new(), len: 0 }
    }

    /// How many numbers a row has.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a row of the right width and returns its slot.
    pub fn push(&mut self, row: &[f16]) -> u32 {
        debug_assert_eq!(row.len(), self.dimensions);
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK * self.dimensions));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.extend_from_slice(row);
        }
        self.len += 1;
        (self.len - 1) as u32
    }

    /// The row in `slot`, which must have been given by [`Rows::push`].
    pub fn row(&self, slot: u32) -> &[f16] {
        let (block, place) = (slot as usize / BLOCK, slot as usize % BLOCK);
        &self.blocks[block][place * self.dimensions..(place + 1) * self.dimensions]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_again_across_blocks() {
        let mut rows = Rows::new(3);
        for n in 0..3000_u16 {
            assert_eq!(rows.push(&[f16::from_bits(n); 3]), u32::from(n));
        }
        assert_eq!(rows.len(), 3000);
        assert!((0..3000_u16).all(|n| rows.row(u32::from(n)) == [f16::from_bits(n); 3]));
    }
}
