//! How good made pictures are: as like real ones as those are like each other, of the class that was asked for, of all kinds that there are, and no
//! copies of what was learnt.

use anyhow::{Result, ensure};
use candle_core::{D, DType, Device, Tensor};
use serde::Serialize;
use vitrine_models::Seen;

use crate::picture_metrics::likeliest;

/// Pictures whose nearest ones are looked for together.
const BATCH: usize = 256;

/// A real picture's neighbourhood reaches to its so many-th nearest real one.
const NEIGHBOURS: usize = 5;

/// Steps of the iteration for a square root. Each makes what is left of a small eigenvalue's root half as small again.
const STEPS: usize = 60;

/// What was made, held against what is real. Everything is measured by what a judge, a network that knows the classes, sees.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GanScores {
    /// "GANs Trained by a Two Time-Scale Update Rule" (Heusel et al. 2017, <https://arxiv.org/abs/1706.08500>), from made to test pictures,
    /// by the judge's embeddings: not to be compared with distances by Inception's.
    pub frechet: f64,
    /// The same from pictures that were learnt from to test pictures: less cannot be expected.
    pub frechet_floor: f64,
    /// The part that the judge takes for what was asked for.
    pub consistency: f64,
    /// By class: the part of the test pictures in whose neighbourhood a picture was made ("Reliable Fidelity and Diversity Metrics for
    /// Generative Models", Naeem et al. 2020, <https://arxiv.org/abs/2002.09797>).
    pub coverage: Vec<f64>,
    /// The same with pictures that were learnt from in the place of made ones, as many.
    pub coverage_of_real: Vec<f64>,
    /// The median distance of a made picture to the nearest that was learnt from.
    pub nearest: f64,
    /// The same for test pictures.
    pub nearest_of_real: f64,
    /// The distance that all but a hundredth of the test pictures keep from those that were learnt from.
    pub near: f64,
    /// The part of the made pictures that are nearer than that: more than a few hundredths are copies.
    pub near_copies: f64,
}

impl GanScores {
    /// The coverage of the class that is covered least: 0 where one is missing.
    pub fn least_coverage(&self) -> f64 {
        least(&self.coverage)
    }

    /// The same with pictures that were learnt from.
    pub fn least_coverage_of_real(&self) -> f64 {
        least(&self.coverage_of_real)
    }
}

fn least(parts: &[f64]) -> f64 {
    parts.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Vectors of pictures with their classes.
pub struct Features {
    rows: Tensor,
    labels: Vec<u32>,
}

impl Features {
    /// The judge's embeddings.
    pub fn new(seen: &[Seen], labels: &[u32]) -> Result<Self> {
        ensure!(seen.len() == labels.len(), "{} pictures with {} classes", seen.len(), labels.len());
        let columns = seen.first().map_or(0, |seen| seen.embedding.len());
        let numbers = seen.iter().flat_map(|seen| seen.embedding.iter().copied()).collect();
        Ok(Self { rows: Tensor::from_vec(numbers, (seen.len(), columns), &Device::Cpu)?, labels: labels.to_vec() })
    }

    fn of_class(&self, class: u32) -> Result<Tensor> {
        let places = (0_u32..).zip(&self.labels).filter(|(_, label)| **label == class).map(|(place, _)| place);
        Ok(self.rows.index_select(&Tensor::new(places.collect::<Vec<_>>(), &Device::Cpu)?, 0)?)
    }

    /// The Fréchet distance to others.
    pub fn frechet(&self, others: &Self) -> Result<f64> {
        Ok(frechet(&self.rows, &others.rows)?)
    }

    /// The distance of each to the nearest of others.
    fn nearest(&self, others: &Self) -> Result<Vec<f32>> {
        let mut nearest = Vec::with_capacity(self.labels.len());
        for first in (0..self.labels.len()).step_by(BATCH) {
            let part = self.rows.narrow(0, first, BATCH.min(self.labels.len() - first))?;
            nearest.extend(distances(&part, &others.rows)?.min(D::Minus1)?.to_vec1::<f32>()?);
        }
        Ok(nearest)
    }

    /// By class: the part in whose neighbourhood one of others lies.
    fn covered(&self, by: &Self, classes: u32) -> Result<Vec<f64>> {
        let covered = (0..classes).map(|class| {
            let (real, others) = (self.of_class(class)?, by.of_class(class)?);
            if real.dim(0)? <= NEIGHBOURS || others.dim(0)? == 0 {
                return Ok(0.0);
            }
            let mut among = distances(&real, &real)?.to_vec2::<f32>()?;
            let nearest = distances(&real, &others)?.min(D::Minus1)?.to_vec1::<f32>()?;
            let inside = among.iter_mut().zip(&nearest).filter_map(|(among, nearest)| {
                // The nearest is the picture itself.
                let (_, reach, _) = among.select_nth_unstable_by(NEIGHBOURS, f32::total_cmp);
                (nearest < reach).then_some(())
            });
            Ok(inside.count() as f64 / nearest.len() as f64)
        });
        covered.collect()
    }
}

/// Scores what was made. `learnt` are pictures that were learnt from, and `some_learnt` so many of them as were made.
pub fn score(
    (made, asked): (&[Seen], &[u32]),
    test: &Features,
    learnt: &Features,
    some_learnt: &Features,
    classes: u32,
) -> Result<GanScores> {
    let right = made.iter().zip(asked).filter(|(seen, asked)| likeliest(&seen.logits) == **asked).count();
    let features = Features::new(made, asked)?;
    let (nearest, mut nearest_of_real) = (features.nearest(learnt)?, test.nearest(learnt)?);
    nearest_of_real.sort_by(f32::total_cmp);
    let quantile =
        |sorted: &[f32], part: f64| sorted.get((sorted.len() as f64 * part) as usize).copied().unwrap_or(0.0);
    let near = quantile(&nearest_of_real, 0.01);
    let copies = nearest.iter().filter(|distance| **distance < near).count();
    let mut sorted = nearest.clone();
    sorted.sort_by(f32::total_cmp);
    Ok(GanScores {
        frechet: features.frechet(test)?,
        frechet_floor: some_learnt.frechet(test)?,
        consistency: right as f64 / made.len().max(1) as f64,
        coverage: test.covered(&features, classes)?,
        coverage_of_real: test.covered(some_learnt, classes)?,
        nearest: quantile(&sorted, 0.5).into(),
        nearest_of_real: quantile(&nearest_of_real, 0.5).into(),
        near: near.into(),
        near_copies: copies as f64 / nearest.len().max(1) as f64,
    })
}

/// Distances of rows to rows.
fn distances(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    let squares = |rows: &Tensor| rows.sqr()?.sum_keepdim(1);
    let products = (a.matmul(&b.t()?)? * 2.0)?;
    squares(a)?.broadcast_add(&squares(b)?.t()?)?.sub(&products)?.relu()?.sqrt()
}

/// The Fréchet distance of two normal distributions: `|µ − ν|² + tr(A + B − 2 √(A B))`.
fn frechet(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    let [(mean_a, a), (mean_b, b)] = [moments(a)?, moments(b)?];
    let apart = (mean_a - mean_b)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
    Ok(apart + trace(&a)? + trace(&b)? - 2.0 * trace(&root(&a.matmul(&b)?)?)?)
}

/// Mean and covariance, f64.
fn moments(rows: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
    let rows = rows.to_dtype(DType::F64)?;
    let mean = rows.mean_keepdim(0)?;
    let centred = rows.broadcast_sub(&mean)?;
    let covariance = (centred.t()?.matmul(&centred)? / (rows.dim(0)?.saturating_sub(1).max(1) as f64))?;
    Ok((mean, covariance))
}

fn trace(matrix: &Tensor) -> candle_core::Result<f64> {
    (matrix * Tensor::eye(matrix.dim(0)?, DType::F64, &Device::Cpu)?)?.sum_all()?.to_scalar()
}

/// The square root of a matrix without negative eigenvalues, by the coupled iteration of Newton and Schulz (Higham 2008, "Functions of
/// Matrices", 6.35).
fn root(matrix: &Tensor) -> candle_core::Result<Tensor> {
    let length = matrix.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>()?.max(f64::MIN_POSITIVE);
    let three = (Tensor::eye(matrix.dim(0)?, DType::F64, &Device::Cpu)? * 3.0)?;
    let (mut root, mut inverse) = ((matrix / length)?, (&three / 3.0)?);
    for _ in 0..STEPS {
        let turn = ((&three - inverse.matmul(&root)?)? * 0.5)?;
        (root, inverse) = (root.matmul(&turn)?, turn.matmul(&inverse)?);
    }
    root * length.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cloud of points around a middle, as wide in each direction as said.
    fn cloud(middle: [f32; 2], wide: [f32; 2]) -> Tensor {
        let rows: Vec<f32> = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
            .iter()
            .flat_map(|at| [middle[0] + at[0] * wide[0], middle[1] + at[1] * wide[1]])
            .collect();
        Tensor::from_vec(rows, (4, 2), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_distance_of_two_clouds_is_that_of_the_formula() {
        // Variances are 4/3 of the squared widths.
        let found = frechet(&cloud([0.0, 0.0], [1.0, 2.0]), &cloud([3.0, 0.0], [2.0, 2.0])).unwrap();
        let wanted = 9.0 + 4.0 / 3.0 * (2.0_f64 - 1.0).powi(2);
        assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
        let same = cloud([1.0, 2.0], [1.0, 0.0]);
        assert!(frechet(&same, &same).unwrap().abs() < 1e-6, "of a cloud without width in one direction to itself");
    }

    fn seen(points: &[[f32; 2]]) -> Vec<Seen> {
        points.iter().map(|point| Seen { embedding: point.to_vec(), logits: vec![point[0], 0.0] }).collect()
    }

    #[test]
    fn copies_and_missing_kinds_are_found() {
        let line = |from: f32, step: f32| (0..40).map(|at| [from + at as f32 * step, 0.0]).collect::<Vec<_>>();
        let features = |points: &[[f32; 2]]| Features::new(&seen(points), &vec![0; points.len()]).unwrap();
        let (learnt, test) = (features(&line(1.0, 1.0)), features(&line(1.3, 1.0)));
        let of = |made: &[[f32; 2]]| {
            let made = seen(made);
            score((&made, &vec![0; made.len()]), &test, &learnt, &learnt, 1).unwrap()
        };
        let copies = of(&line(1.0, 1.0));
        assert!(copies.near_copies > 0.99 && copies.coverage[0] > 0.99, "{copies:?}");
        let new = of(&line(1.4, 1.0));
        assert!(new.near_copies < 0.01 && new.consistency > 0.99 && (new.nearest - 0.4).abs() < 1e-3, "{new:?}");
        let one_kind = of(&line(5.4, 0.001));
        assert!(one_kind.coverage[0] < 0.3 && one_kind.frechet > 10.0 * new.frechet, "{one_kind:?}");
    }
}
