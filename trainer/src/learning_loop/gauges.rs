//! The loop's metrics as a text file, which a node exporter collects.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;

use super::config::LoopConfig;
use super::decide::Seen;
use super::state::{Phase, State, replace};

/// Writes them.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, config: &LoopConfig, state: &State, seen: &Seen) -> Result<()> {
    replace(path, text(config, state, seen).as_bytes())
}

fn text(config: &LoopConfig, state: &State, seen: &Seen) -> String {
    let mut page = Page { model: config.model.as_str(), text: String::new() };
    let seconds = |time: Timestamp| time.as_second() as f64;
    page.family("vitrine_loop_last_run_timestamp_seconds", "gauge", "When the loop last looked.");
    page.line("", seconds(seen.now));
    page.family("vitrine_loop_phase", "gauge", "1 for what the loop is doing.");
    for name in Phase::NAMES {
        page.line(&format!("phase=\"{name}\""), f64::from(u8::from(state.phase.name() == name)));
    }
    page.family("vitrine_loop_watermark_timestamp_seconds", "gauge", "Up to where events were learnt from. 0: never.");
    page.line("", state.watermark.map_or(0.0, seconds));
    page.family("vitrine_loop_live_version", "gauge", "The version that answers. 0: none.");
    page.line("", seen.live.map_or(0.0, |version| version.get().into()));
    let trial = state.trial();
    page.family("vitrine_loop_candidate_version", "gauge", "The version that is tried. 0: none.");
    page.line("", trial.map_or(0.0, |trial| trial.version.get().into()));
    page.family("vitrine_loop_candidate_share", "gauge", "Which share of shoppers gets the candidate.");
    let covered = seen.report.as_ref().and(seen.experiment.as_ref()).and_then(|experiment| experiment.coverage);
    page.line("", covered.unwrap_or(0.0) / 2.0);
    page.family("vitrine_loop_rounds_total", "counter", "What became of networks that were learnt, or tried.");
    let counts = state.counts;
    for (outcome, count) in [
        ("promoted", counts.promoted),
        ("rejected", counts.rejected),
        ("abandoned", counts.abandoned),
        ("held-back", counts.held_back),
    ] {
        page.line(&format!("outcome=\"{outcome}\""), count as f64);
    }
    if let Some(figures) = state.figures {
        page.family(
            "vitrine_loop_ndcg",
            "gauge",
            "NDCG@10 on the newest tenth of the interactions, in the last round.",
        );
        page.line("of=\"candidate\"", figures.candidate);
        page.line("of=\"popular\"", figures.popular);
        if let Some(live) = figures.live {
            page.line("of=\"live\"", live);
        }
    }
    page.text
}

struct Page<'a> {
    model: &'a str,
    text: String,
}

/// Writing to a text does not fail.
impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A line of the family before.
    fn line(&mut self, labels: &str, value: f64) {
        let name = self.text.rsplit("# TYPE ").next().and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let more = if labels.is_empty() { "" } else { "," };
        let line = format!("{name}{{model=\"{}\"{more}{labels}}} {value}", self.model);
        let _ = writeln!(self.text, "{line}");
    }
}
