//! What a search's fields say, checked one by one.

use bytes::Bytes;
use vitrine::v1::{FacetRequest, ImageQuery, Personalize, SearchMode, SearchRequest, fusion, search_request};
use vitrine_models::check_picture;

use crate::{
    check, config,
    error::Violations,
    filter::Key,
    recommend::{RecommendOptions, taste::Taste},
    search::{Diversity, Query, cap::Cap, fusion::Method, personal::Personal},
    serving::Shop,
};

const MAX_FACETS: usize = 20;
const MAX_FACET_VALUES: i32 = 300;
/// Results that may be ordered anew, by who searches or to differ from each other.
const MAX_REORDERED: i32 = 1_000;
const DEFAULT_REORDERED: usize = 100;
const DEFAULT_PERSONAL: f64 = 0.3;
const DEFAULT_IMAGE_WEIGHT: f64 = 0.5;
/// Of reciprocal rank fusion.
const MAX_K: i32 = 10_000;
const DEFAULT_K: usize = 60;
/// Of results that share a value.
const MAX_CAP: i32 = 100;
const MAX_GROUP: i32 = 100;

/// A number of things; 0: `default`.
fn count(v: &mut Violations, field: &str, number: i32, most: i32, default: usize) -> usize {
    if !(0..=most).contains(&number) {
        v.add(field, format!("is {number}; it must be 0 to {most}"));
    }
    usize::try_from(number).ok().filter(|number| *number > 0).unwrap_or(default)
}

/// A part of something, from 0 to 1.
fn part(v: &mut Violations, field: &str, number: f64) -> f64 {
    if !(0.0..=1.0).contains(&number) {
        v.add(field, format!("is {number}; it must be 0 to 1"));
    }
    number
}

/// The key that items share values of, if one is named in `field`; `number` belongs to it, and is 0 without.
fn shared(v: &mut Violations, (field, name): (&str, &str), (of, number): (&str, i32), categories: bool) -> Option<Key> {
    if name.is_empty() {
        if number != 0 {
            v.add(of, format!("is only for a request with `{field}`"));
        }
        return None;
    }
    let key = Key::named(name);
    let known = match &key {
        Key::Brand => true,
        Key::Categories => categories,
        Key::Attribute(name) => !name.is_empty(),
        _ => false,
    };
    if !known {
        let categories = if categories { ", `categories`" } else { "" };
        v.add(field, format!("must be `brand`{categories} or `attributes.NAME`"));
    }
    Some(key)
}

/// What is looked for.
pub fn query(v: &mut Violations, request: &SearchRequest, mode: SearchMode, limit: usize) -> Query {
    let mut query = Query::default();
    let mut words = |field: &str, text: &str| {
        if text.trim().is_empty() {
            v.add(field, "must not be empty");
        }
        check::text(v, field, text, limit);
        query.text = Some(text.into());
    };
    match &request.query {
        Some(search_request::Query::Text(text)) => words("text", text),
        Some(search_request::Query::Image(image)) => {
            if mode == SearchMode::Lexical {
                v.add("mode", "is LEXICAL, but a picture has no words");
            }
            query.picture = Some(picture(v, picture_field(request), Some(image)));
        }
        Some(search_request::Query::Multimodal(both)) => {
            words("multimodal.text", &both.text);
            query.picture = Some(picture(v, picture_field(request), both.image.as_ref()));
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
            query.vector = Some(vector.values.clone());
        }
        None => v.add("query", "is required: `text`, `image`, `multimodal` or `vector`"),
    }
    query
}

/// Where a request has its picture.
pub fn picture_field(request: &SearchRequest) -> &'static str {
    match request.query {
        Some(search_request::Query::Multimodal(_)) => "multimodal.image.data",
        _ => "image.data",
    }
}

/// A picture whose header promises that it can be decoded.
fn picture(v: &mut Violations, field: &str, image: Option<&ImageQuery>) -> Bytes {
    let data = image.map(|image| image.data.clone()).unwrap_or_default();
    if let Err(error) = check_picture(&data) {
        v.add(field, error.to_string());
    }
    data
}

/// The weights of words and meaning, and what of them a picture takes.
pub fn with_picture(v: &mut Violations, request: &SearchRequest, [lexical, semantic]: [f64; 2]) -> [f64; 3] {
    let Some(search_request::Query::Multimodal(both)) = &request.query else { return [lexical, semantic, 1.0] };
    let picture = part(v, "multimodal.image_weight", both.image_weight.unwrap_or(DEFAULT_IMAGE_WEIGHT));
    let share = (1.0 - picture) / (lexical + semantic);
    [lexical * share, semantic * share, picture]
}

/// The method and the weights of words and meaning.
pub fn fusion_method(v: &mut Violations, request: &SearchRequest, defaults: &config::Search) -> (Method, [f64; 2]) {
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
            let k = count(v, "fusion.reciprocal_rank.k", rank.k, MAX_K, DEFAULT_K);
            ("reciprocal_rank", Method::ReciprocalRank { k: k as f64 }, &rank.weights, 1.0)
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
    let lambda = part(v, "diversity.mmr_lambda", diversity.mmr_lambda.unwrap_or(1.0));
    let candidates = count(v, "diversity.candidates", diversity.candidates, MAX_REORDERED, DEFAULT_REORDERED);
    let most = count(v, "diversity.cap", diversity.cap, MAX_CAP, 1);
    let by = ("diversity.cap_by", diversity.cap_by.as_str());
    let cap = shared(v, by, ("diversity.cap", diversity.cap), true).map(|key| Cap { key, most });
    (lambda < 1.0 || cap.is_some()).then_some(Diversity { lambda, candidates, cap })
}

/// The key and how many items of a group are shown.
pub fn group_by(v: &mut Violations, request: &SearchRequest) -> Option<(Key, usize)> {
    let most = count(v, "group_size", request.group_size, MAX_GROUP, 1);
    let key = shared(v, ("group_by", &request.group_by), ("group_size", request.group_size), false)?;
    Some((key, most))
}

/// How much it counts who searches, and among how many.
pub fn personalize(v: &mut Violations, wanted: &Personalize) -> (f64, usize) {
    let strength = part(v, "personalize.strength", wanted.strength.unwrap_or(DEFAULT_PERSONAL));
    (strength, count(v, "personalize.candidates", wanted.candidates, MAX_REORDERED, DEFAULT_REORDERED))
}

/// What counts of the person who searches; nothing for somebody unknown.
pub fn personal(v: &mut Violations, wanted: &Personalize, request: &SearchRequest, shop: &Shop) -> Option<Personal> {
    let (strength, candidates) = personalize(v, wanted);
    let context = request.context.as_ref()?;
    let behaviour = shop.catalog().behaviour.read();
    let person = behaviour.person(&context.user_id, &context.visitor_id)?;
    let sources = Taste::of(&behaviour.history(person), &RecommendOptions::default()).sources;
    Some(Personal { strength, candidates, sources })
}

/// What is to be counted.
pub fn check_facets(v: &mut Violations, facets: &[FacetRequest]) {
    if facets.len() > MAX_FACETS {
        v.add("facets", format!("has {} entries; at most {MAX_FACETS} are allowed", facets.len()));
    }
    for (index, facet) in facets.iter().enumerate() {
        let path = format!("facets[{index}]");
        if facet.key.is_empty() {
            v.add(format!("{path}.key"), "is required");
        }
        count(v, &format!("{path}.limit"), facet.limit, MAX_FACET_VALUES, 0);
        let nan = |end: Option<f64>| end.is_some_and(f64::is_nan);
        for (place, interval) in facet.intervals.iter().enumerate() {
            if nan(interval.minimum) || nan(interval.maximum) {
                v.add(format!("{path}.intervals[{place}]"), "must have ends that are numbers");
            }
        }
    }
}
