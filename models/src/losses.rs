//! What learning makes small: cross entropies.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::fused::numbers;

/// The mean cross entropy of the right column of each row under a softmax of the row: `ln Σ eˢ − s`, for scores f32 `[rows, columns]`.
///
/// On the CPU it is one pass over the scores, and one over their gradient; with a tensor for each operation of the formula, scores of
/// all items of a catalog would be read and written twenty times.
///
/// # Errors
/// There is not one column a row, a column is not there, or the device failed.
pub fn cross_entropy(scores: &Tensor, right: &[u32]) -> Result<Tensor> {
    let (rows, columns) = scores.dims2()?;
    if right.len() != rows {
        candle_core::bail!("{} right columns for {rows} rows", right.len());
    }
    if let Some(column) = right.iter().find(|column| **column as usize >= columns) {
        candle_core::bail!("column {column} of {columns}");
    }
    if !scores.device().is_cpu() {
        return candle_nn::loss::cross_entropy(scores, &Tensor::new(right, scores.device())?);
    }
    scores.contiguous()?.apply_op1(CrossEntropy { right: right.into() })
}

/// The mean cross entropy of clicks, each 0 or 1, under the logarithms of their odds: `max(z, 0) − z·y + ln(1 + e^−|z|)`, which
/// is finite for all odds.
///
/// # Errors
/// They are not equally many, or the device failed.
pub fn cross_entropy_of_odds(logits: &Tensor, clicks: &Tensor) -> Result<Tensor> {
    let rest = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    ((logits.relu()? - (logits * clicks)?)? + rest)?.mean_all()
}

struct CrossEntropy {
    right: Arc<[u32]>,
}

/// Its gradient: the softmax, less 1 at the right column, times `scale`.
struct Slope {
    right: Arc<[u32]>,
    scale: f32,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (scores, columns) = rows(storage, layout)?;
        let rows = scores.par_chunks_exact(columns).zip(&*self.right);
        // Added up in their order: the same numbers give the same loss.
        let losses: Vec<f64> = rows.map(|(row, right)| f64::from(log_sum(row) - row[*right as usize])).collect();
        let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, scores: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let scale = gradient.to_scalar::<f32>()? / self.right.len().max(1) as f32;
        Ok(Some(scores.apply_op1_no_bwd(&Slope { right: Arc::clone(&self.right), scale })?))
    }
}

impl CustomOp1 for Slope {
    fn name(&self) -> &'static str {
        "cross-entropy-slope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (scores, columns) = rows(storage, layout)?;
        let mut slope = vec![0.0; scores.len()];
        let rows = slope.par_chunks_exact_mut(columns).zip(scores.par_chunks_exact(columns)).zip(&*self.right);
        rows.for_each(|((to, row), right)| {
            let log_sum = log_sum(row);
            for (to, score) in to.iter_mut().zip(row) {
                *to = (score - log_sum).exp() * self.scale;
            }
            to[*right as usize] -= self.scale;
        });
        Ok((CpuStorage::F32(slope), layout.shape().clone()))
    }
}

/// Rows, and how many columns they have.
fn rows<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<(&'a [f32], usize)> {
    Ok((numbers(storage, layout)?, layout.shape().dims2()?.1.max(1)))
}

fn log_sum(row: &[f32]) -> f32 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    most + row.iter().map(|score| (score - most).exp()).sum::<f32>().ln()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn scores() -> Var {
        let scores = [[0.3_f32, -1.0, 2.0], [9.0, 9.5, -80.0], [0.0, 0.0, 0.0], [-3.0, 200.0, 1.0]];
        Var::new(&scores, &Device::Cpu).unwrap()
    }

    #[test]
    fn it_is_candles_with_its_gradient() {
        let (scores, right) = (scores(), [2_u32, 0, 1, 1]);
        let ours = (cross_entropy(scores.as_tensor(), &right).unwrap() * 3.0).unwrap();
        let targets = Tensor::new(&right, &Device::Cpu).unwrap();
        let candles = (candle_nn::loss::cross_entropy(scores.as_tensor(), &targets).unwrap() * 3.0).unwrap();
        let close = |a: &Tensor, b: &Tensor| {
            let [a, b] = [a, b].map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} is not {b:?}");
        };
        close(&ours, &candles);
        let gradient = |loss: &Tensor| loss.backward().unwrap().get(&scores).unwrap().clone();
        close(&gradient(&ours), &gradient(&candles));
    }

    #[test]
    fn columns_that_are_not_there_are_errors() {
        let scores = scores();
        assert!(cross_entropy(scores.as_tensor(), &[0, 1, 3, 0]).unwrap_err().to_string().contains("column 3 of 3"));
        assert!(cross_entropy(scores.as_tensor(), &[0]).is_err());
    }

    #[test]
    fn that_of_odds_is_that_of_the_definition_and_finite_for_large_ones() {
        let odds = Tensor::new(&[0.3_f32, -2.0, 90.0, -90.0], &Device::Cpu).unwrap();
        let clicks = Tensor::new(&[1.0_f32, 0.0, 1.0, 1.0], &Device::Cpu).unwrap();
        let loss = cross_entropy_of_odds(&odds, &clicks).unwrap().to_scalar::<f32>().unwrap();
        let p = |odds: f64| 1.0 / (1.0 + (-odds).exp());
        let wanted = -(p(0.3).ln() + (1.0 - p(-2.0)).ln() + p(90.0).ln() - 90.0) / 4.0;
        assert!((f64::from(loss) - wanted).abs() < 1e-4, "{loss} is not {wanted}");
    }
}
