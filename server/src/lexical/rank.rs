//! Scores the items that match: BM25F (Robertson, Zaragoza & Taylor 2004) over all fields, with rewards for covering
//! the query, for covering the title, and for words that stand together.
//!
//! Scores are added up a word at a time over whole posting lists: every matching item is counted anyway, for totals
//! and facets, so there is nothing to skip.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use roaring::RoaringBitmap;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::Postings as _;
use tantivy::query::{EnableScoring, PhraseQuery, Query as _};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, DocSet as _, Searcher, SegmentReader, TERMINATED, Term};

use super::index::{DOC, Fields, TITLE_WORDS};
use super::query::{QueryWord, Understood};
use super::{LexicalError, LexicalHits, LexicalQuery};
use crate::Doc;

/// What counts how much. The defaults were chosen on judged queries and work without any configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// How much a word counts in the title.
    pub title: FieldWeight,
    /// In the brand.
    pub brand: FieldWeight,
    /// In the categories.
    pub categories: FieldWeight,
    /// In the tags.
    pub tags: FieldWeight,
    /// In the description.
    pub description: FieldWeight,
    /// In the attributes.
    pub attributes: FieldWeight,
    /// BM25's k1: how soon more occurrences count no more.
    pub saturation: f32,
    /// What another form of the same stem counts beside the exact form, 0 to 1.
    pub stem: f32,
    /// What two words of the query count written as one, 0 to 1.
    pub compound: f32,
    /// What the second and third reading of a misspelt word count, 0 to 1.
    pub other_reading: f32,
    /// What a synonym counts beside the word itself, 0 to 1.
    pub synonym: f32,
    /// The power of the share of the query (by its words' rarity) that an item has.
    pub coverage: f32,
    /// What an item gains whose title has no other words than the query, as a share of its score.
    pub title_coverage: f32,
    /// What two neighbours of the query gain that stand together in the title, as a share of the rarer one's weight.
    pub title_phrase: f32,
    /// The same in any other field.
    pub phrase: f32,
    /// An item counts as matching when it has this share of the query, by its words' rarity, of what the best has.
    pub least_coverage: f32,
}

/// How much a word counts in one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldWeight {
    /// Beside the other fields.
    pub weight: f32,
    /// BM25's b: how much less in a longer text, 0 to 1.
    pub length: f32,
}

impl Default for Ranking {
    fn default() -> Self {
        let field = |weight, length| FieldWeight { weight, length };
        Self {
            title: field(4.0, 0.3),
            brand: field(2.0, 0.3),
            categories: field(1.0, 0.5),
            tags: field(1.0, 0.5),
            description: field(0.5, 0.6),
            attributes: field(0.7, 0.6),
            saturation: 3.0,
            stem: 0.6,
            compound: 0.7,
            other_reading: 0.5,
            synonym: 0.8,
            coverage: 0.2,
            title_coverage: 0.5,
            title_phrase: 0.5,
            phrase: 0.3,
            least_coverage: 0.25,
        }
    }
}

impl Ranking {
    /// What a word counts that occurs so often.
    fn saturated(&self, frequency: f32) -> f32 {
        frequency * (self.saturation + 1.0) / (frequency + self.saturation)
    }

    fn fields(&self, fields: &Fields) -> [(Field, FieldWeight); 6] {
        [
            (fields.title, self.title),
            (fields.brand, self.brand),
            (fields.categories, self.categories),
            (fields.tags, self.tags),
            (fields.description, self.description),
            (fields.attributes, self.attributes),
        ]
    }
}

/// A matching item, ordered by score and then by `Doc`, best last.
#[derive(PartialEq)]
struct Scored {
    score: f32,
    doc: Reverse<Doc>,
}

impl Eq for Scored {}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(self.doc.cmp(&other.doc))
    }
}

/// An item that has a word: how often by fields and their weights, and whether in the title.
#[derive(Clone, Copy)]
struct Hit {
    doc: DocId,
    frequency: f32,
    in_title: bool,
}

/// What is added up for one item of a segment.
#[derive(Clone, Copy, Default)]
struct Sum {
    score: f32,
    coverage: f32,
    title_words: f32,
}

/// The best items, all that match, and what one scores whose title is the query.
pub(super) fn search(
    searcher: &Searcher,
    fields: &Fields,
    ranking: &Ranking,
    understood: &Understood,
    query: &LexicalQuery<'_>,
) -> Result<LexicalHits, LexicalError> {
    let segments = searcher.segment_readers();
    let lengths = LengthNorms::new(searcher, fields, ranking)?;
    let mut hits: Vec<Vec<Vec<Hit>>> = Vec::with_capacity(understood.words.len());
    let mut tally = Tally::default();
    for word in &understood.words {
        let of_word = segments.iter().map(|segment| tally.occurrences(searcher, segment, word, fields, &lengths));
        hits.push(of_word.collect::<Result<_, _>>()?);
    }
    let items = segments.iter().map(|segment| f64::from(segment.max_doc())).sum::<f64>();
    let rarity: Vec<f32> = hits.iter().map(|of_word| inverse_frequency(items, of_word)).collect();
    let known =
        |(of_word, rarity): (&Vec<Vec<Hit>>, &f32)| if of_word.iter().all(Vec::is_empty) { 0.0 } else { *rarity };
    let whole: f32 = hits.iter().zip(&rarity).map(known).sum();

    let mut candidates: Vec<(f32, f32, Doc)> = Vec::new();
    for (ordinal, segment) in segments.iter().enumerate() {
        let mut sums = vec![Sum::default(); segment.max_doc() as usize];
        for (of_word, rarity) in hits.iter().zip(&rarity) {
            for hit in &of_word[ordinal] {
                let sum = &mut sums[hit.doc as usize];
                sum.score += rarity * ranking.saturated(hit.frequency);
                sum.coverage += rarity;
                sum.title_words += if hit.in_title { 1.0 } else { 0.0 };
            }
        }
        for &(first, second) in &understood.neighbours {
            let reward = rarity[first].min(rarity[second]);
            let (first, second) = (&understood.words[first].text, &understood.words[second].text);
            for (field, _) in ranking.fields(fields) {
                let share = if field == fields.title { ranking.title_phrase } else { ranking.phrase };
                if share > 0.0 {
                    for_each_phrase(searcher, segment, field, &[first, second], |doc| {
                        sums[doc as usize].score += share * reward;
                    })?;
                }
            }
        }
        let docs = segment.fast_fields().u64(DOC)?.first_or_default_col(0);
        let title_words = segment.fast_fields().u64(TITLE_WORDS)?.first_or_default_col(0);
        for (doc, sum) in (0..).zip(&sums) {
            if sum.score <= 0.0 || segment.is_deleted(doc) {
                continue;
            }
            let id = docs.get_val(doc) as Doc;
            if query.allowed.is_some_and(|allowed| !allowed.contains(id)) {
                continue;
            }
            let share = (sum.coverage / whole).min(1.0);
            let title_share = (sum.title_words / title_words.get_val(doc).max(1) as f32).min(1.0);
            let score = sum.score * share.powf(ranking.coverage) * (1.0 + ranking.title_coverage * title_share * share);
            candidates.push((score, share, id));
        }
    }
    let (hits, matched) = best(&candidates, ranking.least_coverage, query.limit);
    let together: f32 = understood.neighbours.iter().map(|&(first, second)| rarity[first].min(rarity[second])).sum();
    let in_title = ranking.saturated(lengths.title(understood.words.len()));
    let title_match = (whole * in_title + together * ranking.title_phrase) * (1.0 + ranking.title_coverage);
    Ok(LexicalHits { hits, title_match, matched, ..LexicalHits::default() })
}

/// The best of those that cover enough of the query, and all of those.
fn best(candidates: &[(f32, f32, Doc)], least_coverage: f32, limit: usize) -> (Vec<(Doc, f32)>, RoaringBitmap) {
    let most = candidates.iter().map(|(_, share, _)| *share).fold(0.0, f32::max);
    let mut matched = Vec::new();
    let mut heap = BinaryHeap::with_capacity(limit.min(candidates.len()) + 1);
    for &(score, share, doc) in candidates {
        if share < least_coverage * most {
            continue;
        }
        matched.push(doc);
        let scored = Scored { score, doc: Reverse(doc) };
        if heap.len() < limit {
            heap.push(Reverse(scored));
        } else if let Some(mut worst) = heap.peek_mut()
            && scored > worst.0
        {
            *worst = Reverse(scored);
        }
    }
    matched.sort_unstable();
    let hits = heap.into_sorted_vec().into_iter().map(|Reverse(scored)| (scored.doc.0, scored.score)).collect();
    (hits, matched.into_iter().collect())
}

/// For each field, what an occurrence counts in a text of that length.
struct LengthNorms {
    fields: Vec<(Field, [f32; 256])>,
}

impl LengthNorms {
    fn new(searcher: &Searcher, fields: &Fields, ranking: &Ranking) -> Result<Self, LexicalError> {
        let mut norms = Vec::new();
        for (field, FieldWeight { weight, length }) in ranking.fields(fields) {
            let (mut tokens, mut items) = (0, 0);
            for segment in searcher.segment_readers() {
                tokens += segment.inverted_index(field)?.total_num_tokens();
                items += u64::from(segment.max_doc());
            }
            let average = (tokens as f32 / items.max(1) as f32).max(1.0);
            let norm = |id: usize| {
                let tokens = FieldNormReader::id_to_fieldnorm(id as u8) as f32;
                weight / (1.0 - length + length * tokens / average)
            };
            norms.push((field, std::array::from_fn(norm)));
        }
        Ok(Self { fields: norms })
    }

    /// What an occurrence counts in a title of so many words.
    fn title(&self, words: usize) -> f32 {
        let [(_, norms), ..] = self.fields.as_slice() else { return 0.0 };
        norms[usize::from(FieldNormReader::fieldnorm_to_id(words as u32))]
    }
}

/// Adds up what a word counts in each item of one segment after another, by fields.
#[derive(Default)]
struct Tally {
    hits: Vec<Hit>,
    /// For each item of the segment its place in `hits`, from 1; all 0 between two calls.
    places: Vec<u32>,
}

impl Tally {
    /// The items of a segment that have a word, with what it counts in them.
    fn occurrences(
        &mut self,
        searcher: &Searcher,
        segment: &SegmentReader,
        word: &QueryWord,
        fields: &Fields,
        lengths: &LengthNorms,
    ) -> Result<Vec<Hit>, LexicalError> {
        self.places.resize(self.places.len().max(segment.max_doc() as usize), 0);
        for (field, norms) in &lengths.fields {
            let inverted = segment.inverted_index(*field)?;
            let in_title = *field == fields.title;
            let mut fieldnorms = None;
            for (term, weight) in &word.terms {
                let term = Term::from_field_text(*field, term);
                let Some(mut postings) = inverted.read_postings(&term, IndexRecordOption::WithFreqs)? else { continue };
                let fieldnorms = match &mut fieldnorms {
                    Some(fieldnorms) => fieldnorms,
                    none => none.insert(segment.get_fieldnorms_reader(*field)?),
                };
                while postings.doc() != TERMINATED {
                    let doc = postings.doc();
                    let norm = norms[usize::from(fieldnorms.fieldnorm_id(doc))];
                    self.add(doc, weight * norm * postings.term_freq() as f32, in_title);
                    postings.advance();
                }
            }
        }
        for phrase in &word.phrases {
            for (field, norms) in &lengths.fields {
                let fieldnorms = segment.get_fieldnorms_reader(*field)?;
                for (last, _) in &phrase.last.terms {
                    let words: Vec<&str> = phrase.first.iter().chain([last]).map(String::as_str).collect();
                    for_each_phrase(searcher, segment, *field, &words, |doc| {
                        let norm = norms[usize::from(fieldnorms.fieldnorm_id(doc))];
                        self.add(doc, phrase.weight * norm, *field == fields.title);
                    })?;
                }
            }
        }
        for hit in &self.hits {
            self.places[hit.doc as usize] = 0;
        }
        Ok(std::mem::take(&mut self.hits))
    }

    fn add(&mut self, doc: DocId, frequency: f32, in_title: bool) {
        let place = &mut self.places[doc as usize];
        if *place == 0 {
            self.hits.push(Hit { doc, frequency, in_title });
            *place = self.hits.len() as u32;
        } else {
            let hit = &mut self.hits[*place as usize - 1];
            hit.frequency += frequency;
            hit.in_title |= in_title;
        }
    }
}

fn inverse_frequency(items: f64, of_word: &[Vec<Hit>]) -> f32 {
    let having = of_word.iter().map(Vec::len).sum::<usize>() as f64;
    (1.0 + (items - having + 0.5) / (having + 0.5)).ln() as f32
}

/// Calls `act` for every item of the segment in which the words stand together; there are two at least.
fn for_each_phrase(
    searcher: &Searcher,
    segment: &SegmentReader,
    field: Field,
    words: &[&str],
    mut act: impl FnMut(DocId),
) -> Result<(), LexicalError> {
    let phrase = PhraseQuery::new(words.iter().map(|word| Term::from_field_text(field, word)).collect());
    let weight = phrase.weight(EnableScoring::disabled_from_searcher(searcher))?;
    weight.for_each_no_score(segment, &mut |docs| docs.iter().for_each(|doc| act(*doc)))?;
    Ok(())
}
