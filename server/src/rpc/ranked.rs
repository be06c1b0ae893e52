//! The candidates of a recommendation, put in order by the ranker that this server runs.

use std::time::Instant;

use rustc_hash::FxHashMap;
use tokio::runtime::Handle;
use tonic::Status;
use vitrine::v1::{
    Degraded, DegradedReason, FeatureShare, Item, RecommendRequest, RequestContext, ServedBy,
    recommend_request::Target as Asked,
};
use vitrine_models::{MOST_MET, Moment, person};

use super::App;
use crate::{
    Doc,
    batch::{Class, Row},
    behaviour::{History, weight::is_met},
    catalog::items::Table,
    error::not_found,
    model::{NotLoaded, Pinned},
    ranker::{CTR_RANKING, Ranker},
    recommend::{Chances, candidates::REASONS},
};

/// The ranker that answers a request, if it is for a user, a session or advertisements and a ranker is configured; or why none answers. The outer error is
/// the caller's: it selected a version that is not loaded.
pub fn ranker(
    app: &App,
    context: &RequestContext,
    request: &RecommendRequest,
) -> Result<Option<Result<Pinned<Ranker>, NotLoaded>>, Status> {
    let Some(rankers) = &app.rankers else { return Ok(None) };
    let selector = context.model_selector.get(CTR_RANKING).map(String::as_str);
    match (rankers.resolve(selector), selector) {
        (Err(error), Some(selector)) => Err(not_found("model version", selector, &error.to_string())),
        (resolved, _) => {
            let is_wanted = matches!(request.target, Some(Asked::ForUser(_) | Asked::ForSession(_) | Asked::Ads(_)));
            Ok(is_wanted.then_some(resolved))
        }
    }
}

/// Candidates as a ranker sees them, or why it cannot.
pub struct Judged {
    docs: Vec<Doc>,
    rows: Result<(Pinned<Ranker>, Vec<Row>), String>,
}

impl Judged {
    /// Of candidates for somebody with a history.
    pub fn new(
        ranker: Result<Pinned<Ranker>, NotLoaded>,
        candidates: Vec<Doc>,
        history: &History<'_>,
        who: &RequestContext,
        table: &Table,
        now_ms: i64,
    ) -> Self {
        let met = history.actions.iter().rev().filter(|entry| is_met(entry.kind()));
        let met: Vec<&Item> =
            met.filter_map(|entry| table.item(entry.doc)).map(|item| &**item).take(MOST_MET).collect();
        let person = person(&who.user_id, &who.visitor_id);
        let moment = Moment { person: &person, met: &met, seconds: now_ms.div_euclid(1_000) };
        let (docs, items): (Vec<Doc>, Vec<&Item>) =
            candidates.into_iter().filter_map(|doc| Some((doc, &**table.item(doc)?))).unzip();
        let rows = ranker.map_err(|error| error.to_string()).and_then(|ranker| {
            let rows = ranker.rows(items, &moment).map_err(|error| error.to_string())?;
            Ok((ranker, rows))
        });
        Self { docs, rows }
    }

    /// Asks the ranker. Blocks.
    pub fn ask(self, class: Class, deadline: Instant, degraded: &mut Vec<Degraded>) -> Option<Ranked> {
        let asked = self.rows.and_then(|(ranker, rows)| {
            if rows.is_empty() {
                return Ok(None);
            }
            let chances = Handle::current().block_on(ranker.chances(rows.clone(), class, Some(deadline)));
            let chances = chances.map_err(|error| error.to_string())?;
            let rows = self.docs.iter().copied().zip(rows.into_iter().zip(chances.iter().copied())).collect();
            let chances = Chances::new(self.docs.iter().copied().zip(chances).collect());
            Ok(Some(Ranked { chances, ranker, rows }))
        });
        asked.unwrap_or_else(|why| {
            degraded.push(unavailable("how likely items are wanted", &why));
            None
        })
    }
}

/// What a ranker said.
pub struct Ranked {
    /// Of each candidate.
    pub chances: Chances,
    ranker: Pinned<Ranker>,
    rows: FxHashMap<Doc, (Row, f32)>,
}

impl Ranked {
    /// Which version it was, as `ranker/3`.
    pub fn version(&self) -> String {
        let ServedBy { model, version, .. } = self.served_by();
        format!("{model}/{version}")
    }

    /// Which version it was.
    pub fn served_by(&self) -> ServedBy {
        self.ranker.served_by()
    }

    /// What speaks most for each of these items, of those that were candidates. Blocks.
    pub fn because(
        &self,
        docs: impl Iterator<Item = Doc>,
        deadline: Instant,
        degraded: &mut Vec<Degraded>,
    ) -> FxHashMap<Doc, Vec<FeatureShare>> {
        let (docs, rows): (Vec<Doc>, Vec<(Row, f32)>) =
            docs.filter_map(|doc| Some((doc, self.rows.get(&doc)?.clone()))).unzip();
        let asked = self.ranker.strongest(rows, REASONS, Some(deadline));
        match Handle::current().block_on(asked) {
            Ok(strongest) => {
                let share = |(feature, share): (String, f32)| FeatureShare { feature, share: share.into() };
                let shares = strongest.into_iter().map(|features| features.into_iter().map(share).collect());
                docs.into_iter().zip(shares).collect()
            }
            Err(error) => {
                degraded.push(unavailable("what speaks for items", &error.to_string()));
                FxHashMap::default()
            }
        }
    }
}

fn unavailable(what: &str, why: &str) -> Degraded {
    let reason = DegradedReason::RankerUnavailable as i32;
    Degraded { reason, detail: format!("nothing says {what}: {why}") }
}
