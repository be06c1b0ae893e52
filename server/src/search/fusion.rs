//! Makes one ranking of several: by ranks, or by scores put on a common scale.
//!
//! Fusion is done once, over all candidates of all retrievers: done in pieces, the answer would depend on the pieces.

use std::cmp::Ordering;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::Doc;

/// One retriever's answer.
#[derive(Clone, Copy, Debug)]
pub struct RankedList<'a> {
    /// The retriever's name, as `lexical`.
    pub name: &'static str,
    /// How much the list counts: finite and not negative. 0 keeps its candidates without counting their scores.
    pub weight: f64,
    /// What its scores mean.
    pub scale: Scale,
    /// With [`Method::Linear`], the score that a document counts which the list lacks.
    pub lacking: f32,
    /// Documents with that retriever's own scores, best first. Of a document named twice the first place counts.
    pub hits: &'a [(Doc, f32)],
}

/// What a retriever's scores mean, whatever else is in the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// The score of a match as good as one can wish for counts 1, others in proportion.
    Share(f32),
    /// A cosine counts its square: the share of the one vector that lies along the other.
    Cosine,
}

impl Scale {
    /// The score as a number from about 0 to 1.
    fn strength(self, score: f32) -> f64 {
        let score = f64::from(score).max(0.0);
        let strength = match self {
            Self::Share(whole) => score / f64::from(whole),
            Self::Cosine => score * score,
        };
        if strength.is_finite() { strength } else { 0.0 }
    }
}

/// How the rankings of the retrievers become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Reciprocal rank fusion: Σ weight / (k + rank), ranks from 1. A list that lacks a document adds nothing for it.
    ///
    /// Cormack, Clarke, Büttcher: *Reciprocal rank fusion outperforms Condorcet and individual rank learning methods*,
    /// SIGIR 2009.
    ReciprocalRank {
        /// Larger: the first ranks matter less. 60 in the paper.
        k: f64,
    },
    /// Σ weight · score, each on its [`Scale`]; what is negative counts as 0.
    ///
    /// The scale is the retriever's own and not the list's: when a query has poor matches only, the best of them counts
    /// as little as it is worth. Scaled from its minimum to its maximum (Bruch, Gai, Ingber: *An analysis of fusion
    /// functions for hybrid retrieval*, ACM TOIS 2023) "whole chicken" would be the perfect match for "whole milk" in a
    /// shop whose milk is called "white".
    Linear,
    /// Σ weight · (score − (μ − 3σ)) / 6σ, mean and (population) standard deviation taken over the list: a single far
    /// score moves the others less than it does with [`Method::Linear`]. Scores beyond three deviations go beyond
    /// 0…1. A list that lacks a document counts it like its worst candidate. In a list whose scores are all equal
    /// every candidate counts ½, and what it lacks 0.
    ///
    /// Mazzeschi: *Distribution-based score fusion*, 2023.
    DistributionBased,
}

/// A document in the fused ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fused {
    /// The document.
    pub doc: Doc,
    /// Its fused score: larger is better; comparable only within one ranking.
    pub score: f32,
}

/// Fuses `lists` into one ranking of every document in any of them, best first; equal scores by document number.
///
/// The order of the lists does not matter. A score that is not finite counts as if the list lacked the document, a
/// weight that is not finite or is negative counts as 0.
///
/// ```
/// use vitrine_server::search::fusion::{Method, RankedList, Scale, fuse};
///
/// let words = RankedList { name: "lexical", weight: 1.0, scale: Scale::Share(20.0), lacking: 0.0, hits: &[(7, 12.5), (3, 11.0)] };
/// let meaning = RankedList { name: "semantic", weight: 1.0, scale: Scale::Cosine, lacking: 0.0, hits: &[(3, 0.81), (9, 0.44)] };
/// let fused = fuse(&[words, meaning], Method::ReciprocalRank { k: 60.0 });
/// assert_eq!(fused.iter().map(|hit| hit.doc).collect::<Vec<_>>(), [3, 7, 9]);
/// ```
pub fn fuse(lists: &[RankedList<'_>], method: Method) -> Vec<Fused> {
    let mut sums: FxHashMap<Doc, f64> = FxHashMap::default();
    // What every list would give a document it lacks is the same for all: it moves no order, and is added at the end
    // so that scores read as the formulas say.
    let mut ground = 0.0;
    for list in lists {
        let weight = if list.weight.is_finite() { list.weight.max(0.0) } else { 0.0 };
        let spread = Spread::of(list, method);
        ground += weight * spread.absent();
        let mut seen = FxHashSet::default();
        for (place, &(doc, score)) in list.hits.iter().enumerate() {
            if seen.insert(doc) {
                *sums.entry(doc).or_default() += weight * spread.above_absent(place, score);
            }
        }
    }
    let mut ranking: Vec<(Doc, f64)> = sums.into_iter().collect();
    ranking.sort_unstable_by(best_first);
    let score = |sum: f64| (sum + ground).min(f64::from(f32::MAX)) as f32;
    ranking.into_iter().map(|(doc, sum)| Fused { doc, score: score(sum) }).collect()
}

fn best_first(a: &(Doc, f64), b: &(Doc, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// How the scores of one list are put on the common scale.
enum Spread {
    Rank {
        k: f64,
    },
    /// By what they mean; what the list lacks is `absent`.
    Own {
        scale: Scale,
        absent: f64,
    },
    /// `(score - origin) / width`; what the list lacks is scaled to `absent`.
    Affine {
        origin: f64,
        width: f64,
        absent: f64,
    },
    /// All scores are equal: each counts ½, and what the list lacks 0.
    Flat,
}

impl Spread {
    fn of(list: &RankedList<'_>, method: Method) -> Self {
        match method {
            Method::ReciprocalRank { k } => return Self::Rank { k: if k.is_finite() { k.max(0.0) } else { 60.0 } },
            Method::Linear => return Self::Own { scale: list.scale, absent: list.scale.strength(list.lacking) },
            Method::DistributionBased => {}
        }
        let scores = || list.hits.iter().map(|&(_, score)| f64::from(score)).filter(|score| score.is_finite());
        let (least, most) =
            scores().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| (low.min(score), high.max(score)));
        let count = scores().count() as f64;
        let mean = scores().sum::<f64>() / count;
        let deviation = (scores().map(|score| (score - mean).powi(2)).sum::<f64>() / count).sqrt();
        // All scores are equal, or there are none.
        if least >= most || deviation <= 0.0 || !deviation.is_finite() {
            return Self::Flat;
        }
        let (origin, width) = (mean - 3.0 * deviation, 6.0 * deviation);
        Self::Affine { origin, width, absent: (least - origin) / width }
    }

    /// The scaled score of a document the list lacks.
    fn absent(&self) -> f64 {
        match self {
            Self::Affine { absent, .. } | Self::Own { absent, .. } => *absent,
            Self::Rank { .. } | Self::Flat => 0.0,
        }
    }

    /// By how much the scaled score of the hit at `place` (from 0) exceeds that of a document the list lacks.
    fn above_absent(&self, place: usize, score: f32) -> f64 {
        match self {
            Self::Rank { k } => 1.0 / (k + place as f64 + 1.0),
            _ if !score.is_finite() => 0.0,
            Self::Own { scale, absent } => scale.strength(score) - absent,
            Self::Affine { origin, width, absent } => ((f64::from(score) - origin) / width - absent).max(0.0),
            Self::Flat => 0.5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const METHODS: [Method; 3] = [Method::ReciprocalRank { k: 60.0 }, Method::Linear, Method::DistributionBased];

    fn list(weight: f64, hits: &[(Doc, f32)]) -> RankedList<'_> {
        RankedList { name: "any", weight, scale: Scale::Share(10.0), lacking: 0.0, hits }
    }

    fn docs(fused: &[Fused]) -> Vec<Doc> {
        fused.iter().map(|hit| hit.doc).collect()
    }

    fn assert_near(actual: f32, expected: f64) {
        assert!((f64::from(actual) - expected).abs() < 1e-6, "{actual} is not {expected}");
    }

    #[test]
    fn reciprocal_rank_adds_the_weighted_reciprocals_of_the_ranks() {
        let fused = fuse(
            &[list(1.0, &[(1, 9.0), (2, 8.0)]), list(2.0, &[(2, 0.5), (3, 0.4)])],
            Method::ReciprocalRank { k: 60.0 },
        );
        assert_eq!(docs(&fused), [2, 3, 1]);
        assert_near(fused[0].score, 1.0 / 62.0 + 2.0 / 61.0);
        assert_near(fused[1].score, 2.0 / 62.0);
        assert_near(fused[2].score, 1.0 / 61.0);
    }

    #[test]
    fn linear_adds_the_scores_on_their_scales() {
        let words = list(0.5, &[(1, 10.0), (2, 4.0), (3, 1.0)]);
        let meaning = RankedList { scale: Scale::Cosine, ..list(0.5, &[(3, 0.9), (1, 0.6), (4, -0.5)]) };
        let fused = fuse(&[words, meaning], Method::Linear);
        assert_eq!(docs(&fused), [1, 3, 2, 4]);
        for (hit, expected) in fused.iter().zip([0.5 + 0.18, 0.05 + 0.405, 0.2, 0.0]) {
            assert_near(hit.score, expected);
        }
    }

    #[test]
    fn what_a_list_cannot_know_counts_as_it_says() {
        let words = list(0.5, &[(1, 5.0), (2, 4.9), (3, 4.8)]);
        let meaning = RankedList { scale: Scale::Cosine, lacking: 0.5, ..list(0.5, &[(3, 0.6), (2, 0.4)]) };
        let fused = fuse(&[words, meaning], Method::Linear);
        assert_eq!(docs(&fused), [3, 1, 2]);
        assert_near(fused[1].score, 0.25 + 0.125);
    }

    #[test]
    fn the_best_of_poor_matches_is_a_poor_match() {
        let words = list(0.5, &[(1, 4.2), (2, 2.4)]);
        let meaning = RankedList { scale: Scale::Cosine, ..list(0.5, &[(2, 0.65), (1, 0.4)]) };
        assert_eq!(docs(&fuse(&[words, meaning], Method::Linear)), [2, 1]);
    }

    #[test]
    fn distribution_based_scales_by_three_deviations_around_the_mean() {
        let fused = fuse(&[list(1.0, &[(1, 3.0), (2, 2.0), (3, 1.0)])], Method::DistributionBased);
        let deviation = (2.0_f64 / 3.0).sqrt();
        assert_eq!(docs(&fused), [1, 2, 3]);
        assert_near(fused[0].score, 0.5 + 1.0 / (6.0 * deviation));
        assert_near(fused[1].score, 0.5);
        assert_near(fused[2].score, 0.5 - 1.0 / (6.0 * deviation));
    }

    #[test]
    fn scaled_by_its_spread_a_list_counts_what_it_lacks_like_its_worst_candidate() {
        let words = list(1.0, &[(1, 3.0), (2, 2.0), (3, 1.0)]);
        let fused = fuse(&[words, list(0.0, &[(9, 1.0)])], Method::DistributionBased);
        let score = |doc| fused.iter().find(|hit| hit.doc == doc).unwrap().score;
        assert_near(score(9), f64::from(score(3)));
    }

    #[test]
    fn a_single_candidate_has_a_score_too() {
        let hits = [(5, 0.3)];
        assert_near(fuse(&[list(1.0, &hits)], Method::ReciprocalRank { k: 60.0 })[0].score, 1.0 / 61.0);
        assert_near(fuse(&[list(1.0, &hits)], Method::Linear)[0].score, 0.03);
        assert_near(fuse(&[list(1.0, &hits)], Method::DistributionBased)[0].score, 0.5);
    }

    #[test]
    fn equal_scores_still_put_what_was_found_before_what_was_not() {
        for method in METHODS {
            let fused = fuse(&[list(1.0, &[(8, 1.5), (9, 1.5)]), list(1.0, &[])], method);
            assert_eq!(docs(&fused), [8, 9], "{method:?}");
            let fused = fuse(&[list(1.0, &[(8, 1.5), (9, 1.5)]), list(0.0, &[(1, 7.0)])], method);
            assert_eq!(docs(&fused), [8, 9, 1], "{method:?}");
        }
    }

    #[test]
    fn no_lists_and_empty_lists_give_an_empty_ranking() {
        for method in METHODS {
            assert!(fuse(&[], method).is_empty());
            assert!(fuse(&[list(1.0, &[]), list(1.0, &[])], method).is_empty());
        }
    }

    #[test]
    fn a_score_or_weight_that_is_no_number_counts_as_nothing() {
        for method in METHODS {
            let fused = fuse(&[list(1.0, &[(1, 2.0), (2, 1.0), (3, f32::NAN)]), list(f64::NAN, &[(2, 1.0)])], method);
            assert_eq!(fused.len(), 3);
            assert_eq!(fused[0].doc, 1);
            assert!(fused.iter().all(|hit| hit.score.is_finite()));
        }
    }

    #[test]
    fn ties_are_broken_by_document_number() {
        let fused = fuse(&[list(1.0, &[(4, 1.0)]), list(1.0, &[(2, 1.0)])], Method::ReciprocalRank { k: 60.0 });
        assert_eq!(docs(&fused), [2, 4]);
    }

    fn any_method() -> impl Strategy<Value = Method> {
        prop_oneof![
            (0.0..1000.0).prop_map(|k| Method::ReciprocalRank { k }),
            Just(Method::Linear),
            Just(Method::DistributionBased),
        ]
    }

    /// A list as a retriever gives it: distinct documents, best first.
    fn any_hits() -> impl Strategy<Value = Vec<(Doc, f32)>> {
        proptest::collection::btree_map(0..40_u32, 0.0..50.0_f32, 0..20).prop_map(|scores| {
            let mut hits: Vec<(Doc, f32)> = scores.into_iter().collect();
            hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            hits
        })
    }

    proptest! {
        #[test]
        fn the_order_of_the_lists_does_not_matter(
            method in any_method(), a in any_hits(), b in any_hits(), wa in 0.0..5.0_f64, wb in 0.0..5.0_f64,
        ) {
            let there = fuse(&[list(wa, &a), list(wb, &b)], method);
            let back = fuse(&[list(wb, &b), list(wa, &a)], method);
            prop_assert_eq!(there, back);
        }

        #[test]
        fn every_candidate_comes_out_once_with_a_finite_score_in_order(
            method in any_method(),
            a in proptest::collection::vec((0..40_u32, any::<f32>()), 0..20),
            b in proptest::collection::vec((0..40_u32, any::<f32>()), 0..20),
            wa in any::<f64>(),
        ) {
            let wa = if wa.abs() > 1e30 { 1.0 } else { wa };
            let fused = fuse(&[list(wa, &a), list(1.0, &b)], method);
            let candidates: std::collections::BTreeSet<Doc> = a.iter().chain(&b).map(|hit| hit.0).collect();
            let mut found = docs(&fused);
            found.sort_unstable();
            prop_assert_eq!(found, candidates.into_iter().collect::<Vec<_>>());
            prop_assert!(fused.iter().all(|hit| hit.score.is_finite()));
            prop_assert!(fused.windows(2).all(|pair| pair[0].score >= pair[1].score));
        }

        #[test]
        fn one_list_alone_keeps_its_order(method in any_method(), hits in any_hits(), weight in 0.1..5.0_f64) {
            let fused = fuse(&[list(weight, &hits)], method);
            prop_assert_eq!(docs(&fused), hits.iter().map(|hit| hit.0).collect::<Vec<_>>());
        }

        #[test]
        fn what_is_no_worse_in_every_list_is_no_worse_in_the_fused_one(
            method in any_method(), a in any_hits(), b in any_hits(), wa in 0.0..5.0_f64, wb in 0.0..5.0_f64,
        ) {
            let fused = fuse(&[list(wa, &a), list(wb, &b)], method);
            let place = |hits: &[(Doc, f32)], doc| hits.iter().position(|hit| hit.0 == doc).unwrap_or(usize::MAX);
            for better in &fused {
                for worse in &fused {
                    let dominates = [&a, &b].iter().all(|hits| place(hits, better.doc) <= place(hits, worse.doc));
                    prop_assert!(!dominates || better.score >= worse.score, "{:?} under {:?}", better, worse);
                }
            }
        }
    }
}
