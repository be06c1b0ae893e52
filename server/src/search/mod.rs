//! The pipeline behind Search: lexical and semantic retrieval side by side, both within the filter; fused once; boosted,
//! personalised, diversified and capped, or ordered; grouped; and last the shop's own rules. Pages, facets and highlights are cut
//! from its [`Ranking`] by the rpc layer.

use std::{sync::Arc, time::Instant};

use roaring::RoaringBitmap;
use rustc_hash::FxHashSet;
use tokio::task;
use vitrine::v1::{Degraded, DegradedReason, SearchMode, ServedBy};

use crate::{
    Doc,
    control::Rules,
    encoder::{EncoderError, PinnedEncoder},
    filter::{Key, OrderBy},
    lexical::{Highlighter, LexicalError, LexicalHits, LexicalQuery},
    serving::{Generation, Shop},
    telemetry::timed,
    vector::VectorError,
};

pub mod cap;
pub mod fusion;
pub mod group;
pub mod mmr;
pub mod personal;
mod rank;

use cap::Cap;
use fusion::Method;
use personal::Personal;
pub use rank::Stages;

/// What is looked for.
#[derive(Debug, Clone)]
pub enum Query {
    /// Words.
    Text(Arc<str>),
    /// A vector in the encoder's space.
    Vector(Vec<f32>),
}

/// A search whose every field has been checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is looked for.
    pub query: Query,
    /// Which retrievers take part.
    pub mode: SearchMode,
    /// The items that may be found: servable, and within the filters.
    pub allowed: Arc<RoaringBitmap>,
    /// Whether misspelt words are corrected.
    pub spelling: bool,
    /// How the rankings become one.
    pub fusion: Method,
    /// What the words count.
    pub lexical_weight: f64,
    /// What the meaning counts.
    pub semantic_weight: f64,
    /// How many matches by words are ranked.
    pub lexical_candidates: usize,
    /// How many nearest items are ranked.
    pub semantic_candidates: usize,
    /// Less similar items are not found by meaning.
    pub min_similarity: f32,
    /// Who searches, if that is to count.
    pub personal: Option<Personal>,
    /// Makes the results differ from each other.
    pub diversity: Option<Diversity>,
    /// Orders by a key instead of by relevance.
    pub order_by: Option<OrderBy>,
    /// Shows items that share a value of this key as one, and so many of them.
    pub group_by: Option<(Key, usize)>,
    /// The shop's own rules, and the request's boosts. What they hide is not in `allowed`.
    pub rules: Rules,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

/// How results are made different from each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Diversity {
    /// See [`mmr`]. 1: only relevance; 0: only difference.
    pub lambda: f64,
    /// How many of the best are considered.
    pub candidates: usize,
    /// How many may share a value.
    pub cap: Option<Cap>,
}

/// One item found.
#[derive(Debug, Clone, Default)]
pub struct Hit {
    /// The item.
    pub doc: Doc,
    /// What the ranking is by.
    pub score: f64,
    /// Others of its group, best first.
    pub variants: Vec<(Doc, f32)>,
    /// How many of its group match; 0: it is in none.
    pub group_total: u64,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Ranking {
    /// Best first.
    pub hits: Vec<Hit>,
    /// What the stages thought of them.
    pub stages: Stages,
    /// Every matching item, ranked or not: what facets and totals count.
    pub matching: RoaringBitmap,
    /// How many results there are: matching items, or groups of them.
    pub total: u64,
    /// The query as it was understood, if words were corrected.
    pub corrected: Option<String>,
    /// Marks the words of the query, if it was searched for by words.
    pub marks: Option<Highlighter>,
    /// The versions that took part.
    pub served_by: Vec<ServedBy>,
    /// Why it is less than it could be.
    pub degraded: Vec<Degraded>,
    /// What meaning was searched with, if it was.
    pub meaning: Option<Meaning>,
}

/// A query in an encoder's space, and the vectors it is compared with.
#[derive(Debug, Clone)]
pub struct Meaning {
    vector: Arc<[f32]>,
    generation: Arc<Generation>,
}

/// Why a search has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The full-text index failed.
    #[error(transparent)]
    Lexical(#[from] LexicalError),
    /// The vectors failed, or the query vector is not of their space.
    #[error(transparent)]
    Vector(#[from] VectorError),
    /// Only meaning was asked for, and no encoder can tell it.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A search stopped without an answer.
    #[error("a search thread failed: {0}")]
    Thread(#[from] task::JoinError),
}

/// The encoder and its vectors of the shop, held for the whole of an answer.
pub type Semantic = (PinnedEncoder, Arc<Generation>);

/// What the retrievers need of others is there: the rest takes a processor and nothing else.
#[derive(Debug)]
pub struct Retrieved {
    plan: Arc<Plan>,
    words: Option<LexicalHits>,
    ranking: Ranking,
}

/// Finds items by words, and meanwhile has the query's vector made. `semantic` is resolved once for the whole answer, so that
/// no two versions mix.
pub async fn retrieve(
    shop: &Arc<Shop>,
    semantic: Result<Semantic, EncoderError>,
    plan: &Arc<Plan>,
) -> Result<Retrieved, SearchError> {
    let words = async {
        match &plan.query {
            Query::Text(_) if plan.mode != SearchMode::Semantic => {
                let (shop, plan) = (Arc::clone(shop), Arc::clone(plan));
                task::spawn_blocking(move || timed("lexical", || lexical(&shop, &plan))).await?.map(Some)
            }
            _ => Ok(None),
        }
    };
    let (words, meant) = tokio::join!(words, meant(semantic, plan));
    let mut ranking = Ranking::default();
    match meant {
        Ok(Some((meaning, encoder))) => {
            ranking.served_by.push(encoder.served_by());
            ranking.degraded.extend(meaning.generation.incomplete());
            ranking.meaning = Some(meaning);
        }
        Ok(None) => {}
        // Words answer when meaning cannot, unless only meaning was asked for.
        Err(error) if plan.mode == SearchMode::Hybrid && matches!(plan.query, Query::Text(_)) => {
            ranking.degraded.push(degraded_by(&error));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Retrieved { plan: Arc::clone(plan), words: words?, ranking })
}

impl Retrieved {
    /// Finds the nearest items, and ranks all. Blocks.
    pub fn rank(self, shop: &Shop) -> Result<Ranking, SearchError> {
        let Self { plan, words, ranking } = self;
        let near = match &ranking.meaning {
            Some(meaning) => timed("semantic", || meaning.search(&plan, &plan.allowed))?,
            None => Vec::new(),
        };
        Ok(timed("rank", || rank::rank(shop, &plan, words, &near, ranking)))
    }
}

/// Every item within `allowed` that the search `ranking` came from would match: for facets that leave a condition out.
pub fn matching(
    shop: &Shop,
    plan: &Plan,
    ranking: &Ranking,
    allowed: &RoaringBitmap,
) -> Result<RoaringBitmap, SearchError> {
    let mut matching = match &plan.query {
        Query::Text(text) if plan.mode != SearchMode::Semantic => {
            shop.lexical().search(&plan.wording(text, Some(allowed), 1))?.matched
        }
        _ => RoaringBitmap::new(),
    };
    if let Some(meaning) = &ranking.meaning
        && (plan.order_by.is_none() || matching.is_empty())
    {
        matching.extend(meaning.search(plan, allowed)?.into_iter().map(|(doc, _)| doc));
    }
    matching.extend(plan.pins().iter().map(|&(_, doc)| doc).filter(|&doc| allowed.contains(doc)));
    Ok(matching)
}

impl Plan {
    /// A search for `text` by words.
    pub fn wording<'a>(&'a self, text: &'a str, allowed: Option<&'a RoaringBitmap>, limit: usize) -> LexicalQuery<'a> {
        LexicalQuery { text, allowed, limit, spelling: self.spelling, synonyms: &self.rules.synonyms }
    }

    /// The items that the shop wants at a place; none in an order of the customer's own.
    fn pins(&self) -> &[(usize, Doc)] {
        if self.order_by.is_none() { &self.rules.pins } else { &[] }
    }
}

impl Meaning {
    /// The nearest items that are similar enough, best first.
    fn search(&self, plan: &Plan, allowed: &RoaringBitmap) -> Result<Vec<(Doc, f32)>, VectorError> {
        let mut near = self.generation.index().search(&self.vector, plan.semantic_candidates, Some(allowed))?;
        near.retain(|&(_, similarity)| similarity >= plan.min_similarity);
        Ok(near)
    }

    /// The nearest items, and how similar the matches by words are that are not among them; best first.
    fn similar(&self, near: &[(Doc, f32)], words: &[(Doc, f32)]) -> Vec<(Doc, f32)> {
        if words.is_empty() {
            return near.to_vec();
        }
        let known: FxHashSet<Doc> = near.iter().map(|&(doc, _)| doc).collect();
        let others = words.iter().map(|&(doc, _)| doc).filter(|doc| !known.contains(doc));
        // The vector has been searched with: it is of the right width.
        let mut similar = self.generation.index().similarities(&self.vector, others).unwrap_or_default();
        similar.extend_from_slice(near);
        similar.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        similar
    }
}

fn lexical(shop: &Shop, plan: &Plan) -> Result<LexicalHits, SearchError> {
    let Query::Text(text) = &plan.query else { return Ok(LexicalHits::default()) };
    Ok(shop.lexical().search(&plan.wording(text, Some(&plan.allowed), plan.lexical_candidates))?)
}

/// The query in the encoder's space, unless only words are asked for.
async fn meant(
    semantic: Result<Semantic, EncoderError>,
    plan: &Plan,
) -> Result<Option<(Meaning, PinnedEncoder)>, EncoderError> {
    if plan.mode == SearchMode::Lexical {
        return Ok(None);
    }
    let (encoder, generation) = semantic?;
    let vector = match &plan.query {
        Query::Text(text) => encoder.embed_query(text, Some(plan.deadline)).await?,
        Query::Vector(values) => Arc::from(values.as_slice()),
    };
    Ok(Some((Meaning { vector, generation }, encoder)))
}

fn degraded_by(error: &EncoderError) -> Degraded {
    let reason = match error {
        EncoderError::Overloaded { .. } | EncoderError::DeadlineExceeded => DegradedReason::EncoderOverloaded,
        _ => DegradedReason::EncoderUnavailable,
    };
    Degraded { reason: reason as i32, detail: format!("found by words only: {error}") }
}
