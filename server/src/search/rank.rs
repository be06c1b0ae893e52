//! From what the retrievers found to the order in which it is shown: fused, boosted, personalised and diversified, or
//! ordered; grouped; buried and pinned.

use roaring::RoaringBitmap;
use rustc_hash::{FxHashMap, FxHashSet};
use vitrine::v1::StageScore;

use super::{
    Diversity, Hit, Plan, Probe, Ranking,
    fusion::{RankedList, Scale, fuse},
    group::Groups,
    mmr,
};
use crate::{Doc, control::pin, lexical::LexicalHits, serving::Shop};

/// Documents with their scores, in an order.
type Order = Vec<(Doc, f32)>;

/// The order after each of the stages that were run, by the stage's name.
#[derive(Debug, Default)]
pub struct Stages(Vec<(&'static str, Order)>);

impl Stages {
    /// What they thought of some items. Only those of a page are told: that is much less than all that was ranked.
    pub fn told(&self, docs: impl IntoIterator<Item = Doc>) -> FxHashMap<Doc, Vec<StageScore>> {
        let mut told: FxHashMap<Doc, Vec<StageScore>> = docs.into_iter().map(|doc| (doc, Vec::new())).collect();
        for (name, order) in &self.0 {
            for (rank, (doc, score)) in (1..).zip(order) {
                let told = told.get_mut(doc).filter(|told| told.iter().all(|score| score.stage != *name));
                if let Some(scores) = told {
                    scores.push(StageScore { stage: (*name).to_owned(), score: f64::from(*score), rank });
                }
            }
        }
        told
    }

    /// What another ranking's stages thought comes after that.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn note(&mut self, name: &'static str, order: &[(Doc, f32)]) {
        self.0.push((name, order.to_vec()));
    }
}

/// What is nearest to the query, best first.
pub(super) struct Near {
    /// In meaning.
    pub meaning: Order,
    /// In looks.
    pub look: Order,
}

/// Completes `ranking`.
pub(super) fn rank(shop: &Shop, plan: &Plan, words: Option<LexicalHits>, near: &Near, mut ranking: Ranking) -> Ranking {
    let searched = words.is_some();
    let words = words.unwrap_or_default();
    ranking.marks = searched.then_some(words.marks);
    // What one of them found, the others are asked for.
    let completed = |probe: &Option<Probe>, near: &Order, others: &Order| {
        let others = words.hits.iter().chain(others).map(|&(doc, _)| doc);
        probe.as_ref().map(|probe| probe.similar(near, others)).unwrap_or_default()
    };
    let similar = completed(&ranking.meaning, &near.meaning, &near.look);
    let alike = completed(&ranking.look, &near.look, &near.meaning);
    let list = |name, weight, scale, lacking, hits| RankedList { name, weight, scale, lacking, hits };
    let lists = [
        list("lexical", plan.lexical_weight, Scale::Share(words.title_match), 0.0, &words.hits),
        // A match by words whose vector is not made yet is taken to be as similar as the others are.
        list("semantic", plan.semantic_weight, Scale::Cosine, mean_of(&similar, &words.hits), &similar),
        list("picture", plan.picture_weight, Scale::Cosine, 0.0, &alike),
    ];
    let present: Vec<RankedList<'_>> = lists.into_iter().filter(|list| !list.hits.is_empty()).collect();
    let mut stages = Stages(present.iter().map(|list| (list.name, list.hits.to_vec())).collect());
    // One list alone keeps its own scores: there is nothing to fuse.
    let mut order: Order = match present.as_slice() {
        [only] => only.hits.to_vec(),
        _ => fuse(&present, plan.fusion).into_iter().map(|fused| (fused.doc, fused.score)).collect(),
    };
    if present.len() > 1 {
        stages.note("fused", &order);
    }

    ranking.matching = words.matched;
    // Ordered by a key, near misses by meaning would stand among the matches: they only step in when no word matches.
    if plan.order_by.is_none() || ranking.matching.is_empty() {
        ranking.matching.extend(near.meaning.iter().chain(&near.look).map(|&(doc, _)| doc));
    }
    let pins = plan.pins();
    ranking.matching.extend(pins.iter().map(|&(_, doc)| doc));
    ranking.corrected = words.corrected;

    if plan.order_by.is_some() {
        order = ordered(shop, plan, &ranking.matching, &order);
    } else {
        adjust(shop, plan, &ranking, &mut order, &mut stages);
    }
    lead(&mut order, pins);
    let mut groups = plan.group_by.as_ref().map(|(key, size)| {
        let table = shop.catalog().items.read();
        Groups::new(table.columns(), key, *size, &ranking.matching)
    });
    ranking.total = groups.as_ref().map_or(ranking.matching.len(), Groups::count);
    if let Some(groups) = &mut groups {
        groups.collapse(&mut order);
    }
    place(&mut order, pins, &mut stages);

    ranking.hits =
        order.into_iter().map(|(doc, score)| Hit { doc, score: f64::from(score), ..Hit::default() }).collect();
    ranking.stages = stages;
    if let Some(groups) = &mut groups {
        for hit in &mut ranking.hits {
            (hit.variants, hit.group_total) = groups.take(hit.doc);
        }
    }
    ranking
}

/// The matching items in the order of a key, the best of them by relevance or not.
fn ordered(shop: &Shop, plan: &Plan, matching: &RoaringBitmap, order: &[(Doc, f32)]) -> Order {
    let mut docs: Vec<Doc> = matching.iter().collect();
    if let Some(order_by) = &plan.order_by {
        shop.catalog().items.read().columns().sort(order_by, &mut docs);
    }
    docs.truncate(plan.lexical_candidates);
    let scores: FxHashMap<Doc, f32> = order.iter().copied().collect();
    docs.into_iter().map(|doc| (doc, scores.get(&doc).copied().unwrap_or_default())).collect()
}

/// Boosts, personalises, diversifies, caps, buries.
fn adjust(shop: &Shop, plan: &Plan, ranking: &Ranking, order: &mut Order, stages: &mut Stages) {
    let vectors = ranking.meaning.as_ref().or(ranking.look.as_ref()).map(|probe| &*probe.index);
    if plan.rules.boosts_any() {
        for (doc, score) in order.iter_mut() {
            *score = plan.rules.boosted(*doc, *score);
        }
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        stages.note("boosted", order);
    }
    if let Some(personal) = &plan.personal {
        let rest = order.split_off(personal.candidates.min(order.len()));
        *order = personal.reorder(order, vectors);
        stages.note("personalized", order);
        order.extend(rest);
    }
    if let Some(Diversity { lambda, candidates, cap }) = &plan.diversity {
        let rest = order.split_off((*candidates).min(order.len()));
        if let Some(vectors) = vectors.filter(|_| *lambda < 1.0) {
            *order = mmr::diversify(order, |doc| vectors.vector(doc), *lambda, order.len());
            stages.note("diversified", order);
        }
        if let Some(cap) = cap {
            cap.spread(shop.catalog().items.read().columns(), order);
        }
        order.extend(rest);
    }
    plan.rules.bury(order);
}

/// Puts pinned items first, so that each stands for its group.
fn lead(order: &mut Order, pins: &[(usize, Doc)]) {
    if pins.is_empty() {
        return;
    }
    let own: FxHashMap<Doc, f32> = order.extract_if(.., |(doc, _)| pins.iter().any(|pin| pin.1 == *doc)).collect();
    order.splice(0..0, pins.iter().map(|&(_, doc)| (doc, own.get(&doc).copied().unwrap_or_default())));
}

/// Moves pinned items, which come first, to their places.
fn place(order: &mut Order, pins: &[(usize, Doc)], stages: &mut Stages) {
    let place_of = |doc: Doc| pins.iter().find(|(_, pinned)| *pinned == doc).map(|&(place, _)| place);
    let count = order.iter().take_while(|(doc, _)| place_of(*doc).is_some()).count();
    let pinned: Order = order.drain(..count).collect();
    pin(order, pinned.iter().map(|&one| (place_of(one.0).unwrap_or_default(), one)));
    if !pinned.is_empty() {
        stages.note("pinned", &pinned);
    }
}

/// The mean score in `list` of those documents of `among` that it has; 0 if there are none.
fn mean_of(list: &[(Doc, f32)], among: &[(Doc, f32)]) -> f32 {
    let among: FxHashSet<Doc> = among.iter().map(|&(doc, _)| doc).collect();
    let known = || list.iter().filter(|(doc, _)| among.contains(doc));
    known().map(|(_, score)| score).sum::<f32>() / known().count().max(1) as f32
}
