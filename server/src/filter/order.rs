//! Sorting by the values of keys instead of by relevance.

use super::ast::{FilterError, Key};
use super::column::{Column, Postings};
use super::columns::{Columns, Values};
use crate::Doc;

/// How many keys an order has at most.
const MAX_KEYS: usize = 10;

/// What to sort by, as `price desc, title` (AIP-132). The default leaves the order as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrderBy {
    keys: Vec<(Key, Direction)>,
}

/// Which way to sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

impl OrderBy {
    /// Reads keys, each with `asc` (which may be left out) or `desc`, with commas between them. Nothing but space: the
    /// order that leaves everything as it is.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut keys = Vec::new();
        let mut position = 0;
        for part in text.split(',') {
            let error = |message: &str| Err(FilterError { position, message: message.to_owned() });
            let mut words = part.split_whitespace();
            let Some(key) = words.next() else {
                return error("expected a key, as `price` or `attributes.colour`");
            };
            let direction = match words.next() {
                None | Some("asc") => Direction::Ascending,
                Some("desc") => Direction::Descending,
                Some(_) => return error("expected asc, desc or a comma after the key"),
            };
            if words.next().is_some() {
                return error("expected a comma after asc or desc");
            }
            if keys.len() == MAX_KEYS {
                return error("there are at most 10 keys to sort by");
            }
            keys.push((Key::named(key), direction));
            position += part.chars().count() + 1;
        }
        Ok(Self { keys })
    }

    /// Whether it leaves everything as it is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Columns {
    /// Sorts `docs`. Those without a value come last, whichever the direction; equal ones stay as they are. With several
    /// values (tags, lists) the first of them in that direction counts.
    pub fn sort(&self, order: &OrderBy, docs: &mut [Doc]) {
        let ranks: Vec<Vec<u32>> = order.keys.iter().map(|(key, direction)| self.ranks(key, *direction)).collect();
        let rank = |ranks: &Vec<u32>, doc: Doc| ranks.get(doc as usize).copied().unwrap_or(u32::MAX);
        docs.sort_by(|&a, &b| {
            let unequal = ranks.iter().map(|ranks| rank(ranks, a).cmp(&rank(ranks, b))).find(|o| o.is_ne());
            unequal.unwrap_or(std::cmp::Ordering::Equal)
        });
    }

    /// For each item the place of its first value among all values.
    fn ranks(&self, key: &Key, direction: Direction) -> Vec<u32> {
        let mut ranks = Ranks { of: Vec::new(), next: 0 };
        match self.values(key) {
            Values::Nothing => {}
            Values::Texts(column) => ranks.add(column, direction),
            Values::Numbers(column) => ranks.add(column, direction),
            Values::Both(attribute) => {
                ranks.add(&attribute.numbers, direction);
                ranks.add(&attribute.texts, direction);
            }
            Values::Truth(yes) => {
                // False before true, as numbers have it.
                let last = self.all().max().map_or(0, |doc| doc as usize + 1);
                let (on, off) = if direction == Direction::Ascending { (1, 0) } else { (0, 1) };
                ranks.of = (0..last as Doc).map(|doc| if yes.contains(doc) { on } else { off }).collect();
            }
        }
        ranks.of
    }
}

struct Ranks {
    of: Vec<u32>,
    next: u32,
}

impl Ranks {
    fn add<V: Ord>(&mut self, column: &Column<V>, direction: Direction) {
        let last = column.present().max().map_or(0, |doc| doc as usize + 1);
        self.of.resize(self.of.len().max(last), u32::MAX);
        let postings = column.iter().map(|(_, postings)| postings);
        match direction {
            Direction::Ascending => postings.for_each(|postings| self.give(postings)),
            Direction::Descending => postings.rev().for_each(|postings| self.give(postings)),
        }
    }

    fn give(&mut self, postings: &Postings) {
        postings.for_each(|doc| {
            let rank = &mut self.of[doc as usize];
            *rank = (*rank).min(self.next);
        });
        self.next += 1;
    }
}
