//! Prompts to token ids: CLIP's byte pairs, from `tokenizer/vocab.json` and `merges.txt`, or from `tokenizer.json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::{ModelError, files};

/// What begins and ends every prompt.
const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Makes rows of one length of prompts.
pub(super) struct PromptTokenizer {
    inner: Tokenizer,
    begin: u32,
    end: u32,
    padding: u32,
    /// Of every row.
    length: usize,
}

/// A prompt as the network reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTokens {
    /// As many as every prompt has.
    pub ids: Vec<u32>,
    /// So many tokens at the prompt's end are not among them.
    pub left_out: usize,
}

/// What is read of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    /// Absurdly large where there is none.
    model_max_length: Option<f64>,
    pad_token: Option<Value>,
}

impl PromptTokenizer {
    /// Loads the files in `dir` for a network with so many positions and tokens.
    pub fn load(dir: &Path, positions: usize, vocabulary: usize) -> Result<Self, ModelError> {
        let whole = dir.join("tokenizer.json");
        let (mut inner, path) = if whole.exists() {
            let parsed = Tokenizer::from_bytes(files::bytes(&whole, "")?);
            (parsed.map_err(|error| ModelError::format(&whole, error))?, whole)
        } else {
            pieces(dir)?
        };
        inner.with_padding(None).with_truncation(None).map_err(|error| ModelError::format(&path, error))?;
        let id = |token: &str| {
            let id = inner.token_to_id(token).filter(|&id| (id as usize) < vocabulary);
            id.ok_or_else(|| {
                ModelError::format(
                    &path,
                    format!("`{token}` is none of the {vocabulary} tokens that the network knows"),
                )
            })
        };
        if let Some(id) = inner.get_vocab(true).into_values().max().filter(|&id| id as usize >= vocabulary) {
            return Err(ModelError::format(&path, format!("it makes token id {id}; the network knows {vocabulary}")));
        }
        let config = dir.join("tokenizer_config.json");
        let config: TokenizerConfig =
            if config.exists() { files::json(&config, "")? } else { TokenizerConfig::default() };
        let padding = match &config.pad_token {
            Some(Value::String(token)) => id(token)?,
            // As a token with properties of its own.
            Some(token) => id(token.get("content").and_then(Value::as_str).unwrap_or(END))?,
            None => id(END)?,
        };
        let length = config.model_max_length.map_or(positions, |most| (most as usize).min(positions));
        if length < 2 {
            return Err(ModelError::format(&path, format!("prompts would have {length} tokens")));
        }
        Ok(Self { begin: id(BEGIN)?, end: id(END)?, padding, length, inner })
    }

    /// How many tokens every prompt has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// # Errors
    /// [`ModelError::Tokenize`], as when the text has characters for which there is no token.
    pub fn tokens(&self, text: &str) -> Result<PromptTokens, ModelError> {
        let encoded = self.inner.encode_fast(text, false).map_err(|error| ModelError::Tokenize(error.to_string()))?;
        let room = self.length - 2;
        let kept = encoded.get_ids().iter().copied().take(room);
        let mut ids: Vec<u32> = [self.begin].into_iter().chain(kept).chain([self.end]).collect();
        ids.resize(self.length, self.padding);
        Ok(PromptTokens { ids, left_out: encoded.len().saturating_sub(room) })
    }
}

/// The tokenizer of `vocab.json` and `merges.txt`: what transformers makes of them for CLIP.
fn pieces(dir: &Path) -> Result<(Tokenizer, PathBuf), ModelError> {
    let (vocabulary, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
    let tokens: Value = files::json(&vocabulary, "; prompts are cut into its tokens")?;
    let text = files::bytes(&merges, "; it says which tokens become one")?;
    let text = String::from_utf8(text).map_err(|error| ModelError::format(&merges, error))?;
    let pairs: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
    let special = |token: &str| {
        json!({
            "id": tokens.get(token), "content": token, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let whole = json!({
        "version": "1.0",
        "added_tokens": [special(BEGIN), special(END)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "model": {
            "type": "BPE", "unk_token": END, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "vocab": &tokens, "merges": pairs,
        },
    });
    let tokenizer = serde_json::from_value(whole).map_err(|error| ModelError::format(&vocabulary, error))?;
    Ok((tokenizer, vocabulary))
}
