//! What is bought in the same orders.
//!
//! Counting pairs alone proposes what everybody buys; their ratio to chance alone proposes flukes. The score is
//! (observed − expected) / √(expected + k): how far the number of orders with both is above what it would be if the two
//! had nothing to do with each other, in (about) standard deviations. This is the measure of Smith & Linden, "Two
//! Decades of Recommender Systems at Amazon.com", IEEE Internet Computing 21(3), 2017, with k added so that a rare pair
//! needs more than luck. Chance is what all orders of the same time had, so that what sells this season does not look
//! like a match. Several source items add up.

use super::RecommendOptions;
use super::candidates::Candidates;
use super::tally::Tally;
use crate::Doc;
use crate::behaviour::Behaviour;

/// Candidates bought together with `sources` (items and their weights), from the newest `depth` orders of each.
pub fn together(behaviour: &Behaviour, sources: &[(Doc, f32)], depth: usize, options: &RecommendOptions) -> Candidates {
    let baskets = behaviour.baskets();
    let mut candidates = Candidates::with_room(behaviour.docs());
    let mut pairs: Tally<u32> = Tally::with_room(behaviour.docs());
    for &(source, weight) in sources {
        let orders = behaviour.orders(source);
        let orders = &orders[orders.len().saturating_sub(depth)..];
        let Some(first) = orders.first() else { continue };
        pairs.clear();
        for &doc in orders.iter().flat_map(|placed| baskets.items(placed.order)) {
            *pairs.entry(doc) += 1;
        }
        pairs.remove(source);
        // What an order since then has by chance.
        let share = orders.len() as f32 / baskets.len_since(first.seconds).max(1) as f32;
        for (doc, &observed) in pairs.iter().filter(|pair| *pair.1 >= options.together_least) {
            let expected = share * behaviour.order_count_since(doc, first.seconds);
            let score = (observed as f32 - expected) / (expected + options.together_shrinkage).sqrt();
            if score > 0.0 {
                candidates.add(doc, weight * score, source);
            }
        }
    }
    for &(source, _) in sources {
        candidates.remove(source);
    }
    candidates
}
