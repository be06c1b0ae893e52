//! From `config.json` and the weights to a network, one tensor after the other.

use candle_core::Result as CandleResult;
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{Config, HiddenAct};

use super::kernels::Kernels;
use super::linear::Linear;
use super::network::{Embeddings, Layer, Network, Sizes};
use super::norm::NormWeights;

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
    let embeddings = reader.embeddings(config)?;
    let layers = (0..config.num_hidden_layers).map(|layer| reader.layer(&format!("encoder.layer.{layer}")));
    Ok(Network { kernels, sizes, embeddings, layers: layers.collect::<CandleResult<_>>()? })
}

struct Reader<'a> {
    weights: &'a VarBuilder<'a>,
    sizes: Sizes,
    epsilon: f32,
}

impl Reader<'_> {
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> CandleResult<Vec<f32>> {
        self.weights.get((rows, columns), name)?.flatten_all()?.to_vec1()
    }

    fn vector(&self, name: &str, length: usize) -> CandleResult<Vec<f32>> {
        self.weights.get(length, name)?.to_vec1()
    }

    fn embeddings(&self, config: &Config) -> CandleResult<Embeddings> {
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
            norm: self.norm("embeddings.LayerNorm")?,
        })
    }

    fn layer<K: Kernels>(&self, name: &str) -> CandleResult<Layer<K>> {
        let Sizes { hidden, intermediate, .. } = self.sizes;
        let mut projections = Linear::new(hidden, 3 * hidden);
        for (part, of) in ["query", "key", "value"].iter().enumerate() {
            self.fill(&mut projections, part * hidden, &format!("{name}.attention.self.{of}"), (hidden, hidden))?;
        }
        Ok(Layer {
            projections,
            attention: self.linear(&format!("{name}.attention.output.dense"), hidden, hidden)?,
            attention_norm: self.norm(&format!("{name}.attention.output.LayerNorm"))?,
            intermediate: self.linear(&format!("{name}.intermediate.dense"), hidden, intermediate)?,
            output: self.linear(&format!("{name}.output.dense"), intermediate, hidden)?,
            output_norm: self.norm(&format!("{name}.output.LayerNorm"))?,
        })
    }

    fn linear<K: Kernels>(&self, name: &str, inputs: usize, outputs: usize) -> CandleResult<Linear<K>> {
        let mut linear = Linear::new(inputs, outputs);
        self.fill(&mut linear, 0, name, (inputs, outputs))?;
        Ok(linear)
    }

    /// Sets outputs of a layer from `first` on.
    fn fill<K: Kernels>(
        &self,
        linear: &mut Linear<K>,
        first: usize,
        name: &str,
        (inputs, outputs): (usize, usize),
    ) -> CandleResult<()> {
        let bias = self.vector(&format!("{name}.bias"), outputs)?;
        let weights = self.weights.get((outputs, inputs), &format!("{name}.weight"))?.flatten_all()?.to_vec1()?;
        linear.set(first, &weights, inputs, &bias);
        Ok(())
    }

    fn norm(&self, name: &str) -> CandleResult<NormWeights> {
        let hidden = self.sizes.hidden;
        // Weights converted from TensorFlow have other names for the two.
        let either = |now: &str, before: &str| {
            let [now, before] = [now, before].map(|end| format!("{name}.{end}"));
            self.vector(if self.weights.contains_tensor(&now) { &now } else { &before }, hidden)
        };
        Ok(NormWeights { scale: either("weight", "gamma")?, shift: either("bias", "beta")?, epsilon: self.epsilon })
    }
}
