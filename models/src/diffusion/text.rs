//! The text encoder of CLIP, "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al. 2021,
//! <https://arxiv.org/abs/2103.00020>): what a prompt's tokens mean, one after the other.
//!
//! Candle's can only be built for the sizes of a few known checkpoints, or with one of the two activations.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{sigmoid, softmax_last_dim};
use candle_nn::{LayerNorm, Linear, Module as _, VarBuilder, layer_norm, linear};
use serde::Deserialize;

/// What is read of `text_encoder/config.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct TextConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub max_position_embeddings: usize,
    #[serde(default)]
    pub hidden_act: TextActivation,
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
}

fn epsilon() -> f64 {
    1e-5
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TextActivation {
    #[default]
    QuickGelu,
    Gelu,
}

impl TextActivation {
    fn forward(self, numbers: &Tensor) -> Result<Tensor> {
        match self {
            Self::QuickGelu => numbers * sigmoid(&(numbers * 1.702)?)?,
            Self::Gelu => numbers.gelu_erf(),
        }
    }
}

/// The network.
pub(super) struct TextEncoder {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    last: LayerNorm,
}

impl TextEncoder {
    /// The network with weights from `weights`.
    ///
    /// # Errors
    /// A weight is missing or has another shape.
    pub fn new(config: &TextConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        // Newer files leave the prefix out.
        let prefixed = weights.contains_tensor("text_model.final_layer_norm.weight");
        let weights = if prefixed { weights.pp("text_model") } else { weights.clone() };
        let (hidden, embeddings) = (config.hidden_size, weights.pp("embeddings"));
        let layers = weights.pp("encoder").pp("layers");
        Ok(Self {
            tokens: embeddings.get((config.vocab_size, hidden), "token_embedding.weight")?,
            positions: embeddings.get((config.max_position_embeddings, hidden), "position_embedding.weight")?,
            layers: (0..config.num_hidden_layers)
                .map(|layer| Layer::new(config, &layers.pp(layer)))
                .collect::<Result<_>>()?,
            last: layer_norm(hidden, config.layer_norm_eps, weights.pp("final_layer_norm"))?,
        })
    }

    /// f32 `[1, tokens, hidden]` of token ids, which are no more than there are positions.
    ///
    /// # Errors
    /// An id is not there, or the device failed.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        let (tokens, device) = (ids.len(), self.tokens.device());
        let embedded = self.tokens.embedding(&Tensor::new(ids, device)?)?;
        let mut rows = (embedded + self.positions.narrow(0, 0, tokens)?)?.unsqueeze(0)?;
        // No token looks at those behind it.
        let ahead = |at: usize| if at % tokens > at / tokens { f32::NEG_INFINITY } else { 0.0 };
        let mask = Tensor::from_iter((0..tokens * tokens).map(ahead), device)?.reshape((tokens, tokens))?;
        for layer in &self.layers {
            rows = layer.forward(&rows, &mask)?;
        }
        self.last.forward(&rows)
    }
}

struct Layer {
    before_attention: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    before_wide: LayerNorm,
    wide: Linear,
    activation: TextActivation,
    narrow: Linear,
}

impl Layer {
    fn new(config: &TextConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let attention = |name| linear(hidden, hidden, weights.pp("self_attn").pp(name));
        Ok(Self {
            before_attention: layer_norm(hidden, config.layer_norm_eps, weights.pp("layer_norm1"))?,
            query: attention("q_proj")?,
            key: attention("k_proj")?,
            value: attention("v_proj")?,
            output: attention("out_proj")?,
            heads: config.num_attention_heads,
            before_wide: layer_norm(hidden, config.layer_norm_eps, weights.pp("layer_norm2"))?,
            wide: linear(hidden, wide, weights.pp("mlp").pp("fc1"))?,
            activation: config.hidden_act,
            narrow: linear(wide, hidden, weights.pp("mlp").pp("fc2"))?,
        })
    }

    fn forward(&self, rows: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let rows = (rows + self.attend(&self.before_attention.forward(rows)?, mask)?)?;
        let wide = self.activation.forward(&self.wide.forward(&self.before_wide.forward(&rows)?)?)?;
        rows + self.narrow.forward(&wide)?
    }

    fn attend(&self, rows: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (batch, tokens, hidden) = rows.dims3()?;
        let size = hidden / self.heads;
        let heads = |layer: &Linear| {
            layer.forward(rows)?.reshape((batch, tokens, self.heads, size))?.transpose(1, 2)?.contiguous()
        };
        let (query, key, value) = (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?);
        let alike = (query.matmul(&key.transpose(D::Minus1, D::Minus2)?)? / (size as f64).sqrt())?;
        let weights = softmax_last_dim(&alike.broadcast_add(mask)?)?;
        self.output.forward(&weights.matmul(&value)?.transpose(1, 2)?.reshape((batch, tokens, hidden))?)
    }
}
