//! `vitrine-trainer evaluate clicks`: what a network foretells of examples that it has not learnt from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use vitrine_models::{ClickModel, DeviceSpec};

use crate::click_metrics::{self, ClickScores};
use crate::clicks::{ClickFiles, Clicks};
use crate::print::print_table;
use crate::reliability;
use crate::train::{ClickKind, learnt};

/// What to measure.
#[derive(Debug, Args)]
pub struct EvaluateClicks {
    /// The folder that was learnt into, or that of a version
    folder: PathBuf,
    #[command(flatten)]
    files: ClickFiles,
    /// Every example, where the network has learnt from none of them; otherwise the newest tenth
    #[arg(long)]
    all: bool,
    /// Draw how often what was foretold came to be
    #[arg(long, value_name = "FILE.svg")]
    reliability: Option<PathBuf>,
    /// Write what is foretold of each example, a line for each, oldest first
    #[arg(long, value_name = "FILE")]
    chances: Option<PathBuf>,
    /// End with a line of JSON
    #[arg(long)]
    json: bool,
}

impl EvaluateClicks {
    pub fn run(&self) -> Result<()> {
        let baselines =
            [ClickKind::Lr, ClickKind::Fm].map(|kind| (kind.name().to_owned(), self.folder.join(kind.name())));
        let baselines = baselines.into_iter().filter(|(_, folder)| folder.is_dir());
        let scored = baselines.chain([(learnt::kind(&self.folder)?, self.folder.clone())]).map(|(name, folder)| {
            let scores = self.score(&folder).with_context(|| folder.display().to_string())?;
            Ok((name, scores))
        });
        let scored: Vec<(String, ClickScores)> = scored.collect::<Result<_>>()?;
        print_scores(&scored);
        if let (Some(path), Some((_, scores))) = (&self.reliability, scored.last()) {
            reliability::draw(path, &scores.reliability)?;
        }
        if self.json {
            let models = scored.iter().map(|(name, scores)| json!({ "kind": name, "test": scores }));
            println!("{}", json!({ "models": models.collect::<Vec<_>>() }));
        }
        Ok(())
    }

    /// How well the network in a folder foretells, by the fields that it was learnt with.
    fn score(&self, folder: &Path) -> Result<ClickScores> {
        let model = ClickModel::load(folder, &DeviceSpec::Cpu)?;
        let clicks = Clicks::read_by(&self.files, model.fields())?;
        let examples = if self.all { 0..clicks.clicked.len() } else { clicks.test() };
        let chances = model.chances(&clicks.encoded.part(examples.clone(), model.fields().slots()))?;
        if let Some(path) = self.chances.as_ref().filter(|_| folder == self.folder) {
            let lines: Vec<String> = chances.iter().map(f32::to_string).collect();
            fs::write(path, lines.join("\n") + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(click_metrics::score(&clicks.foretold(examples, |at| chances[at])))
    }
}

/// Prints a line for each.
pub fn print_scores(scored: &[(String, ClickScores)]) {
    let row = |(name, scores): &(String, ClickScores)| {
        let figures = [scores.auc, scores.grouped_auc, scores.log_loss, scores.calibration_error];
        std::iter::once(name.clone()).chain(figures.map(|figure| format!("{figure:.4}"))).collect::<Vec<_>>()
    };
    let header = ["model", "AUC", "AUC by user", "log loss", "ECE"].map(str::to_owned);
    print_table(&header, scored.iter().map(row).collect());
}
