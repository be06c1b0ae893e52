//! Recommend: checks the request, runs the pipeline on the catalog's state of this moment, and cuts a page.

use std::{sync::Arc, time::Instant};

use prost::Message as _;
use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use tonic::{Request, Response, Status};
use vitrine::v1::{
    Degraded, DegradedReason, EventType, ExposedItem, ItemView, Likeness, Placement, ReasonCode, RecommendRequest,
    RecommendResponse, Recommendation, Served, ServedBy, recommend_request::Target as Asked,
};

use super::{
    App,
    advertised::Advertised,
    alike::{Alike, alike},
    arms::{Arms, Call, SHADOW_TIME, Shown},
    context,
    deadline::deadline,
    next::{Next, next, sequencer},
    now_ms,
    ranked::{Judged, ranker},
    recommend_fields::{check_target, exploration, window},
    recommend_target::{Known, Seen},
    recommended::{Told, describe},
    search,
    search_fields::diversify,
};
use crate::{
    Doc,
    ads::{Market, market::Audience},
    batch::Class,
    behaviour::Session,
    catalog::items::Table,
    check, config,
    control::{self, Rules},
    error::{Violations, internal},
    filter::Filter,
    model::{NotLoaded, Pinned},
    ranker::Ranker,
    recommend::{
        Diversity, Exploration, Interacted, Neighbours, Ranking, RecommendOptions, Recommender, Source, Target, Want,
        candidates::REASONS,
    },
    serving::Shop,
    telemetry::timed,
    token::{Page, ServedItem, short_hash, stable_hash},
};

const DEFAULT_PAGE: usize = 10;
const MAX_EXCLUDED: usize = 1_000;
/// How many items the pages of one request show altogether: their ids travel in the page token.
const MAX_SHOWN: usize = 1_000;

/// What of a request has been checked and parsed.
struct Checked {
    page_size: usize,
    filter: Filter,
    diversity: Option<crate::search::Diversity>,
    exploration: Option<Exploration>,
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
    let arms = app.arms(&shop, context, placement(&request))?;
    let bound = RecommendRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let call = Call { hash: stable_hash(bound.encode_to_vec()), answer: rand::random(), deadline };
    let answered = answered(app, &shop, &request, &arms, call).await?;
    for shadow in arms.shadows().into_iter().filter(|_| !request.validate_only) {
        let (app, shop, request) = (app.clone(), Arc::clone(&shop), request.clone());
        tokio::spawn(async move {
            let call = Call { deadline: Instant::now() + SHADOW_TIME, ..call };
            let answering = self::answered(&app, &shop, &request, &shadow, call);
            shadow.cast(&app, &shop, call.answer, request.context.as_ref(), answering).await;
        });
    }
    Ok(Response::new(answered))
}

/// Answers as the arms of experiments say, and logs that it did.
async fn answered(
    app: &App,
    shop: &Arc<Shop>,
    request: &RecommendRequest,
    arms: &Arms,
    call: Call,
) -> Result<RecommendResponse, Status> {
    let (mut request, mut arms) = (request.clone(), arms.clone());
    arms.recommend(&mut request);
    let mut context = request.context.take().unwrap_or_default();
    let fallbacks = app.choose_versions(&mut arms, &mut context);
    request.context = Some(context.clone());
    let checked = check_request(app, &request, call.hash)?;
    let alike = alike(app, shop, &context, &request)?;
    let sequencer = sequencer(app, &context)?.filter(|_| arms.may_propose(Source::Next.stage()));
    let ranker = ranker(app, &context, &request)?.filter(|_| arms.may_rank());
    if request.validate_only {
        return Ok(RecommendResponse::default());
    }
    let waiting = (arms.class(), call.deadline);
    let permit = match arms.class() {
        Class::Interactive => Some(app.admit_query(call.deadline).await?),
        Class::Bulk => None,
    };
    let mut next = next(shop, &request, sequencer, waiting).await;
    next.degraded.extend(fallbacks);
    let asking = Asking { alike, next, ranker, call, arms };
    let (app, shop) = (app.clone(), Arc::clone(shop));
    let answer =
        tokio::task::spawn_blocking(move || timed("recommend", || answer(&app, &shop, &request, &checked, asking)));
    let answer = answer.await.map_err(internal)?;
    drop(permit);
    answer
}

fn check_request(app: &App, request: &RecommendRequest, hash: u64) -> Result<Checked, Status> {
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
    let exploration = request.exploration.as_ref().and_then(|wanted| exploration(v, wanted));
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
    check::enumeration::<Likeness>(v, "likeness", request.likeness, "MEANING or PICTURE");
    if request.likeness != 0 && !matches!(request.target, Some(Asked::SimilarToItems(_))) {
        v.add("likeness", "is only for a request with `similar_to_items`");
    }
    violations.into_result()?;
    let shown = app.open_page(&request.page_token, hash)?.shown;
    Ok(Checked { page_size, filter, diversity, exploration, types, window_seconds, shown, hash })
}

impl Checked {
    fn want<'a>(
        &'a self,
        request: &RecommendRequest,
        allowed: &'a RoaringBitmap,
        beyond: Option<&'a RoaringBitmap>,
        exclude: &'a RoaringBitmap,
        rules: &'a Rules,
        table: &'a Table,
    ) -> Want<'a> {
        Want {
            // One more than the page tells whether there is another page.
            count: self.page_size + 1,
            allowed,
            beyond,
            exclude,
            exclude_interacted: request
                .exclude_interacted
                .as_ref()
                .map(|_| Interacted { types: &self.types, window_seconds: self.window_seconds }),
            diversity: self.diversity.as_ref().map(|diversity| Diversity {
                lambda: diversity.lambda,
                candidates: diversity.candidates,
                cap: diversity.cap.as_ref().map(|cap| (cap, table.columns())),
            }),
            exploration: self.exploration,
            rules,
        }
    }
}

/// What was resolved and asked for before an answer is made.
struct Asking {
    alike: Alike,
    next: Next,
    /// Where a ranker is to put candidates in order.
    ranker: Option<Result<Pinned<Ranker>, NotLoaded>>,
    call: Call,
    arms: Arms,
}

/// Recommends from the state of this moment. Blocks: while a ranker is asked nothing of the catalog is held.
fn answer(
    app: &App,
    shop: &Shop,
    request: &RecommendRequest,
    checked: &Checked,
    asking: Asking,
) -> Result<RecommendResponse, Status> {
    let Asking { alike, next, ranker, call, arms } = asking;
    let deadline = call.deadline;
    let now = now_ms();
    let mut degraded = next.degraded;
    let mut rules;
    let (mut allowed, mut beyond, mut exclude): (RoaringBitmap, _, RoaringBitmap);
    let mut known = Known::default();
    let (mut market, offers);
    let options = options(&app.config.recommend, &arms);
    let vectors = alike.vectors.as_ref().map(|(index, _)| index.as_ref() as &dyn Neighbours);
    let scores = next.expected.as_ref().map(|expected| expected.scores.as_slice());
    let (proposed, judged) = {
        let table = shop.catalog().items.read();
        let behaviour = shop.catalog().behaviour.read();
        let context = request.context.clone().unwrap_or_default();
        let person = behaviour.person(&context.user_id, &context.visitor_id);
        (allowed, beyond) = (search::allowed(&table, &checked.filter), None);
        let asking = control::Asking {
            placement: placement(request),
            now_ms: now,
            without: arms.without_controls(),
            ..control::Asking::default()
        };
        rules = shop.controls().rules(&asking, &table, table.servable());
        allowed -= &rules.hidden;
        if request.strict_filter == Some(false) && !checked.filter.is_empty() {
            beyond = Some(table.servable() - &rules.hidden);
        }
        let session;
        market = None;
        let target = match &request.target {
            Some(Asked::SimilarToItems(list)) => {
                known = Known::of(&table, &list.ids)?;
                degraded.extend(alike.degraded);
                Target::SimilarTo(&known.docs, alike.source)
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
            Some(Asked::Ads(ads)) => {
                let shown = person.map(|person| behaviour.history(person).shown).unwrap_or_default();
                let audience = Audience { ads, shown, now_ms: now };
                let open = Market::open(&shop.controls(), behaviour.ads(), &table, &allowed, &audience);
                offers = open.candidates();
                market = Some(open);
                Target::Ads(&offers, person)
            }
            Some(Asked::ForUser(_)) | None => Target::ForUser(person),
        };
        exclude = checked.shown.iter().copied().collect();
        exclude.extend(request.exclude_items.iter().filter_map(|id| table.doc(id)));
        exclude.extend(known.docs.iter().copied());
        // The places of the pages before are taken.
        rules.pins.iter_mut().for_each(|(place, _)| *place = place.saturating_sub(checked.shown.len()));
        let want = checked.want(request, &allowed, beyond.as_ref(), &exclude, &rules, &table);
        let recommender = Recommender { behaviour: &behaviour, next: scores, vectors, now_ms: now, options: &options };
        let proposed = recommender.propose(&target, &want);
        let judged = ranker.map(|ranker| {
            let history = match target {
                Target::ForSession(history, _) => history,
                _ => person.map(|person| behaviour.history(person)).unwrap_or_default(),
            };
            let best = proposed.best(app.config.recommend.ranked, &want);
            Judged::new(ranker, best, &history, &context, &table, now)
        });
        (proposed, judged)
    };
    let ranked = judged.and_then(|judged| judged.ask(arms.class(), deadline, &mut degraded));

    let table = shop.catalog().items.read();
    let want = checked.want(request, &allowed, beyond.as_ref(), &exclude, &rules, &table);
    let behaviour = shop.catalog().behaviour.read();
    let recommender = Recommender { behaviour: &behaviour, next: scores, vectors, now_ms: now, options: &options };
    let (mut ranking, mut ads) = match &market {
        None => {
            (recommender.ranking(&proposed, &want, ranked.as_ref().map(|ranked| &ranked.chances)), FxHashMap::default())
        }
        Some(market) => {
            let best = proposed.best(app.config.recommend.ranked, &want);
            let Advertised { results, ads } =
                Advertised::of(market, &best, ranked.as_ref(), behaviour.ads(), checked.page_size);
            (Ranking { results, relaxed: false }, ads)
        }
    };
    drop(behaviour);
    // What became unavailable since the candidates were found is not served.
    ranking.results.retain(|result| table.servable().contains(result.doc));
    let more = ranking.results.len() > checked.page_size;
    ranking.results.truncate(checked.page_size);
    drop(table);
    let explained = ranked.as_ref().filter(|_| request.explain);
    let docs = ranking.results.iter().map(|result| result.doc);
    let mut features = explained.map(|ranked| ranked.because(docs, deadline, &mut degraded)).unwrap_or_default();
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
    let encoder = alike.vectors.as_ref().filter(|_| used(alike.source)).map(|(_, by)| by.clone());
    let sequencer = next.expected.as_ref().filter(|_| used(Source::Next)).map(|expected| expected.by.clone());
    let ranker = ranked.filter(|_| used(Source::Ranked)).map(|ranked| ranked.served_by());
    let served_by: Vec<ServedBy> = encoder.into_iter().chain(sequencer).chain(ranker).collect();
    let mut shown = checked.shown.clone();
    let before = shown.len();
    shown.extend(ranking.results.iter().map(|result| result.doc));
    let next_page_token = if more && shown.len() < MAX_SHOWN {
        app.tokens.page(&Page { request: checked.hash, shown, ..Page::default() })
    } else {
        String::new()
    };
    let table = shop.catalog().items.read();
    let mut items = Vec::new();
    let results: Vec<Recommendation> = ranking
        .results
        .into_iter()
        .zip(before as i32 + 1..)
        .filter_map(|(result, rank)| {
            let (ad, served) = ads.remove(&result.doc).unzip();
            if served.is_some() || result.propensity.is_some() {
                let served = Served { answer: 0, propensity: result.propensity, ad: served };
                items.push(ServedItem { item: short_hash(table.id(result.doc)?), served: Some(served) });
            }
            let features = features.remove(&result.doc).unwrap_or_default();
            describe(&table, request, &result, rank, Told { features, ad })
        })
        .collect();
    let served: Vec<&str> = results.iter().filter_map(|result| Some(result.item.as_ref()?.id.as_str())).collect();
    if arms.are_logged() {
        let shown = results.iter().map(|result| ExposedItem {
            id: result.item.as_ref().map(|item| item.id.clone()).unwrap_or_default(),
            propensity: result.propensity,
            arm: String::new(),
        });
        let (items, first_position) = (shown.collect(), before + 1);
        let shown = Shown { answer: call.answer, served_by: &served_by, items, first_position };
        arms.log(shop, shown, request.context.as_ref());
    }
    let attribution_token = app.attribution(call.answer, shop, &served_by, &served, items, now);
    Ok(RecommendResponse {
        results,
        missing_ids: known.missing,
        served_by,
        attribution_token,
        degraded,
        next_page_token,
        applied_controls: rules.applied,
        experiments: arms.told(),
    })
}

fn options(weights: &config::Recommend, arms: &Arms) -> RecommendOptions {
    let weight = |source: Source, weight: f32| if arms.may_propose(source.stage()) { weight } else { 0.0 };
    let next = weight(Source::Next, weights.next);
    let follows = weight(Source::Follows, weights.follows);
    let together = weight(Source::Together, weights.together);
    let similar = weight(Source::Similar, weights.similar);
    let again = weight(Source::Again, weights.again);
    let popular = weight(Source::Popular, weights.popular);
    RecommendOptions { next, follows, together, similar, again, popular, ..RecommendOptions::default() }
}

/// Where the answer is shown.
fn placement(request: &RecommendRequest) -> Placement {
    match &request.target {
        Some(Asked::SimilarToItems(_)) => Placement::SimilarToItems,
        Some(Asked::ForSession(_)) => Placement::ForSession,
        Some(Asked::BoughtTogether(_)) => Placement::BoughtTogether,
        Some(Asked::Popular(_)) => Placement::Popular,
        Some(Asked::Ads(_)) => Placement::Ads,
        Some(Asked::ForUser(_)) | None => Placement::ForUser,
    }
}
