//! Keeps one brand, or one category, from filling a page.

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;

use crate::Doc;
use crate::filter::{Columns, Key};

/// How many items may share a value before others come.
#[derive(Debug, Clone, PartialEq)]
pub struct Cap {
    /// Whose values; of several values of an item the first one counts.
    pub key: Key,
    /// So many.
    pub most: usize,
}

impl Cap {
    /// Puts items in rounds, each with no more than [`most`](Self::most) of a value, and the best of those that are left. Nothing is left out: when
    /// all else has been shown, more of the same comes. Items without a value are like no other, and come in the first round.
    pub fn spread(&self, columns: &Columns, order: &mut [(Doc, f32)]) {
        let docs: RoaringBitmap = order.iter().map(|(doc, _)| *doc).collect();
        let groups = columns.groups(&self.key, &docs);
        let mut met: FxHashMap<u32, usize> = FxHashMap::default();
        let mut rounds: FxHashMap<Doc, usize> = FxHashMap::default();
        for (doc, _) in order.iter() {
            if let Some(group) = groups.get(doc) {
                let met = met.entry(*group).or_default();
                rounds.insert(*doc, *met / self.most.max(1));
                *met += 1;
            }
        }
        // The sort is stable: within a round the order stays.
        order.sort_by_key(|(doc, _)| rounds.get(doc).copied().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use vitrine::v1::Item;

    use super::*;

    #[test]
    fn no_more_of_a_value_than_the_cap_come_before_others() {
        let mut columns = Columns::default();
        let brands = ["Acme", "acme", "Acme", "Lumen", "", "Acme", "Lumen", "Lumen", "Acme", "Brio"];
        for (doc, brand) in (0..).zip(brands) {
            let item = Item { id: format!("i{doc}"), brand: brand.into(), ..Item::default() };
            columns.upsert(doc, None, &item);
        }
        let mut order: Vec<(Doc, f32)> = (0..10).map(|doc| (doc, 1.0 / (doc + 1) as f32)).collect();
        let spread = |most: usize, order: &mut Vec<(Doc, f32)>| {
            Cap { key: Key::Brand, most }.spread(&columns, order);
            order.iter().map(|(doc, _)| *doc).collect::<Vec<_>>()
        };
        assert_eq!(spread(2, &mut order.clone()), [0, 1, 3, 4, 6, 9, 2, 5, 7, 8]);
        assert_eq!(spread(1, &mut order.clone()), [0, 3, 4, 9, 1, 6, 2, 7, 5, 8]);
        assert_eq!(spread(9, &mut order), (0..10).collect::<Vec<_>>());
    }
}
