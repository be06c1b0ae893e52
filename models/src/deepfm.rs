//! "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction" (Guo et al. 2017, <https://arxiv.org/abs/1703.04247>): a
//! weight for each value, the inner products of all pairs of fields' vectors ("Factorization Machines", Rendle 2010), and a network
//! over the same vectors, added up.
//!
//! Without the network it is a factorisation machine, and without pairs as well a logistic regression.

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::fields::{ClickNetwork, Examples, FieldVectors, Fields};
use crate::perceptron::Perceptron;
use crate::training::Mode;

/// The network's sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeepFmConfig {
    /// What it looks at.
    pub fields: Fields,
    /// Length of a field's vector.
    pub width: usize,
    /// Whether pairs of fields count.
    pub pairs: bool,
    /// Widths of the network's layers; none: there is no network.
    pub layers: Vec<usize>,
    /// The part of the network's numbers that is dropped while learning.
    pub dropout: f32,
}

/// The network.
pub struct DeepFm {
    linear: FieldVectors,
    bias: Tensor,
    vectors: Option<FieldVectors>,
    pairs: bool,
    deep: Option<Perceptron>,
}

impl DeepFm {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape.
    pub fn new(config: &DeepFmConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let DeepFmConfig { fields, width, pairs, layers, dropout } = config;
        let inputs = fields.0.len() * width;
        let deep =
            (!layers.is_empty()).then(|| Perceptron::new(inputs, layers, Some(1), *dropout, &weights.pp("deep")));
        let vectors = *pairs || deep.is_some();
        Ok(Self {
            linear: FieldVectors::new(fields, 1, &weights.pp("linear"))?,
            bias: weights.get_with_hints(1, "bias", Init::Const(0.0))?,
            vectors: vectors.then(|| FieldVectors::new(fields, *width, &weights.pp("vectors"))).transpose()?,
            pairs: *pairs,
            deep: deep.transpose()?,
        })
    }
}

impl ClickNetwork for DeepFm {
    fn logits(&self, examples: &Examples, mode: &mut Mode<'_>) -> Result<Tensor> {
        let mut logits = self.linear.forward(examples)?.flatten_from(1)?.sum(1)?.broadcast_add(&self.bias)?;
        let Some(vectors) = &self.vectors else { return Ok(logits) };
        let vectors = vectors.forward(examples)?;
        if self.pairs {
            logits = (logits + pairs(&vectors)?)?;
        }
        if let Some(deep) = &self.deep {
            logits = (logits + deep.forward(&vectors.flatten_from(1)?, mode)?.squeeze(1)?)?;
        }
        Ok(logits)
    }
}

/// The inner products of all pairs, in linear time (Rendle 2010, lemma 3.1).
fn pairs(vectors: &Tensor) -> Result<Tensor> {
    let (square_of_sum, sum_of_squares) = (vectors.sum(1)?.sqr()?, vectors.sqr()?.sum(1)?);
    (square_of_sum - sum_of_squares)?.sum(D::Minus1)? * 0.5
}
