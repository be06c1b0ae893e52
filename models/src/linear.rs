//! A linear layer, whose bias has a gradient that is quick.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::fused::add_bias;

pub(crate) struct Linear {
    /// As PyTorch keeps it: `[outputs, inputs]`.
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Weights `weight` and `bias`.
    pub(crate) fn new(inputs: usize, outputs: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let weight = weights.get_with_hints((outputs, inputs), "weight", Init::Const(0.0))?;
        Ok(Self { weight, bias: weights.get_with_hints(outputs, "bias", Init::Const(0.0))? })
    }

    /// f32 `[.., inputs]` to `[.., outputs]`.
    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        linear(rows, &self.weight, &self.bias)
    }
}

/// Rows f32 `[.., inputs]` by a weight `[outputs, inputs]` and a bias `[outputs]`.
pub(crate) fn linear(rows: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let mut shape = rows.dims().to_vec();
    let columns = shape.pop().unwrap_or_default();
    let flat = rows.reshape((shape.iter().product::<usize>(), columns))?.matmul(&weight.t()?)?;
    shape.push(bias.elem_count());
    add_bias(&flat, bias)?.reshape(shape)
}
