//! What is similar to the source items by vectors.
//!
//! Each of the first source items is searched for on its own, and a candidate has the largest of its similarities: items
//! of different kinds have no useful middle. If there are more source items than searches, one more search by the mean
//! of all their vectors stands for the rest.

use roaring::RoaringBitmap;

use super::RecommendOptions;
use super::candidates::Candidates;
use crate::Doc;
use crate::vector::VectorIndex;

/// A vector index, as far as recommending needs one.
pub trait Neighbours {
    /// The vector of an item.
    fn vector(&self, doc: Doc) -> Option<Vec<f32>>;
    /// The `k` allowed items nearest to a vector with their cosines, best first.
    fn nearest(&self, vector: &[f32], k: usize, allowed: &RoaringBitmap) -> Vec<(Doc, f32)>;
}

/// A search that fails finds nothing: the other sources answer without it.
impl Neighbours for VectorIndex {
    fn vector(&self, doc: Doc) -> Option<Vec<f32>> {
        self.vector(doc)
    }

    fn nearest(&self, vector: &[f32], k: usize, allowed: &RoaringBitmap) -> Vec<(Doc, f32)> {
        self.search(vector, k, Some(allowed)).unwrap_or_else(|error| {
            tracing::warn!(%error, "similar items could not be searched");
            Vec::new()
        })
    }
}

/// Candidates similar to `sources` (items and their weights), of those allowed.
pub fn similar(
    vectors: &dyn Neighbours,
    sources: &[(Doc, f32)],
    allowed: &RoaringBitmap,
    options: &RecommendOptions,
) -> Candidates {
    let mut candidates = Candidates::default();
    let known: Vec<(Doc, f32, Vec<f32>)> =
        sources.iter().filter_map(|&(doc, weight)| Some((doc, weight, vectors.vector(doc)?))).collect();
    // The source items themselves come back, too.
    let depth = options.similar_depth + sources.len();
    for (source, weight, vector) in known.iter().take(options.similar_searches) {
        for (doc, cosine) in vectors.nearest(vector, depth, allowed) {
            candidates.raise(doc, weight * cosine.max(0.0), *source);
        }
    }
    if known.len() > options.similar_searches {
        let (mean, weight) = mean(&known);
        for (doc, cosine) in vectors.nearest(&mean, depth, allowed) {
            let Some(nearest) = vectors.vector(doc).and_then(|vector| nearest_source(&known, &vector)) else {
                continue;
            };
            candidates.raise(doc, weight * cosine.max(0.0), nearest);
        }
    }
    for &(source, _) in sources {
        candidates.remove(source);
    }
    candidates.rescale(|_, score| score);
    candidates
}

/// The weighted mean of all vectors, and of the weights.
fn mean(known: &[(Doc, f32, Vec<f32>)]) -> (Vec<f32>, f32) {
    let mut mean = vec![0.0; known.first().map_or(0, |first| first.2.len())];
    for (_, weight, vector) in known {
        mean.iter_mut().zip(vector).for_each(|(sum, x)| *sum += weight * x);
    }
    (mean, known.iter().map(|known| known.1).sum::<f32>() / known.len().max(1) as f32)
}

fn nearest_source(known: &[(Doc, f32, Vec<f32>)], vector: &[f32]) -> Option<Doc> {
    let dot = |other: &[f32]| other.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
    known.iter().max_by(|a, b| dot(&a.2).total_cmp(&dot(&b.2))).map(|nearest| nearest.0)
}
