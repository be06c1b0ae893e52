//! Text to rows, as the version's `tokenizer.json` says. `word_pieces`: the short way for plain text.

mod word_pieces;

use std::path::Path;

use serde::Deserialize;
use tokenizers::{ModelWrapper, PreTokenizerWrapper, TruncationDirection, TruncationParams};

use crate::{ModelError, Row, files};
use word_pieces::WordPieces;

/// Of a long text, so many bytes for each token of the longest row are looked at first. English has about five.
const BYTES_A_TOKEN: usize = 8;

/// A version's tokenizer. Any number of threads may use it at once.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
    splits_at_whitespace: bool,
    plain: Option<WordPieces>,
}

/// What sentence-transformers keeps about lengths, for a `tokenizer.json` that does not say where to truncate.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

impl Tokenizer {
    /// Loads `tokenizer.json` for a network with so many positions and tokens.
    ///
    /// Padding is switched off, since rows are ragged. Texts are truncated where `tokenizer.json` says; if it does
    /// not, at `max_seq_length` of `sentence_bert_config.json`; and never above `positions`.
    pub(crate) fn load(dir: &Path, positions: usize, vocabulary: usize) -> Result<Self, ModelError> {
        let path = dir.join("tokenizer.json");
        let mut inner = tokenizers::Tokenizer::from_bytes(files::bytes(&path, "")?)
            .map_err(|error| ModelError::format(&path, error))?;
        if let Some(id) = inner.get_vocab(true).into_values().max().filter(|&id| id as usize >= vocabulary) {
            return Err(ModelError::format(
                &path,
                format!("it makes token id {id}, but config.json says the network knows {vocabulary} tokens"),
            ));
        }
        let truncation = match inner.get_truncation() {
            Some(truncation) => truncation.clone(),
            None => TruncationParams {
                max_length: Self::sentence_length(dir)?.unwrap_or(positions),
                ..TruncationParams::default()
            },
        };
        let splits_at_whitespace = truncation.direction == TruncationDirection::Right && splits_at_whitespace(&inner);
        let plain = if truncation.direction == TruncationDirection::Right { WordPieces::of(&inner) } else { None };
        let max_tokens = truncation.max_length.min(positions);
        inner
            .with_padding(None)
            .with_truncation(Some(TruncationParams { max_length: max_tokens, ..truncation }))
            .map_err(|error| ModelError::format(&path, error))?;
        Ok(Self { inner, max_tokens, splits_at_whitespace, plain })
    }

    fn sentence_length(dir: &Path) -> Result<Option<usize>, ModelError> {
        let path = dir.join("sentence_bert_config.json");
        if !path.exists() {
            return Ok(None);
        }
        Ok(files::json::<SentenceConfig>(&path, "")?.max_seq_length)
    }

    /// The text's token ids with special tokens, truncated to [`Self::max_tokens`].
    ///
    /// Of a text much longer than that only the beginning is looked at, where this cannot change the answer: the time
    /// does not grow with what is cut off.
    ///
    /// # Errors
    /// [`ModelError::Tokenize`] when the tokenizer cannot represent the text, for example without an unknown token.
    pub fn encode(&self, text: &str) -> Result<Row, ModelError> {
        if let Some(row) = self.plain.as_ref().and_then(|plain| plain.encode(text, self.max_tokens)) {
            return Ok(row);
        }
        let mut bytes = self.max_tokens * BYTES_A_TOKEN;
        while let Some(beginning) = self.beginning(text, bytes) {
            let row = self.encode_all(beginning)?;
            if row.len() == self.max_tokens {
                return Ok(row);
            }
            bytes *= 4;
        }
        self.encode_all(text)
    }

    /// The text up to the first whitespace after so many bytes, if its tokens are the text's first tokens.
    fn beginning<'a>(&self, text: &'a str, bytes: usize) -> Option<&'a str> {
        if !self.splits_at_whitespace || text.len() <= bytes {
            return None;
        }
        let start = text.ceil_char_boundary(bytes);
        let end = start + text[start..].find(char::is_whitespace)?;
        Some(&text[..end])
    }

    fn encode_all(&self, text: &str) -> Result<Row, ModelError> {
        let encoding = self.inner.encode_fast(text, true).map_err(|error| ModelError::Tokenize(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The longest row [`Self::encode`] makes, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }
}

/// Whether the tokens before a whitespace never depend on what comes after it. Known of BERT's tokenizer, which makes
/// words first and looks at each alone; not assumed of others.
fn splits_at_whitespace(tokenizer: &tokenizers::Tokenizer) -> bool {
    let added = tokenizer.get_added_tokens_decoder();
    matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_))
        && matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)))
        && added.values().all(|token| !token.content.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests;
