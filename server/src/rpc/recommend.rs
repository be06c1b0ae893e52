//! Recommend: checks the request, runs the pipeline on the catalog's state of this moment, and cuts a page.

use std::sync::Arc;

use prost::Message as _;
use roaring::RoaringBitmap;
use tonic::{Request, Response, Status};
use vitrine::v1::{
    Degraded, DegradedReason, EventType, ForSession, ItemView, Placement, Reason, ReasonCode, RecommendRequest,
    RecommendResponse, Recommendation, ServedBy, StageScore, recommend_request::Target as Asked,
};

use super::{
    App, context,
    deadline::deadline,
    next::{Next, next, sequencer},
    now_ms, present,
    search::{allowed, diversify},
};
use crate::{
    Doc,
    behaviour::Session,
    catalog::items::Table,
    check, config,
    error::{Violations, internal, not_found},
    filter::Filter,
    recommend::{
        Diversity, Interacted, Neighbours, RecommendOptions, Recommended, Recommender, Source, Target, Want,
        candidates::REASONS,
    },
    search::{self, Semantic},
    serving::Shop,
    telemetry::timed,
    token::{Page, stable_hash},
};

const DEFAULT_PAGE: usize = 10;
const MAX_EXCLUDED: usize = 1_000;
const MAX_TARGETS: usize = 100;
const MAX_SESSION: usize = 500;
/// How many items the pages of one request show altogether: their ids travel in the page token.
const MAX_SHOWN: usize = 1_000;

/// What of a request has been checked and parsed.
struct Checked {
    page_size: usize,
    filter: Filter,
    diversity: Option<search::Diversity>,
    types: Vec<EventType>,
    window_seconds: Option<u32>,
    shown: Vec<Doc>,
    /// Binds page tokens to the request.
    hash: u64,
}

/// Recommends.
pub async fn recommend(app: &App, request: Request<RecommendRequest>) -> Result<Response<RecommendResponse>, Status> {
    let deadline = deadline(request.metadata(), app.config.limits.default_timeout);
    let request = request.into_inner();
    let (context, shop) = context(app, request.context.as_ref())?;
    let checked = check_request(app, &request)?;
    let semantic = app.semantic(&shop, context)?;
    let sequencer = sequencer(app, context)?;
    if request.validate_only {
        return Ok(Response::new(RecommendResponse::default()));
    }
    let permit = app.admit_query(deadline).await?;
    let next = next(&shop, &request, sequencer, deadline).await;
    let app = app.clone();
    let answer = tokio::task::spawn_blocking(move || {
        timed("recommend", || answer(&app, &shop, &request, &checked, semantic.ok().as_ref(), next))
    });
    let answer = answer.await.map_err(internal)?;
    drop(permit);
    answer.map(Response::new)
}

fn check_request(app: &App, request: &RecommendRequest) -> Result<Checked, Status> {
    let limits = &app.config.limits;
    let mut violations = Violations::default();
    let v = &mut violations;
    if let Some(context) = &request.context {
        check::request_context(v, context);
    }
    let page_size = check::page_size(v, "page_size", request.page_size, DEFAULT_PAGE, limits.max_page_size);
    check::enumeration::<ItemView>(v, "view", request.view, "BASIC or FULL");
    let filter = check::filter(v, "filter", &request.filter, limits.max_filter_chars).unwrap_or_default();
    let diversity = request.diversity.as_ref().and_then(|diversity| diversify(v, diversity));
    if request.exclude_items.len() > MAX_EXCLUDED {
        let count = request.exclude_items.len();
        v.add("exclude_items", format!("has {count} entries; at most {MAX_EXCLUDED} are allowed"));
    }
    let (mut types, mut window_seconds) = (Vec::new(), None);
    if let Some(exclude) = &request.exclude_interacted {
        for (index, &number) in exclude.types.iter().enumerate() {
            let field = format!("exclude_interacted.types[{index}]");
            check::enumeration::<EventType>(v, &field, number, "an event type, as EVENT_TYPE_PURCHASE");
            types.extend(EventType::try_from(number));
        }
        window_seconds = window(v, "exclude_interacted.window_seconds", exclude.window_seconds);
    }
    check_target(v, request);
    violations.into_result()?;
    let bound = RecommendRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let hash = stable_hash(bound.encode_to_vec());
    let shown = app.open_page(&request.page_token, hash)?.shown;
    Ok(Checked { page_size, filter, diversity, types, window_seconds, shown, hash })
}

fn check_target(v: &mut Violations, request: &RecommendRequest) {
    match &request.target {
        None => v.add("target", "is required, as `for_user` or `similar_to_items`"),
        Some(Asked::ForUser(_)) => {
            let context = request.context.as_ref();
            if context.is_some_and(|context| context.user_id.is_empty() && context.visitor_id.is_empty()) {
                v.add("context.user_id", "is required for `for_user`, or `visitor_id` is");
            }
        }
        Some(Asked::SimilarToItems(list)) => check_ids(v, "similar_to_items.ids", &list.ids),
        Some(Asked::BoughtTogether(list)) => check_ids(v, "bought_together.ids", &list.ids),
        Some(Asked::ForSession(session)) => check_session(v, session),
        Some(Asked::Popular(popular)) => {
            window(v, "popular.window_seconds", popular.window_seconds);
            check::text(v, "popular.category", &popular.category, 1_000);
        }
    }
}

fn check_ids(v: &mut Violations, field: &str, ids: &[String]) {
    if ids.is_empty() || ids.len() > MAX_TARGETS {
        v.add(field, format!("has {} entries; 1 to {MAX_TARGETS} are allowed", ids.len()));
    }
    for (index, id) in ids.iter().enumerate().take(MAX_TARGETS) {
        check::id(v, &format!("{field}[{index}]"), id);
    }
}

fn check_session(v: &mut Violations, session: &ForSession) {
    if session.events.is_empty() || session.events.len() > MAX_SESSION {
        let count = session.events.len();
        v.add("for_session.events", format!("has {count} entries; 1 to {MAX_SESSION} are allowed"));
    }
    let now = now_ms();
    for (index, event) in session.events.iter().enumerate().take(MAX_SESSION) {
        check::event(v, &format!("for_session.events[{index}]"), event, check::EventUse::Inline, now);
    }
}

/// A number of seconds; 0 is no window.
fn window(v: &mut Violations, field: &str, seconds: i64) -> Option<u32> {
    if seconds < 0 {
        v.add(field, format!("is {seconds}; it must not be negative"));
    }
    u32::try_from(seconds).ok().filter(|&seconds| seconds > 0)
}

/// Ids of a target, parted into items that exist and others.
#[derive(Default)]
struct Known {
    docs: Vec<Doc>,
    missing: Vec<String>,
}

impl Known {
    fn of<'a>(table: &Table, ids: impl IntoIterator<Item = &'a String>) -> Result<Self, Status> {
        let mut known = Self::default();
        for id in ids {
            match table.doc(id).filter(|&doc| table.item(doc).is_some()) {
                Some(doc) => known.docs.push(doc),
                None => known.missing.push(id.clone()),
            }
        }
        match known.missing.first() {
            Some(first) if known.docs.is_empty() => {
                Err(not_found("item", first, "none of the target's items exists in this catalog"))
            }
            _ => Ok(known),
        }
    }
}

fn answer(
    app: &App,
    shop: &Shop,
    request: &RecommendRequest,
    checked: &Checked,
    semantic: Option<&Semantic>,
    next: Next,
) -> Result<RecommendResponse, Status> {
    let table = shop.catalog().items.read();
    let behaviour = shop.catalog().behaviour.read();
    let context = request.context.clone().unwrap_or_default();
    let person = behaviour.person(&context.user_id, &context.visitor_id);
    let now = now_ms();
    let (mut allowed, mut beyond) = (allowed(&table, &checked.filter), None);
    let mut rules = shop.controls().rules(placement(request), None, now, &table, table.servable());
    allowed -= &rules.hidden;
    if request.strict_filter == Some(false) && !checked.filter.is_empty() {
        beyond = Some(table.servable() - &rules.hidden);
    }
    let mut known = Known::default();
    let session;
    let mut degraded = next.degraded;
    let target = match &request.target {
        Some(Asked::SimilarToItems(list)) => {
            known = Known::of(&table, &list.ids)?;
            degraded.extend(without_vectors(semantic));
            Target::SimilarTo(&known.docs)
        }
        Some(Asked::BoughtTogether(list)) => {
            known = Known::of(&table, &list.ids)?;
            Target::BoughtTogether(&known.docs)
        }
        Some(Asked::ForSession(inline)) => {
            let seen = Seen::of(&table, inline);
            known.missing = seen.missing;
            session = Session::new(inline.events.iter().zip(seen.docs.iter().map(Vec::as_slice)), now);
            Target::ForSession(session.history(), person)
        }
        Some(Asked::Popular(popular)) => {
            if !popular.category.is_empty() {
                let within = table.columns().evaluate(&Filter::in_category(&popular.category));
                allowed &= &within;
                beyond = beyond.map(|beyond| beyond & within);
            }
            Target::Popular(u32::try_from(popular.window_seconds).ok().filter(|&seconds| seconds > 0))
        }
        Some(Asked::ForUser(_)) | None => Target::ForUser(person),
    };
    let mut exclude: RoaringBitmap = checked.shown.iter().copied().collect();
    exclude.extend(request.exclude_items.iter().filter_map(|id| table.doc(id)));
    exclude.extend(known.docs.iter().copied());
    let vectors = semantic.map(|(_, generation)| generation.index().as_ref() as &dyn Neighbours);
    // The places of the pages before are taken.
    rules.pins.iter_mut().for_each(|(place, _)| *place = place.saturating_sub(checked.shown.len()));
    let options = options(&app.config.recommend);
    let scores = next.expected.as_ref().map(|expected| expected.scores.as_slice());
    let recommender = Recommender { behaviour: &behaviour, next: scores, vectors, now_ms: now, options: &options };
    let want = Want {
        // One more than the page tells whether there is another page.
        count: checked.page_size + 1,
        allowed: &allowed,
        beyond: beyond.as_ref(),
        exclude: &exclude,
        exclude_interacted: request
            .exclude_interacted
            .as_ref()
            .map(|_| Interacted { types: &checked.types, window_seconds: checked.window_seconds }),
        diversity: checked.diversity.as_ref().map(|diversity| Diversity {
            lambda: diversity.lambda,
            candidates: diversity.candidates,
            cap: diversity.cap.as_ref().map(|cap| (cap, table.columns())),
        }),
        rules: &rules,
    };
    let mut ranking = recommender.recommend(&target, &want);
    drop(behaviour);
    let more = ranking.results.len() > checked.page_size;
    ranking.results.truncate(checked.page_size);
    if let Some(expected) = next.expected.as_ref().filter(|_| request.explain) {
        for result in ranking.results.iter_mut().filter(|result| result.reason.code == ReasonCode::Next) {
            result.reason.sources = expected.because_of(result.doc).into_iter().take(REASONS).collect();
        }
    }
    if ranking.relaxed {
        degraded.push(Degraded {
            reason: DegradedReason::FilterRelaxed as i32,
            detail: "too few items match the filter; popular ones follow that do not".into(),
        });
    }
    let used =
        |source: Source| ranking.results.iter().any(|result| result.stages.iter().any(|stage| stage.source == source));
    let encoder = semantic.filter(|_| used(Source::Similar)).map(|(encoder, _)| encoder.served_by());
    let sequencer = next.expected.as_ref().filter(|_| used(Source::Next)).map(|expected| expected.by.clone());
    let served_by: Vec<ServedBy> = encoder.into_iter().chain(sequencer).collect();
    let mut shown = checked.shown.clone();
    let before = shown.len();
    shown.extend(ranking.results.iter().map(|result| result.doc));
    let next_page_token = if more && shown.len() < MAX_SHOWN {
        app.tokens.page(&Page { request: checked.hash, shown, ..Page::default() })
    } else {
        String::new()
    };
    let results: Vec<Recommendation> = ranking
        .results
        .into_iter()
        .zip(before as i32 + 1..)
        .filter_map(|(result, rank)| describe(&table, request, &result, rank))
        .collect();
    let served: Vec<&str> = results.iter().filter_map(|result| Some(result.item.as_ref()?.id.as_str())).collect();
    let attribution_token = app.attribution(shop, &served_by, &served, now);
    Ok(RecommendResponse {
        results,
        missing_ids: known.missing,
        served_by,
        attribution_token,
        degraded,
        next_page_token,
        applied_controls: rules.applied,
    })
}

fn options(weights: &config::Recommend) -> RecommendOptions {
    let &config::Recommend { next, follows, together, similar, again, popular } = weights;
    RecommendOptions { next, follows, together, similar, again, popular, ..RecommendOptions::default() }
}

/// Where the answer is shown.
fn placement(request: &RecommendRequest) -> Placement {
    match &request.target {
        Some(Asked::SimilarToItems(_)) => Placement::SimilarToItems,
        Some(Asked::ForSession(_)) => Placement::ForSession,
        Some(Asked::BoughtTogether(_)) => Placement::BoughtTogether,
        Some(Asked::Popular(_)) => Placement::Popular,
        Some(Asked::ForUser(_)) | None => Placement::ForUser,
    }
}

/// What a session's events are about, and ids that the catalog lacks.
pub struct Seen {
    /// By event.
    pub docs: Vec<Vec<Doc>>,
    missing: Vec<String>,
}

impl Seen {
    /// Looks them up.
    pub fn of(table: &Table, session: &ForSession) -> Self {
        let mut missing = Vec::new();
        let docs = session
            .events
            .iter()
            .map(|event| {
                let found = event.items.iter().filter_map(|item| {
                    let doc = table.doc(&item.id);
                    if doc.is_none() && !missing.contains(&item.id) {
                        missing.push(item.id.clone());
                    }
                    doc
                });
                found.collect()
            })
            .collect();
        Self { docs, missing }
    }
}

fn without_vectors(semantic: Option<&Semantic>) -> Vec<Degraded> {
    match semantic {
        Some((_, generation)) => generation.incomplete().into_iter().collect(),
        None => vec![Degraded {
            reason: DegradedReason::EncoderUnavailable as i32,
            detail: "similar items are found by vectors, and no text encoder is available".into(),
        }],
    }
}

fn describe(table: &Table, request: &RecommendRequest, result: &Recommended, rank: i32) -> Option<Recommendation> {
    let item: &Arc<vitrine::v1::Item> = table.item(result.doc)?;
    let reason = request.explain.then(|| Reason {
        code: result.reason.code as i32,
        source_items: result.reason.sources.iter().filter_map(|&doc| Some(table.id(doc)?.to_string())).collect(),
        text: result.reason.text(|doc| table.item(doc).map(|item| item.title.as_str())),
    });
    let stages = result.stages.iter().map(|stage| StageScore {
        stage: stage.source.stage().to_owned(),
        score: stage.score,
        rank: stage.rank as i32,
    });
    Some(Recommendation {
        item: Some(present(item, request.view())),
        score: result.score,
        rank,
        stages: stages.collect(),
        reason,
    })
}
