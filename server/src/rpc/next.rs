//! What comes next after the history of a recommendation's user or session, by the sequence model that this server runs.

use std::time::Instant;

use tonic::Status;
use vitrine::v1::{Degraded, DegradedReason, RecommendRequest, RequestContext, recommend_request::Target as Asked};

use super::{App, now_ms, recommend_target::Seen};
use crate::{
    Doc,
    batch::Class,
    behaviour::{History, Session, weight::is_met},
    error::not_found,
    model::{NotLoaded, Pinned},
    sequence::{Expected, Places, SEQUENCE_RECOMMENDATION, Sequencer},
    serving::Shop,
};

/// Fewer items say nothing of how well a sequence model knows a shop.
const FEW: usize = 5;

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
    (class, deadline): (Class, Instant),
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
    let last = history(shop, request, &places, sequencer.max_length());
    let degraded = last.outdated().into_iter().collect();
    if last.known.is_empty() {
        return Next { expected: None, degraded };
    }
    match Expected::after(last.known, &sequencer, places, request.explain, (class, deadline)).await {
        Ok(expected) => Next { expected: Some(expected), degraded },
        Err(error) => without(error.to_string()),
    }
}

/// What somebody did last.
#[derive(Default)]
struct Last {
    /// The version's ids of the last items that it knows.
    known: Vec<u32>,
    /// How many of as many that they met last it knows, and how many these are.
    of: (usize, usize),
}

impl Last {
    fn of(history: History<'_>, places: &Places, most: usize) -> Self {
        let met = || history.actions.iter().filter(|entry| is_met(entry.kind())).map(|entry| entry.doc);
        let last: Vec<Doc> = met().rev().take(most).collect();
        let known = last.iter().filter(|doc| places.id(**doc).is_some()).count();
        Self { known: places.history(met(), most), of: (known, last.len()) }
    }

    /// Says so when a sequence model does not know most of it.
    fn outdated(&self) -> Option<Degraded> {
        let (known, all) = self.of;
        (all >= FEW && 2 * known <= all).then(|| Degraded {
            reason: DegradedReason::SequenceModelOutdated as i32,
            detail: format!("the sequence model knows {known} of the last {all} items; it has learnt from others"),
        })
    }
}

/// What the user or the session did last, as far as a sequence model knows it.
fn history(shop: &Shop, request: &RecommendRequest, places: &Places, most: usize) -> Last {
    let visits = |history| Last::of(history, places, most);
    if let Some(Asked::ForSession(inline)) = &request.target {
        let seen = Seen::of(&shop.catalog().items.read(), inline);
        let session = Session::new(inline.events.iter().zip(seen.docs.iter().map(Vec::as_slice)), now_ms());
        return visits(session.history());
    }
    let behaviour = shop.catalog().behaviour.read();
    let person = request.context.as_ref().and_then(|who| behaviour.person(&who.user_id, &who.visitor_id));
    person.map(|person| visits(behaviour.history(person))).unwrap_or_default()
}
