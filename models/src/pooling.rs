//! From one vector a token to one a row, as sentence-transformers' `modules.json` and `1_Pooling/config.json` say.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use candle_core::{D, Result as CandleResult, Tensor};
use serde::Deserialize;
use serde_json::Value;

use crate::{ModelError, files};

const MODES: &str = "exactly one of cls, mean, max, mean_sqrt_len_tokens";
const MODULES: &str = "Transformer at the top, then Pooling, then optionally Normalize";

/// How a row's token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The first token's.
    Cls,
    /// Their mean.
    Mean,
    /// The largest value of each dimension.
    Max,
    /// Their sum over the square root of their number.
    MeanSqrtLen,
}

/// What follows the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pooling {
    mode: Mode,
    normalize: bool,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    class: String,
}

impl Pooling {
    /// Reads the version's `modules.json`, and the configuration of the pooling it names.
    pub(crate) fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("modules.json");
        let modules: Vec<Module> = files::json(&path, "; it says how the vectors of a text's tokens become one")?;
        let names: Vec<&str> = modules.iter().map(Module::name).collect();
        let normalize = match names[..] {
            ["Transformer", "Pooling"] => false,
            ["Transformer", "Pooling", "Normalize"] => true,
            _ => {
                let what = format!("the modules [{}]", names.join(", "));
                return Err(ModelError::Unsupported { path, what, supported: MODULES });
            }
        };
        if !modules[0].path.is_empty() {
            let what = format!("a Transformer in `{}`", modules[0].path);
            return Err(ModelError::Unsupported { path, what, supported: MODULES });
        }
        let folder = Path::new(&modules[1].path);
        if !folder.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(ModelError::format(path, format!("`{}` leaves the version's directory", folder.display())));
        }
        Ok(Self { mode: Mode::load(&dir.join(folder).join("config.json"))?, normalize })
    }

    /// `[rows, tokens, hidden]` to `[rows, hidden]`; `mask` is f32 `[rows, tokens]`, 1 at a row's tokens and 0 after.
    pub(crate) fn apply(self, hidden: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        let wide = mask.unsqueeze(D::Minus1)?;
        let pooled = match self.mode {
            Mode::Cls => hidden.narrow(1, 0, 1)?.squeeze(1)?,
            // At padding the value becomes -1e9, elsewhere it stays what it was.
            Mode::Max => hidden.broadcast_mul(&wide)?.broadcast_add(&((wide - 1.0)? * 1e9)?)?.max(1)?,
            Mode::Mean => sum(hidden, &wide)?.broadcast_div(&mask.sum_keepdim(1)?)?,
            Mode::MeanSqrtLen => sum(hidden, &wide)?.broadcast_div(&mask.sum_keepdim(1)?.sqrt()?)?,
        };
        if !self.normalize {
            return Ok(pooled);
        }
        // As torch.nn.functional.normalize: the norm is at least 1e-12.
        let norm = pooled.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(1e-12)?;
        pooled.broadcast_div(&norm)
    }
}

fn sum(hidden: &Tensor, wide: &Tensor) -> CandleResult<Tensor> {
    hidden.broadcast_mul(wide)?.sum(1)
}

impl Module {
    /// The class without its Python package.
    fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }
}

impl Mode {
    /// The one mode that is switched on. Newer files name it in `pooling_mode`, older ones have a flag for each.
    fn load(path: &Path) -> Result<Self, ModelError> {
        let config: BTreeMap<String, Value> = files::json(path, "; it says how the vectors of tokens become one")?;
        let named = config.get("pooling_mode").and_then(Value::as_str);
        let on: Vec<&str> = match named {
            Some(name) => vec![name],
            None => config
                .iter()
                .filter(|(_, value)| **value == Value::Bool(true))
                .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
                .collect(),
        };
        match on[..] {
            ["cls" | "cls_token"] => Ok(Self::Cls),
            ["mean" | "mean_tokens"] => Ok(Self::Mean),
            ["max" | "max_tokens"] => Ok(Self::Max),
            ["mean_sqrt_len_tokens"] => Ok(Self::MeanSqrtLen),
            _ => Err(ModelError::Unsupported {
                path: path.to_owned(),
                what: format!("the pooling modes [{}]", on.join(", ")),
                supported: MODES,
            }),
        }
    }
}
