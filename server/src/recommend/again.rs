//! What a person buys regularly.
//!
//! How often, newer days of shopping counting more (Hu et al., "Modeling Personalized Item Frequency Information for
//! Next-basket Recommendation", SIGIR 2020), and less while it is too early to need it again.

use rustc_hash::FxHashMap;
use vitrine::v1::EventType;

use super::RecommendOptions;
use super::candidates::Candidates;
use crate::behaviour::Entry;
use crate::{DAY, Doc};

/// The days on which an item was bought.
struct Days {
    count: u32,
    first: u32,
    last: u32,
    score: f32,
}

/// Items to buy again, from a person's actions and the time now, in seconds since 1970.
pub fn again(actions: &[Entry], now: u32, options: &RecommendOptions) -> Candidates {
    let mut items: FxHashMap<Doc, Days> = FxHashMap::default();
    let (mut weight, mut today) = (1.0, None);
    let purchases = actions.iter().rev().filter(|entry| entry.kind() == EventType::Purchase);
    for (day, entry) in purchases.map(|entry| (entry.seconds() / DAY, entry)) {
        if today.is_some_and(|today| today != day) {
            weight *= options.again_decay;
        }
        today = Some(day);
        let days = items.entry(entry.doc).or_insert(Days { count: 0, first: day + 1, last: day, score: 0.0 });
        if day < days.first {
            days.first = day;
            days.count += 1;
            days.score += weight;
        }
    }
    let mut candidates = Candidates::default();
    let today = now / DAY;
    for (doc, days) in items.into_iter().filter(|(_, days)| days.count >= options.again_least.max(2)) {
        let interval = (days.last - days.first) as f32 / (days.count - 1) as f32;
        let due = (today.saturating_sub(days.last) as f32 / interval.max(1.0)).min(1.0);
        candidates.set(doc, days.score * (options.again_early + (1.0 - options.again_early) * due));
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviour::Strength;

    fn bought(day: u32, doc: Doc) -> Entry {
        Entry::new(i64::from(day * DAY) * 1_000, doc, EventType::Purchase, Strength(16), None)
    }

    #[test]
    fn what_was_bought_on_several_days_is_bought_again() {
        let actions = [bought(1, 7), bought(1, 8), bought(1, 8), bought(8, 7), bought(15, 7)];
        let candidates = again(&actions, 22 * DAY, &RecommendOptions::default());
        assert_eq!(candidates.iter().map(|candidate| candidate.0).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn what_was_just_bought_is_less_due() {
        let actions = [bought(1, 7), bought(2, 8), bought(8, 7), bought(9, 8), bought(16, 8), bought(16, 9)];
        let score = |today: u32, doc| {
            again(&actions, today * DAY, &RecommendOptions::default()).get(doc).map_or(0.0, |candidate| candidate.score)
        };
        assert!(score(17, 8) < score(23, 8));
        assert!((score(23, 8) - score(60, 8)).abs() < f32::EPSILON, "more than due is due");
    }
}
