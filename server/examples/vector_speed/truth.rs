//! Which answers are right: by comparing with every vector.

use half::f16;
use rayon::prelude::*;
use vitrine_models::Products;
use vitrine_server::Doc;
use vitrine_server::vector::Metric;

use crate::Hits;
use crate::data::Data;

/// So many of the nearest in single precision are compared again in double precision.
const SPARE: usize = 50;

/// The right answers of every query.
pub struct Truth {
    /// For each query how many answers there are, and how far the last of them is.
    limits: Vec<(usize, f64)>,
}

impl Truth {
    /// Of the `k` nearest items that are allowed.
    pub fn of(data: &Data, k: usize, allowed: impl Fn(Doc) -> bool + Sync) -> anyhow::Result<Self> {
        let products = Products::chosen()?;
        let docs: Vec<Doc> = (0..data.items.len() as Doc).filter(|&doc| allowed(doc)).collect();
        let item = |doc: Doc| &data.items[doc as usize];
        let halves: Vec<Vec<f16>> =
            docs.par_iter().map(|&doc| item(doc).iter().map(|&value| f16::from_f32(value)).collect()).collect();
        let rows: Vec<&[f16]> = halves.iter().map(Vec::as_slice).collect();
        let lengths: Vec<f32> = docs.iter().map(|&doc| square(item(doc)) as f32).collect();
        let limit = |query: &Vec<f32>| {
            let mut dots = vec![0.0; rows.len()];
            products.half(query, &rows, &mut dots);
            let mut far: Vec<(f32, Doc)> = dots
                .iter()
                .zip(&lengths)
                .zip(&docs)
                .map(|((dot, length), &doc)| match data.metric {
                    Metric::Cosine => (-dot / length.sqrt(), doc),
                    Metric::Euclidean => (length - 2.0 * dot, doc),
                })
                .collect();
            if far.len() > SPARE {
                far.select_nth_unstable_by(SPARE, |a, b| a.0.total_cmp(&b.0));
                far.truncate(SPARE);
            }
            let mut exact: Vec<f64> = far.iter().map(|&(_, doc)| distance(data.metric, query, item(doc))).collect();
            exact.sort_unstable_by(f64::total_cmp);
            exact.truncate(k);
            (exact.len(), exact.last().copied().unwrap_or(0.0))
        };
        Ok(Self { limits: data.queries.par_iter().map(limit).collect() })
    }

    /// The share of the right answers that are among those found. What is as near as the last right answer is right.
    pub fn recall(&self, data: &Data, found: &[Hits]) -> f64 {
        let (mut right, mut wanted) = (0, 0);
        for ((query, hits), &(count, limit)) in data.queries.iter().zip(found).zip(&self.limits) {
            let far = |doc: Doc| distance(data.metric, query, &data.items[doc as usize]);
            right += hits.iter().filter(|(doc, _)| far(*doc) <= limit + 1e-9).count();
            wanted += count;
        }
        right as f64 / wanted.max(1) as f64
    }
}

fn square(vector: &[f32]) -> f64 {
    vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}

/// Squared, or 1 less the cosine.
fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    match metric {
        Metric::Cosine => 1.0 - pairs().map(|(a, b)| a * b).sum::<f64>() / (square(a) * square(b)).sqrt(),
        Metric::Euclidean => pairs().map(|(a, b)| (a - b) * (a - b)).sum(),
    }
}
