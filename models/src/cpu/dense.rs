//! A linear layer on its own, for what is not BERT: rows of f32 in and out, weights packed once, products in f32.

use candle_core::Result as CandleResult;

use super::grid::Grid;
use super::kernels::Kernels;
use super::linear::Linear;
use super::shared::Shared;
use super::{Isa, on};

/// A layer on the kernels of some instruction set.
pub(crate) trait CpuLinear: Send + Sync {
    /// `rows · weightsᵀ + bias`: f32 `[rows, inputs]` to `[rows, outputs]`, both by rows.
    fn apply(&self, rows: Vec<f32>) -> Vec<f32>;
}

/// Packs weights `[outputs, inputs]`, by rows, and a bias for each output.
pub(crate) fn linear(isa: Isa, weights: &[f32], bias: &[f32]) -> CandleResult<Box<dyn CpuLinear>> {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Amx | Isa::Avx512Int16 | Isa::Avx512Bf16 | Isa::Avx512 => {
            return Ok(pack(on::<super::avx512::Avx512>()?, weights, bias));
        }
        Isa::Avx2Int16 | Isa::Avx2 => return Ok(pack(on::<super::avx2::Avx2>()?, weights, bias)),
        Isa::Portable => {}
    }
    Ok(pack(on::<super::portable::Portable>()?, weights, bias))
}

fn pack<K: Kernels<Unit = f32>>(kernels: K, weights: &[f32], bias: &[f32]) -> Box<dyn CpuLinear> {
    let inputs = weights.len() / bias.len().max(1);
    let mut linear = Linear::new(inputs, bias.len());
    linear.set(0, weights, bias, (inputs, &Grid::default()));
    Box::new(Dense { kernels, linear, inputs })
}

struct Dense<K: Kernels> {
    kernels: K,
    linear: Linear<K>,
    inputs: usize,
}

impl<K: Kernels<Unit = f32>> CpuLinear for Dense<K> {
    fn apply(&self, rows: Vec<f32>) -> Vec<f32> {
        let count = rows.len() / self.inputs;
        // SAFETY: nobody else has the rows.
        unsafe { self.linear.outputs(self.kernels, &Shared::of(rows, self.inputs), count) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::twins::random;

    proptest! {
        #[test]
        fn every_instruction_set_multiplies_in_f32(
            seed: u64, rows in 1_usize..20, inputs in 1_usize..50, outputs in 1_usize..70,
        ) {
            let (left, weights, bias) =
                (random(seed, rows * inputs), random(seed ^ 1, outputs * inputs), random(seed ^ 2, outputs));
            for isa in Isa::available() {
                let ours = linear(isa, &weights, &bias).unwrap().apply(left.clone());
                prop_assert_eq!(ours.len(), rows * outputs);
                for (at, ours) in ours.iter().enumerate() {
                    let (row, output) = (at / outputs, at % outputs);
                    let products = (0..inputs)
                        .map(|at| f64::from(left[row * inputs + at]) * f64::from(weights[output * inputs + at]));
                    let wanted = products.sum::<f64>() + f64::from(bias[output]);
                    prop_assert!((f64::from(*ours) - wanted).abs() < 1e-4, "{}: {} and {}", isa, ours, wanted);
                }
            }
        }
    }
}
