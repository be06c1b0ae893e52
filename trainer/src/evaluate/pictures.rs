//! `vitrine-trainer evaluate pictures`: what a network sees in pictures that it has not learnt from.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use vitrine_models::{DeviceSpec, PictureModel};

use crate::picture_metrics::{self, PictureScores};
use crate::pictures::{PictureFiles, Pictures};
use crate::print::{figure, print_table};
use crate::train::learnt;

/// What to measure.
#[derive(Debug, Args)]
pub struct EvaluatePictures {
    /// The folder that was learnt into, or that of a version
    folder: PathBuf,
    #[command(flatten)]
    files: PictureFiles,
    /// End with a line of JSON
    #[arg(long)]
    json: bool,
}

impl EvaluatePictures {
    pub fn run(&self) -> Result<()> {
        let model = PictureModel::load(&self.folder, &DeviceSpec::Cpu)?;
        let [side, _, channels] = model.spec().shape();
        let pictures = Pictures::read(&self.files, side, channels)?;
        let known = model.spec().classes();
        ensure!(known == pictures.classes, "the network knows {known:?}; there are {:?}", pictures.classes);
        let seen = picture_metrics::look(&model, &pictures.test)?;
        let scores = picture_metrics::score(&seen, &pictures.test.labels)?;
        let pixels = compare_with_pixels(&learnt::kind(&self.folder)?, &scores, &pictures)?;
        println!("{} pictures; ± is half a 95 % interval", pictures.test.len());
        if self.json {
            println!("{}", json!({ "test": scores, "pixels": pixels }));
        }
        Ok(())
    }
}

/// Prints scores beside those of the nearest in pixels, which it returns.
pub fn compare_with_pixels(name: &str, scores: &PictureScores, pictures: &Pictures) -> Result<PictureScores> {
    let pixels = picture_metrics::score_of_pixels(&pictures.learning, &pictures.test)?;
    let row =
        |name: &str, scores: &PictureScores| vec![name.to_owned(), figure(scores.accuracy), figure(scores.retrieval)];
    let rows = vec![row("nearest in pixels", &pixels), row(name, scores)];
    print_table(&["model", "accuracy", "retrieval mAP"].map(str::to_owned), rows);
    Ok(pixels)
}
