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
    terms: FxHashSet<String>,
}

impl Highlighter {
    pub(super) fn new(understood: &Understood) -> Self {
        let mut terms: FxHashSet<String> = FxHashSet::default();
        for word in &understood.words {
            let last = word.phrases.iter().map(|phrase| &phrase.last);
            terms.extend(last.chain([word]).flat_map(|word| &word.terms).map(|(term, _)| term.clone()));
            terms.extend(word.phrases.iter().flat_map(|phrase| phrase.first.iter().cloned()));
        }
        Self { terms }
    }

    /// The fields that match, the title first. Matching words stand between `<em>` and `</em>`, everything else is
    /// escaped for HTML; of a long text an excerpt is returned.
    pub fn highlights(&self, item: &Item) -> Vec<Highlight> {
        let mut words = Words::new();
        let single = [("title", &item.title), ("brand", &item.brand), ("description", &item.description)];
        let single = single.into_iter().map(|(field, text)| (field.to_owned(), text.as_str()));
        let categories = item.categories.iter().map(|text| ("categories".to_owned(), text.as_str()));
        let tags = item.tags.iter().map(|text| ("tags".to_owned(), text.as_str()));
        let attributes = attribute_texts(item).map(|(name, text)| (format!("attributes.{name}"), text));
        single
            .chain(categories)
            .chain(tags)
            .chain(attributes)
            .filter_map(|(field, text)| Some(Highlight { field, snippet: self.mark(text, &mut words)? }))
            .take(MAX_HIGHLIGHTS)
            .collect()
    }

    /// None if nothing matches.
    fn mark(&self, text: &str, words: &mut Words) -> Option<String> {
        let has = |word: &super::words::Word| {
            let stem = word.stem.as_ref().is_some_and(|stem| self.terms.contains(&format!("{STEM_MARK}{stem}")));
            stem || self.terms.contains(&word.text)
        };
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for word in words.of(text).iter().filter(|word| has(word)) {
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
