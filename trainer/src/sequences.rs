//! Histories of users as ids, for networks that say what comes next, and which of it is to be foretold.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use vitrine_registry::Sha256;

use crate::interactions::{self, Interaction};

/// What is foretold, and what is learnt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Of each user the last item is foretold in the end; the one before it tells when to stop, and all before is learnt from. What other
    /// users did later is known.
    #[default]
    LeaveOneOut,
    /// The newest tenth of the time's interactions is foretold in the end, of each user the first of them; the tenth before it tells
    /// when to stop, and all before is learnt from, whoever did it: nothing of the future is known.
    Time,
}

/// What all users did.
#[derive(Debug)]
pub struct Sequences {
    name: String,
    /// The items' own ids, in alphabetical order: that of place 0 is 1 here, as 0 is no item.
    items: Vec<String>,
    users: Vec<User>,
}

/// What one user did.
#[derive(Debug)]
struct User {
    /// Oldest first.
    items: Vec<u32>,
    /// So many of them are learnt from.
    learning: usize,
    /// The place of the item that tells when to stop.
    validation: Option<usize>,
    /// The place of the item that is foretold in the end.
    test: Option<usize>,
}

/// A history, and what came after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case<'a> {
    /// Items, oldest first; not empty.
    pub history: &'a [u32],
    /// The next item.
    pub target: u32,
}

impl Sequences {
    /// What users did, under a name. Interactions of the same time stay in the order in which they are given.
    pub fn new(name: &str, split: Split, mut interactions: Vec<Interaction>) -> Self {
        interactions.sort_by(|a, b| a.time.total_cmp(&b.time));
        let mut ids: BTreeMap<&str, u32> = interactions.iter().map(|met| (met.item.as_str(), 0)).collect();
        for (id, number) in ids.values_mut().zip(1..) {
            *id = number;
        }
        let mut users: BTreeMap<&str, Vec<(u32, f64)>> = BTreeMap::new();
        for met in &interactions {
            users.entry(&met.user).or_default().push((ids[met.item.as_str()], met.time));
        }
        let tenths = interactions::tenths(&interactions);
        let users = users.into_values().map(|met| match split {
            Split::LeaveOneOut => User::leave_one_out(&met),
            Split::Time => User::before(&met, tenths),
        });
        let (users, items) = (users.collect(), ids.keys().map(|&id| id.to_owned()).collect());
        Self { name: name.to_owned(), items, users }
    }

    /// What the data is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The items' own ids, of id 1 first.
    pub fn items(&self) -> &[String] {
        &self.items
    }

    /// Tells other items and histories apart, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut bytes = Vec::new();
        for item in &self.items {
            bytes.extend_from_slice(item.as_bytes());
            bytes.push(0);
        }
        for user in &self.users {
            bytes.extend(user.items.iter().chain(&[0]).flat_map(|item| item.to_le_bytes()));
            bytes.extend_from_slice(&user.learning.to_le_bytes());
        }
        Sha256::of_bytes(&bytes).to_string()
    }

    /// What to learn from: histories of two items or more.
    pub fn learning(&self) -> impl Iterator<Item = &[u32]> {
        self.users.iter().map(|user| &user.items[..user.learning]).filter(|history| history.len() > 1)
    }

    /// What tells when to stop learning.
    pub fn validation(&self) -> Vec<Case<'_>> {
        self.users.iter().filter_map(|user| user.case(user.validation)).collect()
    }

    /// What is scored in the end. The items of the validation are in its histories.
    pub fn test(&self) -> Vec<Case<'_>> {
        self.users.iter().filter_map(|user| user.case(user.test)).collect()
    }
}

impl User {
    fn leave_one_out(met: &[(u32, f64)]) -> Self {
        let back = |by: usize| met.len().checked_sub(by);
        let items = met.iter().map(|(item, _)| *item).collect();
        Self { items, learning: back(2).unwrap_or(0), validation: back(2), test: back(1) }
    }

    /// `tenths`: when the last two of ten parts begin.
    fn before(met: &[(u32, f64)], tenths: [f64; 2]) -> Self {
        let [validation, test] = tenths.map(|from| met.partition_point(|(_, time)| *time < from));
        let items: Vec<u32> = met.iter().map(|(item, _)| *item).collect();
        Self {
            learning: validation,
            validation: Some(validation).filter(|&at| at < test),
            test: Some(test).filter(|&at| at < items.len()),
            items,
        }
    }

    /// An item that something came before.
    fn case(&self, place: Option<usize>) -> Option<Case<'_>> {
        let (history, after) = self.items.split_at(place.filter(|place| *place > 0)?);
        Some(Case { history, target: *after.first()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_items_are_kept_from_learning() {
        let met = |(time, (user, item)): (i32, (&str, &str))| Interaction {
            user: user.to_owned(),
            item: item.to_owned(),
            time: (-time).into(),
        };
        // The newest is read first.
        let read = [("u", "d"), ("v", "a"), ("u", "c"), ("u", "b"), ("v", "b"), ("u", "a")];
        let sequences = Sequences::new("test", Split::LeaveOneOut, (0..).zip(read).map(met).collect());
        assert_eq!(sequences.items(), ["a", "b", "c", "d"]);
        assert_eq!(sequences.learning().collect::<Vec<_>>(), [[1, 2]]);
        assert_eq!(sequences.validation(), [Case { history: &[1, 2], target: 3 }]);
        assert_eq!(sequences.test(), [Case { history: &[1, 2, 3], target: 4 }, Case { history: &[2], target: 1 }]);
    }

    #[test]
    fn by_time_nothing_of_the_future_is_learnt_from() {
        let met = |user: &str, item: u32, time: u32| Interaction {
            user: user.to_owned(),
            item: format!("i{item:02}"),
            time: time.into(),
        };
        // At 1 to 20: u takes turns with v; only v comes in the end.
        let of = |time: u32| met(if time < 18 && time.is_multiple_of(2) { "u" } else { "v" }, time, time);
        let sequences = Sequences::new("test", Split::Time, (1..=20).map(of).collect());
        assert_eq!(
            sequences.learning().collect::<Vec<_>>(),
            [&[2, 4, 6, 8, 10, 12, 14, 16][..], &[1, 3, 5, 7, 9, 11, 13, 15]]
        );
        let before: Vec<u32> = (1..17).filter(|item| item % 2 == 1).collect();
        assert_eq!(sequences.validation(), [Case { history: &before, target: 17 }]);
        let before = [before, vec![17, 18]].concat();
        assert_eq!(sequences.test(), [Case { history: &before, target: 19 }]);
    }
}
