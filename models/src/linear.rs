//! A linear layer: one that learns, with a bias whose gradient is quick, or one that only answers, on kernels of our own.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::Isa;
use crate::cpu::{self, CpuLinear};
use crate::fused::add_bias;

pub(crate) struct Linear {
    /// As PyTorch keeps it: `[outputs, inputs]`.
    weight: Tensor,
    bias: Tensor,
    /// The same for the kernels, if it only answers, and on the CPU.
    packed: Option<Box<dyn CpuLinear>>,
}

impl Linear {
    /// Weights `weight` and `bias`.
    pub(crate) fn new(inputs: usize, outputs: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let weight = weights.get_with_hints((outputs, inputs), "weight", Init::Const(0.0))?;
        Ok(Self { weight, bias: weights.get_with_hints(outputs, "bias", Init::Const(0.0))?, packed: None })
    }

    /// The same, packed for the kernels of this CPU unless the weights are variables: candle's products are made for large matrices, and look up
    /// the number of cores in a file each time.
    pub(crate) fn quick(inputs: usize, outputs: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let mut linear = Self::new(inputs, outputs, weights)?;
        if !linear.weight.is_variable() {
            linear.packed = pack(&linear.weight, &linear.bias)?;
        }
        Ok(linear)
    }

    /// f32 `[.., inputs]` to `[.., outputs]`.
    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        match &self.packed {
            Some(packed) => apply(&**packed, rows),
            None => linear(rows, &self.weight, &self.bias),
        }
    }
}

/// A weight `[outputs, inputs]` and a bias `[outputs]` for the kernels of this CPU; none on another device.
pub(crate) fn pack(weight: &Tensor, bias: &Tensor) -> Result<Option<Box<dyn CpuLinear>>> {
    if !weight.device().is_cpu() {
        return Ok(None);
    }
    let isa = Isa::chosen().map_err(candle_core::Error::wrap)?;
    cpu::linear(isa, &weight.flatten_all()?.to_vec1()?, &bias.to_vec1()?).map(Some)
}

/// f32 `[.., inputs]` to `[.., outputs]`.
pub(crate) fn apply(packed: &dyn CpuLinear, rows: &Tensor) -> Result<Tensor> {
    let mut shape = rows.dims().to_vec();
    shape.pop();
    let outputs = packed.apply(rows.flatten_all()?.to_vec1()?);
    shape.push(outputs.len() / shape.iter().product::<usize>().max(1));
    Tensor::from_vec(outputs, shape, rows.device())
}

/// Rows f32 `[.., inputs]` by a weight `[outputs, inputs]` and a bias `[outputs]`.
pub(crate) fn linear(rows: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let mut shape = rows.dims().to_vec();
    let columns = shape.pop().unwrap_or_default();
    let flat = rows.reshape((shape.iter().product::<usize>(), columns))?.matmul(&weight.t()?)?;
    shape.push(bias.elem_count());
    add_bias(&flat, bias)?.reshape(shape)
}
