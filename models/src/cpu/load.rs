//! From `config.json` and the weights to a network, one tensor after the other.

use candle_core::Result as CandleResult;
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{Config, HiddenAct};

use super::grid::Grid;
use super::kernels::Kernels;
use super::linear::Linear;
use super::network::{Embeddings, Layer, Network, Sizes};
use super::norm::NormWeights;
use crate::rest::rest;

/// So many rows of a matrix are copied from one rest to the next.
const ROWS: usize = 1024;

/// Why the kernels cannot run a configuration, if they cannot.
pub(crate) fn unsupported(config: &Config) -> Option<String> {
    let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
    if !matches!(config.hidden_act, HiddenAct::Gelu) {
        return Some(format!("hidden_act is {:?}, not gelu", config.hidden_act));
    }
    if heads == 0 || !hidden.is_multiple_of(heads) || !(hidden / heads).is_multiple_of(2) {
        return Some(format!("{hidden} numbers in {heads} heads are not an even number for each"));
    }
    None
}

/// Loads the weights under the names of Hugging Face.
pub(super) fn network<K: Kernels>(kernels: K, config: &Config, weights: &VarBuilder<'_>) -> CandleResult<Network<K>> {
    let sizes =
        Sizes { hidden: config.hidden_size, intermediate: config.intermediate_size, heads: config.num_attention_heads };
    let reader = Reader { weights, sizes, epsilon: config.layer_norm_eps as f32 };
    let embeddings = reader.embeddings::<K>(config)?;
    let mut layers: Vec<Layer<K>> = Vec::with_capacity(config.num_hidden_layers);
    for layer in 0..config.num_hidden_layers {
        let before = layers.last().map_or(&embeddings.norm, |layer| &layer.output_norm);
        layers.push(reader.layer(&format!("encoder.layer.{layer}"), before)?);
    }
    Ok(Network { kernels, sizes, embeddings, layers })
}

struct Reader<'a> {
    weights: &'a VarBuilder<'a>,
    sizes: Sizes,
    epsilon: f32,
}

impl Reader<'_> {
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> CandleResult<Vec<f32>> {
        let tensor = self.weights.get((rows, columns), name)?;
        let mut numbers = Vec::with_capacity(rows * columns);
        for first in (0..rows).step_by(ROWS) {
            rest();
            numbers.extend(tensor.narrow(0, first, ROWS.min(rows - first))?.flatten_all()?.to_vec1::<f32>()?);
        }
        rest();
        finite(name, numbers)
    }

    fn vector(&self, name: &str, length: usize) -> CandleResult<Vec<f32>> {
        finite(name, self.weights.get(length, name)?.to_vec1()?)
    }

    fn embeddings<K: Kernels>(&self, config: &Config) -> CandleResult<Embeddings> {
        let hidden = self.sizes.hidden;
        let types = self.matrix("embeddings.token_type_embeddings.weight", config.type_vocab_size, hidden)?;
        let mut positions =
            self.matrix("embeddings.position_embeddings.weight", config.max_position_embeddings, hidden)?;
        // All tokens are of the first type.
        for position in positions.chunks_exact_mut(hidden) {
            for (number, first) in position.iter_mut().zip(&types) {
                *number += first;
            }
        }
        Ok(Embeddings {
            words: self.matrix("embeddings.word_embeddings.weight", config.vocab_size, hidden)?,
            positions,
            norm: self.norm::<K>("embeddings.LayerNorm")?,
        })
    }

    /// A layer that comes after a normalisation.
    fn layer<K: Kernels>(&self, name: &str, before: &NormWeights) -> CandleResult<Layer<K>> {
        let Sizes { hidden, intermediate, .. } = self.sizes;
        let mut projections = Linear::new(hidden, 3 * hidden);
        let of = |part: &str| self.layer_weights(&format!("{name}.attention.self.{part}"), (hidden, hidden));
        let [queries, keys, values] = [of("query")?, of("key")?, of("value")?];
        for (part, matrix) in [&queries, &keys, &values].into_iter().enumerate() {
            projections.set(part * hidden, &matrix.weights, &matrix.bias, (hidden, &before.grid));
        }
        // What heads make of values lies between them.
        let heads_grid = values.grid_after::<K>(before);
        let linear = |of: &str, (inputs, outputs): (usize, usize), grid: &Grid| {
            let matrix = self.layer_weights(&format!("{name}.{of}"), (inputs, outputs))?;
            let mut linear = Linear::new(inputs, outputs);
            linear.set(0, &matrix.weights, &matrix.bias, (inputs, grid));
            CandleResult::Ok((linear, matrix))
        };
        let (attention, _) = linear("attention.output.dense", (hidden, hidden), &heads_grid)?;
        let attention_norm = self.norm::<K>(&format!("{name}.attention.output.LayerNorm"))?;
        let (expand, matrix) = linear("intermediate.dense", (hidden, intermediate), &attention_norm.grid)?;
        // GELU brings every number nearer to 0.
        let intermediate_grid = matrix.grid_after::<K>(&attention_norm);
        let (output, _) = linear("output.dense", (intermediate, hidden), &intermediate_grid)?;
        Ok(Layer {
            projections,
            heads_grid,
            attention,
            attention_norm,
            intermediate: expand,
            intermediate_grid,
            output,
            output_norm: self.norm::<K>(&format!("{name}.output.LayerNorm"))?,
        })
    }

    fn layer_weights(&self, name: &str, (inputs, outputs): (usize, usize)) -> CandleResult<LayerWeights> {
        let bias = self.vector(&format!("{name}.bias"), outputs)?;
        Ok(LayerWeights { weights: self.matrix(&format!("{name}.weight"), outputs, inputs)?, bias, inputs })
    }

    fn norm<K: Kernels>(&self, name: &str) -> CandleResult<NormWeights> {
        let hidden = self.sizes.hidden;
        // Weights converted from TensorFlow have other names for the two.
        let either = |now: &str, before: &str| {
            let [now, before] = [now, before].map(|end| format!("{name}.{end}"));
            self.vector(if self.weights.contains_tensor(&now) { &now } else { &before }, hidden)
        };
        Ok(NormWeights::new::<K>(either("weight", "gamma")?, either("bias", "beta")?, self.epsilon))
    }
}

/// Whole numbers have no not-a-number that would show in what comes out: damaged weights are to be found here.
fn finite(name: &str, numbers: Vec<f32>) -> CandleResult<Vec<f32>> {
    match numbers.iter().position(|number| !number.is_finite()) {
        None => Ok(numbers),
        Some(place) => Err(candle_core::Error::msg(format!(
            "{name}, number {place}: {} is not finite; the weights are damaged",
            numbers[place]
        ))),
    }
}

/// What a linear layer is packed from.
struct LayerWeights {
    /// `[outputs, inputs]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

impl LayerWeights {
    /// For the layer's outputs, if its inputs come from a normalisation.
    fn grid_after<K: Kernels>(&self, before: &NormWeights) -> Grid {
        let outputs = self.weights.chunks_exact(self.inputs).zip(&self.bias);
        Grid::of::<K>(outputs.map(|(weights, bias)| before.bound(weights, *bias)))
    }
}
