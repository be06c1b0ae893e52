//! A map from items to values for counting: an array over all items, and a list of those that are in it.
//!
//! Recommending adds up hundreds of thousands of small numbers a request; a hash map would spend most of the time.

use crate::Doc;

/// Values by item. Takes 4 bytes for every item up to the largest one in it, mostly untouched.
#[derive(Clone, Debug)]
pub struct Tally<T> {
    /// By item: its place among the entries, from 1; 0: it is not in.
    places: Vec<u32>,
    entries: Vec<(Doc, T)>,
}

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self { places: Vec::new(), entries: Vec::new() }
    }
}

impl<T: Default> Tally<T> {
    /// With room for items up to `docs` without growing.
    pub fn with_room(docs: usize) -> Self {
        Self { places: vec![0; docs], entries: Vec::new() }
    }

    /// The value of an item, which is put in if it is not.
    pub fn entry(&mut self, doc: Doc) -> &mut T {
        let index = doc as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, 0);
        }
        if self.places[index] == 0 {
            self.entries.push((doc, T::default()));
            self.places[index] = self.entries.len() as u32;
        }
        &mut self.entries[self.places[index] as usize - 1].1
    }
}

impl<T> Tally<T> {
    /// The value of an item that is in.
    pub fn get(&self, doc: Doc) -> Option<&T> {
        let place = *self.places.get(doc as usize)? as usize;
        self.entries.get(place.checked_sub(1)?).map(|entry| &entry.1)
    }

    /// Takes an item out.
    pub fn remove(&mut self, doc: Doc) {
        let Some(place) = self.places.get_mut(doc as usize).map(std::mem::take).filter(|place| *place > 0) else {
            return;
        };
        self.entries.swap_remove(place as usize - 1);
        if let Some(&(moved, _)) = self.entries.get(place as usize - 1) {
            self.places[moved as usize] = place;
        }
    }

    /// Changes all values, and keeps those for which that says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Doc, &mut T) -> bool) {
        self.entries.iter().for_each(|&(doc, _)| self.places[doc as usize] = 0);
        self.entries.retain_mut(|(doc, value)| keep(*doc, value));
        for (place, &(doc, _)) in (1..).zip(&self.entries) {
            self.places[doc as usize] = place;
        }
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.entries.drain(..).for_each(|(doc, _)| self.places[doc as usize] = 0);
    }

    /// All items and values, in the order in which they were put in if none was taken out.
    pub fn iter(&self) -> impl Iterator<Item = (Doc, &T)> {
        self.entries.iter().map(|(doc, value)| (*doc, value))
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((0_u8..8, 0_u32..20, 1_u32..9), 0..80)) {
            let mut tally = Tally::<u32>::default();
            let mut map = BTreeMap::<Doc, u32>::new();
            for (what, doc, amount) in steps {
                match what {
                    0 => {
                        tally.remove(doc);
                        map.remove(&doc);
                    }
                    1 => {
                        tally.retain(|other, value| other != doc && *value > amount);
                        map.retain(|other, value| *other != doc && *value > amount);
                    }
                    2 if amount == 1 => {
                        tally.clear();
                        map.clear();
                    }
                    _ => {
                        *tally.entry(doc) += amount;
                        *map.entry(doc).or_default() += amount;
                    }
                }
                prop_assert_eq!(tally.iter().map(|(doc, value)| (doc, *value)).collect::<BTreeMap<_, _>>(), map.clone());
                prop_assert_eq!(tally.get(doc), map.get(&doc));
                prop_assert_eq!(tally.len(), map.len());
            }
        }
    }
}
