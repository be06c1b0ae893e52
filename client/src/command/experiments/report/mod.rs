//! `vitrine experiments report`: in the terminal, as JSON, and as a page.

mod axis;
mod curves;
mod figures;
mod forest;
mod page;
mod terminal;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use vitrine::v1::{ExperimentReport, GuardRailState, ReportExperimentRequest};

use crate::{arguments::Global, exit};

/// How many points in time the curves of a page have, if nothing is said.
const PAGE_CURVE_POINTS: i32 = 60;

/// Of which experiment, and how.
#[derive(Debug, Args)]
pub struct Report {
    /// The experiment, as `encoder`
    id: String,
    /// Write it as a page for a browser, too: one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Intervals miss the truth so often [default: the server's, 0.05]
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", hide_default_value = true, allow_negative_numbers = true)]
    alpha: f64,
    /// At how many shoppers the intervals that are valid at any time are tightest [default: the server's, 5,000]
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true, allow_negative_numbers = true)]
    tuning: i64,
    /// With --html or --json: how many points in time the curves have [default: 60 with --html]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    curve: Option<i32>,
    /// Exit with 7 if shoppers are not shared out as they should be, or if a guard rail is broken
    #[arg(long)]
    strict: bool,
}

impl Report {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let request = ReportExperimentRequest {
            name: super::name(&self.id),
            alpha: self.alpha,
            sequential_tuning: self.tuning,
            curve_points: self.curve.unwrap_or(if self.html.is_some() { PAGE_CURVE_POINTS } else { 0 }),
        };
        let report = global.connect().await?.report_experiment(request).await?;
        if let Some(path) = &self.html {
            fs::write(path, page::page(&report)?).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("wrote the report to {}", path.display());
        }
        let output = global.output();
        if output.json {
            output.object(&report)?;
        } else {
            terminal::print(output, &report)?;
        }
        Ok(if self.strict && unsound(&report) { exit::UNSOUND } else { exit::OK })
    }
}

fn unsound(report: &ExperimentReport) -> bool {
    let broken = |state| state == GuardRailState::Broken;
    report.sample_ratio.as_ref().is_some_and(|ratio| ratio.mismatch)
        || report.guard_rails.iter().any(|rail| broken(rail.state()))
}
