//! What a model must beat: the most popular items, what most often followed the last item, and what is met by the same users.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::interactions::{Interaction, PastAndNext};
use crate::metrics::{Mean, discount, mean};
use crate::print::{figure, print_table};

/// One line of a table of models.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub model: String,
    pub ndcg: Mean,
    pub hit_rate: Mean,
    /// One over the place of what came next.
    pub reciprocal_rank: Mean,
    /// The part of all items that is recommended to anyone.
    pub coverage: f64,
    /// How many bits it says that a user knows a recommended item: −log₂ of the part of the users who do ("Solving the apparent
    /// diversity-accuracy dilemma of recommender systems", Zhou et al. 2010).
    pub novelty: f64,
    /// The mean part of the users who know a recommended item: the popularity bias ("Managing Popularity Bias in Recommender
    /// Systems", Abdollahpouri et al. 2019).
    pub popularity: f64,
}

/// What models are held against: what came next, and how popular items are.
#[derive(Debug)]
pub struct Exam<'a> {
    split: &'a PastAndNext,
    /// The part of the users who have met an item.
    popularity: HashMap<&'a str, f64>,
    k: usize,
}

impl<'a> Exam<'a> {
    /// Of rankings of `k` items.
    pub fn new(split: &'a PastAndNext, k: usize) -> Self {
        let mut popularity: HashMap<&str, f64> = HashMap::new();
        for history in split.past.values() {
            let met: HashSet<&str> = history.iter().map(|met| met.item.as_str()).collect();
            for item in met {
                *popularity.entry(item).or_default() += 1.0;
            }
        }
        for users in popularity.values_mut() {
            *users /= split.past.len() as f64;
        }
        Self { split, popularity, k }
    }

    /// Scores what is recommended after each user's past.
    pub fn line(&self, model: &str, recommend: impl Fn(&[Interaction]) -> Vec<String>) -> Line {
        self.line_of(model, self.split.held_out.keys().map(|user| recommend(&self.split.past[user])))
    }

    /// Scores rankings, one for each held-out item, in its order.
    pub fn line_of(&self, model: &str, rankings: impl Iterator<Item = Vec<String>>) -> Line {
        let (mut places, mut recommended) = (Vec::new(), HashMap::<String, f64>::new());
        for (ranking, held_out) in rankings.zip(self.split.held_out.values()) {
            places.push(ranking.iter().take(self.k).position(|item| item == held_out));
            ranking.into_iter().take(self.k).for_each(|item| *recommended.entry(item).or_default() += 1.0);
        }
        let mean_of = |value: fn(usize) -> f64| mean(places.iter().map(|place| place.map_or(0.0, value)));
        let all = recommended.values().sum::<f64>().max(1.0);
        // What nobody has met counts as met by one.
        let least = 1.0 / self.split.past.len().max(1) as f64;
        let known = |item: &str| self.popularity.get(item).copied().unwrap_or(0.0);
        let over = |value: &dyn Fn(&str) -> f64| {
            recommended.iter().map(|(item, times)| times * value(item)).sum::<f64>() / all
        };
        Line {
            model: model.to_owned(),
            ndcg: mean_of(discount),
            hit_rate: mean_of(|_| 1.0),
            reciprocal_rank: mean_of(|place| 1.0 / (place + 1) as f64),
            coverage: recommended.len() as f64 / self.split.items.len().max(1) as f64,
            novelty: over(&|item| -known(item).max(least).log2()),
            popularity: over(&known),
        }
    }
}

/// Prints the lines.
pub fn print(lines: &[Line], k: usize) {
    let header = ["model".to_owned(), format!("NDCG@{k}"), format!("HR@{k}"), format!("MRR@{k}")];
    let header: Vec<String> =
        header.into_iter().chain(["coverage", "novelty", "popularity"].map(str::to_owned)).collect();
    let row = |line: &Line| {
        let means = [line.ndcg, line.hit_rate, line.reciprocal_rank].map(figure);
        let [coverage, popularity] = [line.coverage, line.popularity].map(|part| format!("{:.1} %", 100.0 * part));
        [vec![line.model.clone()], means.to_vec(), vec![coverage, format!("{:.2} bits", line.novelty), popularity]]
            .concat()
    };
    print_table(&header, lines.iter().map(row).collect());
}

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

/// Items that are met by the same users ("Item-Based Top-N Recommendation Algorithms", Deshpande & Karypis 2004): two items are
/// as near as the cosine of who met them, and an item's score is the sum over the user's items of which it is a near one.
#[derive(Debug)]
pub struct Neighbours<'a> {
    names: Vec<&'a str>,
    numbers: HashMap<&'a str, usize>,
    /// The nearest to each item, and how near.
    near: Vec<Vec<(usize, f32)>>,
}

/// So many near items are kept of each.
const NEAREST: usize = 100;

impl<'a> Neighbours<'a> {
    /// Counts who met what.
    pub fn new(past: &'a BTreeMap<String, Vec<Interaction>>) -> Self {
        let mut names: Vec<&str> = past.values().flatten().map(|met| met.item.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let numbers: HashMap<&str, usize> = names.iter().enumerate().map(|(number, name)| (*name, number)).collect();
        let users: Vec<Vec<usize>> = past
            .values()
            .map(|history| {
                let mut met: Vec<usize> = history.iter().map(|met| numbers[met.item.as_str()]).collect();
                met.sort_unstable();
                met.dedup();
                met
            })
            .collect();
        let mut who: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
        for (user, items) in users.iter().enumerate() {
            for &item in items {
                who[item].push(user);
            }
        }
        let mut together = vec![0_u32; names.len()];
        let near = (0..names.len())
            .map(|item| {
                for &other in who[item].iter().flat_map(|&user| &users[user]) {
                    together[other] += 1;
                }
                together[item] = 0;
                let cosine = |(other, count): (usize, &u32)| {
                    (*count > 0)
                        .then(|| (other, *count as f32 / (who[item].len() as f32 * who[other].len() as f32).sqrt()))
                };
                let mut near: Vec<(usize, f32)> = together.iter().enumerate().filter_map(cosine).collect();
                together.fill(0);
                near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                near.truncate(NEAREST);
                near
            })
            .collect();
        Self { names, numbers, near }
    }

    /// The `k` items with the highest scores that the user has not met.
    pub fn rank(&self, past: &[Interaction], k: usize) -> Vec<String> {
        // In an order that is always the same: sums of floats depend on it, and scores are often equal but for that.
        let met: BTreeSet<usize> = past.iter().filter_map(|met| self.numbers.get(met.item.as_str()).copied()).collect();
        let mut scores: BTreeMap<usize, f32> = BTreeMap::new();
        for (other, near) in met.iter().flat_map(|&item| &self.near[item]).filter(|(other, _)| !met.contains(other)) {
            *scores.entry(*other).or_default() += near;
        }
        let mut ranked: Vec<(usize, f32)> = scores.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.into_iter().take(k).map(|(item, _)| self.names[item].to_owned()).collect()
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

    #[test]
    fn items_of_the_same_users_are_near() {
        let past =
            [history("ab"), history("abc"), history("cd")].map(|h| (h.iter().map(|met| met.item.clone()).collect(), h));
        let past = BTreeMap::from(past);
        let neighbours = Neighbours::new(&past);
        // b: together with a 2 of √(2·2), with c 1 of √(2·2).
        assert_eq!(neighbours.rank(&history("b"), 10), ["a", "c"]);
        // c has 1/2 from b and as much from a; d has nothing from them.
        assert_eq!(neighbours.rank(&history("ab"), 10), ["c"]);
        assert_eq!(neighbours.rank(&history("zc"), 1), ["d"]);
    }

    #[test]
    fn rankings_are_scored_by_hand() {
        // Held out: c, b. Known before: a by both of the two users, b by one.
        let split = leave_one_out([history("abc"), history("ab")].concat());
        let exam = Exam::new(&split, 2);
        let rankings = [vec!["b".to_owned(), "c".to_owned(), "a".to_owned()], vec!["a".to_owned(), "c".to_owned()]];
        let by_user: Vec<Vec<String>> =
            split.held_out.values().map(|item| rankings[usize::from(item == "b")].clone()).collect();
        let line = exam.line_of("hand", by_user.into_iter());
        assert!((line.ndcg.value - 0.5 / 3_f64.log2()).abs() < 1e-9);
        assert!((line.hit_rate.value - 0.5).abs() < 1e-9 && (line.reciprocal_rank.value - 0.25).abs() < 1e-9);
        // Recommended: b (1/2), c (unknown), a (1), c.
        assert!((line.coverage - 1.0).abs() < 1e-9);
        assert!((line.popularity - 1.5 / 4.0).abs() < 1e-9);
        assert!((line.novelty - (1.0 + 1.0 + 0.0 + 1.0) / 4.0).abs() < 1e-9);
    }
}
