//! What a model must beat: the most popular items, and what most often followed the last item.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::interactions::Interaction;

/// Counts of items, and of items after items.
#[derive(Debug, Default)]
pub struct Baselines<'a> {
    /// Most popular first; equally popular ones by id.
    by_popularity: Vec<&'a str>,
    /// What followed an item directly, most frequent first; equally frequent ones by popularity.
    followers: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Baselines<'a> {
    /// Counts what users did.
    pub fn new(past: &'a BTreeMap<String, Vec<Interaction>>) -> Self {
        let mut popularity: HashMap<&str, u32> = HashMap::new();
        let mut followers: HashMap<&str, HashMap<&str, u32>> = HashMap::new();
        for history in past.values() {
            for interaction in history {
                *popularity.entry(&interaction.item).or_default() += 1;
            }
            for pair in history.windows(2) {
                if let [before, after] = pair {
                    *followers.entry(&before.item).or_default().entry(&after.item).or_default() += 1;
                }
            }
        }
        let ranked = |counts: &HashMap<&'a str, u32>| {
            let mut items: Vec<(&'a str, u32)> = counts.iter().map(|(item, count)| (*item, *count)).collect();
            items.sort_by_key(|(item, count)| {
                (std::cmp::Reverse(*count), std::cmp::Reverse(popularity.get(item).copied()), *item)
            });
            items.into_iter().map(|(item, _)| item).collect::<Vec<_>>()
        };
        let followers = followers.iter().map(|(item, after)| (*item, ranked(after))).collect();
        Self { by_popularity: ranked(&popularity), followers }
    }

    /// The `k` most popular items that the user has not met.
    pub fn popular(&self, past: &[Interaction], k: usize) -> Vec<String> {
        first_new(self.by_popularity.iter(), past, k)
    }

    /// The `k` items that most often followed the user's last one (a first-order Markov chain), filled up with popular
    /// ones; without those the user has met.
    pub fn markov(&self, past: &[Interaction], k: usize) -> Vec<String> {
        let followers = past.last().and_then(|last| self.followers.get(last.item.as_str()));
        first_new(followers.into_iter().flatten().chain(&self.by_popularity), past, k)
    }
}

fn first_new<'a>(ranking: impl Iterator<Item = &'a &'a str>, past: &[Interaction], k: usize) -> Vec<String> {
    let mut met: HashSet<&str> = past.iter().map(|interaction| interaction.item.as_str()).collect();
    ranking.filter(|item| met.insert(item)).take(k).map(|item| (*item).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interactions::leave_one_out;

    fn history(items: &str) -> Vec<Interaction> {
        let met = |(time, item): (i32, char)| Interaction { user: items.into(), item: item.into(), time: time.into() };
        (0..).zip(items.chars()).map(met).collect()
    }

    #[test]
    fn popular_items_come_in_order_without_those_met() {
        let split = leave_one_out([history("abca"), history("aba"), history("ca")].concat());
        // Held out: the last of each. Left: abc, ab, c.
        let baselines = Baselines::new(&split.past);
        assert_eq!(baselines.popular(&history("x"), 10), ["a", "b", "c"]);
        assert_eq!(baselines.popular(&history("b"), 1), ["a"]);
    }

    #[test]
    fn followers_come_first_and_popular_items_fill_up() {
        let past = [history("abd"), history("abc"), history("bc")].map(|h| (h[0].user.clone(), h)).into();
        let baselines = Baselines::new(&past);
        // After b: c twice, d once. Popular: b 3, then a and c 2.
        assert_eq!(baselines.markov(&history("xb"), 10), ["c", "d", "a"]);
        assert_eq!(baselines.markov(&history("z"), 2), ["b", "a"]);
    }
}
