//! What a text is cut into, whichever way.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn tokenizer(max_tokens: usize) -> Tokenizer {
    let words = ["[UNK]", "[CLS]", "[SEP]", "a", "##a", "b", "##b", "##c", ".", "中", "σ", "##σ", "e", "##e"];
    let vocabulary: serde_json::Map<_, _> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let added = json!([{"id": 2, "special": true, "content": "[SEP]", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false}]);
    let file = json!({
        "version": "1.0", "padding": null, "added_tokens": added, "decoder": null,
        "truncation": {"max_length": max_tokens, "strategy": "LongestFirst", "stride": 0},
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 10},
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::load(dir.path(), 512, words.len()).unwrap()
}

#[test]
fn only_the_beginning_of_a_long_text_is_looked_at() {
    let tokenizer = tokenizer(6);
    let text = "a bb ".repeat(1000);
    assert_eq!(tokenizer.beginning(&text, 48).map(str::len), Some(49));
    assert_eq!(tokenizer.encode(&text).unwrap(), [1, 3, 5, 6, 3, 2]);
}

proptest! {
    #[test]
    fn looking_at_the_beginning_changes_nothing(
        pieces in prop::collection::vec("[ab中Σé.\u{0}\u{301}]{1,12}|[ \t\n\u{3000}]{1,40}|\\[SEP\\]", 0..60),
        max_tokens in 3_usize..12,
    ) {
        let (tokenizer, text) = (tokenizer(max_tokens), pieces.concat());
        prop_assert_eq!(tokenizer.encode(&text).unwrap(), tokenizer.encode_all(&text).unwrap());
    }
}

#[test]
fn plain_text_takes_the_short_way_and_other_text_does_not() {
    let tokenizer = tokenizer(8);
    let plain = |text: &str| tokenizer.plain.as_ref().unwrap().encode(text, 8);
    assert_eq!(plain("AB\tabb."), Some(vec![1, 3, 6, 3, 6, 6, 8, 2]));
    assert_eq!(plain("ad d. abababababa"), Some(vec![1, 0, 0, 8, 0, 2]), "one letter more than a word may have");
    for other in ["\u{e9}", "a\u{301}", "a\u{7}", "[SEP]", "a[b"] {
        assert_eq!(plain(other), None, "{other:?}");
    }
    assert_eq!(plain("a a a a a a \u{e9}"), Some(vec![1, 3, 3, 3, 3, 3, 3, 2]), "what is cut off is not looked at");
}

proptest! {
    #[test]
    fn the_short_way_leads_to_the_same_tokens(text in "[abABcde.!\\[# \t\n]{0,60}", max_tokens in 2_usize..20) {
        let tokenizer = tokenizer(max_tokens);
        let all = tokenizer.encode_all(&text).unwrap();
        let plain = tokenizer.plain.as_ref().unwrap().encode(&text, max_tokens);
        prop_assert!(plain.is_some() || text.contains('['));
        prop_assert_eq!(plain.unwrap_or_else(|| all.clone()), all);
    }
}
