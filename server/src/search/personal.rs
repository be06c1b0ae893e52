//! Moves up what the person who searches is likely to want: what they dealt with before, and what is like it.

use rustc_hash::FxHashMap;

use super::mmr::scaled;
use crate::{Doc, vector::VectorIndex};

/// Who searches, and how much that counts.
#[derive(Debug, Clone)]
pub struct Personal {
    /// From 0 (nothing) to 1 (relevance counts nothing).
    pub strength: f64,
    /// How many of the best candidates are ordered anew.
    pub candidates: usize,
    /// The items the person dealt with last, and how much each says, 0 to 1.
    pub sources: Vec<(Doc, f32)>,
}

impl Personal {
    /// Orders the first candidates (best first) by (1 − strength) · relevance + strength · affinity. Relevance is scaled
    /// to 0…1 over them; affinity is the largest cosine to one of the person's items, times what that item says. Without
    /// vectors only these items themselves have an affinity. Equal values keep their order.
    pub fn reorder(&self, candidates: &[(Doc, f32)], vectors: Option<&VectorIndex>) -> Vec<(Doc, f32)> {
        let mut affinity: FxHashMap<Doc, f64> = FxHashMap::default();
        let mut allow = |doc: Doc, value: f64| {
            let best = affinity.entry(doc).or_default();
            *best = best.max(value);
        };
        for &(source, weight) in &self.sources {
            let weight = f64::from(weight);
            allow(source, weight);
            let Some((vectors, vector)) = vectors.and_then(|index| Some((index, index.vector(source)?))) else {
                continue;
            };
            // The vector is the index's own: it is of the right width.
            let similarities = vectors.similarities(&vector, candidates.iter().map(|&(doc, _)| doc));
            for (doc, cosine) in similarities.unwrap_or_default() {
                allow(doc, weight * f64::from(cosine));
            }
        }
        let mut order: Vec<(Doc, f32)> = candidates
            .iter()
            .zip(scaled(candidates))
            .map(|(&(doc, _), relevance)| {
                let affinity = affinity.get(&doc).copied().unwrap_or_default();
                (doc, ((1.0 - self.strength) * relevance + self.strength * affinity) as f32)
            })
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::VectorOptions;

    fn personal(strength: f64, sources: &[(Doc, f32)]) -> Personal {
        Personal { strength, candidates: 100, sources: sources.to_vec() }
    }

    fn docs(order: &[(Doc, f32)]) -> Vec<Doc> {
        order.iter().map(|&(doc, _)| doc).collect()
    }

    const CANDIDATES: [(Doc, f32); 3] = [(1, 0.9), (2, 0.8), (3, 0.1)];

    #[test]
    fn what_the_person_had_before_moves_up() {
        assert_eq!(docs(&personal(0.0, &[(3, 1.0)]).reorder(&CANDIDATES, None)), [1, 2, 3]);
        assert_eq!(docs(&personal(0.3, &[(2, 1.0)]).reorder(&CANDIDATES, None)), [2, 1, 3]);
        assert_eq!(docs(&personal(1.0, &[(3, 0.4), (9, 1.0)]).reorder(&CANDIDATES, None)), [3, 1, 2]);
        assert_eq!(docs(&personal(0.5, &[]).reorder(&CANDIDATES, None)), [1, 2, 3]);
    }

    #[test]
    fn so_does_what_is_like_it() {
        let folder = tempfile::tempdir().unwrap();
        let index = VectorIndex::open(folder.path(), VectorOptions::new(2)).unwrap();
        for (doc, vector) in [(1, [1.0, 0.0]), (2, [0.8, 0.6]), (3, [0.0, 1.0]), (9, [0.1, 1.0])] {
            index.upsert(doc, u64::from(doc), &vector).unwrap();
        }
        let order = personal(0.8, &[(9, 1.0)]).reorder(&CANDIDATES, Some(&index));
        assert_eq!(docs(&order), [3, 2, 1]);
        assert!((order[0].1 - 0.8 * 0.995).abs() < 1e-2, "{order:?}");
    }
}
