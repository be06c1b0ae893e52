//! Kind `bert`: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"
//! (<https://arxiv.org/abs/1810.04805>), on candle-transformers' implementation.

use std::path::Path;

use candle_core::{Device, Result as CandleResult, Tensor};
use candle_transformers::models::bert::{BertModel, Config};

use crate::weights::Weights;
use crate::{ModelError, files};

/// A loaded network, its weights in f32 on one device.
pub(crate) struct Bert {
    model: BertModel,
    config: Config,
}

impl Bert {
    /// Loads `config.json` and `model.safetensors`.
    pub(crate) fn load(dir: &Path, device: &Device) -> Result<Self, ModelError> {
        let config: Config = files::json(&dir.join("config.json"), "")?;
        let path = dir.join("model.safetensors");
        let weights = Weights::open(&path)?;
        let prefix = prefix(&weights).map_err(|reason| ModelError::format(&path, reason))?;
        let weights = weights.on(device);
        let weights = if prefix.is_empty() { weights } else { weights.pp(prefix) };
        let model = BertModel::load(weights, &config).map_err(|error| ModelError::format(path, error))?;
        Ok(Self { model, config })
    }

    /// Token vectors, f32 `[rows, tokens, hidden]`, of ids u32 `[rows, tokens]`; `mask` is f32 of the same shape, 1
    /// at a row's tokens and 0 at the padding after them.
    pub(crate) fn forward(&self, ids: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        self.model.forward(ids, &ids.zeros_like()?, Some(mask))
    }

    /// Length of a token's vector.
    pub(crate) fn hidden(&self) -> usize {
        self.config.hidden_size
    }

    /// Width of the feed-forward layer.
    pub(crate) fn intermediate(&self) -> usize {
        self.config.intermediate_size
    }

    /// The longest row the network takes, in tokens.
    pub(crate) fn positions(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// Number of token ids the network knows.
    pub(crate) fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    /// The token id that fills short rows.
    pub(crate) fn padding(&self) -> u32 {
        self.config.pad_token_id as u32
    }
}

/// What stands before the names of the weights: nothing, or `bert` when they were saved with a head on top.
fn prefix(weights: &Weights) -> Result<String, String> {
    const FIRST: &str = "embeddings.word_embeddings.weight";
    for name in weights.names() {
        match name.strip_suffix(FIRST) {
            Some("") => return Ok(String::new()),
            Some(prefix) if prefix.ends_with('.') => return Ok(prefix.trim_end_matches('.').to_owned()),
            _ => {}
        }
    }
    Err(format!("it holds no `{FIRST}`; these are no weights of kind bert"))
}
