//! Learning classes of pictures. The loss is the cross entropy of a picture's class; what is in front of the last layer is the embedding.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use clap::Args;
use rand::rngs::StdRng;
use serde::Serialize;
use serde_json::json;
use vitrine_models::{DeviceSpec, Mode, PictureModel, PictureNetwork, cross_entropy, start};

use super::fit::{self, Fit, Learner};
use super::halves;
use super::learning::{self, How};
use super::learnt::{self, Learnt};
use super::optimizer::{Optimizer, Rule, Slope};
use super::picture_config::{PictureConfig, PictureKind};
use crate::evaluate::compare_with_pixels;
use crate::picture_metrics::{self, PictureScores, likeliest};
use crate::pictures::{PictureFiles, Pictures};
use crate::publish::Training;

/// Pictures that are looked at together.
const BATCH: usize = 256;

/// So many are recorded for whoever loads the version.
const RECORDED: usize = 4;

/// What to learn from, and where to keep it.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    files: PictureFiles,
    /// Weights to begin with; those of the classes are left out, as the classes are others
    #[arg(long, value_name = "FILE.safetensors")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// What was learnt.
#[derive(Debug, Serialize)]
pub struct PictureReport {
    /// The network.
    pub kind: PictureKind,
    /// Pictures that it was tested by.
    pub pictures: usize,
    /// The pass that gave the best weights.
    pub best_epoch: u32,
    /// Passes that were made.
    pub epochs: u32,
    /// What it took.
    pub seconds: f64,
    /// Of the pictures that told when to stop.
    pub validation_accuracy: f64,
    /// Of those that it was tested by.
    pub test: PictureScores,
}

pub fn run(arguments: &Arguments, kind: PictureKind) -> Result<()> {
    let mut config = learning::read(arguments.how.config.as_deref(), PictureConfig::usual(kind))?;
    arguments.how.settle(&mut config.learning);
    let pictures = Pictures::read(&arguments.files, config.side, config.channels)?;
    let parent = arguments.how.parent()?.map(|parent| parent.path());
    let weights = parent.as_deref().or(arguments.weights.as_deref());
    let report = train_pictures(&config, kind, &pictures, weights, &arguments.how.out)?;
    let pixels = compare_with_pixels(kind.name(), &report.test, &pictures)?;
    let PictureReport { best_epoch, epochs, seconds, validation_accuracy, .. } = report;
    println!(
        "{} pictures; best after {best_epoch} of {epochs} passes, {validation_accuracy:.4} of those to stop by, {seconds:.0} s",
        report.pictures
    );
    if arguments.how.json {
        println!("{}", json!({ "report": report, "pixels": pixels }));
    }
    Ok(())
}

/// Learns, and leaves the best weights, the configuration and the metrics in a folder.
///
/// # Errors
/// The weights to begin with are others', the folder cannot be written, or has the checkpoint of something else.
pub fn train_pictures(
    config: &PictureConfig,
    kind: PictureKind,
    pictures: &Pictures,
    weights: Option<&Path>,
    out: &Path,
) -> Result<PictureReport> {
    let started = Instant::now();
    ensure!(
        kind != PictureKind::EfficientnetLite || config.channels == 3,
        "channels is {}; {} sees 3",
        config.channels,
        kind.name()
    );
    let (variables, device) = (VarMap::new(), config.learning.device.open()?);
    let spec = config.spec(kind, pictures);
    let network = spec.network(&VarBuilder::from_varmap(&variables, DType::F32, &device))?;
    start(&variables, config.learning.seed, |name, shape| if is_of_classes(name) { 0.01 } else { he(shape) })?;
    if let Some(weights) = weights {
        fit::load(&variables, weights, |name| !is_of_classes(name))?;
    }
    let seeing = Seeing { network: &*network, device, config, pictures };
    let data = pictures.fingerprint();
    let begun = weights.map(|weights| weights.file_name().unwrap_or_default().to_string_lossy());
    let settings = json!({ "network": spec, "config": config, "weights": begun });
    let fit = Fit { learning: &config.learning, settings, data: data.clone(), metric: "accuracy", dir: out };
    let fitted = fit.run(&seeing, &variables)?;
    learnt::write(out, learnt::SPEC, &spec)?;
    PictureModel::write_centre(out, seeing.centre()?)?;
    let model = PictureModel::load(out, &DeviceSpec::Cpu)?;
    let test = picture_metrics::score(&picture_metrics::look(&model, &pictures.test)?, &pictures.test.labels)?;
    let report = PictureReport {
        kind,
        pictures: pictures.test.len(),
        best_epoch: fitted.best_epoch,
        epochs: fitted.epochs,
        seconds: started.elapsed().as_secs_f64(),
        validation_accuracy: fitted.best,
        test,
    };
    let figures = [
        ("accuracy", test.accuracy.value),
        ("retrieval_map", test.retrieval.value),
        ("validation_accuracy", report.validation_accuracy),
    ];
    let training =
        Training { data: pictures.name.clone(), data_hash: data, gate: config.gate.clone(), config: json!(config) };
    Learnt { spec: json!(spec), training, figures: &figures }.write(out)?;
    model.write_golden(out, &pictures.test.tensor(0..RECORDED.min(pictures.test.len()))?)?;
    Ok(report)
}

/// The last layer, which knows the classes.
fn is_of_classes(variable: &str) -> bool {
    variable.starts_with("classes.") || variable.starts_with("_fc.")
}

/// The deviation with which numbers behind rectifiers keep their size ("Delving Deep into Rectifiers", He et al. 2015), for weights
/// `[outputs, inputs, ..]`.
fn he(shape: &[usize]) -> f32 {
    (2.0 / shape.iter().skip(1).product::<usize>().max(1) as f32).sqrt()
}

/// Learns classes.
struct Seeing<'a> {
    network: &'a dyn PictureNetwork,
    device: Device,
    config: &'a PictureConfig,
    pictures: &'a Pictures,
}

impl Seeing<'_> {
    fn logits(&self, pictures: &Tensor, mode: &mut Mode<'_>) -> candle_core::Result<Tensor> {
        let embeddings = self.network.embed(&pictures.to_device(&self.device)?, mode)?;
        self.network.logits(&embeddings, mode)
    }

    /// The mean of the embeddings of what is learnt from.
    fn centre(&self) -> Result<Tensor> {
        let pictures = &self.pictures.learning;
        let mut sum = Tensor::zeros(self.network.dimensions(), DType::F64, &Device::Cpu)?;
        for part in pictures.chunks(BATCH) {
            let seen = self.network.embed(&pictures.tensor(part)?.to_device(&self.device)?, &mut Mode::serving())?;
            sum = (sum + seen.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.sum(0)?)?;
        }
        Ok((sum / pictures.len().max(1) as f64)?.to_dtype(DType::F32)?)
    }

    fn loss(&self, pictures: &Tensor, right: Vec<u32>, mut mode: Mode<'_>) -> Result<Tensor> {
        let logits = self.logits(pictures, &mut mode)?;
        let loss = cross_entropy(&logits, &right)?;
        if self.config.smoothing <= 0.0 {
            return Ok(loss);
        }
        let of_right = logits.gather(&Tensor::new(right, &self.device)?.unsqueeze(1)?, 1)?.mean_all()?;
        Ok((loss + ((of_right - logits.mean_all()?)? * f64::from(self.config.smoothing))?)?)
    }
}

impl Learner for Seeing<'_> {
    type Batch = Vec<usize>;

    fn batches(&self, random: &mut StdRng) -> Vec<Self::Batch> {
        fit::shuffled(0..self.pictures.learning.len(), self.config.learning.batch, random)
    }

    fn step(&self, places: &Self::Batch, random: &mut StdRng, optimizer: &mut Optimizer, rule: Rule) -> Result<f64> {
        let slopes = halves::each(halves::of(places, random), &self.device, |mut half| {
            let share = half.examples.len() as f64 / places.len() as f64;
            let (pictures, right) = self.config.vary.batch(&self.pictures.learning, half.examples, &mut half.random)?;
            Ok(Slope::of(&self.loss(&pictures, right, half.mode())?, share)?)
        })?;
        Ok(optimizer.step_by(&slopes, rule)?)
    }

    fn validate(&self) -> Result<f64> {
        let pictures = &self.pictures.validation;
        let mut right = 0;
        for part in pictures.chunks(BATCH) {
            let logits = self.logits(&pictures.tensor(part.clone())?, &mut Mode::serving())?.to_vec2::<f32>()?;
            right += logits
                .iter()
                .zip(&pictures.labels[part])
                .filter(|(logits, label)| likeliest(logits) == **label)
                .count();
        }
        Ok(right as f64 / pictures.len().max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pictures::dots;
    use crate::train::fit::WEIGHTS;
    use crate::train::learning::Learning;
    use crate::vary::Vary;

    fn small(epochs: u32) -> PictureConfig {
        let usual = PictureConfig::usual(PictureKind::Cnn);
        let learning = Learning { batch: 16, learning_rate: 0.01, decay: 1.0, epochs, ..usual.learning.clone() };
        let vary = Vary { flip: false, shift: 0.0, erase: 0.1 };
        PictureConfig { side: 6, widths: vec![8, 8], vary, learning, ..usual }
    }

    fn train(epochs: u32, weights: Option<&Path>, out: &Path) -> PictureReport {
        train_pictures(&small(epochs), PictureKind::Cnn, &dots(), weights, out).unwrap()
    }

    #[test]
    fn classes_are_learnt_and_their_pictures_are_near() {
        let dir = tempfile::tempdir().unwrap();
        let report = train(25, None, dir.path());
        assert!(report.test.accuracy.value > 0.95 && report.test.retrieval.value > 0.8, "{report:?}");
        let more = train(1, Some(&dir.path().join(WEIGHTS)), &dir.path().join("more"));
        assert!(more.test.retrieval.value > 0.7, "begun with what was learnt: {more:?}");
        let other = PictureConfig { widths: vec![4], ..small(1) };
        let weights = dir.path().join(WEIGHTS);
        let other = train_pictures(&other, PictureKind::Cnn, &dots(), Some(&weights), &dir.path().join("other"));
        let error = format!("{:#}", other.unwrap_err());
        assert!(error.contains("model.safetensors"), "{error}");
    }

    #[test]
    fn the_same_seed_gives_the_same_weights_and_so_does_going_on() {
        let dir = tempfile::tempdir().unwrap();
        let weights = |epochs, name: &str| {
            train(epochs, None, &dir.path().join(name));
            fs::read(dir.path().join(name).join(WEIGHTS)).unwrap()
        };
        let whole = weights(4, "whole");
        assert!(whole == weights(4, "again"), "the same seed");
        weights(2, "parts");
        assert!(whole == weights(4, "parts"), "going on");
    }
}
