//! What many want, as candidates.

use super::candidates::{Candidates, top};
use crate::Doc;
use crate::behaviour::Popularity;

/// How wanted each item is, by item, scaled so that the most wanted has 1. `window`: only the seconds before `now` (in
/// seconds since 1970); otherwise all events, newer ones counting more.
pub fn popularity(popularity: &Popularity, window: Option<u32>, now: u32) -> Vec<f32> {
    let windowed = window.map(|window| popularity.within(window, now));
    let sums = windowed.as_deref().unwrap_or(popularity.decayed());
    let most = sums.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    sums.iter().map(|sum| (sum / most).max(0.0) as f32).collect()
}

/// The `take` most wanted of the items that may be served.
pub fn popular(wanted: &[f32], take: usize, eligible: impl Fn(Doc) -> bool) -> Candidates {
    let mut candidates = Candidates::default();
    if take == 0 {
        return candidates;
    }
    // Asking about an item costs more than looking at its number: those below the best so far are not asked about.
    let (mut kept, mut least) = (Vec::with_capacity(4 * take), 0.0);
    for (doc, &score) in wanted.iter().enumerate().filter(|wanted| *wanted.1 > 0.0) {
        if score > least && eligible(doc as Doc) {
            kept.push((doc as Doc, score));
            if kept.len() == 4 * take {
                kept = top(kept, take);
                least = kept.last().map_or(0.0, |last| last.1);
            }
        }
    }
    for (doc, score) in top(kept, take) {
        candidates.set(doc, score);
    }
    candidates
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn takes_the_most_wanted_of_those_allowed(wanted in prop::collection::vec(0_u8..20, 0..80), take in 0_usize..12, step in 1_u32..4) {
            let wanted: Vec<f32> = wanted.into_iter().map(f32::from).collect();
            let mut expected: Vec<(Doc, f32)> = (0..).zip(wanted.iter().copied()).filter(|(doc, score)| doc % step == 0 && *score > 0.0).collect();
            expected = top(expected, take);
            let found = popular(&wanted, take, |doc| doc % step == 0);
            let found = top(found.iter().map(|(doc, candidate)| (doc, candidate.score)).collect(), take);
            prop_assert_eq!(found, expected);
        }
    }
}
