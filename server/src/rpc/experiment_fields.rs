//! What the definition of an experiment says, checked field by field.

use vitrine::v1::{
    Arm, Experiment, ExperimentDesign, ExperimentMetric, Placement, RecommendRequest, SearchMode, SearchRequest,
};
use vitrine_registry::{Label, Version};

use super::{
    recommend_fields::exploration,
    search_fields::{diversify, fusion_method, personalize},
};
use crate::{check, config::Config, error::Violations, recommend::Source};

const ARMS: std::ops::RangeInclusive<usize> = 2..=20;
const MAX_SEED_CHARS: usize = 128;
const MAX_NOTE_CHARS: usize = 1_000;
const MAX_NAMES: usize = 100;
const MAX_BUCKET_VERSION: u32 = 1_000_000;
const COVARIATE_DAYS: std::ops::RangeInclusive<i32> = -1..=90;
const MAX_WINDOW: i64 = 7 * 86_400;
const MAX_TOLERANCE: f64 = 10.0;
/// Weights are decimal fractions, and their sum may be off by what binary ones lack.
const WEIGHT_ERROR: f64 = 1e-6;

/// The id in `experiments/{experiment}`.
pub fn id(v: &mut Violations, field: &str, name: &str) -> Option<Label> {
    let id = name.strip_prefix("experiments/").and_then(|id| id.parse().ok());
    if id.is_none() {
        v.add(
            field,
            "must look like `experiments/NAME`, with 1 to 63 characters of a-z, 0-9 and -, starting with a letter",
        );
    }
    id
}

/// All of an experiment but its name and catalog.
pub fn experiment(v: &mut Violations, experiment: &Experiment, config: &Config) {
    check::enumeration::<ExperimentDesign>(v, "experiment.design", experiment.design, "SPLIT or INTERLEAVED");
    arms(v, experiment, config);
    share(v, "experiment.coverage", experiment.coverage.unwrap_or(1.0));
    check::text(v, "experiment.seed", &experiment.seed, MAX_SEED_CHARS);
    check::text(v, "experiment.note", &experiment.note, MAX_NOTE_CHARS);
    if let Some(namespace) = &experiment.namespace {
        name(v, "experiment.namespace.name", &namespace.name);
        if !(0.0 <= namespace.start && namespace.start < namespace.end && namespace.end <= 1.0) {
            v.add("experiment.namespace.start", "and `end` must be 0 to 1, the end after the start");
        }
    }
    for (index, &number) in experiment.placements.iter().enumerate() {
        if !Placement::try_from(number).is_ok_and(|placement| placement != Placement::Unspecified) {
            let wrong = format!("is {number}; it must be a placement, as PLACEMENT_SEARCH");
            v.add(format!("experiment.placements[{index}]"), wrong);
        }
    }
    if experiment.bucket_version > MAX_BUCKET_VERSION {
        v.add(
            "experiment.bucket_version",
            format!("is {}; at most {MAX_BUCKET_VERSION} is allowed", experiment.bucket_version),
        );
    }
    for (index, guard) in experiment.guard_rails.iter().enumerate() {
        let path = format!("experiment.guard_rails[{index}]");
        if !ExperimentMetric::try_from(guard.metric).is_ok_and(|metric| metric != ExperimentMetric::Unspecified) {
            v.add(
                format!("{path}.metric"),
                format!("is {}; it must be a metric, as EXPERIMENT_METRIC_CTR", guard.metric),
            );
        }
        if !(guard.tolerance > 0.0 && guard.tolerance <= MAX_TOLERANCE) {
            v.add(
                format!("{path}.tolerance"),
                format!("is {}; it must be above 0, and at most {MAX_TOLERANCE}", guard.tolerance),
            );
        }
    }
    if !COVARIATE_DAYS.contains(&experiment.covariate_days) {
        v.add("experiment.covariate_days", format!("is {}; it must be -1 to 90", experiment.covariate_days));
    }
    if !(0..=MAX_WINDOW).contains(&experiment.attribution_window_seconds) {
        let wrong = format!("is {}; it must be 0 to {MAX_WINDOW}", experiment.attribution_window_seconds);
        v.add("experiment.attribution_window_seconds", wrong);
    }
}

fn arms(v: &mut Violations, experiment: &Experiment, config: &Config) {
    let arms = &experiment.arms;
    let interleaved = experiment.design() == ExperimentDesign::Interleaved;
    if !ARMS.contains(&arms.len()) || interleaved && arms.len() != 2 {
        let wanted = if interleaved { "2, of an interleaved experiment" } else { "2 to 20" };
        v.add("experiment.arms", format!("has {} entries; it must have {wanted}", arms.len()));
    }
    for (index, arm) in arms.iter().enumerate().take(*ARMS.end()) {
        let path = format!("experiment.arms[{index}]");
        name(v, &format!("{path}.name"), &arm.name);
        if arms[..index].iter().any(|before| before.name == arm.name) {
            v.add(format!("{path}.name"), "is the name of an arm before it");
        }
        share(v, &format!("{path}.weight"), arm.weight);
        if arm.shadow && (arm.weight != 0.0 || index == 0 || interleaved) {
            v.add(
                format!("{path}.shadow"),
                "is for an arm of weight 0 that is not the control, and not for interleaved ones",
            );
        }
        check_arm(v, &path, arm, config);
    }
    let sum: f64 = arms.iter().map(|arm| arm.weight).sum();
    if (sum - 1.0).abs() > WEIGHT_ERROR {
        v.add("experiment.arms", format!("have weights whose sum is {sum}; it must be 1"));
    }
}

fn check_arm(v: &mut Violations, path: &str, arm: &Arm, config: &Config) {
    for (task, selector) in &arm.models {
        let field = format!("{path}.models");
        check::task(v, &field, task);
        if selector.parse::<Label>().is_err() && selector.parse::<Version>().is_err() {
            v.add(field, format!("must name a label or a version of {task}, as `canary` or `4`"));
        }
    }
    let Some(parameters) = &arm.parameters else { return };
    // They are checked as the fields of requests that they stand for.
    let mut of_requests = Violations::default();
    check::enumeration::<SearchMode>(&mut of_requests, "mode", parameters.mode, "HYBRID, LEXICAL or SEMANTIC");
    let search = SearchRequest { fusion: parameters.fusion, ..SearchRequest::default() };
    fusion_method(&mut of_requests, &search, &config.search);
    if let Some(wanted) = &parameters.diversity {
        diversify(&mut of_requests, wanted);
    }
    if let Some(wanted) = &parameters.personalize {
        personalize(&mut of_requests, wanted);
    }
    let recommend = RecommendRequest { exploration: parameters.exploration, ..RecommendRequest::default() };
    if let Some(wanted) = &recommend.exploration {
        exploration(&mut of_requests, wanted);
    }
    let known: Vec<&str> = Source::OF_PEOPLE.iter().map(|source| source.stage()).collect();
    for (index, source) in parameters.sources.iter().enumerate().take(MAX_NAMES) {
        if !known.contains(&source.as_str()) {
            of_requests.add(format!("sources[{index}]"), format!("must be one of {}", known.join(", ")));
        }
    }
    for (field, list) in [("sources", &parameters.sources), ("without_controls", &parameters.without_controls)] {
        if list.len() > MAX_NAMES {
            of_requests.add(field, format!("has {} entries; at most {MAX_NAMES} are allowed", list.len()));
        }
    }
    for violation in of_requests.into_messages() {
        v.add(format!("{path}.parameters.{}", violation.field), violation.description);
    }
}

fn name(v: &mut Violations, field: &str, name: &str) {
    if name.parse::<Label>().is_err() {
        v.add(field, "is required: 1 to 63 characters of a-z, 0-9 and -, starting with a letter");
    }
}

fn share(v: &mut Violations, field: &str, share: f64) {
    if !(0.0..=1.0).contains(&share) {
        v.add(field, format!("is {share}; it must be 0 to 1"));
    }
}
