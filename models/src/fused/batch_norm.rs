//! "Batch Normalization" (Ioffe & Szegedy 2015, <https://arxiv.org/abs/1502.03167>) of columns.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Rectify, numbers, rectify, rows_of_block, sum_of_parts, sum_of_rows};

/// Mean and variance of each column.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
}

/// Those of `rows` `[.., columns]`. No gradient goes through them: [`normalize`] knows theirs.
pub(crate) fn moments(rows: &Tensor) -> Result<Moments> {
    let columns = rows.dims().last().copied().unwrap_or(1);
    let rows = rows.detach().flatten_to(rows.rank().saturating_sub(2))?;
    if !rows.device().is_cpu() {
        let mean = rows.mean(0)?;
        let variance = rows.broadcast_sub(&mean)?.sqr()?.mean(0)?;
        return Ok(Moments { mean: mean.to_vec1()?, variance: variance.to_vec1()? });
    }
    let rows = rows.contiguous()?;
    let (storage, layout) = rows.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else { candle_core::bail!("numbers are not on the CPU") };
    let rows = numbers(storage, layout)?;
    let count = rows.len() / columns.max(1);
    let mut mean = sum_of_rows(rows, columns);
    for mean in &mut mean {
        *mean /= count.max(1) as f32;
    }
    // Around the mean, not by the sum of squares: nothing is lost where the mean is large.
    let mut variance = sum_of_parts(count, columns, |part, sum| {
        for row in rows[part.start * columns..part.end * columns].chunks_exact(columns) {
            sum.iter_mut()
                .zip(row)
                .zip(&mean)
                .for_each(|((sum, number), mean)| *sum += (number - mean) * (number - mean));
        }
    });
    for variance in &mut variance {
        *variance /= count.max(1) as f32;
    }
    Ok(Moments { mean, variance })
}

/// `rows` `[.., columns]` less the mean, over the deviation, times `scale`, and `shift`, both `[columns]`, and rectified. `fixed` moments are
/// given; others are of these rows, and move with them.
pub(crate) fn normalize(
    rows: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    moments: &Moments,
    epsilon: f32,
    fixed: bool,
    then: Rectify,
) -> Result<Tensor> {
    let over_deviation: Arc<[f32]> =
        moments.variance.iter().map(|variance| (variance + epsilon).sqrt().recip()).collect();
    if rows.device().is_cpu() {
        let op = Normalize { mean: moments.mean.clone().into(), over_deviation, fixed, then };
        return rows.contiguous()?.apply_op3(scale, shift, op);
    }
    let (centred, over_deviation) = if fixed {
        let mean = Tensor::new(&moments.mean[..], rows.device())?;
        (rows.broadcast_sub(&mean)?, Tensor::new(&*over_deviation, rows.device())?)
    } else {
        let all = rows.flatten_to(rows.rank().saturating_sub(2))?;
        let mean = all.mean(0)?;
        let variance = all.broadcast_sub(&mean)?.sqr()?.mean(0)?;
        (rows.broadcast_sub(&mean)?, (variance + f64::from(epsilon))?.sqrt()?.recip()?)
    };
    rectify(&centred.broadcast_mul(&(over_deviation * scale)?)?.broadcast_add(shift)?, then)
}

#[derive(Clone)]
struct Normalize {
    mean: Arc<[f32]>,
    over_deviation: Arc<[f32]>,
    fixed: bool,
    then: Rectify,
}

impl Normalize {
    /// What a number is multiplied with, and what is added then, for each column.
    fn line(&self, scale: &[f32], shift: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let by: Vec<f32> = scale.iter().zip(&*self.over_deviation).map(|(scale, over)| scale * over).collect();
        let plus = shift.iter().zip(&*self.mean).zip(&by).map(|((shift, mean), by)| shift - mean * by).collect();
        (by, plus)
    }
}

/// Gradients of scale and shift: sums over rows of slope times normalised number, and of slope, `[2, columns]`; from rows, the gradient of the
/// output, and the output.
struct Sums(Normalize);

/// The gradient of the rows, from those of scale and shift.
struct Back {
    of: Normalize,
    scale: Vec<f32>,
    sums: Vec<f32>,
}

impl CustomOp3 for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
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
        let columns = self.mean.len();
        if layout.dims().last() != Some(&columns) || scale.len() != columns || shift.len() != columns {
            candle_core::bail!("{columns} moments for {:?}", layout.shape());
        }
        let ((by, plus), then) = (self.line(scale, shift), self.then);
        let mut to = vec![0.0; rows.len()];
        let block = rows_of_block(columns) * columns;
        to.par_chunks_mut(block).zip(rows.par_chunks(block)).for_each(|(to, rows)| {
            for (to, row) in to.chunks_exact_mut(columns).zip(rows.chunks_exact(columns)) {
                to.iter_mut()
                    .zip(row)
                    .zip(&by)
                    .zip(&plus)
                    .for_each(|(((to, number), by), plus)| *to = then.of(number * by + plus));
            }
        });
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }

    fn bwd(
        &self,
        rows: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        output: &Tensor,
        slope: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let slope = slope.contiguous()?;
        let sums = rows.apply_op3_no_bwd(&slope, output, &Sums(self.clone()))?;
        let back = Back { of: self.clone(), scale: scale.to_vec1()?, sums: sums.flatten_all()?.to_vec1()? };
        let of_rows = rows.track_op().then(|| rows.apply_op3_no_bwd(&slope, output, &back)).transpose()?;
        Ok((of_rows, Some(sums.get(0)?), Some(sums.get(1)?)))
    }
}

impl CustomOp3 for Sums {
    fn name(&self) -> &'static str {
        "normalize-sums"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        layout: &Layout,
        slope: &CpuStorage,
        l2: &Layout,
        output: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, slope, output) = (numbers(rows, layout)?, numbers(slope, l2)?, numbers(output, l3)?);
        let Normalize { mean, over_deviation, then, .. } = &self.0;
        let columns = mean.len();
        let sums = sum_of_parts(rows.len() / columns, 2 * columns, |part, sums| {
            let (scaled, plain) = sums.split_at_mut(columns);
            for row in part {
                let [row, slope, output] = [rows, slope, output].map(|all| &all[row * columns..][..columns]);
                let sums = scaled.iter_mut().zip(plain.iter_mut());
                for ((((scaled, plain), number), mean), (slope, output)) in
                    sums.zip(row).zip(&**mean).zip(slope.iter().zip(output))
                {
                    let slope = slope * then.slope(*output);
                    *scaled += (number - mean) * slope;
                    *plain += slope;
                }
            }
        });
        let (scaled, plain) = sums.split_at(columns);
        let scaled = scaled.iter().zip(&**over_deviation).map(|(sum, over)| sum * over);
        Ok((CpuStorage::F32(scaled.chain(plain.iter().copied()).collect()), Shape::from((2, columns))))
    }
}

impl CustomOp3 for Back {
    fn name(&self) -> &'static str {
        "normalize-back"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        layout: &Layout,
        slope: &CpuStorage,
        l2: &Layout,
        output: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, slope, output) = (numbers(rows, layout)?, numbers(slope, l2)?, numbers(output, l3)?);
        let Normalize { mean, over_deviation, fixed, then } = &self.of;
        let columns = mean.len();
        let count = (rows.len() / columns.max(1)).max(1) as f32;
        // slope·by − number·with − rest, the latter two by the mean and the variance that move with the rows.
        let (of_scale, of_shift) = self.sums.split_at(columns);
        let by: Vec<f32> = self.scale.iter().zip(&**over_deviation).map(|(scale, over)| scale * over).collect();
        let zero_if_fixed = if *fixed { 0.0 } else { 1.0 / count };
        let with: Vec<f32> =
            (0..columns).map(|at| by[at] * over_deviation[at] * of_scale[at] * zero_if_fixed).collect();
        let rest: Vec<f32> =
            (0..columns).map(|at| by[at] * of_shift[at] * zero_if_fixed - mean[at] * with[at]).collect();
        let mut to = vec![0.0; rows.len()];
        let block = rows_of_block(columns) * columns;
        to.par_chunks_mut(block).enumerate().for_each(|(place, to)| {
            for (row, to) in to.chunks_exact_mut(columns).enumerate() {
                let from = place * block + row * columns;
                let [row, slope, output] = [rows, slope, output].map(|all| &all[from..from + columns]);
                let lines = by.iter().zip(&with).zip(&rest);
                for ((to, number), ((slope, output), ((by, with), rest))) in
                    to.iter_mut().zip(row).zip(slope.iter().zip(output).zip(lines))
                {
                    *to = slope * then.slope(*output) * by - number * with - rest;
                }
            }
        });
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }
}
