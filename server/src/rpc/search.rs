//! Search: checks the request, runs the pipeline, and cuts its ranking into a page with facets and highlights.

use std::{sync::Arc, time::Instant};

use prost::Message as _;
use roaring::RoaringBitmap;
use tonic::{Request, Response, Status};
use vitrine::v1::{
    Facet, FacetRequest, ItemView, Personalize, Placement, SearchMode, SearchRequest, SearchResponse, SearchResult,
    Spelling, TotalSizeRelation, Variant, fusion, search_request,
};

use super::{App, context, deadline::deadline, now_ms, picture, present, search_status};
use crate::{
    Doc,
    catalog::items::Table,
    check, config,
    control::parse_boosts,
    error::{Violations, internal, invalid, no_model},
    filter::{Filter, Key, OrderBy},
    lexical::LexicalQuery,
    recommend::{RecommendOptions, taste::Taste},
    search::{self, Diversity, Plan, Query, Ranking, cap::Cap, fusion::Method, personal::Personal},
    serving::Shop,
    token::{Page, stable_hash},
};

const DEFAULT_PAGE: usize = 10;
const MAX_FACETS: usize = 20;
const MAX_FACET_VALUES: i32 = 300;
/// Results that may be ordered anew, by who searches or to differ from each other.
const MAX_REORDERED: i32 = 1_000;
const DEFAULT_REORDERED: usize = 100;
const DEFAULT_PERSONAL: f64 = 0.3;

const MAX_BOOSTS: usize = 20;
/// Of results that share a value.
const MAX_CAP: i32 = 100;
const MAX_GROUP: i32 = 100;

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
    let checked = check_request(app, &shop, &request, deadline)?;
    if matches!(request.query, Some(search_request::Query::Image(_))) {
        return Err(no_model("image-embedding", "publish a version of such a model to the registry"));
    }
    let semantic = app.semantic(&shop, context)?;
    let permit = app.admit_query(deadline).await?;
    let retrieved = search::retrieve(&shop, semantic, &checked.plan).await.map_err(search_status)?;
    let app = app.clone();
    // All the rest in one go: each hand-over to another thread is a wait where processors are busy.
    let answer = tokio::task::spawn_blocking(move || {
        let ranking = retrieved.rank(&shop).map_err(search_status)?;
        let facets = request.facets.iter().map(|facet| count(&shop, &checked, &ranking, facet));
        let facets = facets.collect::<Result<_, _>>()?;
        Ok(assemble(&app, &shop, &checked, ranking, facets, request.view()))
    })
    .await
    .map_err(internal)?;
    drop(permit);
    answer.map(Response::new)
}

fn check_request(app: &App, shop: &Shop, request: &SearchRequest, deadline: Instant) -> Result<Checked, Status> {
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
    let (fusion, [lexical_weight, semantic_weight]) = fusion_method(v, request, defaults);
    let diversity = request.diversity.as_ref().and_then(|diversity| diversify(v, diversity));
    let personal = request.personalize.as_ref().and_then(|personalize| personal(v, personalize, request, shop));
    check_facets(v, &request.facets);
    let group_by = group_by(v, request);
    if request.boosts.len() > MAX_BOOSTS {
        v.add("boosts", format!("has {} entries; at most {MAX_BOOSTS} are allowed", request.boosts.len()));
    }
    let boosts = parse_boosts(v, "boosts", &request.boosts);
    violations.into_result()?;

    let hash =
        stable_hash(SearchRequest { page_size: 0, page_token: String::new(), ..request.clone() }.encode_to_vec());
    let offset = app.open_page(&request.page_token, hash)?.offset as usize;
    let filter = canonical.and(filter);
    let table = shop.catalog().items.read();
    let mut allowed = allowed(&table, &filter);
    let text = if let Query::Text(text) = &query { Some(&**text) } else { None };
    let mut rules = shop.controls().rules(Placement::Search, text, now_ms(), &table, &allowed);
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
        lexical_candidates: defaults.lexical_candidates,
        semantic_candidates: defaults.semantic_candidates,
        min_similarity: defaults.min_similarity,
        personal,
        diversity,
        order_by,
        group_by,
        rules,
        deadline,
    };
    Ok(Checked { plan: Arc::new(plan), filter, page_size, offset, hash })
}

/// The items that may be served and match `filter`.
pub fn allowed(table: &Table, filter: &Filter) -> RoaringBitmap {
    if filter.is_empty() { table.servable().clone() } else { table.columns().evaluate(filter) & table.servable() }
}

fn query(v: &mut Violations, request: &SearchRequest, mode: SearchMode, limit: usize) -> Query {
    match &request.query {
        Some(search_request::Query::Text(text)) => {
            if text.trim().is_empty() {
                v.add("text", "must not be empty");
            }
            check::text(v, "text", text, limit);
            return Query::Text(text.as_str().into());
        }
        Some(search_request::Query::Image(image)) => {
            if let Err(problem) = picture::check(&image.data) {
                v.add("image.data", problem);
            }
        }
        Some(search_request::Query::Vector(vector)) => {
            if mode == SearchMode::Lexical {
                v.add("mode", "is LEXICAL, but a vector has no words");
            }
            // Its width is checked against the encoder's when that is known.
            if vector.values.iter().any(|value| !value.is_finite()) {
                v.add("vector.values", "must be finite numbers");
            } else if vector.values.iter().all(|value| *value == 0.0) {
                v.add("vector.values", "must not be empty or all zero");
            }
            return Query::Vector(vector.values.clone());
        }
        None => v.add("query", "is required: `text`, `image` or `vector`"),
    }
    Query::Vector(Vec::new())
}

/// The method and the weights of words and meaning.
fn fusion_method(v: &mut Violations, request: &SearchRequest, defaults: &config::Search) -> (Method, [f64; 2]) {
    let default_weights = [defaults.lexical_weight, defaults.semantic_weight];
    let Some(method) = request.fusion.as_ref().and_then(|fusion| fusion.method.as_ref()) else {
        let method = match defaults.fusion {
            config::FusionMethod::ReciprocalRank => Method::ReciprocalRank { k: f64::from(defaults.reciprocal_rank_k) },
            config::FusionMethod::Linear => Method::Linear,
            config::FusionMethod::DistributionBased => Method::DistributionBased,
        };
        return (method, default_weights);
    };
    let (name, method, weights, absent) = match method {
        fusion::Method::ReciprocalRank(rank) => {
            if !(0..=10_000).contains(&rank.k) {
                v.add("fusion.reciprocal_rank.k", format!("is {}; it must be 0 to 10,000", rank.k));
            }
            let k = if rank.k == 0 { 60 } else { rank.k };
            ("reciprocal_rank", Method::ReciprocalRank { k: f64::from(k) }, &rank.weights, 1.0)
        }
        fusion::Method::Linear(linear) => ("linear", Method::Linear, &linear.weights, 0.5),
        fusion::Method::DistributionBased(scores) => {
            ("distribution_based", Method::DistributionBased, &scores.weights, 0.5)
        }
    };
    let weights = weights.as_ref().map_or([absent; 2], |weights| [weights.lexical, weights.semantic]);
    let path = format!("fusion.{name}.weights");
    if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) {
        v.add(&path, "must be finite and not negative");
    } else if weights.iter().sum::<f64>() == 0.0 {
        v.add(&path, "must not both be 0");
    }
    (method, weights)
}

/// How results are made different; nothing when that changes nothing.
pub fn diversify(v: &mut Violations, diversity: &vitrine::v1::Diversity) -> Option<Diversity> {
    let lambda = diversity.mmr_lambda.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&lambda) {
        v.add("diversity.mmr_lambda", format!("is {lambda}; it must be 0 to 1"));
    }
    let candidates = reordered(v, "diversity.candidates", diversity.candidates);
    let cap = cap(v, diversity);
    (lambda < 1.0 || cap.is_some()).then_some(Diversity { lambda, candidates, cap })
}

/// How many results may share a value.
fn cap(v: &mut Violations, diversity: &vitrine::v1::Diversity) -> Option<Cap> {
    if !(0..=MAX_CAP).contains(&diversity.cap) {
        v.add("diversity.cap", format!("is {}; it must be 0 to {MAX_CAP}", diversity.cap));
    }
    if diversity.cap_by.is_empty() {
        if diversity.cap != 0 {
            v.add("diversity.cap", "is only for a request with `diversity.cap_by`");
        }
        return None;
    }
    let key = Key::named(&diversity.cap_by);
    if !matches!(&key, Key::Brand | Key::Categories) && !matches!(&key, Key::Attribute(name) if !name.is_empty()) {
        v.add("diversity.cap_by", "must be `brand`, `categories` or `attributes.NAME`");
    }
    Some(Cap { key, most: usize::try_from(diversity.cap).unwrap_or_default().max(1) })
}

fn reordered(v: &mut Violations, field: &str, candidates: i32) -> usize {
    if !(0..=MAX_REORDERED).contains(&candidates) {
        v.add(field, format!("is {candidates}; it must be 0 to {MAX_REORDERED}"));
    }
    match usize::try_from(candidates) {
        Ok(0) | Err(_) => DEFAULT_REORDERED,
        Ok(candidates) => candidates,
    }
}

/// The key and how many items of a group are shown.
fn group_by(v: &mut Violations, request: &SearchRequest) -> Option<(Key, usize)> {
    if !(0..=MAX_GROUP).contains(&request.group_size) {
        v.add("group_size", format!("is {}; it must be 0 to {MAX_GROUP}", request.group_size));
    }
    if request.group_by.is_empty() {
        if request.group_size != 0 {
            v.add("group_size", "is only for a request with `group_by`");
        }
        return None;
    }
    let key = Key::named(&request.group_by);
    if !matches!(&key, Key::Brand) && !matches!(&key, Key::Attribute(name) if !name.is_empty()) {
        v.add("group_by", "must be `brand` or `attributes.NAME`");
    }
    Some((key, usize::try_from(request.group_size).unwrap_or_default().max(1)))
}

/// What counts of the person who searches; nothing for somebody unknown.
fn personal(v: &mut Violations, wanted: &Personalize, request: &SearchRequest, shop: &Shop) -> Option<Personal> {
    let strength = wanted.strength.unwrap_or(DEFAULT_PERSONAL);
    if !(0.0..=1.0).contains(&strength) {
        v.add("personalize.strength", format!("is {strength}; it must be 0 to 1"));
    }
    let candidates = reordered(v, "personalize.candidates", wanted.candidates);
    let context = request.context.as_ref()?;
    let behaviour = shop.catalog().behaviour.read();
    let person = behaviour.person(&context.user_id, &context.visitor_id)?;
    let sources = Taste::of(&behaviour.history(person), &RecommendOptions::default()).sources;
    Some(Personal { strength, candidates, sources })
}

fn check_facets(v: &mut Violations, facets: &[FacetRequest]) {
    if facets.len() > MAX_FACETS {
        v.add("facets", format!("has {} entries; at most {MAX_FACETS} are allowed", facets.len()));
    }
    for (index, facet) in facets.iter().enumerate() {
        let path = format!("facets[{index}]");
        if facet.key.is_empty() {
            v.add(format!("{path}.key"), "is required");
        }
        if !(0..=MAX_FACET_VALUES).contains(&facet.limit) {
            v.add(format!("{path}.limit"), format!("is {}; it must be 0 to {MAX_FACET_VALUES}", facet.limit));
        }
        let nan = |end: Option<f64>| end.is_some_and(f64::is_nan);
        for (place, interval) in facet.intervals.iter().enumerate() {
            if nan(interval.minimum) || nan(interval.maximum) {
                v.add(format!("{path}.intervals[{place}]"), "must have ends that are numbers");
            }
        }
    }
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

fn assemble(
    app: &App,
    shop: &Shop,
    checked: &Checked,
    mut ranking: Ranking,
    facets: Vec<Facet>,
    view: ItemView,
) -> SearchResponse {
    let highlighter = ranking.marks.take().or_else(|| match &checked.plan.query {
        // Searched by meaning only: no word was corrected. A page without marks is better than none.
        Query::Text(text) => {
            let query = LexicalQuery { spelling: false, ..checked.plan.wording(text, None, 0) };
            shop.lexical().highlighter(&query).ok()
        }
        Query::Vector(_) => None,
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
    let attribution_token = app.attribution(shop, &ranking.served_by, &served, now_ms());
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
    }
}

fn variant(table: &Table, doc: Doc, score: f32, view: ItemView) -> Option<Variant> {
    let item = table.item(doc).filter(|_| table.servable().contains(doc))?;
    Some(Variant { item: Some(present(item, view)), score: f64::from(score) })
}
