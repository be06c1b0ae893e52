//! BERT's tokenisation of plain ASCII text, as most queries are: the ids that the `tokenizers` crate makes, without the
//! normalised copies, offsets and strings that it makes beside them.
//!
//! Wu et al., *Google's Neural Machine Translation System*, 2016, for word pieces: of each word the longest beginning that
//! is known, then of the rest, and so on.

use rustc_hash::FxHashMap;
use tokenizers::{
    Encoding, ModelWrapper, NormalizerWrapper, PostProcessor as _, PreTokenizerWrapper, Token, Tokenizer,
};

use crate::Row;

/// Stands for the text among the tokens that are put around it.
const TEXT: u32 = u32::MAX;

/// The pieces of a vocabulary, and what is put around them.
pub(super) struct WordPieces {
    words: FxHashMap<Box<[u8]>, u32>,
    /// What continues a word, without the prefix that marks it.
    continuations: FxHashMap<Box<[u8]>, u32>,
    /// The longest of them, in bytes.
    longest: usize,
    unknown: u32,
    /// Longer words are unknown.
    longest_word: usize,
    lowercase: bool,
    /// What a token of its own right may begin with, in lower case: texts with such a byte are not plain.
    reserved: Vec<u8>,
    before: Row,
    after: Row,
}

impl WordPieces {
    /// Of a tokenizer that works as BERT's does. `None`: it is not known to.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let (Some(NormalizerWrapper::BertNormalizer(normalizer)), ModelWrapper::WordPiece(model)) =
            (tokenizer.get_normalizer(), tokenizer.get_model())
        else {
            return None;
        };
        if !matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_))) {
            return None;
        }
        let added = tokenizer.get_added_tokens_decoder();
        if !added.values().all(|token| token.content.bytes().all(|byte| byte.is_ascii_graphic())) {
            return None;
        }
        let reserved =
            added.values().filter_map(|token| token.content.bytes().next()?.to_ascii_lowercase().into()).collect();
        let (before, after) = around(tokenizer)?;

        let vocabulary = tokenizer.get_vocab(false);
        let unknown = *vocabulary.get(&model.unk_token)?;
        let (mut words, mut continuations, mut longest) = (FxHashMap::default(), FxHashMap::default(), 1);
        for (piece, id) in vocabulary {
            longest = longest.max(piece.len());
            if let Some(rest) = piece.strip_prefix(&model.continuing_subword_prefix) {
                continuations.insert(rest.as_bytes().into(), id);
            }
            words.insert(piece.into_bytes().into(), id);
        }
        let (longest_word, lowercase) = (model.max_input_chars_per_word, normalizer.lowercase);
        Some(Self { words, continuations, longest, unknown, longest_word, lowercase, reserved, before, after })
    }

    /// The text's ids, at most so many. `None`: it is not plain, as far as was looked. What is cut off is not looked at.
    pub fn encode(&self, text: &str, max_tokens: usize) -> Option<Row> {
        let most = max_tokens.checked_sub(self.after.len()).filter(|&most| most >= self.before.len())?;
        let mut row = self.before.clone();
        let (mut rest, mut word) = (text.as_bytes(), Vec::new());
        while row.len() < most {
            let Some((&first, others)) = rest.split_first() else { break };
            let length = match self.kind(first)? {
                Kind::Space => {
                    rest = others;
                    continue;
                }
                Kind::Mark => 1,
                Kind::Letter => {
                    let mut length = 1;
                    while let Some(&byte) = rest.get(length)
                        && self.kind(byte)? == Kind::Letter
                    {
                        length += 1;
                    }
                    length
                }
            };
            let (this, others) = rest.split_at(length);
            rest = others;
            word.clear();
            word.extend_from_slice(this);
            if self.lowercase {
                word.make_ascii_lowercase();
            }
            self.cut(&word, &mut row);
        }
        row.truncate(most);
        row.extend_from_slice(&self.after);
        Some(row)
    }

    /// What a byte is in a plain text.
    fn kind(&self, byte: u8) -> Option<Kind> {
        match byte {
            byte if self.reserved.contains(&byte.to_ascii_lowercase()) => None,
            b' ' | b'\t' | b'\n' | b'\r' => Some(Kind::Space),
            byte if byte.is_ascii_punctuation() => Some(Kind::Mark),
            byte if byte.is_ascii_graphic() => Some(Kind::Letter),
            // Control characters are removed, and words on both sides become one.
            _ => None,
        }
    }

    /// Adds a word's pieces; if it has a part that is none, only that it is unknown.
    fn cut(&self, word: &[u8], row: &mut Row) {
        let begun = row.len();
        let mut start = if word.len() > self.longest_word { None } else { Some(0) };
        while let Some(from) = start.filter(|&from| from < word.len()) {
            let known = if from == 0 { &self.words } else { &self.continuations };
            let piece = |end: usize| known.get(&word[from..end]).map(|&id| (end, id));
            let longest = (from + 1..=word.len().min(from + self.longest)).rev().find_map(piece);
            row.extend(longest.map(|(_, id)| id));
            start = longest.map(|(end, _)| end);
        }
        if start.is_none() {
            row.truncate(begun);
            row.push(self.unknown);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    /// A word by itself.
    Mark,
    Letter,
}

/// The tokens that are put before and after a text.
fn around(tokenizer: &Tokenizer) -> Option<(Row, Row)> {
    let Some(processor) = tokenizer.get_post_processor() else { return Some(Default::default()) };
    let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
    let whole = processor.process(text, None, true).ok()?;
    let mut parts = whole.get_ids().split(|&id| id == TEXT);
    let around = (parts.next()?.to_vec(), parts.next()?.to_vec());
    // A text that comes twice is not what BERT's tokenizer makes.
    parts.next().is_none().then_some(around)
}
