//! How well a network foretells: the place of each next item among all items, never among a sample.

use candle_core::{Device, Result};
use vitrine_models::{SequenceNetwork, last_scores};

use crate::metrics::{Mean, discount, mean};
use crate::sequences::Case;

/// Histories that are scored together.
pub const BATCH: usize = 256;

/// Scores at some length of the ranking.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Ranked {
    /// Of one item to find: 1/log₂(1 + place).
    pub ndcg: Mean,
    /// The part of the users whose next item is among the first: with one item to find it is also the recall.
    pub hit_rate: Mean,
    /// One over the place.
    pub reciprocal_rank: Mean,
}

/// Scores places that count from 0.
pub fn score(places: &[usize], k: usize) -> Ranked {
    let of =
        |value: fn(usize) -> f64| mean(places.iter().map(move |&place| if place < k { value(place) } else { 0.0 }));
    Ranked { ndcg: of(discount), hit_rate: of(|_| 1.0), reciprocal_rank: of(|place| 1.0 / (place + 1) as f64) }
}

/// The place of each target, from 0, among all items but those of its history; of equal scores the smaller id comes first.
pub fn places(
    network: &dyn SequenceNetwork,
    cases: &[Case<'_>],
    max_length: usize,
    device: &Device,
) -> Result<Vec<usize>> {
    let mut places = Vec::with_capacity(cases.len());
    for cases in cases.chunks(BATCH) {
        let histories: Vec<&[u32]> = cases.iter().map(|case| case.history).collect();
        let scores = last_scores(network, &histories, max_length, device)?;
        places.extend(cases.iter().zip(scores).map(|(case, scores)| place(case, scores)));
    }
    Ok(places)
}

/// `scores` of all items, of id 1 first.
fn place(case: &Case<'_>, mut scores: Vec<f32>) -> usize {
    for &met in case.history.iter().filter(|&&met| met != case.target) {
        scores[met as usize - 1] = f32::NEG_INFINITY;
    }
    let target = case.target as usize - 1;
    let before = |(item, score): (usize, &f32)| scores[target].total_cmp(score).then(item.cmp(&target)).is_lt();
    scores.iter().enumerate().filter(|&scored| before(scored)).count()
}

/// The `k` items with the highest scores that are not in the history; of equal scores the smaller id comes first.
pub fn first(history: &[u32], scores: Vec<f32>, k: usize) -> Vec<u32> {
    let mut ranked: Vec<(u32, f32)> = (1..).zip(scores).filter(|(item, _)| !history.contains(item)).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if ranked.len() > k {
        ranked.select_nth_unstable_by(k, order);
        ranked.truncate(k);
    }
    ranked.sort_by(order);
    ranked.into_iter().map(|(item, _)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_the_history_are_passed_over_and_ties_go_by_id() {
        let case = Case { history: &[1, 4], target: 3 };
        assert_eq!(place(&case, vec![9.0, 0.5, 0.5, 8.0, 0.7]), 2, "after item 5, and item 2 that is its equal");
        assert_eq!(first(case.history, vec![9.0, 0.5, 0.5, 8.0, 0.7], 3), [5, 2, 3]);
        assert_eq!(place(&Case { history: &[3], target: 3 }, vec![0.0, 0.0, 1.0]), 0, "bought again");
    }

    #[test]
    fn places_are_scored_by_hand() {
        let ranked = score(&[0, 1, 10, 3], 10);
        assert!((ranked.hit_rate.value - 0.75).abs() < 1e-9);
        assert!((ranked.reciprocal_rank.value - (1.0 + 0.5 + 0.25) / 4.0).abs() < 1e-9);
        assert!((ranked.ndcg.value - (1.0 + 1.0 / 3_f64.log2() + 1.0 / 5_f64.log2()) / 4.0).abs() < 1e-9);
    }
}
