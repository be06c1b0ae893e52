//! What a history says about a person now: the items that lead to others, and those not to propose.

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use vitrine::v1::EventType;

use super::RecommendOptions;
use crate::Doc;
use crate::behaviour::weight::is_met;
use crate::behaviour::{Entry, History};

/// What a history says. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Taste {
    /// The newest different items and how much each counts, newest first.
    pub sources: Vec<(Doc, f32)>,
    /// Items the person dealt with.
    pub seen: RoaringBitmap,
    /// Items hidden, disliked or sent back, and not taken up again since.
    pub refused: RoaringBitmap,
}

impl Taste {
    /// Reads a history. Items that the person gave back lead to nothing. A bad rating says little for an item, but what
    /// people do after it is still what they do next: it counts as the least.
    pub fn of(history: &History<'_>, options: &RecommendOptions) -> Self {
        let mut taste = Self::default();
        let mut balance: FxHashMap<Doc, f32> = FxHashMap::default();
        for entry in history.actions {
            taste.seen.insert(entry.doc);
            *balance.entry(entry.doc).or_default() += entry.strength.value();
        }
        taste.refused = refused(history);
        let mut met = RoaringBitmap::new();
        let mut weight = 1.0;
        for entry in history.actions.iter().rev().filter(|entry| is_met(entry.kind())) {
            if taste.sources.len() >= options.source_items {
                break;
            }
            let balance = balance.get(&entry.doc).copied().unwrap_or(0.0);
            if met.insert(entry.doc)
                && (balance >= 0.0 || entry.kind() == EventType::Rate)
                && !taste.refused.contains(entry.doc)
            {
                taste.sources.push((entry.doc, weight * balance.clamp(options.least_strength, 1.0)));
                weight *= options.recency;
            }
        }
        taste
    }
}

/// What was refused, and not bought, liked or put in the cart at a later time.
pub fn refused(history: &History<'_>) -> RoaringBitmap {
    let mut latest: FxHashMap<Doc, u32> = FxHashMap::default();
    let returns = history.actions.iter().filter(|entry| entry.kind() == EventType::Return);
    for entry in history.refused.iter().chain(returns) {
        let at = latest.entry(entry.doc).or_default();
        *at = (*at).max(entry.seconds());
    }
    if latest.is_empty() {
        return RoaringBitmap::new();
    }
    let wants = |entry: &&Entry| matches!(entry.kind(), EventType::Purchase | EventType::Like | EventType::AddToCart);
    for entry in history.actions.iter().filter(wants) {
        if latest.get(&entry.doc).is_some_and(|&at| at < entry.seconds()) {
            latest.remove(&entry.doc);
        }
    }
    latest.into_keys().collect()
}
