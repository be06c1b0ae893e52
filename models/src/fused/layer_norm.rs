//! "Layer Normalization" (Ba et al. 2016, <https://arxiv.org/abs/1607.06450>) of rows.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, rows_of_block, sum_of_parts};

/// Each row of `rows` `[.., columns]` less its mean, over its deviation, times `scale`, and `shift`, both `[columns]`.
pub(crate) fn layer_norm(rows: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f32) -> Result<Tensor> {
    if rows.device().is_cpu() {
        return rows.contiguous()?.apply_op3(scale, shift, LayerNorm { epsilon });
    }
    let centred = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = centred.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)?;
    normal.broadcast_mul(scale)?.broadcast_add(shift)
}

#[derive(Clone, Copy)]
struct LayerNorm {
    epsilon: f32,
}

/// Gradients of scale and shift, `[2, columns]`.
struct Sums(LayerNorm);

/// The gradient of the rows.
struct Back(LayerNorm);

impl LayerNorm {
    /// Mean and one over the deviation.
    fn of(self, row: &[f32]) -> (f32, f32) {
        let count = row.len() as f32;
        let mean = row.iter().sum::<f32>() / count;
        let variance = row.iter().map(|number| (number - mean) * (number - mean)).sum::<f32>() / count;
        (mean, (variance + self.epsilon).sqrt().recip())
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        layout: &Layout,
        scale: &CpuStorage,
        l2: &Layout,
        shift: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, scale, shift) = (numbers(rows, layout)?, numbers(scale, l2)?, numbers(shift, l3)?);
        let columns = scale.len().max(1);
        if layout.dims().last() != Some(&scale.len()) || shift.len() != scale.len() {
            candle_core::bail!("a scale of {} and a shift of {} for {:?}", scale.len(), shift.len(), layout.shape());
        }
        let block = rows_of_block(columns) * columns;
        let mut to = vec![0.0; rows.len()];
        to.par_chunks_mut(block).zip(rows.par_chunks(block)).for_each(|(to, rows)| {
            for (to, row) in to.chunks_exact_mut(columns).zip(rows.chunks_exact(columns)) {
                let (mean, over) = self.of(row);
                for (((to, number), scale), shift) in to.iter_mut().zip(row).zip(scale).zip(shift) {
                    *to = (number - mean) * over * scale + shift;
                }
            }
        });
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }

    fn bwd(
        &self,
        rows: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        _: &Tensor,
        slope: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let slope = slope.contiguous()?;
        let sums = rows.apply_op2_no_bwd(&slope, &Sums(*self))?;
        Ok((Some(rows.apply_op3_no_bwd(&slope, scale, &Back(*self))?), Some(sums.get(0)?), Some(sums.get(1)?)))
    }
}

impl CustomOp2 for Sums {
    fn name(&self) -> &'static str {
        "layer-norm-sums"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        layout: &Layout,
        slope: &CpuStorage,
        ls: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, slope) = (numbers(rows, layout)?, numbers(slope, ls)?);
        let columns = layout.dims().last().copied().unwrap_or(1).max(1);
        let sums = sum_of_parts(rows.len() / columns, 2 * columns, |part, sums| {
            let (scaled, plain) = sums.split_at_mut(columns);
            let part = part.start * columns..part.end * columns;
            for (row, slope) in rows[part.clone()].chunks_exact(columns).zip(slope[part].chunks_exact(columns)) {
                let (mean, over) = self.0.of(row);
                for (((scaled, plain), number), slope) in scaled.iter_mut().zip(plain.iter_mut()).zip(row).zip(slope) {
                    *scaled += (number - mean) * over * slope;
                    *plain += slope;
                }
            }
        });
        Ok((CpuStorage::F32(sums), Shape::from((2, columns))))
    }
}

impl CustomOp3 for Back {
    fn name(&self) -> &'static str {
        "layer-norm-back"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        layout: &Layout,
        slope: &CpuStorage,
        l2: &Layout,
        scale: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, slope, scale) = (numbers(rows, layout)?, numbers(slope, l2)?, numbers(scale, l3)?);
        let columns = scale.len().max(1);
        let block = rows_of_block(columns) * columns;
        let mut to = vec![0.0; rows.len()];
        to.par_chunks_mut(block).zip(rows.par_chunks(block)).zip(slope.par_chunks(block)).for_each(
            |((to, rows), slope)| {
                let rows = rows.chunks_exact(columns).zip(slope.chunks_exact(columns));
                for (to, (row, slope)) in to.chunks_exact_mut(columns).zip(rows) {
                    let (mean, over) = self.0.of(row);
                    let (mut sum, mut along) = (0.0, 0.0);
                    for ((number, slope), scale) in row.iter().zip(slope).zip(scale) {
                        sum += slope * scale;
                        along += slope * scale * (number - mean) * over;
                    }
                    let (sum, along) = (sum / columns as f32, along / columns as f32);
                    for (((to, number), slope), scale) in to.iter_mut().zip(row).zip(slope).zip(scale) {
                        *to = over * (slope * scale - sum - (number - mean) * over * along);
                    }
                }
            },
        );
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }
}
