//! What networks need to learn, beside their forward pass: parts dropped at random, starting weights, and a normalisation that gradients
//! pass through. Every random number comes from a seed.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder, VarMap};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use crate::fused::{layer_norm, times};

/// What a forward pass is for.
pub struct Mode<'a> {
    /// While learning.
    random: Option<&'a mut StdRng>,
    /// Whether what is learnt without a gradient moves.
    moves: bool,
}

impl<'a> Mode<'a> {
    /// To answer: nothing is dropped.
    #[must_use]
    pub fn serving() -> Self {
        Self { random: None, moves: false }
    }

    /// To learn: parts are dropped at random.
    pub fn training(random: &'a mut StdRng) -> Self {
        Self { random: Some(random), moves: true }
    }

    /// The same beside another part of the batch: what is learnt without a gradient, as running means, is moved by that one only.
    #[must_use]
    pub fn beside(self) -> Self {
        Self { moves: false, ..self }
    }

    /// Whether it is to learn.
    pub(crate) fn learns(&self) -> bool {
        self.random.is_some()
    }

    /// Whether what is learnt without a gradient moves.
    pub(crate) fn moves(&self) -> bool {
        self.moves
    }

    /// "Dropout" (Srivastava et al. 2014): sets a part of the numbers to 0 and makes the others larger, so that the mean
    /// stays. `rate` is from 0 up to, but not including, 1.
    ///
    /// # Errors
    /// The device failed.
    pub fn dropout(&mut self, numbers: &Tensor, rate: f32) -> Result<Tensor> {
        let Some(random) = &mut self.random else { return Ok(numbers.clone()) };
        if rate <= 0.0 {
            return Ok(numbers.clone());
        }
        let mut draws = vec![0_u8; 2 * numbers.elem_count()];
        random.fill_bytes(&mut draws);
        let kept = 1.0 / (1.0 - rate);
        let limit = rate * 65_536.0;
        let keep = |draw: &[u8]| if f32::from(u16::from_le_bytes([draw[0], draw[1]])) < limit { 0.0 } else { kept };
        let mask: Vec<f32> = draws.chunks_exact(2).map(keep).collect();
        times(numbers, mask)
    }
}

/// "Layer Normalization" (<https://arxiv.org/abs/1607.06450>). That of `candle-nn` runs as one operation that has no gradient.
pub(crate) struct LayerNorm {
    scale: Tensor,
    shift: Tensor,
}

impl LayerNorm {
    const EPSILON: f32 = 1e-8;

    /// Weights `weight` and `bias`, one for each number.
    ///
    /// # Errors
    /// They are missing or of another length.
    pub fn new(length: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let scale = weights.get_with_hints(length, "weight", Init::Const(1.0))?;
        Ok(Self { scale, shift: weights.get_with_hints(length, "bias", Init::Const(0.0))? })
    }

    /// Normalises the last dimension.
    ///
    /// # Errors
    /// The device failed.
    pub fn forward(&self, numbers: &Tensor) -> Result<Tensor> {
        layer_norm(numbers, &self.scale, &self.shift, Self::EPSILON)
    }
}

/// Starting weights from a seed: matrices are normally distributed, and `deviation` says how widely, from a matrix's name and shape.
/// Of what has one dimension, scales of normalisations (`weight`) and running variances are 1, and all else is 0.
///
/// # Errors
/// The device failed.
pub fn start(variables: &VarMap, seed: u64, deviation: impl Fn(&str, &[usize]) -> f32) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    // By name: a map has no order of its own, and the same seed is to give the same weights.
    for (name, variable) in &by_name(variables) {
        if variable.dims().len() < 2 {
            let is_one = matches!(name.rsplit('.').next(), Some("weight" | "running_var"));
            variable.set(&if is_one { variable.ones_like()? } else { variable.zeros_like()? })?;
            continue;
        }
        let deviation = deviation(name, variable.dims());
        let numbers: Vec<f32> = (0..variable.elem_count()).map(|_| deviation * normal(&mut random)).collect();
        variable.set(&Tensor::from_vec(numbers, variable.shape(), variable.device())?)?;
    }
    Ok(())
}

/// The deviation with which a linear layer's numbers neither grow nor shrink ("Understanding the difficulty of training deep feedforward
/// neural networks", Glorot & Bengio 2010), for weights `[outputs, inputs]`.
pub fn glorot(shape: &[usize]) -> f32 {
    (2.0 / shape.iter().sum::<usize>().max(1) as f32).sqrt()
}

/// The variables in an order that is always the same.
pub fn by_name(variables: &VarMap) -> BTreeMap<String, Var> {
    let variables = variables.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    variables.iter().map(|(name, variable)| (name.clone(), variable.clone())).collect()
}

/// A number of the standard normal distribution (Box & Muller 1958).
pub(crate) fn normal(random: &mut StdRng) -> f32 {
    let [radius, angle] = [random.random::<f64>(), random.random::<f64>()];
    ((-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
}
