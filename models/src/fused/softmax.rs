//! The shares of attention.

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, rows_of_block};

/// The softmax of the last dimension of `scores · scale + mask`, for scores `[rows, heads, length, length]` and a mask of the same shape but for
/// 1 instead of heads, to which no gradient goes.
pub(crate) fn masked_softmax(scores: &Tensor, scale: f32, mask: &Tensor) -> Result<Tensor> {
    if scores.device().is_cpu() {
        return scores.contiguous()?.apply_op2(&mask.detach().contiguous()?, Softmax { scale });
    }
    candle_nn::ops::softmax(&(scores * f64::from(scale))?.broadcast_add(mask)?, D::Minus1)
}

struct Softmax {
    scale: f32,
}

/// The gradient, from shares and theirs.
struct Back {
    scale: f32,
}

impl CustomOp2 for Softmax {
    fn name(&self) -> &'static str {
        "masked-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, ls: &Layout, mask: &CpuStorage, lm: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, heads, length, columns) = ls.shape().dims4()?;
        if lm.dims() != [rows, 1, length, columns] {
            candle_core::bail!("a mask of {:?} for {:?}", lm.shape(), ls.shape());
        }
        let (scores, mask) = (numbers(scores, ls)?, numbers(mask, lm)?);
        let each = (length * columns).max(1);
        let mut shares = vec![0.0; scores.len()];
        shares.par_chunks_mut(each).zip(scores.par_chunks(each)).enumerate().for_each(|(at, (shares, scores))| {
            let mask = &mask[at / heads * each..][..each];
            let rows = scores.chunks_exact(columns).zip(mask.chunks_exact(columns));
            for (shares, (scores, mask)) in shares.chunks_exact_mut(columns).zip(rows) {
                let mut most = f32::NEG_INFINITY;
                for ((share, score), mask) in shares.iter_mut().zip(scores).zip(mask) {
                    *share = score * self.scale + mask;
                    most = most.max(*share);
                }
                let mut sum = 0.0;
                for share in shares.iter_mut() {
                    *share = (*share - most).exp();
                    sum += *share;
                }
                for share in shares.iter_mut() {
                    *share /= sum;
                }
            }
        });
        Ok((CpuStorage::F32(shares), ls.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, shares: &Tensor, slope: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(shares.apply_op2_no_bwd(&slope.contiguous()?, &Back { scale: self.scale })?), None))
    }
}

impl CustomOp2 for Back {
    fn name(&self) -> &'static str {
        "masked-softmax-back"
    }

    fn cpu_fwd(
        &self,
        shares: &CpuStorage,
        layout: &Layout,
        slope: &CpuStorage,
        ls: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (shares, slope) = (numbers(shares, layout)?, numbers(slope, ls)?);
        let columns = layout.dims().last().copied().unwrap_or(1).max(1);
        let block = rows_of_block(columns) * columns;
        let mut to = vec![0.0; shares.len()];
        to.par_chunks_mut(block).zip(shares.par_chunks(block)).zip(slope.par_chunks(block)).for_each(
            |((to, shares), slope)| {
                let rows = shares.chunks_exact(columns).zip(slope.chunks_exact(columns));
                for (to, (shares, slope)) in to.chunks_exact_mut(columns).zip(rows) {
                    let mean: f32 = shares.iter().zip(slope).map(|(share, slope)| share * slope).sum();
                    for ((to, share), slope) in to.iter_mut().zip(shares).zip(slope) {
                        *to = share * (slope - mean) * self.scale;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn shares_and_their_gradient_are_candles() {
        let numbers: Vec<f32> = (0..48_u8).map(|at| f32::from(at * 7 % 11) / 3.0).collect();
        let scores = Var::from_tensor(&Tensor::from_vec(numbers, (2, 2, 3, 4), &Device::Cpu).unwrap()).unwrap();
        let mask: Vec<f32> = (0..24_u8).map(|at| if at % 5 == 2 { -1e9 } else { 0.0 }).collect();
        let mask = Tensor::from_vec(mask, (2, 1, 3, 4), &Device::Cpu).unwrap();
        let ours = masked_softmax(&scores, 0.7, &mask).unwrap();
        let candles = (scores.as_tensor() * f64::from(0.7_f32)).unwrap().broadcast_add(&mask).unwrap();
        let candles = candle_nn::ops::softmax(&candles, D::Minus1).unwrap();
        let gradient = |shares: &Tensor| {
            shares.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&scores).unwrap().clone()
        };
        for (ours, candles) in [(ours.clone(), candles.clone()), (gradient(&ours), gradient(&candles))] {
            let off = (ours - candles).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(off < 1e-6, "{off}");
        }
    }
}
