//! Cuts text into words, whatever the script, and makes the terms of the index from them.
//!
//! Runs of Han characters are cut by jieba's dictionary, kana and hangul into overlapping pairs; everything else at
//! what is neither letter nor digit. Letters lose case and accents, words lose apostrophes (`Levi's`, `levis`).
//! Numbers keep their decimals, and a unit behind a number is a word of its own (`12oz`, `12 oz`). Parts joined
//! by a hyphen, a point or an ampersand are also kept together (`Spider-Man`, `spiderman`).

use tantivy::tokenizer::{AsciiFoldingFilter, RawTokenizer, Stemmer, TextAnalyzer, Token, TokenStream, Tokenizer};
use tantivy_jieba::JiebaTokenizer;

/// Begins the term of a stem that is not itself the word: the exact form and the stem are told apart, and a search
/// for misspelt words sees real words only.
pub(super) const STEM_MARK: char = '\u{1}';
/// The name under which the index knows the tokenizer. It changes with what the tokenizer does, so that an index made
/// by an older one is made anew.
pub(super) const TOKENIZER: &str = "words-1";

/// Longer words are not words: they are kept up to here, in bytes.
const MAX_WORD_BYTES: usize = 80;
/// More parts than this are not joined.
const MAX_JOINED_PARTS: usize = 4;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// As it is compared: in small letters, without accents.
    pub(super) text: String,
    /// Its stem, where that differs.
    pub(super) stem: Option<String>,
    /// Where it stands in the text, in bytes.
    pub(super) from: usize,
    pub(super) to: usize,
    /// Its place among the words.
    pub(super) position: usize,
    /// How many words it stands for: more than one for parts that are also kept together.
    pub(super) parts: usize,
}

impl Word {
    /// What all forms of the word have in common.
    pub(super) fn root(&self) -> &str {
        self.stem.as_deref().unwrap_or(&self.text)
    }
}

/// Cuts text into words.
#[derive(Clone)]
pub(super) struct Words {
    folding: TextAnalyzer,
    stemming: TextAnalyzer,
    jieba: JiebaTokenizer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Letters and digits with spaces between the words.
    Spaced,
    Han,
    /// Kana and hangul.
    Paired,
    None,
}

fn script(character: char) -> Script {
    // Most characters are, and need not be compared with the ranges.
    if character.is_ascii() {
        return if character.is_ascii_alphanumeric() { Script::Spaced } else { Script::None };
    }
    match character {
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' => {
            Script::Han
        }
        '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9d}' => {
            if character == '\u{30fb}' {
                Script::None
            } else {
                Script::Paired
            }
        }
        '\u{1100}'..='\u{11ff}' | '\u{3131}'..='\u{318e}' | '\u{ac00}'..='\u{d7a3}' => Script::Paired,
        character if character.is_alphanumeric() => Script::Spaced,
        // Marks that belong to the letter before them.
        '\u{0300}'..='\u{036f}' | '\u{0900}'..='\u{0903}' | '\u{093a}'..='\u{094f}' | '\u{0e31}'..='\u{0e4e}' => {
            Script::Spaced
        }
        _ => Script::None,
    }
}

impl Words {
    pub(super) fn new() -> Self {
        Self {
            folding: TextAnalyzer::builder(RawTokenizer::default()).filter(AsciiFoldingFilter).build(),
            stemming: TextAnalyzer::builder(RawTokenizer::default()).filter(Stemmer::default()).build(),
            jieba: JiebaTokenizer::new(),
        }
    }

    /// The words of a text in their order; a joined form comes after its first part.
    pub(super) fn of(&mut self, text: &str) -> Vec<Word> {
        self.among(text, |_| true)
    }

    /// As [`of`](Self::of), but of runs of letters and digits only those that are `wanted`: most of the work is to cut them
    /// up and to find stems. Positions do not count what is left out.
    pub(super) fn among(&mut self, text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Word> {
        let (mut words, mut position, mut at) = (Vec::new(), 0, 0);
        while let Some(first) = text[at..].chars().next() {
            let (from, kind) = (at, script(first));
            at += first.len_utf8();
            if kind == Script::None {
                continue;
            }
            loop {
                // Most characters are, and need not be looked at as such.
                if kind == Script::Spaced {
                    at += text.as_bytes()[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                }
                let Some(character) = text[at..].chars().next() else { break };
                if script(character) != kind && !(kind == Script::Spaced && is_inside(text, at, character)) {
                    break;
                }
                at += character.len_utf8();
            }
            let to = at;
            match kind {
                Script::Spaced if wanted(&text[from..to]) => self.spaced(text, from, to, &mut position, &mut words),
                Script::Han => {
                    let mut stream = self.jieba.token_stream(&text[from..to]);
                    while let Some(token) = stream.next() {
                        words.push(Word {
                            text: token.text.clone(),
                            stem: None,
                            from: from + token.offset_from,
                            to: from + token.offset_to,
                            position,
                            parts: 1,
                        });
                        position += 1;
                    }
                }
                Script::Paired => pairs(text, from, to, &mut position, &mut words),
                Script::Spaced | Script::None => {}
            }
        }
        words
    }

    /// A run of letters, digits and what may stand between them.
    fn spaced(&mut self, text: &str, from: usize, to: usize, position: &mut usize, words: &mut Vec<Word>) {
        let start = words.len();
        let mut part_from = from;
        let run = &text[from..to];
        let cuts = run.char_indices().filter(|(at, character)| is_joint(text, from + at, *character));
        let ends: Vec<(usize, usize)> =
            cuts.map(|(at, c)| (from + at, from + at + c.len_utf8())).chain([(to, to)]).collect();
        for (part_to, next_from) in ends {
            self.part(text, part_from, part_to, position, words);
            part_from = next_from;
        }
        let count = words.len() - start;
        if (2..=MAX_JOINED_PARTS).contains(&count) {
            let joined: String = words[start..].iter().map(|word| word.text.as_str()).collect();
            let first = &words[start];
            let word = Word { text: joined, stem: None, from, to, position: first.position, parts: count };
            words.insert(start + 1, word);
        }
    }

    /// A part without joints: a word, or a number with its unit.
    fn part(&mut self, text: &str, from: usize, to: usize, position: &mut usize, words: &mut Vec<Word>) {
        let part = &text[from..to];
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ',').len();
        let unit = &part[digits..];
        let has_unit = digits > 0 && (1..=5).contains(&unit.len()) && unit.bytes().all(|b| b.is_ascii_alphabetic());
        let cuts = if has_unit { vec![(from, from + digits), (from + digits, to)] } else { vec![(from, to)] };
        for (from, to) in cuts {
            let Some(folded) = self.fold(&text[from..to]) else { continue };
            let stem = self.stem(&folded);
            words.push(Word { text: folded, stem, from, to, position: *position, parts: 1 });
            *position += 1;
        }
    }

    fn fold(&mut self, word: &str) -> Option<String> {
        let mut folded: String = if word.is_ascii() {
            word.to_ascii_lowercase()
        } else {
            let mut stream = self.folding.token_stream(word);
            stream.next().map(|token| token.text.to_lowercase()).unwrap_or_default()
        };
        folded.retain(|character| !is_apostrophe(character) && !('\u{0300}'..='\u{036f}').contains(&character));
        if folded.starts_with(|first: char| first.is_ascii_digit()) && folded.contains(',') {
            folded = without_separators(&folded);
        }
        if folded.len() > MAX_WORD_BYTES {
            folded.truncate(folded.floor_char_boundary(MAX_WORD_BYTES));
        }
        (!folded.is_empty()).then_some(folded)
    }

    fn stem(&mut self, word: &str) -> Option<String> {
        if word.len() < 3 || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return None;
        }
        let mut stream = self.stemming.token_stream(word);
        stream.next().map(|token| token.text.clone()).filter(|stem| stem != word)
    }
}

/// Whether a character that is no letter stands inside a word: `'` and joints between letters, `.` and `,` between
/// digits.
fn is_inside(text: &str, at: usize, character: char) -> bool {
    let between = |is: fn(char) -> bool| {
        text[..at].chars().next_back().is_some_and(is)
            && text[at + character.len_utf8()..].chars().next().is_some_and(is)
    };
    let is_spaced: fn(char) -> bool = |c| script(c) == Script::Spaced;
    match character {
        ',' => between(|c| c.is_ascii_digit()),
        '.' | '-' | '\u{2010}' | '\u{2011}' | '&' | '\u{b7}' => between(is_spaced),
        character if is_apostrophe(character) => between(is_spaced),
        _ => false,
    }
}

/// Whether a character joins two parts, each of which is also a word.
fn is_joint(text: &str, at: usize, character: char) -> bool {
    match character {
        '-' | '\u{2010}' | '\u{2011}' | '&' | '\u{b7}' => true,
        '.' => {
            !(text[..at].ends_with(|c: char| c.is_ascii_digit())
                && text[at + 1..].starts_with(|c: char| c.is_ascii_digit()))
        }
        _ => false,
    }
}

/// Whether a letter belongs to a script with spaces between its words.
pub(super) fn is_spaced(letter: char) -> bool {
    script(letter) == Script::Spaced
}

fn is_apostrophe(character: char) -> bool {
    ['\'', '\u{2019}', '\u{2018}', '\u{ff07}', '`'].contains(&character)
}

/// `1,000` is a thousand; `2,5` is two and a half.
fn without_separators(number: &str) -> String {
    let thousands = number.split(',').skip(1).all(|group| group.len() == 3 || group.get(3..4) == Some("."));
    number.replace(',', if thousands { "" } else { "." })
}

fn pairs(text: &str, from: usize, to: usize, position: &mut usize, words: &mut Vec<Word>) {
    let run = &text[from..to];
    let starts: Vec<usize> = run.char_indices().map(|(at, _)| from + at).chain([to]).collect();
    let width = if starts.len() > 2 { 2 } else { 1 };
    for window in starts.windows(width + 1) {
        let (from, to) = (window[0], window[width]);
        words.push(Word { text: text[from..to].to_lowercase(), stem: None, from, to, position: *position, parts: 1 });
        *position += 1;
    }
}

impl Tokenizer for Words {
    type TokenStream<'a> = TermStream;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> TermStream {
        let mut terms = Vec::new();
        for word in self.of(text) {
            let token = |text| Token {
                offset_from: word.from,
                offset_to: word.to,
                position: word.position,
                text,
                position_length: word.parts,
            };
            if let Some(stem) = &word.stem {
                terms.push(token(format!("{STEM_MARK}{stem}")));
            }
            terms.push(token(word.text));
        }
        TermStream { terms, next: 0 }
    }
}

/// The terms of a text: each word, and its stem where that differs.
pub struct TermStream {
    terms: Vec<Token>,
    next: usize,
}

impl TokenStream for TermStream {
    fn advance(&mut self) -> bool {
        self.next += 1;
        self.next <= self.terms.len()
    }

    fn token(&self) -> &Token {
        &self.terms[self.next - 1]
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.terms[self.next - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        Words::new().of(text).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn case_accents_and_apostrophes_do_not_matter() {
        assert_eq!(texts("Crème brûlée, Levi’s & SKARSGÅRD"), ["creme", "brulee", "levis", "skarsgard"]);
    }

    #[test]
    fn joined_parts_are_words_and_one_word() {
        assert_eq!(texts("Spider-Man"), ["spider", "spiderman", "man"]);
        assert_eq!(texts("R.E.M. WALL·E"), ["r", "rem", "e", "m", "wall", "walle", "e"]);
        assert_eq!(texts("a - b"), ["a", "b"]);
    }

    #[test]
    fn numbers_keep_decimals_and_give_up_units() {
        assert_eq!(texts("2.5 oz"), ["2.5", "oz"]);
        assert_eq!(texts("12oz"), ["12", "12oz", "oz"]);
        assert_eq!(texts("1,000 2,5 b07xk2"), ["1000", "2.5", "b07xk2"]);
    }

    #[test]
    fn chinese_is_cut_by_words_and_kana_by_pairs() {
        let words = texts("有机牛奶 milk カタカナ");
        assert!(words.contains(&"牛奶".to_owned()) && words.contains(&"milk".to_owned()), "{words:?}");
        assert!(words.contains(&"カタ".to_owned()) && words.contains(&"カナ".to_owned()), "{words:?}");
    }

    #[test]
    fn stems_stand_beside_the_exact_form() {
        let mut words = Words::new();
        let mut stream = words.token_stream("running shoe");
        let mut terms = Vec::new();
        while let Some(token) = stream.next() {
            terms.push((token.text.clone(), token.position));
        }
        assert_eq!(terms, [("\u{1}run".to_owned(), 0), ("running".to_owned(), 0), ("shoe".to_owned(), 1)]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_cut_and_every_word_is_where_it_says(text in ".{0,60}") {
            for word in Words::new().of(&text) {
                proptest::prop_assert!(!text[word.from..word.to].is_empty() && !word.text.is_empty());
            }
        }
    }
}
