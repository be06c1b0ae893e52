//! What a query means to the index at hand: which terms stand for each of its words.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;
use tantivy::query::FuzzyTermQuery;
use tantivy::{Searcher, Term};

use super::index::Fields;
use super::rank::Ranking;
use super::synonyms::Alternative;
use super::words::{STEM_MARK, Word, Words, is_spaced};
use super::{LexicalError, LexicalQuery};

/// More words than this are left out, the last ones first.
const MAX_WORDS: usize = 48;
/// So many letters a word must have for one edit, and for two.
const ONE_EDIT_LETTERS: usize = 4;
const TWO_EDITS_LETTERS: usize = 8;
/// A word with the same first letter is preferred as if it were so many times as frequent: the first letter is
/// rarely the wrong one.
const SAME_FIRST_LETTER: u64 = 8;
/// How many likely readings of a misspelt word are searched.
const MAX_READINGS: usize = 3;

/// A query as the index understands it.
#[derive(Debug, Clone, Default)]
pub(super) struct Understood {
    /// Its distinct words, in order.
    pub(super) words: Vec<QueryWord>,
    /// Words that stand beside each other in the query, by their places in `words`.
    pub(super) neighbours: Vec<(usize, usize)>,
    /// The query with its misspelt words corrected, when there are any.
    pub(super) corrected: Option<String>,
}

/// One word of a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct QueryWord {
    /// The exact form (of the likeliest reading).
    pub(super) text: String,
    /// The terms that match it, each with what it counts.
    pub(super) terms: Vec<(String, f32)>,
    /// The phrases that match it.
    pub(super) phrases: Vec<Alternative>,
}

impl Understood {
    pub(super) fn new(
        searcher: &Searcher,
        fields: &Fields,
        ranking: &Ranking,
        query: &LexicalQuery<'_>,
    ) -> Result<Self, LexicalError> {
        let text = query.text;
        let vocabulary = Vocabulary { searcher, fields };
        let mut cutter = Words::new();
        let (mut simple, joined): (Vec<Word>, Vec<Word>) =
            cutter.of(text).into_iter().partition(|word| word.parts == 1);
        simple.truncate(MAX_WORDS);
        let compounds = known_compounds(&simple, &joined, &vocabulary)?;
        let roots: Vec<&str> = simple.iter().map(Word::root).collect();
        let mut has_synonyms = vec![false; roots.len()];
        query.synonyms.iter().for_each(|synonyms| synonyms.covers(&roots, |at| has_synonyms[at] = true));
        let mut understood = Self::default();
        let mut corrections: Vec<(&Word, String)> = Vec::new();
        let mut row: Vec<(String, usize)> = Vec::new();
        for ((word, compounds), has_synonyms) in simple.iter().zip(compounds).zip(has_synonyms) {
            let mut meant = QueryWord::new(word, ranking);
            for compound in compounds {
                meant.add(compound, ranking.compound);
            }
            let certain = has_synonyms || !query.spelling || vocabulary.knows(&meant)?;
            let likely = if certain { Vec::new() } else { vocabulary.correct(&word.text)? };
            if let Some(likeliest) = likely.first() {
                corrections.push((word, likeliest.clone()));
                for (root, meant) in read(&likely, &mut cutter, ranking) {
                    row.push((root, understood.push(meant)));
                }
            } else {
                row.push((word.root().to_owned(), understood.push(meant)));
            }
        }
        for pair in row.windows(2) {
            let pair = (pair[0].1, pair[1].1);
            if pair.0 != pair.1 && !understood.neighbours.contains(&pair) {
                understood.neighbours.push(pair);
            }
        }
        for synonyms in query.synonyms {
            synonyms.apply(&row, &mut understood.words, ranking);
        }
        if !corrections.is_empty() {
            let mut corrected = text.to_owned();
            for (word, correction) in corrections.into_iter().rev() {
                corrected.replace_range(word.from..word.to, &correction);
            }
            understood.corrected = Some(corrected);
        }
        Ok(understood)
    }

    /// Adds a word, unless it is there. Answers its place.
    fn push(&mut self, word: QueryWord) -> usize {
        self.words.iter().position(|other| other.text == word.text).unwrap_or_else(|| {
            self.words.push(word);
            self.words.len() - 1
        })
    }
}

/// For each word the compounds it is part of, as written or with the word beside it, that some item has.
fn known_compounds(
    simple: &[Word],
    joined: &[Word],
    vocabulary: &Vocabulary<'_>,
) -> Result<Vec<Vec<String>>, LexicalError> {
    let mut compounds: Vec<Vec<String>> = vec![Vec::new(); simple.len()];
    let whole = joined.iter().map(|word| {
        let parts = word.position..word.position + word.parts;
        let first = simple.partition_point(|word| word.position < parts.start);
        (first..simple.partition_point(|word| word.position < parts.end), word.text.clone())
    });
    let beside = simple.windows(2).enumerate();
    let beside = beside.map(|(first, pair)| (first..first + 2, format!("{}{}", pair[0].text, pair[1].text)));
    for (parts, compound) in whole.chain(beside) {
        if vocabulary.frequency(&compound)? > 0 {
            compounds[parts].iter_mut().for_each(|compounds| compounds.push(compound.clone()));
        }
    }
    Ok(compounds)
}

/// The words meant by a misspelt one, each with its root: those of its likeliest reading, which other readings of one word
/// also match.
fn read(likely: &[String], cutter: &mut Words, ranking: &Ranking) -> Vec<(String, QueryWord)> {
    let understood = |word: &Word| (word.root().to_owned(), QueryWord::new(word, ranking));
    let mut readings =
        likely.iter().map(|text| -> Vec<(String, QueryWord)> { cutter.of(text).iter().map(understood).collect() });
    let mut words = readings.next().unwrap_or_default();
    if let [(_, only)] = words.as_mut_slice() {
        for (term, weight) in readings.flatten().flat_map(|(_, word)| word.terms) {
            only.add(term, weight * ranking.other_reading);
        }
    }
    words
}

impl QueryWord {
    /// A word by itself: its exact form and its stem. An item that has the exact form counts 1, one that has another
    /// form of the same stem counts `ranking.stem`.
    pub(super) fn new(word: &Word, ranking: &Ranking) -> Self {
        let text = word.text.clone();
        let terms = match &word.stem {
            None => vec![(text.clone(), 1.0), (format!("{STEM_MARK}{text}"), ranking.stem)],
            Some(stem) => vec![
                (text.clone(), 1.0 - ranking.stem),
                (stem.clone(), ranking.stem),
                (format!("{STEM_MARK}{stem}"), ranking.stem),
            ],
        };
        Self { text, terms, phrases: Vec::new() }
    }

    /// Another term that matches, unless it does already.
    pub(super) fn add(&mut self, term: String, weight: f32) {
        if self.terms.iter().all(|(other, _)| *other != term) {
            self.terms.push((term, weight));
        }
    }
}

/// The words of all items.
struct Vocabulary<'a> {
    searcher: &'a Searcher,
    fields: &'a Fields,
}

impl Vocabulary<'_> {
    /// In how many fields of how many items a term occurs.
    fn frequency(&self, term: &str) -> Result<u64, LexicalError> {
        let mut frequency = 0;
        for field in self.fields.texts() {
            frequency += self.searcher.doc_freq(&Term::from_field_text(field, term))?;
        }
        Ok(frequency)
    }

    fn knows(&self, word: &QueryWord) -> Result<bool, LexicalError> {
        for (term, _) in &word.terms {
            if self.frequency(term)? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a word that no item has was likely meant to be, likeliest first: words one letter away, else two words
    /// that lack their space, else words two letters away.
    fn correct(&self, word: &str) -> Result<Vec<String>, LexicalError> {
        let letters = word.chars().count();
        if letters < ONE_EDIT_LETTERS || !word.chars().all(|letter| letter.is_alphabetic() && is_spaced(letter)) {
            return Ok(Vec::new());
        }
        let near = self.within(word, 1)?;
        if !near.is_empty() {
            return Ok(near);
        }
        if let Some(split) = self.split(word)? {
            return Ok(vec![split]);
        }
        if letters < TWO_EDITS_LETTERS { Ok(Vec::new()) } else { self.within(word, 2) }
    }

    /// The words so many edits away (a letter more, less, other, or two swapped), likeliest first.
    fn within(&self, word: &str, edits: u8) -> Result<Vec<String>, LexicalError> {
        let automaton = FuzzyTermQuery::new(Term::from_field_text(self.fields.title, word), edits, true).automaton()?;
        let mut found: FxHashMap<String, u64> = FxHashMap::default();
        for segment in self.searcher.segment_readers() {
            for field in self.fields.texts() {
                let inverted = segment.inverted_index(field)?;
                let mut terms = inverted.terms().search(&automaton).into_stream()?;
                while terms.advance() {
                    if let Ok(term) = std::str::from_utf8(terms.key())
                        && term.chars().all(char::is_alphabetic)
                    {
                        *found.entry(term.to_owned()).or_default() += u64::from(terms.value().doc_freq);
                    }
                }
            }
        }
        let first = word.chars().next();
        let likelihood = |(text, frequency): (String, u64)| {
            let same_first = text.chars().next() == first;
            (Reverse(frequency * if same_first { SAME_FIRST_LETTER } else { 1 }), text)
        };
        let mut found: Vec<_> = found.into_iter().map(likelihood).collect();
        found.sort_unstable();
        found.truncate(MAX_READINGS);
        Ok(found.into_iter().map(|(_, text)| text).collect())
    }

    /// The two words of which the rarer one is the most frequent.
    fn split(&self, word: &str) -> Result<Option<String>, LexicalError> {
        let mut best: Option<(u64, String)> = None;
        for (at, _) in word.char_indices().skip(2) {
            let (first, second) = word.split_at(at);
            if second.chars().count() < 2 {
                break;
            }
            let frequency = self.frequency(first)?.min(self.frequency(second)?);
            if frequency > best.as_ref().map_or(0, |best| best.0) {
                best = Some((frequency, format!("{first} {second}")));
            }
        }
        Ok(best.map(|(_, text)| text))
    }
}
