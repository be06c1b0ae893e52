//! Marks the words of a query in the items found with it.

use rustc_hash::FxHashSet;
use vitrine::v1::{Highlight, Item};

use super::index::attribute_texts;
use super::query::Understood;
use super::words::{STEM_MARK, Words};

/// An excerpt is about so long, in bytes.
const EXCERPT_BYTES: usize = 240;
/// How many fields of one item are returned.
const MAX_HIGHLIGHTS: usize = 8;

/// Marks the words of one query.
#[derive(Debug, Clone, Default)]
pub struct Highlighter {
    words: FxHashSet<String>,
    stems: FxHashSet<String>,
    beginnings: Beginnings,
}

impl Highlighter {
    pub(super) fn new(understood: &Understood) -> Self {
        let mut highlighter = Self::default();
        for word in &understood.words {
            let last = word.phrases.iter().map(|phrase| &phrase.last);
            last.chain([word]).flat_map(|word| &word.terms).for_each(|(term, _)| highlighter.add(term));
            word.phrases.iter().flat_map(|phrase| &phrase.first).for_each(|term| highlighter.add(term));
        }
        highlighter
    }

    /// A term of the index: a word, or a stem.
    fn add(&mut self, term: &str) {
        let (terms, term) = match term.strip_prefix(STEM_MARK) {
            Some(stem) => (&mut self.stems, stem),
            None => (&mut self.words, term),
        };
        terms.insert(term.to_owned());
        self.beginnings.add(term);
    }

    /// The fields that match, the title first. Matching words stand between `<em>` and `</em>`, everything else is
    /// escaped for HTML; of a long text an excerpt is returned.
    pub fn highlights(&self, item: &Item) -> Vec<Highlight> {
        let mut words = Words::new();
        let single = [("title", &item.title), ("brand", &item.brand), ("description", &item.description)];
        let single = single.into_iter().map(|(field, text)| ([field, ""], text.as_str()));
        let categories = item.categories.iter().map(|text| (["categories", ""], text.as_str()));
        let tags = item.tags.iter().map(|text| (["tags", ""], text.as_str()));
        let attributes = attribute_texts(item).map(|(name, text)| (["attributes.", name], text));
        single
            .chain(categories)
            .chain(tags)
            .chain(attributes)
            .filter_map(|(field, text)| {
                Some(Highlight { snippet: self.mark(text, &mut words)?, field: field.concat() })
            })
            .take(MAX_HIGHLIGHTS)
            .collect()
    }

    /// None if nothing matches.
    fn mark(&self, text: &str, words: &mut Words) -> Option<String> {
        let has = |word: &super::words::Word| {
            word.stem.as_ref().is_some_and(|stem| self.stems.contains(stem)) || self.words.contains(&word.text)
        };
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for word in words.among(text, |run| self.beginnings.may_be_in(run)).iter().filter(|word| has(word)) {
            match spans.last_mut() {
                Some((from, to)) if word.from < *to => {
                    *from = word.from.min(*from);
                    *to = word.to.max(*to);
                }
                _ => spans.push((word.from, word.to)),
            }
        }
        if spans.is_empty() {
            return None;
        }
        let (from, to) = excerpt(text, &spans);
        let mut snippet = String::new();
        let mut at = from;
        if from > 0 {
            snippet.push_str("… ");
        }
        for &(begin, end) in spans.iter().filter(|(begin, end)| *begin >= from && *end <= to) {
            escape(&text[at..begin], &mut snippet);
            snippet.push_str("<em>");
            escape(&text[begin..end], &mut snippet);
            snippet.push_str("</em>");
            at = end;
        }
        escape(&text[at..to], &mut snippet);
        if to < text.len() {
            snippet.push_str(" …");
        }
        Some(snippet)
    }
}

/// How words begin, by their first two ASCII characters: most words of a text are told by that from those of a query, and
/// need not be stemmed.
#[derive(Debug, Clone, Default)]
struct Beginnings {
    /// A bit for each first character.
    first: u128,
    /// The second letters that follow a first one, a bit for each.
    pairs: [u32; 26],
    /// First characters that anything may follow: of words of one character, and where the second is no letter.
    any: u128,
}

impl Beginnings {
    fn add(&mut self, word: &str) {
        match *word.as_bytes() {
            [first, second, ..] if first.is_ascii() => {
                self.first |= 1 << first;
                match pair(first, second) {
                    Some((first, second)) => self.pairs[first] |= second,
                    None => self.any |= 1 << first,
                }
            }
            [first] if first.is_ascii() => {
                self.first |= 1 << first;
                self.any |= 1 << first;
            }
            _ => {}
        }
    }

    /// Whether some of the words may be words of a run of letters and digits: a stem begins as its word does, and a word within
    /// a run follows on what is no letter.
    fn may_be_in(&self, run: &str) -> bool {
        let bytes = run.as_bytes();
        let begins = |at: usize| at == 0 || !bytes[at - 1].is_ascii_alphabetic();
        let may_begin = |at: usize| {
            let first = bytes[at].to_ascii_lowercase();
            let is_first = |firsts: u128| firsts >> first & 1 == 1;
            match bytes.get(at + 1).and_then(|&second| pair(first, second)) {
                Some((first, second)) => is_first(self.any) || self.pairs[first] & second != 0,
                // What is no letter may be left out of the word, as an apostrophe is.
                None => is_first(self.first),
            }
        };
        !run.is_ascii() || (0..run.len()).any(|at| begins(at) && may_begin(at))
    }
}

/// Two letters as a place and a bit of [`Beginnings::pairs`]. `y` counts as `i` in the second place: the stem of `dying` is
/// `die`.
fn pair(first: u8, second: u8) -> Option<(usize, u32)> {
    let place = |letter: u8| letter.is_ascii_alphabetic().then(|| letter.to_ascii_lowercase() - b'a');
    let (first, second) = (place(first)?, place(second)?);
    Some((usize::from(first), 1 << if second == b'y' - b'a' { b'i' - b'a' } else { second }))
}

/// The part of a text with the most matching words: whole words, about [`EXCERPT_BYTES`] long.
fn excerpt(text: &str, spans: &[(usize, usize)]) -> (usize, usize) {
    if text.len() <= EXCERPT_BYTES {
        return (0, text.len());
    }
    let within = |first: usize| {
        let inside = spans[first..].iter().take_while(|(_, end)| *end <= spans[first].0 + EXCERPT_BYTES * 3 / 4);
        inside.count()
    };
    let most = (0..spans.len()).max_by_key(|&first| (within(first), std::cmp::Reverse(first))).unwrap_or(0);
    let (begin, end) = spans[most];
    let from = text.floor_char_boundary(begin.saturating_sub(EXCERPT_BYTES / 4));
    let from = if from == 0 { 0 } else { text[from..begin].find(' ').map_or(begin, |space| from + space + 1) };
    let to = text.ceil_char_boundary((from + EXCERPT_BYTES).min(text.len())).max(end);
    let to = if to == text.len() { to } else { text[end..to].rfind(' ').map_or(to, |space| end + space) };
    (from, to)
}

fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn looking_at_first_letters_changes_nothing(
            text in "([a-zA-Z0-9é牛奶.,'& -]{0,12} ?){0,8}",
            query in "[a-z0-9é牛奶'.-]{0,6}( [a-z]{1,4}(ing|ies|ly|s)?){0,2}",
        ) {
            let mut quick = Highlighter::default();
            // Words of the text as well, or hardly any would match.
            for word in Words::new().of(&query).into_iter().chain(Words::new().of(&text).into_iter().step_by(3)) {
                word.stem.iter().for_each(|stem| quick.add(&format!("{STEM_MARK}{stem}")));
                quick.add(&word.text);
            }
            let every = Beginnings { first: u128::MAX, pairs: [u32::MAX; 26], any: u128::MAX };
            let thorough = Highlighter { beginnings: every, ..quick.clone() };
            let mut words = Words::new();
            prop_assert_eq!(quick.mark(&text, &mut words), thorough.mark(&text, &mut words));
        }

        #[test]
        fn a_stem_begins_as_its_word_does(word in "[a-z]{3,12}|(dy|ly|ty|ski|sky|id|gent|ear|y)[a-z]{0,5}") {
            for word in Words::new().of(&word) {
                let mut beginnings = Beginnings::default();
                beginnings.add(word.root());
                prop_assert!(beginnings.may_be_in(&word.text), "{:?}", word);
            }
        }
    }
}
