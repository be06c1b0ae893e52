//! How good a ranking is. Everything is counted over the whole ranking that was served, never over a sample.

use std::collections::{HashMap, HashSet};

/// What one ranking is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scores {
    /// Normalised discounted cumulative gain (Järvelin & Kekäläinen 2002), gain 2^grade − 1 (Burges et al. 2005).
    pub ndcg: f64,
    /// The part of the relevant documents that is among the first k.
    pub recall: f64,
    /// One over the place of the first relevant document; 0 when there is none among the first k.
    pub reciprocal_rank: f64,
    /// The part of the first k that was judged at all.
    pub judged: f64,
}

/// Scores the first `k` of a ranking against all judgements of its query. A document that is ranked twice counts
/// once. `None` when no document is relevant: then no ranking is better than another.
pub fn score(ranking: &[String], grades: &HashMap<String, f64>, k: usize) -> Option<Scores> {
    let relevant = grades.values().filter(|grade| **grade > 0.0).count();
    if relevant == 0 || k == 0 {
        return None;
    }
    let mut seen = HashSet::new();
    let mut scores = Scores::default();
    let (mut gained, mut found, mut judged) = (0.0, 0, 0);
    for (place, id) in ranking.iter().take(k).enumerate() {
        let Some(grade) = grades.get(id).filter(|_| seen.insert(id)) else { continue };
        judged += 1;
        gained += gain(*grade) * discount(place);
        if *grade > 0.0 {
            found += 1;
            if found == 1 {
                scores.reciprocal_rank = 1.0 / (place + 1) as f64;
            }
        }
    }
    scores.ndcg = gained / ideal(grades, k);
    scores.recall = f64::from(found) / relevant as f64;
    scores.judged = f64::from(judged) / ranking.len().min(k).max(1) as f64;
    Some(scores)
}

/// The gain of the best possible ranking of everything judged.
fn ideal(grades: &HashMap<String, f64>, k: usize) -> f64 {
    let mut best: Vec<f64> = grades.values().copied().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    best.into_iter().take(k).enumerate().map(|(place, grade)| gain(grade) * discount(place)).sum()
}

fn gain(grade: f64) -> f64 {
    (grade.max(0.0)).exp2() - 1.0
}

/// For places from 0.
pub fn discount(place: usize) -> f64 {
    1.0 / (place as f64 + 2.0).log2()
}

/// A mean with half the width of its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Half the width of the normal approximation's 95 % interval.
    pub margin: f64,
}

/// The mean of the values; 0 for none.
pub fn mean(values: impl Iterator<Item = f64> + Clone) -> Mean {
    let count = values.clone().count().max(1) as f64;
    let value = values.clone().sum::<f64>() / count;
    let variance = values.map(|v| (v - value).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    Mean { value, margin: 1.96 * (variance / count).sqrt() }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn ids(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    fn grades(pairs: &[(&str, f64)]) -> HashMap<String, f64> {
        pairs.iter().map(|(id, grade)| ((*id).to_owned(), *grade)).collect()
    }

    #[track_caller]
    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-9, "{actual} is not {expected}");
    }

    #[test]
    fn binary_grades_by_hand() {
        // Relevant: a, b, c; found at places 1 and 3 of 4.
        // DCG = 1 + 1/log2(4) = 1.5; ideal = 1 + 1/log2(3) + 1/2 = 2.130929753571458.
        let scores = score(&ids("axbz"), &grades(&[("a", 1.0), ("b", 1.0), ("c", 1.0), ("x", 0.0)]), 10).unwrap();
        close(scores.ndcg, 1.5 / 2.130_929_753_571_458);
        close(scores.recall, 2.0 / 3.0);
        close(scores.reciprocal_rank, 1.0);
        close(scores.judged, 0.75);
    }

    #[test]
    fn graded_judgements_by_hand() {
        // Gains: grade 3 → 7, 2 → 3, 1 → 1. Ranked 2, 3, 1: DCG = 3 + 7/log2(3) + 1/2 = 7.916508275000202.
        // Ideal 3, 2, 1: 7 + 3/log2(3) + 1/2 = 9.392789260714372.
        let scores = score(&ids("bac"), &grades(&[("a", 3.0), ("b", 2.0), ("c", 1.0)]), 3).unwrap();
        close(scores.ndcg, 7.916_508_275_000_202 / 9.392_789_260_714_372);
    }

    #[test]
    fn only_the_first_k_count_in_the_ranking_and_in_the_ideal() {
        let grades = grades(&[("a", 1.0), ("b", 1.0)]);
        let scores = score(&ids("xab"), &grades, 2).unwrap();
        // DCG@2 = 1/log2(3); ideal@2 = 1 + 1/log2(3).
        close(scores.ndcg, 0.630_929_753_571_457_4 / 1.630_929_753_571_457_4);
        close(scores.recall, 0.5);
        close(scores.reciprocal_rank, 0.5);
        close(score(&ids("ab"), &grades, 1).unwrap().ndcg, 1.0);
    }

    #[test]
    fn a_document_ranked_twice_counts_once() {
        let scores = score(&ids("aaa"), &grades(&[("a", 1.0), ("b", 1.0)]), 10).unwrap();
        close(scores.recall, 0.5);
        close(scores.ndcg, 1.0 / 1.630_929_753_571_457_4);
    }

    #[test]
    fn a_query_without_anything_relevant_has_no_score() {
        assert_eq!(score(&ids("a"), &grades(&[("a", 0.0)]), 10), None);
    }

    #[test]
    fn an_empty_ranking_is_worth_nothing() {
        assert_eq!(score(&[], &grades(&[("a", 1.0)]), 10), Some(Scores::default()));
    }

    #[test]
    fn a_mean_comes_with_its_interval() {
        // Sample deviation 1, four values: 1.96 / 2 · 2/√3 …: variance of 0,0,2,2 is 4/3.
        let mean = mean([0.0, 0.0, 2.0, 2.0].into_iter());
        close(mean.value, 1.0);
        close(mean.margin, 1.96 * (4.0_f64 / 3.0 / 4.0).sqrt());
    }

    proptest! {
        #[test]
        fn no_score_is_below_0_or_above_1(
            ranking in vec("[a-h]", 0..12), grades in vec(0_u8..5, 8), k in 1_usize..12,
        ) {
            let grades = ('a'..='h').map(String::from).zip(grades.into_iter().map(f64::from)).collect();
            if let Some(scores) = score(&ranking, &grades, k) {
                for value in [scores.ndcg, scores.recall, scores.reciprocal_rank, scores.judged] {
                    prop_assert!((0.0..=1.0 + 1e-12).contains(&value), "{:?}", scores);
                }
            }
        }

        #[test]
        fn the_ideal_ranking_scores_1(grades in vec(0_u8..5, 1..8), k in 1_usize..10) {
            let grades: HashMap<String, f64> =
                ('a'..).map(String::from).zip(grades.into_iter().map(f64::from)).collect();
            let mut best: Vec<String> = grades.keys().cloned().collect();
            best.sort_by(|a, b| grades[b].total_cmp(&grades[a]));
            if let Some(scores) = score(&best, &grades, k) {
                prop_assert!((scores.ndcg - 1.0).abs() < 1e-12);
            }
        }
    }
}
