//! A number for each column, added to all rows.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, rows_of_block, sum_of_rows};

/// Adds `bias` `[columns]` to `rows` `[.., columns]`.
pub(crate) fn add_bias(rows: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if !rows.device().is_cpu() {
        return rows.broadcast_add(bias);
    }
    rows.contiguous()?.apply_op2(bias, AddBias)
}

struct AddBias;

/// The sum of each column: the gradient of a bias.
struct SumOfRows;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, rows: &CpuStorage, lr: &Layout, bias: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, bias) = (numbers(rows, lr)?, numbers(bias, lb)?);
        if lr.dims().last() != Some(&bias.len()) {
            candle_core::bail!("a bias of {} for {:?}", bias.len(), lr.shape());
        }
        let columns = bias.len().max(1);
        let mut sum = rows.to_vec();
        sum.par_chunks_mut(rows_of_block(columns) * columns).for_each(|block| {
            for row in block.chunks_exact_mut(columns) {
                row.iter_mut().zip(bias).for_each(|(number, bias)| *number += bias);
            }
        });
        Ok((CpuStorage::F32(sum), lr.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, bias: &Tensor, _: &Tensor, slope: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_bias = || slope.contiguous()?.apply_op1_no_bwd(&SumOfRows);
        Ok((Some(slope.clone()), bias.track_op().then(of_bias).transpose()?))
    }
}

impl CustomOp1 for SumOfRows {
    fn name(&self) -> &'static str {
        "sum-of-rows"
    }

    fn cpu_fwd(&self, rows: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = numbers(rows, layout)?;
        let columns = layout.dims().last().copied().unwrap_or(1).max(1);
        Ok((CpuStorage::F32(sum_of_rows(rows, columns)), Shape::from(columns)))
    }
}
