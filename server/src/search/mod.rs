//! The pipeline behind Search: lexical and semantic retrieval side by side, both within the filter; fused once;
//! personalised and diversified, or ordered. Pages, facets and highlights are cut from its [`Ranking`] by the rpc layer.

use std::{sync::Arc, time::Instant};

use roaring::RoaringBitmap;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::task;
use vitrine::v1::{Degraded, DegradedReason, SearchMode, ServedBy, StageScore};

use crate::{
    Doc,
    encoder::{EncoderError, Pinned},
    filter::OrderBy,
    lexical::{LexicalError, LexicalHits, LexicalQuery},
    serving::{Generation, Shop},
    telemetry::timed,
    vector::VectorError,
};

pub mod fusion;
pub mod mmr;
pub mod personal;

use fusion::{Method, RankedList, Scale, fuse};
use personal::Personal;

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
    /// λ and how many candidates are diversified.
    pub diversity: Option<(f64, usize)>,
    /// Orders by a key instead of by relevance.
    pub order_by: Option<OrderBy>,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

/// One item found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The item.
    pub doc: Doc,
    /// What the ranking is by.
    pub score: f64,
    /// What each stage thought of it.
    pub stages: Vec<StageScore>,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Ranking {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Every matching item, ranked or not: what facets and totals count.
    pub matching: RoaringBitmap,
    /// The query as it was understood, if words were corrected.
    pub corrected: Option<String>,
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
pub type Semantic = (Pinned, Arc<Generation>);

/// Runs `plan` on `shop`. `semantic` is resolved once for the whole answer, so that no two versions mix.
pub async fn search(
    shop: &Arc<Shop>,
    semantic: Result<Semantic, EncoderError>,
    plan: Arc<Plan>,
) -> Result<Ranking, SearchError> {
    let words = async {
        match &plan.query {
            Query::Text(_) if plan.mode != SearchMode::Semantic => {
                let (shop, plan) = (Arc::clone(shop), Arc::clone(&plan));
                task::spawn_blocking(move || timed("lexical", || lexical(&shop, &plan))).await?.map(Some)
            }
            _ => Ok(None),
        }
    };
    let (words, near) = tokio::join!(words, nearest(semantic, &plan));
    let mut ranking = Ranking::default();
    let near = match near {
        Ok(Some((near, meaning, encoder))) => {
            ranking.served_by.push(encoder.served_by());
            ranking.degraded.extend(meaning.generation.incomplete());
            ranking.meaning = Some(meaning);
            near
        }
        Ok(None) => Vec::new(),
        // Words answer when meaning cannot, unless only meaning was asked for.
        Err(SearchError::Encoder(error)) if plan.mode == SearchMode::Hybrid && matches!(plan.query, Query::Text(_)) => {
            ranking.degraded.push(degraded_by(&error));
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let shop = Arc::clone(shop);
    let words = words?;
    Ok(task::spawn_blocking(move || timed("rank", || rank(&shop, &plan, words, &near, ranking))).await?)
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
            let query = LexicalQuery { text, allowed: Some(allowed), limit: 1, spelling: plan.spelling };
            shop.lexical().search(&query)?.matched
        }
        _ => RoaringBitmap::new(),
    };
    if let Some(meaning) = &ranking.meaning
        && (plan.order_by.is_none() || matching.is_empty())
    {
        matching.extend(meaning.search(plan, allowed)?.into_iter().map(|(doc, _)| doc));
    }
    Ok(matching)
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
    let query =
        LexicalQuery { text, allowed: Some(&plan.allowed), limit: plan.lexical_candidates, spelling: plan.spelling };
    Ok(shop.lexical().search(&query)?)
}

type Nearest = (Vec<(Doc, f32)>, Meaning, Pinned);

async fn nearest(semantic: Result<Semantic, EncoderError>, plan: &Arc<Plan>) -> Result<Option<Nearest>, SearchError> {
    if plan.mode == SearchMode::Lexical {
        return Ok(None);
    }
    let (encoder, generation) = semantic?;
    let vector = match &plan.query {
        Query::Text(text) => encoder.embed_query(text, Some(plan.deadline)).await?,
        Query::Vector(values) => Arc::from(values.as_slice()),
    };
    let meaning = Meaning { vector, generation };
    let (searched, plan) = (meaning.clone(), Arc::clone(plan));
    let near = task::spawn_blocking(move || timed("semantic", || searched.search(&plan, &plan.allowed))).await??;
    Ok(Some((near, meaning, encoder)))
}

fn degraded_by(error: &EncoderError) -> Degraded {
    let reason = match error {
        EncoderError::Overloaded { .. } | EncoderError::DeadlineExceeded => DegradedReason::EncoderOverloaded,
        _ => DegradedReason::EncoderUnavailable,
    };
    Degraded { reason: reason as i32, detail: format!("found by words only: {error}") }
}

/// Fuses, then diversifies or orders.
fn rank(shop: &Shop, plan: &Plan, words: Option<LexicalHits>, near: &[(Doc, f32)], mut ranking: Ranking) -> Ranking {
    let words = words.unwrap_or_default();
    let similar = ranking.meaning.as_ref().map(|meaning| meaning.similar(near, &words.hits)).unwrap_or_default();
    // A match by words whose vector is not made yet is taken to be as similar as the others are.
    let lacking = mean_of(&similar, &words.hits);
    let lists = [
        RankedList {
            name: "lexical",
            weight: plan.lexical_weight,
            scale: Scale::Share(words.title_match),
            lacking: 0.0,
            hits: &words.hits,
        },
        RankedList { name: "semantic", weight: plan.semantic_weight, scale: Scale::Cosine, lacking, hits: &similar },
    ];
    let present: Vec<RankedList<'_>> = lists.into_iter().filter(|list| !list.hits.is_empty()).collect();
    let stages = stage_scores(&present);
    // One list alone keeps its own scores: there is nothing to fuse.
    let mut order: Vec<(Doc, f32)> = match present.as_slice() {
        [only] => only.hits.to_vec(),
        _ => fuse(&present, plan.fusion).into_iter().map(|fused| (fused.doc, fused.score)).collect(),
    };
    let fused = (present.len() > 1).then(|| order.clone());

    ranking.matching = words.matched;
    // Ordered by a key, near misses by meaning would stand among the matches: they only step in when no word matches.
    if plan.order_by.is_none() || ranking.matching.is_empty() {
        ranking.matching.extend(near.iter().map(|&(doc, _)| doc));
    }
    ranking.corrected = words.corrected;

    let (mut personalized, mut diversified) = (None, None);
    if let Some(order_by) = &plan.order_by {
        let table = shop.catalog().items.read();
        let mut docs: Vec<Doc> = ranking.matching.iter().collect();
        table.columns().sort(order_by, &mut docs);
        docs.truncate(plan.lexical_candidates);
        let scores: FxHashMap<Doc, f32> = order.into_iter().collect();
        order = docs.into_iter().map(|doc| (doc, scores.get(&doc).copied().unwrap_or_default())).collect();
    } else {
        let vectors = ranking.meaning.as_ref().map(|meaning| &**meaning.generation.index());
        if let Some(personal) = &plan.personal {
            let rest = order.split_off(personal.candidates.min(order.len()));
            order = personal.reorder(&order, vectors);
            personalized = Some(order.clone());
            order.extend(rest);
        }
        if let (Some((lambda, candidates)), Some(vectors)) = (plan.diversity, vectors) {
            let rest = order.split_off(candidates.min(order.len()));
            order = mmr::diversify(&order, |doc| vectors.vector(doc), lambda, order.len());
            diversified = Some(order.clone());
            order.extend(rest);
        }
    }

    let extra = [("fused", fused), ("personalized", personalized), ("diversified", diversified)];
    let extra: Vec<_> = extra.iter().filter_map(|(name, hits)| Some((*name, ranks(hits.as_deref()?)))).collect();
    ranking.hits = order
        .into_iter()
        .map(|(doc, score)| {
            let mut own = stages.get(&doc).cloned().unwrap_or_default();
            own.extend(extra.iter().filter_map(|(name, ranks)| {
                let &(rank, score) = ranks.get(&doc)?;
                Some(stage(name, score, rank))
            }));
            Hit { doc, score: f64::from(score), stages: own }
        })
        .collect();
    ranking
}

/// The mean score in `list` of those documents of `among` that it has; 0 if there are none.
fn mean_of(list: &[(Doc, f32)], among: &[(Doc, f32)]) -> f32 {
    let among: FxHashSet<Doc> = among.iter().map(|&(doc, _)| doc).collect();
    let known = || list.iter().filter(|(doc, _)| among.contains(doc));
    known().map(|(_, score)| score).sum::<f32>() / known().count().max(1) as f32
}

fn stage_scores(lists: &[RankedList<'_>]) -> FxHashMap<Doc, Vec<StageScore>> {
    let mut stages: FxHashMap<Doc, Vec<StageScore>> = FxHashMap::default();
    for list in lists {
        for (rank, &(doc, score)) in (1..).zip(list.hits) {
            stages.entry(doc).or_default().push(stage(list.name, score, rank));
        }
    }
    stages
}

fn ranks(hits: &[(Doc, f32)]) -> FxHashMap<Doc, (i32, f32)> {
    (1..).zip(hits).map(|(rank, &(doc, score))| (doc, (rank, score))).collect()
}

fn stage(name: &str, score: f32, rank: i32) -> StageScore {
    StageScore { stage: name.to_owned(), score: f64::from(score), rank }
}
