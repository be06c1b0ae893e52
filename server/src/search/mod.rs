//! The pipeline behind Search: retrieval by words, by meaning and by pictures side by side, all within the filter; fused once; boosted,
//! personalised, diversified and capped, or ordered; grouped; and last the shop's own rules. Pages, facets and highlights are cut
//! from its [`Ranking`] by the rpc layer.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use roaring::RoaringBitmap;
use rustc_hash::FxHashSet;
use tokio::{task, time::timeout_at};
use vitrine::v1::{Degraded, DegradedReason, SearchMode, ServedBy};
use vitrine_models::PictureError;

use crate::{
    Doc,
    batch::Class,
    control::Rules,
    encoder::{Encoder, EncoderError},
    filter::{Key, OrderBy},
    image_encoder::{ImageEncoder, picture::decoded},
    lexical::{Highlighter, LexicalError, LexicalHits, LexicalQuery},
    model::Pinned,
    serving::{Embedder, Generation, Shop},
    telemetry::timed,
    vector::{VectorError, VectorIndex},
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
use rank::Near;
pub use rank::Stages;

/// What is looked for: words, or a vector in the text encoder's space, or a picture; or words and a picture.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Words.
    pub text: Option<Arc<str>>,
    /// A vector in the text encoder's space.
    pub vector: Option<Vec<f32>>,
    /// A picture's file.
    pub picture: Option<Bytes>,
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
    /// What the picture counts.
    pub picture_weight: f64,
    /// How many matches by words are ranked.
    pub lexical_candidates: usize,
    /// How many nearest items are ranked, by meaning and by pictures each.
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
    /// Whether anybody waits.
    pub class: Class,
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
    pub meaning: Option<Probe>,
    /// What pictures were searched with, if they were.
    pub look: Option<Probe>,
}

/// A query in an encoder's space, and the vectors it is compared with.
#[derive(Debug, Clone)]
pub struct Probe {
    vector: Arc<[f32]>,
    index: Arc<VectorIndex>,
    /// Less similar items are not found.
    min_similarity: f32,
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
    /// Only meaning or pictures were asked for, and no encoder can tell them.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The picture cannot be read.
    #[error("the picture {0}")]
    Picture(#[from] PictureError),
    /// A search stopped without an answer.
    #[error("a search thread failed: {0}")]
    Thread(#[from] task::JoinError),
}

/// An encoder and its vectors of the shop, held for the whole of an answer.
pub type Indexed<E> = (Pinned<E>, Arc<Generation<E>>);

/// A text encoder and its vectors.
pub type Semantic = Indexed<Encoder>;

/// An image encoder and its vectors.
pub type Pictorial = Indexed<ImageEncoder>;

/// The encoders that a search may ask, resolved once for the whole answer, so that no two versions mix.
#[derive(Debug)]
pub struct Resolved {
    /// For words and vectors.
    pub semantic: Result<Semantic, EncoderError>,
    /// For pictures; absent when there is none to look at.
    pub pictorial: Option<Result<Pictorial, EncoderError>>,
}

/// What the retrievers need of others is there: the rest takes a processor and nothing else.
#[derive(Debug)]
pub struct Retrieved {
    plan: Arc<Plan>,
    words: Option<LexicalHits>,
    ranking: Ranking,
}

/// Finds items by words, and meanwhile has the query's vectors made.
pub async fn retrieve(shop: &Arc<Shop>, resolved: Resolved, plan: &Arc<Plan>) -> Result<Retrieved, SearchError> {
    let words = async {
        match &plan.query.text {
            Some(_) if plan.mode != SearchMode::Semantic => {
                let (shop, plan) = (Arc::clone(shop), Arc::clone(plan));
                task::spawn_blocking(move || timed("lexical", || lexical(&shop, &plan))).await?.map(Some)
            }
            _ => Ok(None),
        }
    };
    let Resolved { semantic, pictorial } = resolved;
    let (words, meant, seen) = tokio::join!(words, meant(semantic, plan), seen(pictorial, plan));
    let mut ranking = Ranking::default();
    // Words answer when meaning or pictures cannot, unless only those were asked for.
    let has_words = plan.query.text.is_some();
    let by = |found: Result<Option<Found>, SearchError>, can_do_without: bool, ranking: &mut Ranking| match found {
        Ok(Some(Found { probe, by, incomplete })) => {
            ranking.served_by.push(by);
            ranking.degraded.extend(incomplete);
            Ok(Some(probe))
        }
        Ok(None) => Ok(None),
        Err(SearchError::Encoder(error)) if can_do_without => {
            ranking.degraded.push(degraded_by(&error));
            Ok(None)
        }
        Err(error) => Err(error),
    };
    ranking.meaning = by(meant, has_words && plan.mode == SearchMode::Hybrid, &mut ranking)?;
    ranking.look = by(seen, has_words, &mut ranking)?;
    Ok(Retrieved { plan: Arc::clone(plan), words: words?, ranking })
}

impl Retrieved {
    /// Finds the nearest items, and ranks all. Blocks.
    pub fn rank(self, shop: &Shop) -> Result<Ranking, SearchError> {
        let Self { plan, words, ranking } = self;
        let near = |stage, probe: &Option<Probe>| match probe {
            Some(probe) => timed(stage, || probe.search(&plan, &plan.allowed)),
            None => Ok(Vec::new()),
        };
        let near = Near { meaning: near("semantic", &ranking.meaning)?, look: near("picture", &ranking.look)? };
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
    let mut matching = match &plan.query.text {
        Some(text) if plan.mode != SearchMode::Semantic => {
            shop.lexical().search(&plan.wording(text, Some(allowed), 1))?.matched
        }
        _ => RoaringBitmap::new(),
    };
    if plan.order_by.is_none() || matching.is_empty() {
        for probe in [&ranking.meaning, &ranking.look].into_iter().flatten() {
            matching.extend(probe.search(plan, allowed)?.into_iter().map(|(doc, _)| doc));
        }
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

impl Probe {
    /// The nearest items that are similar enough, best first.
    fn search(&self, plan: &Plan, allowed: &RoaringBitmap) -> Result<Vec<(Doc, f32)>, VectorError> {
        let mut near = self.index.search(&self.vector, plan.semantic_candidates, Some(allowed))?;
        near.retain(|&(_, similarity)| similarity >= self.min_similarity);
        Ok(near)
    }

    /// The nearest items, and how similar those that others found are that are not among them; best first.
    fn similar(&self, near: &[(Doc, f32)], others: impl IntoIterator<Item = Doc>) -> Vec<(Doc, f32)> {
        let mut known: FxHashSet<Doc> = near.iter().map(|&(doc, _)| doc).collect();
        let others = others.into_iter().filter(|doc| known.insert(*doc));
        // The vector has been searched with: it is of the right width.
        let mut similar = self.index.similarities(&self.vector, others).unwrap_or_default();
        similar.extend_from_slice(near);
        similar.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        similar
    }
}

fn lexical(shop: &Shop, plan: &Plan) -> Result<LexicalHits, SearchError> {
    let Some(text) = &plan.query.text else { return Ok(LexicalHits::default()) };
    Ok(shop.lexical().search(&plan.wording(text, Some(&plan.allowed), plan.lexical_candidates))?)
}

/// A query's vector, and who made it.
struct Found {
    probe: Probe,
    by: ServedBy,
    incomplete: Option<Degraded>,
}

/// The query in the text encoder's space, unless only words or a picture are asked for.
async fn meant(semantic: Result<Semantic, EncoderError>, plan: &Plan) -> Result<Option<Found>, SearchError> {
    if plan.mode == SearchMode::Lexical {
        return Ok(None);
    }
    let (text, given) = (&plan.query.text, &plan.query.vector);
    if text.is_none() && given.is_none() {
        return Ok(None);
    }
    let (encoder, generation) = semantic?;
    let vector = match (text, given) {
        (Some(text), _) if plan.class == Class::Bulk => {
            encoder.embed_bulk(vec![text.to_string()]).await?.pop().unwrap_or_default().into()
        }
        (Some(text), _) => encoder.embed_query(text, Some(plan.deadline)).await?,
        (None, given) => given.as_deref().unwrap_or_default().into(),
    };
    Ok(Some(Found::new(&encoder, &generation, vector, plan.min_similarity)))
}

/// The picture in the image encoder's space, if there is one.
async fn seen(pictorial: Option<Result<Pictorial, EncoderError>>, plan: &Plan) -> Result<Option<Found>, SearchError> {
    let (Some(file), Some(pictorial)) = (&plan.query.picture, pictorial) else { return Ok(None) };
    let (encoder, generation) = pictorial?;
    let look = encoder.look();
    let decoding = decoded(file.clone(), move |picture| look.query(&picture));
    let decoded = timeout_at(plan.deadline.into(), decoding).await;
    let rows = decoded.map_err(|_| EncoderError::DeadlineExceeded)??;
    let vector = encoder.embed_query(rows, plan.class, Some(plan.deadline)).await?;
    // Whatever is nearest is what was asked for.
    Ok(Some(Found::new(&encoder, &generation, vector.into(), f32::NEG_INFINITY)))
}

impl Found {
    fn new<E: Embedder>(
        encoder: &Pinned<E>,
        generation: &Generation<E>,
        vector: Arc<[f32]>,
        min_similarity: f32,
    ) -> Self {
        let probe = Probe { vector, index: Arc::clone(generation.index()), min_similarity };
        Self { probe, by: encoder.served_by(), incomplete: generation.incomplete() }
    }
}

fn degraded_by(error: &EncoderError) -> Degraded {
    let reason = match error {
        EncoderError::Overloaded { .. } | EncoderError::DeadlineExceeded => DegradedReason::EncoderOverloaded,
        _ => DegradedReason::EncoderUnavailable,
    };
    Degraded { reason: reason as i32, detail: format!("found without it: {error}") }
}
