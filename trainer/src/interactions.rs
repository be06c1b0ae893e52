//! Interactions of users with items over time, in RecBole's atomic files, and their split into past and future.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::text_file;

/// A user met an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Interaction {
    /// Who.
    pub user: String,
    /// What.
    pub item: String,
    /// When, in seconds since 1970.
    pub time: f64,
}

/// What each user did, oldest first, without what is to be foretold; and that.
#[derive(Debug, Default)]
pub struct PastAndNext {
    /// User to items, oldest first. Users with a single interaction have theirs here.
    pub past: BTreeMap<String, Vec<Interaction>>,
    /// User to the item that came next.
    pub held_out: BTreeMap<String, String>,
    /// Every item of past and future.
    pub items: BTreeSet<String>,
}

/// Reads the columns `user_id`, `item_id` and `timestamp` of an `.inter` file.
pub fn read(path: &Path) -> Result<Vec<Interaction>> {
    let rows = text_file::rows(path, ["user_id", "item_id", "timestamp"])?;
    rows.into_iter()
        .map(|(number, [user, item, time])| {
            let parsed = time.parse().ok().filter(|time: &f64| time.is_finite());
            let time = parsed.with_context(|| format!("{}:{number}: timestamp `{time}`", path.display()))?;
            Ok(Interaction { user, item, time })
        })
        .collect()
}

/// Reads the columns `item_id` and the first that looks like a title of an `.item` file.
pub fn read_titles(path: &Path) -> Result<BTreeMap<String, String>> {
    let titled =
        ["title", "movie_title", "name"].iter().find_map(|column| text_file::rows(path, ["item_id", column]).ok());
    let rows =
        titled.with_context(|| format!("{}: there are no columns item_id and title (or name)", path.display()))?;
    Ok(rows.into_iter().map(|(_, [id, title])| (id, title)).collect())
}

/// Holds out each user's last interaction. Interactions of the same time stay in the order of the file.
pub fn leave_one_out(mut interactions: Vec<Interaction>) -> PastAndNext {
    interactions.sort_by(|a, b| a.time.total_cmp(&b.time));
    let mut split = PastAndNext::default();
    for interaction in interactions {
        split.items.insert(interaction.item.clone());
        split.past.entry(interaction.user.clone()).or_default().push(interaction);
    }
    for (user, past) in &mut split.past {
        if past.len() > 1 {
            split.held_out.extend(past.pop().map(|last| (user.clone(), last.item)));
        }
    }
    split
}

/// When the last two of ten equal parts of interactions begin, which are in order of time.
pub fn tenths(interactions: &[Interaction]) -> [f64; 2] {
    [8, 9].map(|tenth| interactions.get(interactions.len() * tenth / 10).map_or(f64::INFINITY, |met| met.time))
}

/// Holds out what users did in the last of ten parts of all interactions: of each user who was there before, the first of it.
pub fn before(mut interactions: Vec<Interaction>) -> PastAndNext {
    interactions.sort_by(|a, b| a.time.total_cmp(&b.time));
    let [_, from] = tenths(&interactions);
    let mut split = PastAndNext::default();
    for interaction in interactions {
        split.items.insert(interaction.item.clone());
        if interaction.time < from {
            split.past.entry(interaction.user.clone()).or_default().push(interaction);
        } else if split.past.contains_key(&interaction.user) {
            split.held_out.entry(interaction.user).or_insert(interaction.item);
        }
    }
    split
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn met(user: &str, item: &str, time: f64) -> Interaction {
        Interaction { user: user.into(), item: item.into(), time }
    }

    #[test]
    fn the_last_interaction_by_time_is_held_out() {
        let split = leave_one_out(vec![met("u", "c", 3.0), met("u", "a", 1.0), met("v", "a", 5.0), met("u", "b", 2.0)]);
        assert_eq!(split.held_out, BTreeMap::from([("u".to_owned(), "c".to_owned())]));
        assert_eq!(split.past["u"].iter().map(|i| i.item.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(split.past["v"].len(), 1);
        assert_eq!(split.items.len(), 3);
    }

    #[test]
    fn recbole_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (inter, item) = (folder.path().join("x.inter"), folder.path().join("x.item"));
        fs::write(&inter, "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n")
            .unwrap();
        fs::write(&item, "item_id:token\tmovie_title:token_seq\n242\tKolya\n").unwrap();
        assert_eq!(read(&inter).unwrap(), [met("196", "242", 881_250_949.0)]);
        assert_eq!(read_titles(&item).unwrap()["242"], "Kolya");
    }

    #[test]
    fn by_time_the_first_of_the_last_tenth_is_held_out() {
        let mut all: Vec<Interaction> = (0..18).map(|at| met("u", "x", f64::from(at))).collect();
        all.extend([met("u", "a", 18.0), met("u", "b", 19.0), met("new", "c", 19.5)]);
        let split = before(all);
        assert_eq!(split.held_out, BTreeMap::from([("u".to_owned(), "a".to_owned())]));
        assert_eq!((split.past["u"].len(), split.items.len()), (18, 4));
    }
}
