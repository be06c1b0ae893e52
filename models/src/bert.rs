//! Kind `bert`: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"
//! (<https://arxiv.org/abs/1810.04805>). On the CPU it runs on kernels of our own; elsewhere, and where they cannot run
//! a configuration, on candle.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Result as CandleResult, Tensor};
use candle_transformers::models::bert::Config;

use crate::buckets::Cost;
use crate::cpu::{self, CpuNetwork};
use crate::padded_bert::PaddedBert;
use crate::weights::Weights;
use crate::{Backend, ModelError, Precision, files};

/// A loaded network.
pub(crate) struct Bert {
    model: Model,
    config: Config,
    backend: Backend,
}

enum Model {
    Candle(Box<PaddedBert>),
    /// The lock guards what passes keep between them.
    Kernels(Mutex<Box<dyn CpuNetwork>>),
}

impl Bert {
    /// Loads `config.json` and `model.safetensors`. Where our kernels are to run it and cannot, candle does.
    pub(crate) fn load(dir: &Path, device: &Device, backend: Backend) -> Result<Self, ModelError> {
        let config: Config = files::json(&dir.join("config.json"), "")?;
        let path = dir.join("model.safetensors");
        let weights = Weights::open(&path)?;
        let prefix = prefix(&weights).map_err(|reason| ModelError::format(&path, reason))?;
        let weights = weights.on(device);
        let weights = if prefix.is_empty() { weights } else { weights.pp(prefix) };
        let backend = match (backend, cpu::unsupported(&config)) {
            (Backend::Kernels(_), reason @ Some(_)) => Backend::Candle { precision: Precision::F32, reason },
            (backend, _) => backend,
        };
        let model = match backend {
            Backend::Kernels(isa) => {
                let cost = Cost { launch: 0.0, hidden: config.hidden_size, intermediate: config.intermediate_size };
                cpu::load(isa, &config, cost, &weights).map(|network| Model::Kernels(Mutex::new(network)))
            }
            Backend::Candle { precision, .. } => {
                PaddedBert::load(&weights, &config, precision).map(|model| Model::Candle(Box::new(model)))
            }
        };
        let model = model.map_err(|error| ModelError::format(path, error))?;
        Ok(Self { model, config, backend })
    }

    /// What it runs on.
    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Our kernels, if it runs on them: rows of any lengths need no padding. Whoever has them keeps others waiting.
    pub(crate) fn kernels(&self) -> Option<MutexGuard<'_, Box<dyn CpuNetwork>>> {
        let Model::Kernels(network) = &self.model else { return None };
        // A pass that panicked leaves nothing that the next one reads before it writes it.
        Some(network.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Token vectors on candle, f32 `[rows, tokens, hidden]`, of ids u32 `[rows, tokens]`; `mask` is f32 of the same
    /// shape, 1 at a row's tokens and 0 at the padding after them.
    pub(crate) fn forward(&self, ids: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        match &self.model {
            Model::Candle(model) => model.forward(ids, mask),
            Model::Kernels(_) => Err(candle_core::Error::msg("this network runs on kernels, without padding")),
        }
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
