//! Search: checks the request, runs the pipeline, and cuts its ranking into a page with facets and highlights.

use std::{sync::Arc, time::Instant};

use prost::Message as _;
use roaring::RoaringBitmap;
use tonic::{Request, Response, Status};
use vitrine::v1::{
    Degraded, ExposedItem, Facet, FacetRequest, ItemView, Placement, SearchMode, SearchRequest, SearchResponse,
    SearchResult, Spelling, TotalSizeRelation, Variant,
};

use super::{
    App,
    arms::{Arms, Call, SHADOW_TIME, Shown},
    context,
    deadline::deadline,
    now_ms,
    pictures::unusable,
    present,
    search_fields::{check_facets, diversify, fusion_method, group_by, personal, picture_field, query, with_picture},
    search_status,
};
use crate::{
    Doc,
    catalog::items::Table,
    check,
    control::{self, parse_boosts},
    error::{Violations, internal, invalid},
    experiment::interleave::{Teams, interleaved},
    filter::{Filter, OrderBy},
    lexical::LexicalQuery,
    search::{self, Plan, Ranking, Resolved, Retrieved, SearchError},
    serving::Shop,
    token::{Page, stable_hash},
};

const DEFAULT_PAGE: usize = 10;
const MAX_BOOSTS: usize = 20;

/// What of a request the pipeline does not need.
struct Checked {
    plan: Arc<Plan>,
    filter: Filter,
    page_size: usize,
    offset: usize,
    /// Binds page tokens to the request.
    hash: u64,
}

/// Searches.
pub async fn search(app: &App, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
    let deadline = deadline(request.metadata(), app.config.limits.default_timeout);
    let request = request.into_inner();
    let (context, shop) = context(app, request.context.as_ref())?;
    let arms = app.arms(&shop, context, Placement::Search)?;
    // An order by a key is no ranking's.
    let arms = if request.order_by.is_empty() { arms } else { arms.without_interleaving() };
    let bound = SearchRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let call = Call { hash: stable_hash(bound.encode_to_vec()), answer: rand::random(), deadline };
    let permit = app.admit_query(deadline).await?;
    let answer = answer(app, &shop, &request, &arms, &call).await?;
    drop(permit);
    for shadow in arms.shadows() {
        let (app, shop, request) = (app.clone(), Arc::clone(&shop), request.clone());
        tokio::spawn(async move {
            let call = Call { deadline: Instant::now() + SHADOW_TIME, ..call };
            let answering = Box::pin(self::answer(&app, &shop, &request, &shadow, &call));
            shadow.cast(&app, &shop, call.answer, request.context.as_ref(), answering).await;
        });
    }
    Ok(Response::new(answer))
}

/// Answers as the arms of experiments say, and logs that it did.
async fn answer(
    app: &App,
    shop: &Arc<Shop>,
    request: &SearchRequest,
    arms: &Arms,
    call: &Call,
) -> Result<SearchResponse, Status> {
    let (found, other) = if arms.interleaved().is_some() {
        let [one, two] = [0, 1].map(|arm| Box::pin(found(app, shop, request, arms.alone(arm), call)));
        let (one, two) = tokio::try_join!(one, two)?;
        (one, Some(two))
    } else {
        (found(app, shop, request, arms.clone(), call).await?, None)
    };
    let (app, shop, arms, answer) = (app.clone(), Arc::clone(shop), arms.clone(), call.answer);
    // All the rest in one go: each hand-over to another thread is a wait where processors are busy.
    let answer = tokio::task::spawn_blocking(move || {
        let Found { arms: as_found, request, checked, retrieved, degraded } = found;
        let mut ranking = retrieved.rank(&shop).map_err(search_status)?;
        ranking.degraded.extend(degraded);
        let (mut arms, mut teams) = (if other.is_some() { arms } else { as_found }, Teams::default());
        if let Some(other) = other {
            let mut second = other.retrieved.rank(&shop).map_err(search_status)?;
            second.degraded.extend(other.degraded);
            let seed = stable_hash((arms.draft_seed(), checked.hash));
            (ranking, teams) = interleaved(ranking, second, &checked.plan.rules.pins, seed);
            arms.note_fallbacks(&ranking.degraded);
        }
        let facets = request.facets.iter().map(|facet| count(&shop, &checked, &ranking, facet));
        let facets = facets.collect::<Result<_, _>>()?;
        Ok(assemble(&app, &shop, &request, &checked, ranking, facets, Logged { arms, teams, answer }))
    });
    answer.await.map_err(internal)?
}

/// What one arm finds.
struct Found {
    arms: Arms,
    /// As the arm makes it.
    request: SearchRequest,
    checked: Checked,
    retrieved: Retrieved,
    degraded: Vec<Degraded>,
}

async fn found(
    app: &App,
    shop: &Arc<Shop>,
    request: &SearchRequest,
    mut arms: Arms,
    call: &Call,
) -> Result<Found, Status> {
    let mut request = request.clone();
    arms.search(&mut request);
    let mut context = request.context.take().unwrap_or_default();
    let degraded = app.choose_versions(&mut arms, &mut context);
    request.context = Some(context.clone());
    let checked = check_request(app, shop, &request, &arms, call)?;
    let pictorial = checked.plan.query.picture.as_ref().map(|_| app.pictorial(shop, &context)).transpose()?;
    let resolved = Resolved { semantic: app.semantic(shop, &context)?, pictorial };
    let retrieved = search::retrieve(shop, resolved, &checked.plan).await.map_err(|error| match error {
        SearchError::Picture(error) => unusable(picture_field(&request), &error),
        error => search_status(error),
    })?;
    Ok(Found { arms, request, checked, retrieved, degraded })
}

fn check_request(app: &App, shop: &Shop, request: &SearchRequest, arms: &Arms, call: &Call) -> Result<Checked, Status> {
    let (limits, defaults) = (&app.config.limits, &app.config.search);
    let mut violations = Violations::default();
    let v = &mut violations;
    if let Some(context) = &request.context {
        check::request_context(v, context);
    }
    let page_size = check::page_size(v, "page_size", request.page_size, DEFAULT_PAGE, limits.max_page_size);
    check::enumeration::<SearchMode>(v, "mode", request.mode, "HYBRID, LEXICAL or SEMANTIC");
    check::enumeration::<Spelling>(v, "spelling", request.spelling, "AUTO or OFF");
    check::enumeration::<ItemView>(v, "view", request.view, "BASIC or FULL");
    let mode = match request.mode() {
        SearchMode::Unspecified => SearchMode::Hybrid,
        mode => mode,
    };
    let query = query(v, request, mode, limits.max_query_chars);
    let mut parse =
        |field: &str, text: &str| check::filter(v, field, text, limits.max_filter_chars).unwrap_or_default();
    let filter = parse("filter", &request.filter);
    let canonical = parse("canonical_filter", &request.canonical_filter);
    let order_by = if request.order_by.is_empty() {
        None
    } else {
        OrderBy::parse(&request.order_by).map_err(|error| v.add("order_by", error.to_string())).ok()
    };
    let (fusion, weights) = fusion_method(v, request, defaults);
    let [lexical_weight, semantic_weight, picture_weight] = with_picture(v, request, weights);
    let diversity = request.diversity.as_ref().and_then(|diversity| diversify(v, diversity));
    let personal = request.personalize.as_ref().and_then(|personalize| personal(v, personalize, request, shop));
    check_facets(v, &request.facets);
    let group_by = group_by(v, request);
    if request.boosts.len() > MAX_BOOSTS {
        v.add("boosts", format!("has {} entries; at most {MAX_BOOSTS} are allowed", request.boosts.len()));
    }
    let boosts = parse_boosts(v, "boosts", &request.boosts);
    violations.into_result()?;

    let &Call { hash, deadline, .. } = call;
    let offset = app.open_page(&request.page_token, hash)?.offset as usize;
    let filter = canonical.and(filter);
    let table = shop.catalog().items.read();
    let mut allowed = allowed(&table, &filter);
    let text = query.text.as_deref();
    let without = arms.without_controls();
    let asking = control::Asking { placement: Placement::Search, query: text, now_ms: now_ms(), without };
    let mut rules = shop.controls().rules(&asking, &table, &allowed);
    rules.add_boosts(&boosts, &table);
    drop(table);
    allowed -= &rules.hidden;
    let plan = Plan {
        query,
        mode,
        allowed: Arc::new(allowed),
        spelling: request.spelling() != Spelling::Off,
        fusion,
        lexical_weight,
        semantic_weight,
        picture_weight,
        lexical_candidates: defaults.lexical_candidates,
        semantic_candidates: defaults.semantic_candidates,
        min_similarity: defaults.min_similarity,
        personal,
        diversity,
        order_by,
        group_by,
        rules,
        deadline,
        class: arms.class(),
    };
    Ok(Checked { plan: Arc::new(plan), filter, page_size, offset, hash })
}

/// The items that may be served and match `filter`.
pub fn allowed(table: &Table, filter: &Filter) -> RoaringBitmap {
    if filter.is_empty() { table.servable().clone() } else { table.columns().evaluate(filter) & table.servable() }
}

/// Counts one facet over what matches; with excluded keys, over what would match without their conditions.
fn count(shop: &Shop, checked: &Checked, ranking: &Ranking, request: &FacetRequest) -> Result<Facet, Status> {
    let widened = checked.filter.without_keys(&request.excluded_filter_keys);
    let matching = if request.excluded_filter_keys.is_empty() || widened == checked.filter {
        None
    } else {
        let allowed = allowed(&shop.catalog().items.read(), &widened) - &checked.plan.rules.hidden;
        Some(search::matching(shop, &checked.plan, ranking, &allowed).map_err(search_status)?)
    };
    let table = shop.catalog().items.read();
    let facet = table.columns().facet(request, matching.as_ref().unwrap_or(&ranking.matching));
    facet.map_err(|error| invalid("facets", error.to_string()))
}

/// What is logged of an answer.
struct Logged {
    arms: Arms,
    teams: Teams,
    answer: u64,
}

fn assemble(
    app: &App,
    shop: &Shop,
    request: &SearchRequest,
    checked: &Checked,
    mut ranking: Ranking,
    facets: Vec<Facet>,
    logged: Logged,
) -> SearchResponse {
    let Logged { arms, teams, answer } = logged;
    let view = request.view();
    let highlighter = ranking.marks.take().or_else(|| {
        // Searched by meaning only: no word was corrected. A page without marks is better than none.
        let text = checked.plan.query.text.as_deref()?;
        let query = LexicalQuery { spelling: false, ..checked.plan.wording(text, None, 0) };
        shop.lexical().highlighter(&query).ok()
    });
    let total_size = ranking.total as i64;
    let ranked = ranking.hits.len();
    let end = (checked.offset + checked.page_size).min(ranked);
    let page = ranking.hits.get(checked.offset.min(ranked)..end).unwrap_or_default();
    let mut stages = ranking.stages.told(page.iter().map(|hit| hit.doc));
    let table = shop.catalog().items.read();
    let results: Vec<SearchResult> = (checked.offset..end)
        .zip(ranking.hits.into_iter().skip(checked.offset))
        // What became unavailable since the filter was evaluated is not served.
        .filter(|(_, hit)| table.servable().contains(hit.doc))
        .filter_map(|(place, hit)| {
            let item = table.item(hit.doc)?;
            Some(SearchResult {
                highlights: highlighter.as_ref().map(|marks| marks.highlights(item)).unwrap_or_default(),
                item: Some(present(item, view)),
                score: hit.score,
                rank: place as i32 + 1,
                stages: stages.remove(&hit.doc).unwrap_or_default(),
                variants: hit
                    .variants
                    .into_iter()
                    .filter_map(|(doc, score)| variant(&table, doc, score, view))
                    .collect(),
                group_total: hit.group_total as i64,
            })
        })
        .collect();
    drop(table);
    let rules = &checked.plan.rules;
    let next_page_token = if end < ranked {
        app.tokens.page(&Page { request: checked.hash, offset: end as u64, ..Page::default() })
    } else {
        String::new()
    };
    let served: Vec<&str> = results.iter().filter_map(|result| Some(result.item.as_ref()?.id.as_str())).collect();
    let attribution_token = app.attribution(answer, shop, &ranking.served_by, &served, Vec::new(), now_ms());
    if arms.are_logged() {
        let table = shop.catalog().items.read();
        let team = |id: &str| table.doc(id).and_then(|doc| teams.get(&doc)).map(|team| arms.name_of_team(*team));
        let items = served.iter().map(|id| ExposedItem {
            id: (*id).to_owned(),
            propensity: None,
            arm: team(id).unwrap_or_default(),
        });
        let (items, first_position) = (items.collect(), checked.offset + 1);
        drop(table);
        arms.log(
            shop,
            Shown { answer, served_by: &ranking.served_by, items, first_position },
            request.context.as_ref(),
        );
    }
    SearchResponse {
        facets,
        total_size,
        total_size_relation: TotalSizeRelation::Exact as i32,
        corrected_query: ranking.corrected.unwrap_or_default(),
        served_by: ranking.served_by,
        attribution_token,
        degraded: ranking.degraded,
        next_page_token,
        results,
        applied_controls: rules.applied.clone(),
        redirect_uri: rules.redirect_uri.clone(),
        experiments: arms.told(),
    }
}

fn variant(table: &Table, doc: Doc, score: f32, view: ItemView) -> Option<Variant> {
    let item = table.item(doc).filter(|_| table.servable().contains(doc))?;
    Some(Variant { item: Some(present(item, view)), score: f64::from(score) })
}
