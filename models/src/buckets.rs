//! What rows cost on a padded device, and which of them to pad together.

/// Padded tokens of one forward pass at most, which bounds the memory of its intermediate results.
const MAX_TOKENS: usize = 8192;

/// Estimated device time, in units of one token's way through the dense layers.
///
/// A token costs `8h² + 4hi` floating point operations a layer in the projections (`h` hidden, `i` intermediate
/// size), and `4h` for each token it attends to. A row of `t` tokens is therefore worth
/// `t · (1 + t · 4h / (8h² + 4hi)) = t · (1 + t / (2h + i))` tokens' dense work. Every forward pass costs `launch`
/// on top: reading the weights and starting the operations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) launch: f32,
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
}

impl Cost {
    /// One row of so many tokens, padding included, without the launch.
    pub(crate) fn row(&self, tokens: usize) -> f32 {
        let tokens = tokens as f32;
        tokens * (1.0 + tokens / (2 * self.hidden + self.intermediate) as f32)
    }

    /// A forward pass of so many rows, all padded to so many tokens.
    fn pass(&self, rows: usize, tokens: usize) -> f32 {
        self.launch + rows as f32 * self.row(tokens)
    }
}

/// Rows that run together, padded to the longest of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Positions of the rows among the caller's.
    pub(crate) rows: Vec<usize>,
    /// Length of the longest.
    pub(crate) tokens: usize,
}

/// Splits rows of these lengths into the buckets that cost least together.
///
/// Sorted by length, a best split cuts only between different lengths; which of those cuts to make is found exactly
/// by dynamic programming over the distinct lengths.
pub(crate) fn plan(lengths: &[usize], cost: &Cost) -> Vec<Bucket> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| lengths[row]);
    // Ends, in `order`, of the runs of equal length; `best[j]` is the least cost of the first `j` runs.
    let mut ends: Vec<usize> = vec![0];
    ends.extend(order.chunk_by(|&a, &b| lengths[a] == lengths[b]).scan(0, |end, run| {
        *end += run.len();
        Some(*end)
    }));
    let mut best: Vec<(f32, usize)> = vec![(0.0, 0)];
    for last in 1..ends.len() {
        let tokens = lengths[order[ends[last] - 1]];
        let cut = (0..last)
            .map(|cut| (best[cut].0 + cost.pass(ends[last] - ends[cut], tokens), cut))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        best.extend(cut);
    }
    let mut buckets = Vec::new();
    let mut last = ends.len() - 1;
    while last > 0 {
        let cut = best[last].1;
        let tokens = lengths[order[ends[last] - 1]];
        let rows = &order[ends[cut]..ends[last]];
        buckets.extend(
            rows.chunks((MAX_TOKENS / tokens.max(1)).max(1)).map(|rows| Bucket { rows: rows.to_vec(), tokens }),
        );
        last = cut;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Cost = Cost { launch: 16.0, hidden: 384, intermediate: 1536 };

    fn total(buckets: &[Bucket]) -> f32 {
        buckets.iter().map(|bucket| COST.pass(bucket.rows.len(), bucket.tokens)).sum()
    }

    #[test]
    fn a_row_costs_its_dense_work_and_its_attention() {
        let (tokens, hidden, intermediate) = (128.0, 384.0, 1536.0);
        let dense = tokens * (8.0 * hidden * hidden + 4.0 * hidden * intermediate);
        let attention = 4.0 * tokens * tokens * hidden;
        let unit = 8.0 * hidden * hidden + 4.0 * hidden * intermediate;
        assert!((COST.row(128) - (dense + attention) / unit).abs() < 1e-2);
    }

    #[test]
    fn one_long_row_does_not_pad_the_short_ones() {
        let buckets = plan(&[6, 7, 128, 6, 8], &COST);
        assert_eq!(buckets.len(), 2);
        assert_eq!(buckets[0], Bucket { rows: vec![2], tokens: 128 });
        assert_eq!(buckets[1].tokens, 8);
    }

    #[test]
    fn rows_of_nearly_the_same_length_run_together() {
        assert_eq!(plan(&[9, 8, 8, 9], &COST), [Bucket { rows: vec![1, 2, 0, 3], tokens: 9 }]);
    }

    #[test]
    fn no_rows_make_no_buckets() {
        assert!(plan(&[], &COST).is_empty());
    }

    #[test]
    fn a_pass_is_bounded_in_tokens() {
        let buckets = plan(&[128; 200], &COST);
        assert_eq!(buckets.iter().map(|bucket| bucket.rows.len()).sum::<usize>(), 200);
        assert!(buckets.iter().all(|bucket| bucket.rows.len() * bucket.tokens <= MAX_TOKENS));
    }

    proptest::proptest! {
        #[test]
        fn every_row_is_in_one_bucket_that_holds_it(lengths in proptest::collection::vec(1_usize..200, 0..60)) {
            let buckets = plan(&lengths, &COST);
            let mut rows: Vec<usize> = buckets.iter().flat_map(|bucket| bucket.rows.clone()).collect();
            rows.sort_unstable();
            proptest::prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            for bucket in &buckets {
                proptest::prop_assert_eq!(bucket.rows.iter().map(|&row| lengths[row]).max(), Some(bucket.tokens));
            }
        }

        #[test]
        fn no_other_split_of_the_sorted_rows_costs_less(lengths in proptest::collection::vec(1_usize..100, 1..9)) {
            let mut sorted = lengths.clone();
            sorted.sort_unstable();
            let least = (0..1_u32 << (sorted.len() - 1))
                .map(|cuts| {
                    let mut start = 0;
                    let mut cost = 0.0;
                    for end in 1..=sorted.len() {
                        if end == sorted.len() || cuts & (1 << (end - 1)) != 0 {
                            cost += COST.pass(end - start, sorted[end - 1]);
                            start = end;
                        }
                    }
                    cost
                })
                .fold(f32::INFINITY, f32::min);
            proptest::prop_assert!(total(&plan(&lengths, &COST)) <= least * 1.0001);
        }
    }
}
