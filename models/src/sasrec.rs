//! "Self-Attentive Sequential Recommendation" (Kang & McAuley 2018, <https://arxiv.org/abs/1808.09781>): a transformer that
//! looks from each item of a history at those before it, and scores what comes next by the items' own embeddings.
//!
//! As in section III of the paper: learned positions, layer normalisation before each sublayer, a feed-forward layer as wide as the
//! vectors with ReLU, dropout on embeddings, attention and both sublayers, and items shared between input and output. Heads are followed
//! by a linear layer, as in "Attention Is All You Need".

use candle_core::{Result, Tensor};
use candle_nn::{Embedding, Module as _, VarBuilder, embedding};
use serde::{Deserialize, Serialize};

use crate::fused::{Rectify, masked_softmax, rectify};
use crate::linear::Linear;
use crate::sequence::{PADDING, SequenceNetwork, known};
use crate::training::{LayerNorm, Mode};

/// The network's sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SasRecConfig {
    /// Number of items; their ids are 1 to that.
    pub items: usize,
    /// The longest history. Of longer ones the end is looked at.
    pub max_length: usize,
    /// Length of an item's vector.
    pub hidden: usize,
    /// Heads; they divide `hidden`.
    pub heads: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// The part of the numbers that is dropped while learning.
    pub dropout: f32,
}

/// The network.
pub struct SasRec {
    config: SasRecConfig,
    items: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

struct Block {
    attention_norm: LayerNorm,
    /// Queries, keys and values in one product.
    projections: Linear,
    output: Linear,
    forward_norm: LayerNorm,
    expand: Linear,
    contract: Linear,
    heads: usize,
    dropout: f32,
}

impl SasRec {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape; `heads` do not divide `hidden`.
    pub fn new(config: SasRecConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let SasRecConfig { items, max_length, hidden, heads, blocks, .. } = config;
        if heads == 0 || !hidden.is_multiple_of(heads) {
            candle_core::bail!("{hidden} numbers cannot be shared by {heads} heads");
        }
        let blocks = (0..blocks).map(|block| Block::new(&config, &weights.pp("blocks").pp(block)));
        Ok(Self {
            items: embedding(items + 1, hidden, weights.pp("items"))?,
            positions: embedding(max_length, hidden, weights.pp("positions"))?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: LayerNorm::new(hidden, &weights.pp("norm"))?,
            config,
        })
    }
}

impl SequenceNetwork for SasRec {
    fn forward(&self, ids: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (_, length) = ids.dims2()?;
        let first = self.config.max_length.checked_sub(length);
        let Some(first) = first else {
            candle_core::bail!("histories of {length} items; the network takes {}", self.config.max_length);
        };
        let known = known(ids)?;
        // The last item is always at the last position, however long the history.
        let positions = self.positions.embeddings().narrow(0, first, length)?;
        let scaled = (self.items.forward(ids)? * (self.config.hidden as f64).sqrt())?;
        let embedded = mode.dropout(&scaled.broadcast_add(&positions)?, self.config.dropout)?;
        let mut vectors = embedded.broadcast_mul(&known.unsqueeze(2)?)?;
        let mask = mask(&known)?;
        for block in &self.blocks {
            vectors = block.forward(&vectors, &mask, mode)?;
        }
        self.norm.forward(&vectors)
    }

    fn items(&self) -> Result<Tensor> {
        self.items.embeddings().narrow(0, PADDING as usize + 1, self.config.items)
    }
}

impl Block {
    fn new(config: &SasRecConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let hidden = config.hidden;
        Ok(Self {
            attention_norm: LayerNorm::new(hidden, &weights.pp("attention_norm"))?,
            projections: Linear::quick(hidden, 3 * hidden, &weights.pp("projections"))?,
            output: Linear::quick(hidden, hidden, &weights.pp("output"))?,
            forward_norm: LayerNorm::new(hidden, &weights.pp("forward_norm"))?,
            expand: Linear::quick(hidden, hidden, &weights.pp("expand"))?,
            contract: Linear::quick(hidden, hidden, &weights.pp("contract"))?,
            heads: config.heads,
            dropout: config.dropout,
        })
    }

    /// f32 `[rows, length, hidden]` to the same.
    fn forward(&self, vectors: &Tensor, mask: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let attended = self.attend(&self.attention_norm.forward(vectors)?, mask, mode)?;
        let vectors = (vectors + mode.dropout(&attended, self.dropout)?)?;
        let expanded = self.expand.forward(&self.forward_norm.forward(&vectors)?)?;
        let expanded = rectify(&expanded, Rectify::RELU)?;
        let contracted = self.contract.forward(&mode.dropout(&expanded, self.dropout)?)?;
        vectors + mode.dropout(&contracted, self.dropout)?
    }

    fn attend(&self, vectors: &Tensor, mask: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (rows, length, hidden) = vectors.dims3()?;
        let size = hidden / self.heads;
        let projected = self.projections.forward(vectors)?.reshape((rows, length, 3, self.heads, size))?;
        let part = |part: usize| projected.narrow(2, part, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let scores = part(0)?.matmul(&part(1)?.t()?)?;
        let shares = masked_softmax(&scores, (size as f32).sqrt().recip(), mask)?;
        let mixed = mode.dropout(&shares, self.dropout)?.matmul(&part(2)?)?;
        self.output.forward(&mixed.transpose(1, 2)?.reshape((rows, length, hidden))?)
    }
}

/// What is added to scores: 0 where an item may look at another, and so little where not that nothing is left of it. f32
/// `[rows, 1, length, length]`.
fn mask(known: &Tensor) -> Result<Tensor> {
    let (rows, length) = known.dims2()?;
    let before: Vec<f32> = (0..length * length).map(|at| if at % length <= at / length { 1.0 } else { 0.0 }).collect();
    let before = Tensor::from_vec(before, (1, 1, length, length), known.device())?;
    let allowed = known.reshape((rows, 1, 1, length))?.broadcast_mul(&before)?;
    (allowed - 1.0)? * 1e9
}
