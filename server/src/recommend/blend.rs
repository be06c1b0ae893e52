//! One list from the candidates of several sources: scaled, weighted, added up, explained.

use roaring::RoaringBitmap;

use super::candidates::{Candidate, Candidates, Source, top};
use super::tally::Tally;
use super::{Chances, Diversity, Neighbours, Reason, Recommended, Stage, Want};
use crate::Doc;
use crate::search::mmr;

/// Candidates by source.
#[derive(Clone, Debug, Default)]
pub struct Blend {
    parts: Vec<Part>,
    seen: Option<(RoaringBitmap, f32)>,
}

#[derive(Clone, Debug)]
struct Part {
    source: Source,
    /// What its scores are multiplied by.
    scale: f32,
    candidates: Candidates,
}

impl Blend {
    /// For somebody who has `seen` items: such a candidate counts `factor` as much, unless it is one to buy again.
    pub fn for_whom(seen: RoaringBitmap, factor: f32) -> Self {
        Self { parts: Vec::new(), seen: Some((seen, factor)) }
    }

    /// Adds a source; its best candidate adds `weight`.
    #[must_use]
    pub fn with(mut self, source: Source, weight: f32, candidates: Candidates) -> Self {
        let best = candidates.best();
        if best > 0.0 && weight > 0.0 {
            self.parts.push(Part { source, scale: weight / best, candidates });
        }
        self
    }

    /// The best so many that are eligible, as their sources order them.
    pub fn best(&self, count: usize, eligible: &impl Fn(Doc) -> bool) -> Vec<Doc> {
        top(self.totals(eligible), count).into_iter().map(|(doc, _)| doc).collect()
    }

    /// What the sources add up to, of those that are eligible.
    fn totals(&self, eligible: &impl Fn(Doc) -> bool) -> Vec<(Doc, f32)> {
        let mut totals: Tally<f32> = Tally::default();
        for part in &self.parts {
            for (doc, candidate) in part.candidates.iter() {
                *totals.entry(doc) += self.share(part, doc, candidate);
            }
        }
        let totals = totals.iter().filter(|&(doc, total)| *total > 0.0 && eligible(doc));
        totals.map(|(doc, total)| (doc, *total)).collect()
    }

    /// The best that are wanted and eligible: those that a ranker has judged by its chances, and behind them the others.
    pub fn rank(
        &self,
        want: &Want<'_>,
        vectors: Option<&dyn Neighbours>,
        chances: Option<&Chances>,
        eligible: &impl Fn(Doc) -> bool,
    ) -> Vec<Recommended> {
        let mut totals = self.totals(eligible);
        if let Some(chances) = chances {
            let best = totals.iter().fold(f32::MIN_POSITIVE, |best, (_, total)| best.max(*total));
            for (doc, total) in &mut totals {
                *total = chances.of(*doc).map_or(*total / best * chances.least(), |(chance, _)| chance);
            }
        }
        let boosted = totals.into_iter().map(|(doc, total)| (doc, want.rules.boosted(doc, total)));
        let (buried, totals): (Vec<_>, Vec<_>) = boosted.partition(|(doc, _)| want.rules.buries(*doc));
        let mut best = top(totals, want.considered());
        if let Some(Diversity { lambda, cap, .. }) = want.diversity {
            if let Some(vectors) = vectors {
                best = mmr::diversify(
                    &best,
                    |doc| vectors.vector(doc),
                    lambda,
                    if cap.is_some() { best.len() } else { want.count },
                );
            }
            if let Some((cap, columns)) = cap {
                cap.spread(columns, &mut best);
            }
        }
        best.truncate(want.count);
        best.extend(top(buried, want.count - best.len()));
        let scores: Vec<Vec<f32>> = self.parts.iter().map(Part::scores).collect();
        best.into_iter().map(|(doc, score)| self.explain(doc, score, &scores, chances)).collect()
    }

    /// What a source adds to a candidate's score.
    fn share(&self, part: &Part, doc: Doc, candidate: &Candidate) -> f32 {
        let known = || self.seen.as_ref().filter(|(seen, _)| part.source != Source::Again && seen.contains(doc));
        part.scale * candidate.score * known().map_or(1.0, |(_, factor)| *factor)
    }

    fn explain(&self, doc: Doc, score: f32, scores: &[Vec<f32>], chances: Option<&Chances>) -> Recommended {
        let mut stages = Vec::with_capacity(self.parts.len());
        let mut reason = Reason { code: Source::Popular.code(), sources: Vec::new() };
        let mut most = 0.0;
        for (part, scores) in self.parts.iter().zip(scores) {
            let Some(candidate) = part.candidates.get(doc).filter(|candidate| candidate.score > 0.0) else { continue };
            let better = scores.iter().filter(|other| **other > candidate.score).count();
            let rank = 1 + better as u32;
            stages.push(Stage { source: part.source, score: f64::from(candidate.score), rank });
            let share = self.share(part, doc, candidate);
            if share > most {
                most = share;
                reason = Reason { code: part.source.code(), sources: candidate.sources().collect() };
            }
        }
        let ranked = chances.and_then(|chances| chances.of(doc));
        stages.extend(ranked.map(|(chance, rank)| Stage { source: Source::Ranked, score: chance.into(), rank }));
        Recommended { doc, score: f64::from(score), stages, reason, propensity: None }
    }
}

impl Part {
    fn scores(&self) -> Vec<f32> {
        self.candidates.iter().map(|(_, candidate)| candidate.score).collect()
    }
}
