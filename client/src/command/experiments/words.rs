//! Experiments in words.

use anyhow::Result;
use prost_types::Timestamp;
use vitrine::v1::{Arm, Experiment, ExperimentDesign, ExperimentMetric, ExperimentState, GuardRail};
use vitrine_client::json;

use crate::{
    command::place,
    output::{grouped, last_part, moment},
};

/// Where it is in its life.
pub fn state(state: ExperimentState) -> &'static str {
    match state {
        ExperimentState::Draft => "draft",
        ExperimentState::Running => "running",
        ExperimentState::Stopped => "stopped",
        ExperimentState::Unspecified => "unknown",
    }
}

/// How its arms are compared.
pub fn design(design: ExperimentDesign) -> &'static str {
    match design {
        ExperimentDesign::Interleaved => "interleaved: everybody sees both",
        ExperimentDesign::Split | ExperimentDesign::Unspecified => "split: everybody sees one",
    }
}

/// What is measured, as `add to cart`; what this version does not know by its number.
pub fn metric(number: i32) -> String {
    let known = ExperimentMetric::try_from(number);
    known.map_or_else(
        |_| format!("metric {number}"),
        |metric| metric.as_str_name().trim_start_matches("EXPERIMENT_METRIC_").to_ascii_lowercase().replace('_', " "),
    )
}

/// When something was done, to the second.
pub fn when(time: &Timestamp) -> String {
    moment(&Timestamp { nanos: 0, ..*time })
}

/// A share, as `12.5 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

/// An arm and what it gets, as `canary 50 %`.
pub fn share(arm: &Arm) -> String {
    if arm.shadow { format!("{} (shadow)", arm.name) } else { format!("{} {}", arm.name, percent(arm.weight)) }
}

/// What must hold, as `ctr at most 5 % worse`.
pub fn guard_rail(rail: &GuardRail) -> String {
    format!("{} at most {} worse", metric(rail.metric), percent(rail.tolerance))
}

/// An experiment, field by field.
pub fn fields(experiment: &Experiment) -> Result<Vec<(String, String)>> {
    let mut fields = vec![
        ("experiment".to_owned(), last_part(&experiment.name).to_owned()),
        ("state".to_owned(), state(experiment.state()).to_owned()),
        ("catalog".to_owned(), last_part(&experiment.catalog).to_owned()),
        ("design".to_owned(), design(experiment.design()).to_owned()),
    ];
    for arm in &experiment.arms {
        fields.push((format!("arm {}", arm.name), side(arm)?));
    }
    let mut field = |name: &str, value: String| fields.push((name.to_owned(), value));
    field("coverage", percent(experiment.coverage.unwrap_or(1.0)));
    if !experiment.seed.is_empty() {
        field("seed", experiment.seed.clone());
    }
    if let Some(namespace) = &experiment.namespace {
        field("namespace", format!("{}, from {} to {}", namespace.name, namespace.start, namespace.end));
    }
    if !experiment.placements.is_empty() {
        let places: Vec<String> = experiment.placements.iter().map(|number| place::name(*number)).collect();
        field("in", places.join(", "));
    }
    field("assignment", assignment(experiment));
    if !experiment.guard_rails.is_empty() {
        field("guard rails", experiment.guard_rails.iter().map(guard_rail).collect::<Vec<_>>().join(", "));
    }
    field(
        "covariates",
        match experiment.covariate_days {
            ..0 => "not used".to_owned(),
            0 => "14 days".to_owned(),
            days => format!("{days} days"),
        },
    );
    let window = if experiment.attribution_window_seconds == 0 { 1_800 } else { experiment.attribution_window_seconds };
    field("attribution", format!("{} s", grouped(window)));
    if !experiment.note.is_empty() {
        field("note", experiment.note.clone());
    }
    for (name, time) in [("started", &experiment.start_time), ("stopped", &experiment.stop_time)] {
        if let Some(time) = time {
            field(name, when(time));
        }
    }
    field("revision", experiment.revision.to_string());
    Ok(fields)
}

fn assignment(experiment: &Experiment) -> String {
    let kept = if experiment.sticky { "sticky" } else { "by weights alone" };
    format!("{kept}, bucket version {}", experiment.bucket_version)
}

/// What an arm is, as `50 %, text-embedding by canary`.
fn side(arm: &Arm) -> Result<String> {
    let mut parts = vec![if arm.shadow { "shown to nobody".to_owned() } else { percent(arm.weight) }];
    parts.extend(arm.models.iter().map(|(task, label)| format!("{task} by {label}")));
    if let Some(parameters) = &arm.parameters {
        parts.push(json::to_value(parameters)?.to_string());
    }
    if !arm.ranges.is_empty() {
        let ranges: Vec<String> =
            arm.ranges.iter().map(|range| format!("{}–{}", range.first, range.end.saturating_sub(1))).collect();
        parts.push(format!("buckets {}", ranges.join(" ")));
    }
    Ok(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_short() {
        assert_eq!(percent(0.5), "50 %");
        assert_eq!(percent(1.0 / 3.0), "33.3333 %");
        assert_eq!(percent(0.07), "7 %");
    }

    #[test]
    fn a_metric_of_a_newer_server_is_named_by_its_number() {
        assert_eq!(metric(ExperimentMetric::AddToCart.into()), "add to cart");
        assert_eq!(metric(99), "metric 99");
    }
}
