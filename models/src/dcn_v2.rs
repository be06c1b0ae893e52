//! "DCN V2: Improved Deep & Cross Network" (Wang et al. 2021, <https://arxiv.org/abs/2008.13535>): cross layers multiply all
//! numbers of an example with weighted sums of them, each time one degree higher, beside a network; a last layer weighs both (the
//! paper's parallel structure).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::fields::{ClickNetwork, Examples, FieldVectors, Fields};
use crate::linear::Linear;
use crate::perceptron::Perceptron;
use crate::training::Mode;

/// The network's sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DcnV2Config {
    /// What it looks at.
    pub fields: Fields,
    /// Length of a field's vector.
    pub width: usize,
    /// Number of cross layers.
    pub crosses: usize,
    /// Widths of the network's layers, one at least.
    pub layers: Vec<usize>,
    /// The part of the network's numbers that is dropped while learning.
    pub dropout: f32,
}

/// The network.
pub struct DcnV2 {
    vectors: FieldVectors,
    crosses: Vec<Linear>,
    deep: Perceptron,
    output: Linear,
}

impl DcnV2 {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape; there are no layers.
    pub fn new(config: &DcnV2Config, weights: &VarBuilder<'_>) -> Result<Self> {
        let DcnV2Config { fields, width, crosses, layers, dropout } = config;
        let inputs = fields.0.len() * width;
        let Some(last) = layers.last() else { candle_core::bail!("`layers` is empty; the network needs one at least") };
        let cross = |layer| Linear::new(inputs, inputs, &weights.pp("crosses").pp(layer));
        Ok(Self {
            vectors: FieldVectors::new(fields, *width, &weights.pp("vectors"))?,
            crosses: (0..*crosses).map(cross).collect::<Result<_>>()?,
            deep: Perceptron::new(inputs, layers, None, *dropout, &weights.pp("deep"))?,
            output: Linear::new(inputs + last, 1, &weights.pp("output"))?,
        })
    }
}

impl ClickNetwork for DcnV2 {
    fn logits(&self, examples: &Examples, mode: &mut Mode<'_>) -> Result<Tensor> {
        let first = self.vectors.forward(examples)?.flatten_from(1)?;
        let mut crossed = first.clone();
        for cross in &self.crosses {
            crossed = (&first * cross.forward(&crossed)? + crossed)?;
        }
        let deep = self.deep.forward(&first, mode)?;
        self.output.forward(&Tensor::cat(&[crossed, deep], 1)?)?.squeeze(1)
    }
}
