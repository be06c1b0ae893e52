//! Makes results differ from each other: maximal marginal relevance.
//!
//! Carbonell, Goldstein: *The use of MMR, diversity-based reranking*, SIGIR 1998: again and again the candidate with the
//! largest λ · relevance − (1 − λ) · max similarity to those already chosen.

use crate::Doc;

/// Chooses `take` of `candidates` (document and relevance, best first) by maximal marginal relevance, in the order
/// chosen, each with the value it was chosen for.
///
/// Relevance is scaled to 0…1 over the candidates (all equal: 1), so that `lambda` means the same whatever it is made
/// of. Similarity is the cosine, below 0 as 0; a document for which `vector` has nothing is like no other. Equal values
/// keep the order of the candidates. With `lambda` ≥ 1 the first candidates are returned as they are.
///
/// Takes `take` × `candidates` products of two vectors.
pub fn diversify<V: AsRef<[f32]>>(
    candidates: &[(Doc, f32)],
    vector: impl Fn(Doc) -> Option<V>,
    lambda: f64,
    take: usize,
) -> Vec<(Doc, f32)> {
    let take = take.min(candidates.len());
    if lambda.is_nan() || lambda >= 1.0 {
        return candidates[..take].to_vec();
    }
    let lambda = lambda.max(0.0);
    let relevance = scaled(candidates);
    let vectors: Vec<Option<Vec<f32>>> = candidates.iter().map(|&(doc, _)| normalised(vector(doc)?.as_ref())).collect();

    let mut nearest = vec![0.0_f64; candidates.len()]; // largest similarity to a chosen one
    let mut left: Vec<usize> = (0..candidates.len()).collect(); // in the order of the candidates
    let mut chosen = Vec::with_capacity(take);
    while chosen.len() < take {
        let value = |index: usize| lambda * relevance[index] - (1.0 - lambda) * nearest[index];
        let mut best = 0;
        for place in 1..left.len() {
            if value(left[place]) > value(left[best]) {
                best = place;
            }
        }
        let index = left.remove(best);
        chosen.push((candidates[index].0, value(index) as f32));
        if let Some(latest) = &vectors[index] {
            for &other in &left {
                if let Some(vector) = &vectors[other] {
                    nearest[other] = nearest[other].max(dot(latest, vector));
                }
            }
        }
    }
    chosen
}

/// Relevance from 0 (the least) to 1 (the most); 0 for what is not finite.
pub(super) fn scaled(candidates: &[(Doc, f32)]) -> Vec<f64> {
    let finite = || candidates.iter().map(|&(_, score)| f64::from(score)).filter(|score| score.is_finite());
    let (least, most) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let scale = |score: f64| match score {
        score if !score.is_finite() => 0.0,
        _ if least >= most => 1.0,
        score => (score - least) / (most - least),
    };
    candidates.iter().map(|&(_, score)| scale(f64::from(score))).collect()
}

/// The vector at length 1; none if it has no direction.
fn normalised(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    (length.is_finite() && length > 0.0).then(|| vector.iter().map(|&x| (f64::from(x) / length) as f32).collect())
}

/// The inner product, its sums kept apart so that the compiler can do several at once.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0_f32; 16];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    f64::from(sums.iter().sum::<f32>() + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn docs(chosen: &[(Doc, f32)]) -> Vec<Doc> {
        chosen.iter().map(|hit| hit.0).collect()
    }

    /// Two directions: even documents look one way, odd ones another.
    fn by_parity(doc: Doc) -> Vec<f32> {
        if doc.is_multiple_of(2) { vec![2.0, 0.0] } else { vec![0.0, 0.5] }
    }

    #[test]
    fn the_second_result_is_unlike_the_first() {
        let candidates = [(0, 1.0), (2, 0.9), (4, 0.8), (1, 0.5)];
        assert_eq!(docs(&diversify(&candidates, |doc| Some(by_parity(doc)), 0.5, 4)), [0, 1, 2, 4]);
    }

    #[test]
    fn values_are_those_of_the_formula() {
        let chosen = diversify(&[(0, 3.0), (2, 2.0), (1, 1.0)], |doc| Some(by_parity(doc)), 0.75, 3);
        assert_eq!(chosen, [(0, 0.75), (2, 0.125), (1, 0.0)]);
    }

    #[test]
    fn lambda_one_changes_nothing() {
        let candidates = [(0, 0.9), (2, 0.9), (1, 0.2)];
        assert_eq!(diversify(&candidates, |doc| Some(by_parity(doc)), 1.0, 2), candidates[..2]);
    }

    #[test]
    fn lambda_zero_looks_at_difference_alone_after_the_first() {
        let candidates = [(0, 1.0), (2, 0.9), (4, 0.8), (1, 0.0)];
        assert_eq!(docs(&diversify(&candidates, |doc| Some(by_parity(doc)), 0.0, 2)), [0, 1]);
    }

    #[test]
    fn an_item_without_a_vector_is_like_no_other() {
        let candidates = [(0, 1.0), (2, 0.9), (4, 0.5)];
        let chosen = diversify(&candidates, |doc| (doc != 4).then(|| by_parity(doc)), 0.5, 3);
        assert_eq!(docs(&chosen), [0, 4, 2]);
    }

    #[test]
    fn vectors_without_direction_are_taken_as_missing() {
        for odd in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 0.0]] {
            let chosen = diversify(&[(0, 1.0), (1, 0.5)], |_| Some(odd.clone()), 0.3, 2);
            assert_eq!(docs(&chosen), [0, 1]);
            assert!(chosen.iter().all(|hit| hit.1.is_finite()));
        }
    }

    proptest! {
        #[test]
        fn every_result_is_a_candidate_and_none_comes_twice(
            scores in proptest::collection::btree_map(0..50_u32, any::<f32>(), 0..30),
            vectors in proptest::collection::vec(proptest::option::of(proptest::collection::vec(-1.0..1.0_f32, 4)), 50),
            lambda in 0.0..=1.0_f64,
            take in 0..40_usize,
        ) {
            let candidates: Vec<(Doc, f32)> = scores.into_iter().collect();
            let chosen = diversify(&candidates, |doc| vectors[doc as usize].clone(), lambda, take);
            prop_assert_eq!(chosen.len(), take.min(candidates.len()));
            let unique: std::collections::BTreeSet<Doc> = docs(&chosen).into_iter().collect();
            prop_assert_eq!(unique.len(), chosen.len());
            prop_assert!(unique.iter().all(|doc| candidates.iter().any(|candidate| candidate.0 == *doc)));
        }
    }
}
