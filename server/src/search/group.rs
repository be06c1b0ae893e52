//! Shows items that share a value as one: the best of them, with the others as its variants.

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;

use crate::Doc;
use crate::filter::{Columns, Key};

/// The groups of the matching items.
#[derive(Debug)]
pub struct Groups {
    /// The group of each item that is in one.
    of: FxHashMap<Doc, u32>,
    /// How many matching items each group has.
    totals: FxHashMap<u32, u64>,
    /// How many groups there are; an item in none is one by itself.
    count: u64,
    /// How many items of a group are shown.
    size: usize,
    /// Those that are shown beside the best one, by that one.
    variants: FxHashMap<Doc, Vec<(Doc, f32)>>,
}

impl Groups {
    /// The groups of `matching` by the values of `key`; of several values of an item the first one counts.
    pub fn new(columns: &Columns, key: &Key, size: usize, matching: &RoaringBitmap) -> Self {
        let of = columns.groups(key, matching);
        let mut totals: FxHashMap<u32, u64> = FxHashMap::default();
        for group in of.values() {
            *totals.entry(*group).or_default() += 1;
        }
        let count = matching.len() - of.len() as u64 + totals.len() as u64;
        Self { of, totals, count, size, variants: FxHashMap::default() }
    }

    /// How many results there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Keeps the first item of each group.
    pub fn collapse(&mut self, order: &mut Vec<(Doc, f32)>) {
        let mut firsts: FxHashMap<u32, Doc> = FxHashMap::default();
        order.retain(|&(doc, score)| {
            let Some(&group) = self.of.get(&doc) else { return true };
            let first = *firsts.entry(group).or_insert(doc);
            if first != doc {
                let variants = self.variants.entry(first).or_default();
                if variants.len() + 1 < self.size {
                    variants.push((doc, score));
                }
            }
            first == doc
        });
    }

    /// The variants of an item that stands for its group, and how many matching items that has.
    pub fn take(&mut self, doc: Doc) -> (Vec<(Doc, f32)>, u64) {
        let total = self.of.get(&doc).and_then(|group| self.totals.get(group)).copied().unwrap_or_default();
        (self.variants.remove(&doc).unwrap_or_default(), total)
    }
}

#[cfg(test)]
mod tests {
    use vitrine::v1::Item;

    use super::*;

    #[test]
    fn the_best_of_a_group_stands_for_it_and_the_others_are_counted() {
        let mut columns = Columns::default();
        let brands = ["Acme", "Lumen", "acme", "", "Acme", ""];
        for (doc, brand) in (0..).zip(brands) {
            let item = Item { id: format!("i{doc}"), brand: brand.into(), ..Item::default() };
            columns.upsert(doc, None, &item);
        }
        let matching = (0..6).collect();
        let mut groups = Groups::new(&columns, &Key::Brand, 2, &matching);
        assert_eq!(groups.count(), 4);
        let mut order = vec![(4, 0.9), (3, 0.8), (0, 0.7), (1, 0.6), (2, 0.5), (5, 0.4)];
        groups.collapse(&mut order);
        assert_eq!(order, [(4, 0.9), (3, 0.8), (1, 0.6), (5, 0.4)]);
        assert_eq!(groups.take(4), (vec![(0, 0.7)], 3), "no more than two are shown");
        assert_eq!(groups.take(1), (Vec::new(), 1));
        assert_eq!(groups.take(3), (Vec::new(), 0), "it is in no group");
        let few = Groups::new(&columns, &Key::Attribute("model".into()), 2, &matching);
        assert_eq!(few.count(), 6);
    }
}
