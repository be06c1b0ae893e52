//! What a network expects next, as candidates.

use super::candidates::{Candidates, top};
use crate::Doc;

/// The `take` items with the highest scores of those that may be served: how likely each is, compared with the likeliest, to the power of
/// `sharpness`. `scores` are logarithms of how likely they are.
pub fn next(scores: &[(Doc, f32)], take: usize, sharpness: f64, eligible: impl Fn(Doc) -> bool) -> Candidates {
    let eligible = scores.iter().filter(|(doc, _)| eligible(*doc)).copied().collect();
    let best = top(eligible, take);
    let mut candidates = Candidates::default();
    for &(doc, score) in &best {
        // In f64: different scores stay different.
        let behind = f64::from(score) - f64::from(best[0].1);
        candidates.set(doc, (sharpness * behind).exp() as f32);
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_of_the_eligible_counts_one_and_the_order_stays() {
        let scores = [(1, 3.0), (2, 9.0), (3, 2.0), (4, 2.000_000_2), (5, -90.0)];
        let found = next(&scores, 3, 0.5, |doc| doc != 2);
        let score = |doc| found.get(doc).map_or(0.0, |candidate| candidate.score);
        assert_eq!((found.len(), score(1)), (3, 1.0));
        assert!(score(4) > score(3) && (score(3) - (-0.5_f32).exp()).abs() < 1e-6);
        assert!(next(&[], 3, 0.5, |_| true).is_empty());
    }
}
