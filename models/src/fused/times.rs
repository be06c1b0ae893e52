//! Each number multiplied with another one that has no gradient.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{BLOCK, numbers};

/// Multiplies each number with its factor.
pub(crate) fn times(tensor: &Tensor, factors: Vec<f32>) -> Result<Tensor> {
    if tensor.device().is_cpu() {
        return tensor.contiguous()?.apply_op1(Times(factors.into()));
    }
    tensor * Tensor::from_vec(factors, tensor.shape(), tensor.device())?
}

#[derive(Clone)]
struct Times(Arc<[f32]>);

impl CustomOp1 for Times {
    fn name(&self) -> &'static str {
        "times"
    }

    fn cpu_fwd(&self, tensor: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = numbers(tensor, layout)?;
        if from.len() != self.0.len() {
            candle_core::bail!("{} factors for {} numbers", self.0.len(), from.len());
        }
        let mut to = vec![0.0; from.len()];
        to.par_chunks_mut(BLOCK).zip(from.par_chunks(BLOCK)).zip(self.0.par_chunks(BLOCK)).for_each(
            |((to, from), by)| {
                to.iter_mut().zip(from).zip(by).for_each(|((to, from), by)| *to = from * by);
            },
        );
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, slope: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(slope.contiguous()?.apply_op1_no_bwd(self)?))
    }
}
