//! Kind `bert` on candle, in any precision: rows padded to one length. candle-transformers' own runs in f32 only: its mask
//! is −∞ in 16 bits, and 0 × −∞ is not a number.

use candle_core::{D, DType, Error as CandleError, Module as _, Result as CandleResult, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, VarBuilder, embedding, layer_norm, linear, ops::softmax_last_dim};
use candle_transformers::models::bert::{Config, HiddenAct};

use crate::Precision;

/// What is added to the score of padding: `exp` makes 0 of it, and f16 can hold it.
const MASKED: f64 = -3e4;

/// The network on its device.
pub(crate) struct PaddedBert {
    words: Embedding,
    /// Of each position, `[positions, hidden]`, with the vector of the first token type, which all tokens have.
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    precision: DType,
}

struct Layer {
    /// Queries, keys and values in one product.
    projections: Linear,
    heads: usize,
    attention: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    act: HiddenAct,
    output: Linear,
    output_norm: LayerNorm,
}

impl PaddedBert {
    /// Loads the weights under the names of Hugging Face.
    pub(crate) fn load(weights: &VarBuilder<'_>, config: &Config, precision: Precision) -> CandleResult<Self> {
        let precision = precision.dtype();
        let (hidden, epsilon) = (config.hidden_size, config.layer_norm_eps);
        if config.num_attention_heads == 0 || !hidden.is_multiple_of(config.num_attention_heads) {
            let heads = config.num_attention_heads;
            return Err(CandleError::msg(format!("{hidden} numbers cannot be shared by {heads} heads")));
        }
        let exact = weights.pp("embeddings");
        let types = exact.get((config.type_vocab_size, hidden), "token_type_embeddings.weight")?;
        let positions = exact.get((config.max_position_embeddings, hidden), "position_embeddings.weight")?;
        let positions = positions.broadcast_add(&types.narrow(0, 0, 1)?)?.to_dtype(precision)?;
        let weights = weights.to_dtype(precision);
        let embeddings = weights.pp("embeddings");
        let layers =
            (0..config.num_hidden_layers).map(|at| Layer::load(&weights.pp(format!("encoder.layer.{at}")), config));
        Ok(Self {
            words: embedding(config.vocab_size, hidden, embeddings.pp("word_embeddings"))?,
            positions,
            norm: layer_norm(hidden, epsilon, embeddings.pp("LayerNorm"))?,
            layers: layers.collect::<CandleResult<_>>()?,
            precision,
        })
    }

    /// Token vectors, f32 `[rows, tokens, hidden]`, of ids u32 `[rows, tokens]`; `mask` is f32 of the same shape, 1 at a
    /// row's tokens and 0 at the padding after them.
    pub(crate) fn forward(&self, ids: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        let (rows, tokens) = ids.dims2()?;
        let mask = added_to_scores(mask)?.to_dtype(self.precision)?.reshape((rows, 1, 1, tokens))?;
        let words = self.words.forward(ids)?;
        let mut hidden = self.norm.forward(&words.broadcast_add(&self.positions.narrow(0, 0, tokens)?)?)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &mask)?;
        }
        hidden.to_dtype(DType::F32)
    }
}

/// 0 at a row's tokens, and what makes padding not count elsewhere.
fn added_to_scores(mask: &Tensor) -> CandleResult<Tensor> {
    mask.affine(-MASKED, MASKED)
}

impl Layer {
    fn load(weights: &VarBuilder<'_>, config: &Config) -> CandleResult<Self> {
        let (hidden, intermediate, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let attention = weights.pp("attention");
        let part = |name: &str| linear(hidden, hidden, attention.pp("self").pp(name));
        let parts = [part("query")?, part("key")?, part("value")?];
        let biases: Vec<&Tensor> = parts.iter().filter_map(Linear::bias).collect();
        let projections =
            Linear::new(Tensor::cat(&parts.each_ref().map(Linear::weight), 0)?, Some(Tensor::cat(&biases, 0)?));
        Ok(Self {
            projections,
            heads: config.num_attention_heads,
            attention: linear(hidden, hidden, attention.pp("output.dense"))?,
            attention_norm: layer_norm(hidden, epsilon, attention.pp("output.LayerNorm"))?,
            intermediate: linear(hidden, intermediate, weights.pp("intermediate.dense"))?,
            act: config.hidden_act,
            output: linear(intermediate, hidden, weights.pp("output.dense"))?,
            output_norm: layer_norm(hidden, epsilon, weights.pp("output.LayerNorm"))?,
        })
    }

    fn forward(&self, hidden: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        let attended = self.attention.forward(&self.attend(hidden, mask)?)?;
        let hidden = self.attention_norm.forward(&(attended + hidden)?)?;
        let wide = self.intermediate.forward(&hidden)?;
        let wide = match self.act {
            HiddenAct::Gelu => wide.gelu_erf()?,
            HiddenAct::GeluApproximate => wide.gelu()?,
            HiddenAct::Relu => wide.relu()?,
        };
        self.output_norm.forward(&(self.output.forward(&wide)? + hidden)?)
    }

    /// What the heads find, side by side: `[rows, tokens, hidden]`.
    fn attend(&self, hidden: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        let (rows, tokens, width) = hidden.dims3()?;
        let size = width / self.heads;
        let all = self.projections.forward(hidden)?.reshape((rows, tokens, 3, self.heads, size))?;
        // Three times [rows, heads, tokens, size].
        let all = all.permute((2, 0, 3, 1, 4))?.contiguous()?;
        // Scaled before the product, whose sums are then small enough for f16.
        let queries = (all.get(0)? / (size as f64).sqrt())?;
        let scores = queries.matmul(&all.get(1)?.t()?)?.broadcast_add(mask)?;
        softmax_last_dim(&scores)?.matmul(&all.get(2)?)?.transpose(1, 2)?.flatten_from(D::Minus2)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn padding_does_not_count_in_any_precision() {
        for precision in Precision::ALL {
            let mask = Tensor::new(&[1_f32, 0.0], &Device::Cpu).unwrap();
            let added = added_to_scores(&mask).unwrap().to_dtype(precision.dtype()).unwrap();
            let shares = softmax_last_dim(&added).unwrap().to_dtype(DType::F32).unwrap();
            assert_eq!(shares.to_vec1::<f32>().unwrap(), [1.0, 0.0], "{precision}");
        }
    }
}
