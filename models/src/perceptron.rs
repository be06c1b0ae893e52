//! Linear layers one after the other, with ReLU and dropout between them.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::fused::{Rectify, rectify};
use crate::linear::Linear;
use crate::training::Mode;

pub(crate) struct Perceptron {
    hidden: Vec<Linear>,
    output: Option<Linear>,
    dropout: f32,
}

impl Perceptron {
    /// Hidden layers of these widths, and a last one without ReLU if there is to be one.
    pub(crate) fn new(
        inputs: usize,
        widths: &[usize],
        outputs: Option<usize>,
        dropout: f32,
        weights: &VarBuilder<'_>,
    ) -> Result<Self> {
        let mut before = inputs;
        let mut hidden = Vec::with_capacity(widths.len());
        for (layer, &width) in widths.iter().enumerate() {
            hidden.push(Linear::new(before, width, &weights.pp(layer))?);
            before = width;
        }
        let output = outputs.map(|outputs| Linear::new(before, outputs, &weights.pp("output")));
        Ok(Self { hidden, output: output.transpose()?, dropout })
    }

    /// f32 `[rows, inputs]` to `[rows, outputs]`.
    pub(crate) fn forward(&self, rows: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let mut rows = rows.clone();
        for layer in &self.hidden {
            rows = mode.dropout(&rectify(&layer.forward(&rows)?, Rectify::RELU)?, self.dropout)?;
        }
        self.output.as_ref().map_or(Ok(rows.clone()), |output| output.forward(&rows))
    }
}
