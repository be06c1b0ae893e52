//! Two rankings drafted into one, in turns: team-draft interleaving (Radlinski, Kurup & Joachims 2008, "How does clickthrough data reflect retrieval
//! quality?").

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rustc_hash::FxHashMap;

use crate::{
    Doc, control,
    search::{Hit, Ranking},
};

/// Which ranking each item was taken from: 0 the first, 1 the second. Items that the shop has pinned are of neither.
pub type Teams = FxHashMap<Doc, usize>;

/// Drafts `second` into `first`. Equal seeds draft equally, so that pages fit together. `pins` are items at places that both keep.
pub fn interleaved(mut first: Ranking, second: Ranking, pins: &[(usize, Doc)], seed: u64) -> (Ranking, Teams) {
    let is_pinned = |hit: &Hit| pins.iter().any(|(_, doc)| *doc == hit.doc);
    let (pinned, hits): (Vec<Hit>, Vec<Hit>) = first.hits.into_iter().partition(is_pinned);
    let others = second.hits.into_iter().filter(|hit| !is_pinned(hit)).collect();
    let (mut hits, teams) = draft(hits, others, &mut StdRng::seed_from_u64(seed));
    let place = |hit: &Hit| pins.iter().find(|(_, doc)| *doc == hit.doc).map_or(0, |(place, _)| *place);
    control::pin(&mut hits, pinned.into_iter().map(|hit| (place(&hit), hit)));
    first.hits = hits;
    first.stages.join(second.stages);
    first.matching |= second.matching;
    // Groups are counted by each ranking; all that both match is at least the larger.
    first.total = first.total.max(second.total).max(first.hits.len() as u64);
    first.served_by.extend(second.served_by.into_iter().filter(|by| !first.served_by.contains(by)).collect::<Vec<_>>());
    first.degraded.extend(second.degraded.into_iter().filter(|why| !first.degraded.contains(why)).collect::<Vec<_>>());
    (first, teams)
}

/// In each round a coin says who picks first; each picks its best that is not taken.
fn draft(first: Vec<Hit>, second: Vec<Hit>, coin: &mut StdRng) -> (Vec<Hit>, Teams) {
    let mut left = [first.into_iter().peekable(), second.into_iter().peekable()];
    let (mut drafted, mut teams) = (Vec::new(), Teams::default());
    loop {
        let starts = usize::from(coin.random_bool(0.5));
        let before = drafted.len();
        for team in [starts, 1 - starts] {
            while left[team].next_if(|hit| teams.contains_key(&hit.doc)).is_some() {}
            if let Some(hit) = left[team].next() {
                teams.insert(hit.doc, team);
                drafted.push(hit);
            }
        }
        if drafted.len() == before {
            return (drafted, teams);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(docs: &[Doc]) -> Vec<Hit> {
        docs.iter().map(|&doc| Hit { doc, ..Hit::default() }).collect()
    }

    fn ranking(docs: &[Doc]) -> Ranking {
        Ranking { hits: hits(docs), ..Ranking::default() }
    }

    #[test]
    fn each_round_takes_the_best_of_both() {
        for seed in 0..100 {
            let (drafted, teams) = draft(hits(&[1, 2, 3, 4]), hits(&[3, 5, 1, 6]), &mut StdRng::seed_from_u64(seed));
            let docs: Vec<Doc> = drafted.iter().map(|hit| hit.doc).collect();
            let mut sorted = docs.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [1, 2, 3, 4, 5, 6], "nothing is lost or repeated");
            assert!(docs[..2] == [1, 3] || docs[..2] == [3, 1], "{docs:?}");
            assert_eq!((teams[&1], teams[&3]), (0, 1));
        }
    }

    #[test]
    fn equal_rankings_stay_as_they_are_and_neither_gains() {
        let docs: Vec<Doc> = (0..1_000).collect();
        let (drafted, teams) = draft(hits(&docs), hits(&docs), &mut StdRng::seed_from_u64(7));
        assert_eq!(drafted.iter().map(|hit| hit.doc).collect::<Vec<_>>(), docs);
        let second = teams.values().sum::<usize>();
        assert_eq!(second, 500, "each has one of every round");
        let first_places = (0..200)
            .filter(|&seed| draft(hits(&docs), hits(&docs), &mut StdRng::seed_from_u64(seed)).1[&0] == 1)
            .count();
        assert!((70..130).contains(&first_places), "{first_places}");
    }

    #[test]
    fn the_same_seed_drafts_the_same_and_pins_stay() {
        let pins = [(2, 9)];
        let (one, teams) = interleaved(ranking(&[1, 2, 9, 3]), ranking(&[4, 5, 9, 6]), &pins, 3);
        let (two, _) = interleaved(ranking(&[1, 2, 9, 3]), ranking(&[4, 5, 9, 6]), &pins, 3);
        let docs = |ranking: &Ranking| ranking.hits.iter().map(|hit| hit.doc).collect::<Vec<_>>();
        assert_eq!(docs(&one), docs(&two));
        assert_eq!((docs(&one)[2], teams.get(&9)), (9, None));
    }
}
