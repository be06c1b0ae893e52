//! Which rows go through the network together.

use crate::buckets::Cost;

/// Tokens of a block: enough that reading the weights does not count, few enough that what is between two layers stays
/// in a core's second-level cache.
const TOKENS: usize = 128;

/// Rows that one thread takes through all layers.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    /// Positions of the rows among the caller's.
    pub(super) rows: Vec<usize>,
    /// What they cost together, in the units of [`Cost`].
    pub(super) cost: f32,
}

/// Splits rows of these lengths into blocks of nearly the same cost, a multiple of `threads` of them where there are
/// rows enough, the largest first.
///
/// The longest rows are placed first, each where there is least: "Bounds on multiprocessing timing anomalies" (Graham,
/// 1969) has that at most a third from the best.
pub(super) fn plan(lengths: &[usize], cost: &Cost, threads: usize) -> Vec<Block> {
    let tokens: usize = lengths.iter().sum();
    let count = tokens.div_ceil(TOKENS).next_multiple_of(threads).clamp(1, lengths.len().max(1));
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    let mut blocks: Vec<Block> = (0..count).map(|_| Block { rows: Vec::new(), cost: 0.0 }).collect();
    for row in order {
        if let Some(least) = blocks.iter_mut().min_by(|a, b| a.cost.total_cmp(&b.cost)) {
            least.rows.push(row);
            least.cost += cost.row(lengths[row]);
        }
    }
    blocks.sort_by(|a, b| b.cost.total_cmp(&a.cost));
    blocks
}

/// The work of the busiest of so many threads, when each takes the next block as soon as it is free.
pub(super) fn busiest(blocks: &[Block], threads: usize) -> f32 {
    let mut loads = vec![0.0_f32; threads.max(1)];
    for block in blocks {
        if let Some(least) = loads.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *least += block.cost;
        }
    }
    loads.into_iter().fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Cost = Cost { launch: 0.0, hidden: 384, intermediate: 1536 };

    #[test]
    fn a_short_batch_is_a_block_for_each_thread() {
        let blocks = plan(&[16; 8], &COST, 2);
        assert_eq!(blocks.iter().map(|block| block.rows.len()).collect::<Vec<_>>(), [4, 4]);
        assert_eq!(plan(&[16], &COST, 2).len(), 1);
        assert_eq!(plan(&[16; 3], &COST, 1).len(), 1);
    }

    #[test]
    fn a_long_batch_is_as_many_blocks_for_each_thread() {
        assert_eq!(plan(&[32; 33], &COST, 2).len(), 10);
        assert_eq!(plan(&[512; 3], &COST, 2).len(), 3, "a row is not divided");
    }

    #[test]
    fn the_busiest_thread_is_known() {
        let blocks = plan(&[32, 32, 32], &COST, 2);
        assert!((busiest(&blocks, 2) - 2.0 * COST.row(32)).abs() < 1e-3);
        assert!((busiest(&blocks, 1) - 3.0 * COST.row(32)).abs() < 1e-3);
    }

    proptest::proptest! {
        #[test]
        fn every_row_is_in_one_block_and_the_blocks_are_even(
            lengths in proptest::collection::vec(1_usize..200, 1..80), threads in 1_usize..5,
        ) {
            let blocks = plan(&lengths, &COST, threads);
            let mut rows: Vec<usize> = blocks.iter().flat_map(|block| block.rows.clone()).collect();
            rows.sort_unstable();
            proptest::prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            let longest = lengths.iter().map(|&length| COST.row(length)).fold(0.0, f32::max);
            let (most, least) = (blocks[0].cost, blocks[blocks.len() - 1].cost);
            proptest::prop_assert!(most - least <= longest * 1.001);
        }
    }
}
