//! An experiment, as the command line or a file describes it.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use vitrine::v1::{Arm, Experiment, ExperimentDesign, ExperimentMetric, ExperimentNamespace, GuardRail, Placement};
use vitrine_client::json;

use super::words;
use crate::{
    arguments::duration,
    command::{import::open, place::Place, search::assignment},
    exit::Usage,
};

/// How an experiment is planned.
#[derive(Debug, Args)]
pub struct Plan {
    /// An arm, the control first (repeatable), as control:0.5 or canary:0.5,text-embedding=canary
    #[arg(long = "arm", required_unless_present = "file", value_name = "NAME:WEIGHT[,TASK=LABEL…]", value_parser = arm)]
    arms: Vec<Arm>,
    /// An arm whose answers are made and compared, and shown to nobody (repeatable), as canary,text-embedding=canary
    #[arg(long = "shadow", value_name = "NAME[,TASK=LABEL…]", value_parser = shadow)]
    shadows: Vec<Arm>,
    /// Show everybody both arms, drafted into one ranking: only for searches, with two arms
    #[arg(long)]
    interleaved: bool,
    /// The share of shoppers that take part, 0 to 1 [default: 1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    coverage: Option<f64>,
    /// What the assignment is drawn from [default: the experiment's name]
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    seed: String,
    /// Share shoppers out among experiments, as checkout:0-0.5: two whose parts do not overlap have none in common
    #[arg(long, value_name = "NAME:START-END", value_parser = namespace)]
    namespace: Option<ExperimentNamespace>,
    /// Only in these answers (repeatable) [default: all that an arm says something about]
    #[arg(long = "placement", value_enum, value_name = "WHERE")]
    placements: Vec<Place>,
    /// Somebody who was once shown an arm keeps it when weights change
    #[arg(long)]
    sticky: bool,
    /// What must not become worse, and by which share of the control's figure it may (repeatable), as ctr:0.05
    #[arg(long = "guard", value_name = "METRIC:TOLERANCE", value_parser = guard_rail)]
    guard_rails: Vec<GuardRail>,
    /// Sharpen the figures by what shoppers did in so many days before; -1: do not [default: 14]
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true, allow_negative_numbers = true)]
    covariate_days: i32,
    /// How long after an answer an event without a token counts for it [default: 30m]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    attribution_window: Option<Duration>,
    /// Anything the shop wants to remember about it
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    note: String,
    /// The plan from a file, as JSON of the message Experiment, as `get --json` prints it; `-` is stdin
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "arms", "shadows", "interleaved", "coverage", "seed", "namespace", "placements", "sticky", "guard_rails",
            "covariate_days", "attribution_window", "note",
        ]
    )]
    file: Option<PathBuf>,
}

impl Plan {
    /// The experiment of that name, for that catalog.
    pub fn experiment(self, name: String, catalog: String) -> Result<Experiment> {
        if let Some(path) = self.file {
            return Ok(Experiment { name, catalog, ..read(&path)? });
        }
        let design = if self.interleaved { ExperimentDesign::Interleaved } else { ExperimentDesign::Split };
        Ok(Experiment {
            name,
            catalog,
            design: design.into(),
            arms: [self.arms, self.shadows].concat(),
            coverage: self.coverage,
            seed: self.seed,
            namespace: self.namespace,
            placements: self.placements.into_iter().map(|place| Placement::from(place).into()).collect(),
            sticky: self.sticky,
            guard_rails: self.guard_rails,
            covariate_days: self.covariate_days,
            attribution_window_seconds: self.attribution_window.map_or(0, |window| window.as_secs() as i64),
            note: self.note,
            ..Experiment::default()
        })
    }
}

/// Reads an experiment from a file of JSON.
pub fn read(path: &Path) -> Result<Experiment> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    let read = serde_json::from_str(&text).map_err(|error| error.to_string());
    let read = read.and_then(|value| json::from_value(value).map_err(|error| error.to_string()));
    Ok(read.map_err(|problem| Usage(format!("{}: {problem}", path.display())))?)
}

/// Reads `canary:0.5,text-embedding=canary`.
fn arm(text: &str) -> Result<Arm, String> {
    let (head, models) = text.split_once(',').unwrap_or((text, ""));
    let (name, weight) = weight(head)?;
    Ok(Arm { weight, ..named(&name, models)? })
}

/// Reads `canary,text-embedding=canary`.
fn shadow(text: &str) -> Result<Arm, String> {
    let (name, models) = text.split_once(',').unwrap_or((text, ""));
    Ok(Arm { shadow: true, ..named(name, models)? })
}

fn named(name: &str, models: &str) -> Result<Arm, String> {
    let models = models.split(',').filter(|part| !part.is_empty()).map(assignment).collect::<Result<_, _>>()?;
    Ok(Arm { name: name.to_owned(), models, ..Arm::default() })
}

/// Reads `canary:0.5`.
pub fn weight(text: &str) -> Result<(String, f64), String> {
    let wrong = || format!("`{text}` is not NAME:WEIGHT, as canary:0.5");
    let (name, weight) = text.split_once(':').ok_or_else(wrong)?;
    Ok((name.to_owned(), weight.parse().map_err(|_| wrong())?))
}

/// Reads `checkout:0-0.5`.
fn namespace(text: &str) -> Result<ExperimentNamespace, String> {
    let wrong = || format!("`{text}` is not NAME:START-END, as checkout:0-0.5");
    // Names have hyphens, too.
    let (name, part) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (start, end) = part.split_once('-').ok_or_else(wrong)?;
    let number = |text: &str| text.parse().map_err(|_| wrong());
    Ok(ExperimentNamespace { name: name.to_owned(), start: number(start)?, end: number(end)? })
}

/// Reads `add-to-cart:0.05`.
pub fn guard_rail(text: &str) -> Result<GuardRail, String> {
    let wrong = || format!("`{text}` is not METRIC:TOLERANCE, as ctr:0.05");
    let (name, tolerance) = text.split_once(':').ok_or_else(wrong)?;
    let known = (1..).map_while(|number| ExperimentMetric::try_from(number).ok());
    let hyphened = |metric: ExperimentMetric| words::metric(metric.into()).replace(' ', "-");
    let metric = known.clone().find(|metric| hyphened(*metric) == name).ok_or_else(|| {
        let known: Vec<String> = known.map(hyphened).collect();
        format!("`{name}` is no metric; there are {}", known.join(", "))
    })?;
    Ok(GuardRail { metric: metric.into(), tolerance: tolerance.parse().map_err(|_| wrong())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_is_a_name_a_weight_and_the_models_that_answer() {
        let control = arm("control:0.5").unwrap();
        assert_eq!((control.name.as_str(), control.weight, control.models.len()), ("control", 0.5, 0));
        let canary = arm("canary:0.25,text-embedding=canary,ctr-ranking=4").unwrap();
        assert_eq!(canary.models["ctr-ranking"], "4");
        assert_eq!((canary.models.len(), canary.weight, canary.shadow), (2, 0.25, false));
        let seen_by_nobody = shadow("next,text-embedding=4").unwrap();
        assert!(seen_by_nobody.shadow && seen_by_nobody.weight == 0.0 && seen_by_nobody.models.len() == 1);
        for wrong in ["control", "control:half", "canary:0.5,text-embedding"] {
            assert!(arm(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_namespace_is_a_name_and_a_part_of_it() {
        let part = namespace("check-out:0.25-1").unwrap();
        assert_eq!((part.name.as_str(), part.start, part.end), ("check-out", 0.25, 1.0));
        assert!(["checkout", "checkout:0.5", "checkout:a-b", "0-0.5"].iter().all(|wrong| namespace(wrong).is_err()));
    }

    #[test]
    fn a_guard_rail_is_a_metric_and_a_tolerance() {
        let rail = guard_rail("latency-p99:0.1").unwrap();
        assert_eq!((rail.metric(), rail.tolerance), (ExperimentMetric::LatencyP99, 0.1));
        assert!(
            guard_rail("profit:0.1").unwrap_err().ends_with(
                "there are ctr, add-to-cart, conversion, revenue, ad-revenue, empty, latency-p50, latency-p99"
            )
        );
        assert!(guard_rail("ctr").is_err() && guard_rail("ctr:little").is_err());
    }
}
