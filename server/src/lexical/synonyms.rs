//! Words and phrases that stand for each other in searches, and queries compared word by word.
//!
//! A synonym adds to what matches a word of the query; it is not another query. So an item that has the synonym covers
//! the query as one does that has the word itself, and the rarity of a word is that of all that stand for it.

use super::query::QueryWord;
use super::rank::Ranking;
use super::words::{Word, Words};

/// A word or several that stand beside each other; capitals, accents and endings make no difference.
#[derive(Debug, Clone, Default)]
pub struct Phrase {
    words: Vec<Word>,
}

/// Which words and phrases stand for which.
#[derive(Debug, Clone)]
pub struct Synonyms {
    searched: Vec<Phrase>,
    found: Vec<Phrase>,
}

/// A phrase that stands for a word of the query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Alternative {
    /// The exact forms of all words but the last.
    pub(super) first: Vec<String>,
    /// The last word, whose ending may differ.
    pub(super) last: QueryWord,
    /// What it counts.
    pub(super) weight: f32,
}

impl Phrase {
    /// Cuts a text as queries are cut.
    pub fn new(text: &str) -> Self {
        Self { words: Words::new().of(text).into_iter().filter(|word| word.parts == 1).collect() }
    }

    /// Whether it has no word.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether both are the same words.
    pub fn is(&self, other: &Self) -> bool {
        self.words.iter().map(Word::root).eq(other.words.iter().map(Word::root))
    }

    /// Whether the words of `part` stand in it, together.
    pub fn has(&self, part: &Self) -> bool {
        part.starts_in(&self.words.iter().map(Word::root).collect::<Vec<_>>()).next().is_some()
    }

    /// Where it begins in a row of words, by their roots.
    pub(super) fn starts_in(&self, roots: &[&str]) -> impl Iterator<Item = usize> {
        let same = |row: &[&str]| row.iter().copied().eq(self.words.iter().map(Word::root));
        roots.windows(self.words.len().max(1)).enumerate().filter(move |(_, row)| same(row)).map(|(start, _)| start)
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Lets `word` of a query be matched by this phrase too.
    fn stand_for(&self, word: &mut QueryWord, ranking: &Ranking) {
        let Some((last, first)) = self.words.split_last() else { return };
        let last = QueryWord::new(last, ranking);
        if first.is_empty() {
            for (term, weight) in last.terms {
                word.add(term, weight * ranking.synonym);
            }
        } else {
            let first = first.iter().map(|word| word.text.clone()).collect();
            word.phrases.push(Alternative { first, last, weight: ranking.synonym });
        }
    }
}

impl Synonyms {
    /// A search for one of `terms` also finds the others; with `queries`, a search for one of those finds `terms`, and
    /// not the other way round.
    pub fn new(terms: Vec<Phrase>, queries: Vec<Phrase>) -> Self {
        Self { searched: if queries.is_empty() { terms.clone() } else { queries }, found: terms }
    }

    /// Whether a query has any of the words that others stand for.
    pub fn concern(&self, query: &Phrase) -> bool {
        self.searched.iter().any(|phrase| query.has(phrase))
    }

    /// Which of the query's words, given by their roots, others stand for.
    pub(super) fn covers(&self, roots: &[&str], mut cover: impl FnMut(usize)) {
        for phrase in &self.searched {
            for start in phrase.starts_in(roots) {
                (start..start + phrase.len()).for_each(&mut cover);
            }
        }
    }

    /// Adds to the words of a query what stands for them. `row` has the query's words in order: the root of each, and its
    /// place in `words`.
    pub(super) fn apply(&self, row: &[(String, usize)], words: &mut [QueryWord], ranking: &Ranking) {
        let roots: Vec<&str> = row.iter().map(|(root, _)| root.as_str()).collect();
        for phrase in &self.searched {
            for start in phrase.starts_in(&roots) {
                for other in self.found.iter().filter(|other| !other.is(phrase)) {
                    for &(_, place) in &row[start..start + phrase.len()] {
                        other.stand_for(&mut words[place], ranking);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_compared_by_their_words_roots() {
        let phrase = Phrase::new("Soft drinks");
        assert!(phrase.is(&Phrase::new("soft  DRINK")));
        assert!(!phrase.is(&Phrase::new("soft")));
        assert!(Phrase::new("cold soft-drink cans").has(&phrase));
        assert!(!Phrase::new("drink soft").has(&phrase) && !Phrase::new("soft cold drink").has(&phrase));
        assert!(Phrase::new(" !?").is_empty() && !Phrase::new("milk").has(&Phrase::new("!")));
    }
}
