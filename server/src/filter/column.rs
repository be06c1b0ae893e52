//! The values of one key: each value with the items that have it, in order.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

use roaring::RoaringBitmap;

use crate::Doc;

/// The items that have one value. Most values of ids, titles and times have one: no bitmap for those.
#[derive(Debug, Clone)]
pub(super) enum Postings {
    One(Doc),
    Many(Box<RoaringBitmap>),
}

/// A finite number, ordered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number(f64);

/// Each value with the items that have it.
#[derive(Debug, Clone)]
pub(super) struct Column<V> {
    values: BTreeMap<V, Postings>,
    present: RoaringBitmap,
}

impl<V: Ord> Default for Column<V> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), present: RoaringBitmap::new() }
    }
}

impl<V: Ord> Column<V> {
    /// Notes that `doc` has `value`. Saying so twice is saying so once.
    pub(super) fn insert(&mut self, doc: Doc, value: V) {
        self.present.insert(doc);
        self.values.entry(value).and_modify(|postings| postings.insert(doc)).or_insert(Postings::One(doc));
    }

    /// Forgets that `doc` has `value`. All values of an item are removed together.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, doc: Doc, value: &Q)
    where
        V: Borrow<Q>,
    {
        self.present.remove(doc);
        if self.values.get_mut(value).is_some_and(|postings| postings.remove(doc)) {
            self.values.remove(value);
        }
    }

    /// The items that have any value.
    pub(super) fn present(&self) -> &RoaringBitmap {
        &self.present
    }

    /// The items that have `value`.
    pub(super) fn with<Q: Ord + ?Sized>(&self, value: &Q) -> RoaringBitmap
    where
        V: Borrow<Q>,
    {
        self.values.get(value).map_or_else(RoaringBitmap::new, Postings::to_bitmap)
    }

    /// The items with a value between the bounds.
    pub(super) fn between(&self, bounds: (Bound<V>, Bound<V>)) -> RoaringBitmap {
        union(self.values.range(bounds).map(|(_, postings)| postings))
    }

    /// The items with a value for which `test` holds: looks at every value.
    pub(super) fn such_that(&self, test: impl Fn(&V) -> bool) -> RoaringBitmap {
        union(self.values.iter().filter(|(value, _)| test(value)).map(|(_, postings)| postings))
    }

    /// Every value in order, with the items that have it.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&V, &Postings)> {
        self.values.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// The items in any of the postings. Single items are gathered and sorted first: inserting them one by one is
/// several times slower.
fn union<'a>(all: impl Iterator<Item = &'a Postings>) -> RoaringBitmap {
    let mut singles = Vec::new();
    let mut found = RoaringBitmap::new();
    for postings in all {
        match postings {
            Postings::One(doc) => singles.push(*doc),
            Postings::Many(docs) => found |= docs.as_ref(),
        }
    }
    singles.sort_unstable();
    singles.dedup();
    found |= RoaringBitmap::from_iter(singles);
    found
}

impl Postings {
    fn insert(&mut self, doc: Doc) {
        match self {
            Self::One(other) if *other == doc => {}
            Self::One(other) => *self = Self::Many(Box::new(RoaringBitmap::from_iter([*other, doc]))),
            Self::Many(docs) => {
                docs.insert(doc);
            }
        }
    }

    /// Whether nothing is left.
    fn remove(&mut self, doc: Doc) -> bool {
        match self {
            Self::One(other) => *other == doc,
            Self::Many(docs) => {
                docs.remove(doc);
                docs.is_empty()
            }
        }
    }

    fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::One(doc) => RoaringBitmap::from_iter([*doc]),
            Self::Many(docs) => docs.as_ref().clone(),
        }
    }

    /// How many of `docs` are among these.
    pub(super) fn count_in(&self, docs: &RoaringBitmap) -> u64 {
        match self {
            Self::One(doc) => u64::from(docs.contains(*doc)),
            Self::Many(these) => these.intersection_len(docs),
        }
    }

    /// Calls `each` for every item.
    pub(super) fn for_each(&self, mut each: impl FnMut(Doc)) {
        match self {
            Self::One(doc) => each(*doc),
            Self::Many(docs) => docs.iter().for_each(each),
        }
    }
}

impl Number {
    /// None for infinities and for what is not a number.
    pub(super) fn new(value: f64) -> Option<Self> {
        // Adding zero makes the negative zero positive: they are the same number.
        value.is_finite().then_some(Self(value + 0.0))
    }

    pub(super) fn get(self) -> f64 {
        self.0
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_when_its_last_item_goes() {
        let mut column = Column::default();
        for doc in [3, 1, 2, 2] {
            column.insert(doc, Box::<str>::from("red"));
        }
        assert_eq!(column.with("red"), RoaringBitmap::from_iter([1, 2, 3]));
        for doc in [1, 2, 3] {
            column.remove(doc, "red");
        }
        assert!(column.is_empty() && column.present().is_empty());
    }

    #[test]
    fn ranges_include_what_their_bounds_include() {
        let number = |value| Number::new(value).unwrap();
        let mut column = Column::default();
        for (doc, value) in [(0, -1.5), (1, 0.0), (2, 2.0), (3, 2.0), (4, 7.25)] {
            column.insert(doc, number(value));
        }
        assert_eq!(
            column.between((Bound::Included(number(0.0)), Bound::Excluded(number(7.25)))),
            RoaringBitmap::from_iter([1, 2, 3])
        );
        assert_eq!(column.with(&number(-0.0)), RoaringBitmap::from_iter([1]));
    }
}
