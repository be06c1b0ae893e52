//! What comes next after the history of a recommendation's user or session, by the sequence model that this server runs.

use std::time::Instant;

use tonic::Status;
use vitrine::v1::{Degraded, DegradedReason, RecommendRequest, RequestContext, recommend_request::Target as Asked};

use super::{App, now_ms, recommend::Seen};
use crate::{
    behaviour::{History, Session, weight::is_met},
    error::not_found,
    model::{NotLoaded, Pinned},
    sequence::{Expected, Places, SEQUENCE_RECOMMENDATION, Sequencer},
    serving::Shop,
};

/// What a sequence model expects next, and what it lacks.
#[derive(Default)]
pub struct Next {
    /// What it expects.
    pub expected: Option<Expected>,
    /// Why there is none though there should be, or less than there could be.
    pub degraded: Vec<Degraded>,
}

/// The sequence model that answers: none is configured, or why none answers. The outer error is the caller's: it selected a version that is
/// not loaded.
pub fn sequencer(app: &App, context: &RequestContext) -> Result<Option<Result<Pinned<Sequencer>, NotLoaded>>, Status> {
    let Some(sequencers) = &app.sequencers else { return Ok(None) };
    let selector = context.model_selector.get(SEQUENCE_RECOMMENDATION).map(String::as_str);
    match (sequencers.resolve(selector), selector) {
        (Err(error), Some(selector)) => Err(not_found("model version", selector, &error.to_string())),
        (resolved, _) => Ok(Some(resolved)),
    }
}

/// Has a sequence model read the history of the user or session, if that is what the request is for.
pub async fn next(
    shop: &Shop,
    request: &RecommendRequest,
    sequencer: Option<Result<Pinned<Sequencer>, NotLoaded>>,
    deadline: Instant,
) -> Next {
    let without = |why: String| {
        let reason = DegradedReason::SequenceModelUnavailable as i32;
        Next {
            expected: None,
            degraded: vec![Degraded { reason, detail: format!("nothing is said of what comes next: {why}") }],
        }
    };
    if !matches!(request.target, Some(Asked::ForUser(_) | Asked::ForSession(_))) {
        return Next::default();
    }
    let sequencer = match sequencer {
        None => return Next::default(),
        Some(Err(error)) => return without(error.to_string()),
        Some(Ok(sequencer)) => sequencer,
    };
    let places = shop.places(&sequencer);
    let degraded = outdated(shop, &places).into_iter().collect();
    let history = history(shop, request, &places, sequencer.max_length());
    if history.is_empty() {
        return Next::default();
    }
    match Expected::after(history, &sequencer, places, request.explain, deadline).await {
        Ok(expected) => Next { expected: Some(expected), degraded },
        Err(error) => without(error.to_string()),
    }
}

/// Says so when a sequence model does not know a third of the items or more.
fn outdated(shop: &Shop, places: &Places) -> Option<Degraded> {
    let table = shop.catalog().items.read();
    let (known, all) = (places.count(&table), table.len() as u64);
    (all > 0 && 3 * known <= 2 * all).then(|| Degraded {
        reason: DegradedReason::SequenceModelOutdated as i32,
        detail: format!("the sequence model knows {known} of {all} items; the others come from other sources only"),
    })
}

/// What the user or the session did last, as far as a sequence model knows it.
fn history(shop: &Shop, request: &RecommendRequest, places: &Places, most: usize) -> Vec<u32> {
    let visits = |history: History<'_>| {
        let visits = history.actions.iter().filter(|entry| is_met(entry.kind()));
        places.history(visits.map(|entry| entry.doc), most)
    };
    if let Some(Asked::ForSession(inline)) = &request.target {
        let seen = Seen::of(&shop.catalog().items.read(), inline);
        let session = Session::new(inline.events.iter().zip(seen.docs.iter().map(Vec::as_slice)), now_ms());
        return visits(session.history());
    }
    let behaviour = shop.catalog().behaviour.read();
    let person = request.context.as_ref().and_then(|who| behaviour.person(&who.user_id, &who.visitor_id));
    person.map(|person| visits(behaviour.history(person))).unwrap_or_default()
}
