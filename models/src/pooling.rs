//! From one vector a token to one a row, as `1_Pooling/config.json` says.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{D, Result as CandleResult, Tensor};
use serde_json::Value;

use crate::{ModelError, files};

const MODES: &str = "exactly one of cls, mean, max, mean_sqrt_len_tokens";

/// How a row's token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The first token's.
    Cls,
    /// Their mean.
    Mean,
    /// The largest value of each dimension.
    Max,
    /// Their sum over the square root of their number.
    MeanSqrtLen,
}

impl Pooling {
    /// The one mode that is switched on. Newer files name it in `pooling_mode`, older ones have a flag for each.
    pub(crate) fn load(path: &Path) -> Result<Self, ModelError> {
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

    /// The vectors of one row's tokens, `[tokens, hidden]`, to its vector, `[hidden]`.
    pub(crate) fn pool(self, tokens: &[f32], row: &mut [f32]) {
        let count = (tokens.len() / row.len()) as f32;
        let mut vectors = tokens.chunks_exact(row.len());
        row.copy_from_slice(vectors.next().unwrap_or_default());
        if self == Self::Cls {
            return;
        }
        for vector in vectors {
            for (all, one) in row.iter_mut().zip(vector) {
                // Not `f32::max`, which would hide a NaN.
                let larger = if *one > *all || one.is_nan() { *one } else { *all };
                *all = if self == Self::Max { larger } else { *all + one };
            }
        }
        let share = match self {
            Self::Mean => 1.0 / count,
            Self::MeanSqrtLen => 1.0 / count.sqrt(),
            Self::Cls | Self::Max => return,
        };
        for number in row {
            *number *= share;
        }
    }

    /// `[rows, tokens, hidden]` to `[rows, hidden]`; `mask` is f32 `[rows, tokens]`, 1 at a row's tokens and 0 after.
    pub(crate) fn apply(self, hidden: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        let wide = mask.unsqueeze(D::Minus1)?;
        match self {
            Self::Cls => hidden.narrow(1, 0, 1)?.squeeze(1),
            // At padding the value becomes -1e9, elsewhere it stays what it was.
            Self::Max => hidden.broadcast_mul(&wide)?.broadcast_add(&((wide - 1.0)? * 1e9)?)?.max(1),
            Self::Mean => sum(hidden, &wide)?.broadcast_div(&mask.sum_keepdim(1)?),
            Self::MeanSqrtLen => sum(hidden, &wide)?.broadcast_div(&mask.sum_keepdim(1)?.sqrt()?),
        }
    }
}

fn sum(hidden: &Tensor, wide: &Tensor) -> CandleResult<Tensor> {
    hidden.broadcast_mul(wide)?.sum(1)
}
