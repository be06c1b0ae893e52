//! Learning to make pictures: step by step, a discriminator learns to tell real pictures from made ones, and a generator to deceive it. What
//! is kept is the mean of the generator's weights over many steps ("The Unusual Effectiveness of Averaging in GAN Training", Yazıcı et al.
//! 2019, <https://arxiv.org/abs/1806.04498>), after the pass whose pictures were most like real ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use clap::Args;
use image::{DynamicImage, GrayImage, RgbImage};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde::Serialize;
use serde_json::json;
use vitrine_models::{
    CganConfig, DeviceSpec, Discriminator, Generator, Mode, PictureGenerator, PictureModel, Wish, by_name, start,
};

use super::fit::{self, Fit, Learner};
use super::gan_config::{GanConfig, named};
use super::halves::{self, Half};
use super::learning::{self, How};
use super::learnt::Learnt;
use super::optimizer::{Optimizer, Rule, Slope};
use super::parent::Parent;
use super::picture::train_pictures;
use super::picture_config::{PictureConfig, PictureKind};
use crate::evaluate::{made, print_made, score_made};
use crate::gan_metrics::{Features, GanScores};
use crate::judge::{Judge, check_judge};
use crate::picture_metrics::look;
use crate::pictures::{Labelled, PictureFiles, Pictures};
use crate::publish::Training;

/// The prefix of the generator that learns; that of the mean is the one that is served.
const LEARNER: &str = "learner";

/// The standard deviation of starting weights, as Radford et al. have it: with larger ones the first pictures are nothing but noise, which
/// takes long to unlearn.
const DEVIATION: f32 = 0.02;

/// That of what classes scale and shift features by: with small ones, pictures are long the same for all classes.
const DEVIATION_OF_CLASSES: f32 = 0.5;

/// So many are recorded for whoever loads the version.
const RECORDED: u32 = 4;

/// Pictures of a class on the sheet.
const COLUMNS: u32 = 8;

/// What to learn from, and where to keep it.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    files: PictureFiles,
    /// A folder that a network which knows the classes was learnt into (`train cnn`): what it sees tells how good pictures are
    #[arg(long, value_name = "FOLDER")]
    judge: PathBuf,
    #[command(flatten)]
    how: How,
}

/// What was learnt.
#[derive(Debug, Serialize)]
pub struct GanReport {
    /// The pass that gave the best weights.
    pub best_epoch: u32,
    /// Passes that were made.
    pub epochs: u32,
    /// What they took.
    pub seconds: f64,
    /// As many pictures as there are to test by, equally many of each class.
    pub made: GanScores,
    /// The accuracy on real test pictures of a network that has learnt from made ones only.
    pub classifier_accuracy: Option<f64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut config = learning::read(arguments.how.config.as_deref(), GanConfig::default())?;
    arguments.how.settle(&mut config.learning);
    let judge = Judge::load(&arguments.judge, &config.learning.device)?;
    let pictures = Pictures::read(&arguments.files, config.side, config.channels)?;
    let parent = arguments.how.parent()?;
    let report = train_gan(&config, &pictures, &judge, parent.as_ref(), &arguments.how.out)
        .with_context(|| arguments.files.pictures.display().to_string())?;
    print_made(&report.made);
    if let Some(accuracy) = report.classifier_accuracy {
        println!(
            "a network that learnt from {} of them names {:.1} % of the real ones",
            config.classified,
            100.0 * accuracy
        );
    }
    println!("best after {} of {} passes, {:.0} s", report.best_epoch, report.epochs, report.seconds);
    if arguments.how.json {
        println!("{}", json!(report));
    }
    Ok(())
}

/// Learns, and leaves the best weights, the configuration, the metrics and a sheet of pictures in a folder.
///
/// It begins with the weights of `parent`, if there is one.
///
/// # Errors
/// The judge sees other pictures or knows other classes, the parent is another network, the folder cannot be written, or has the checkpoint of something else.
pub fn train_gan(
    config: &GanConfig,
    pictures: &Pictures,
    judge: &Judge,
    parent: Option<&Parent>,
    out: &Path,
) -> Result<GanReport> {
    let started = Instant::now();
    let shape = [config.side, config.side, config.channels];
    check_judge(&judge.model, shape, &pictures.classes)?;
    let (variables, networks) = (VarMap::new(), config.spec(pictures));
    let device = config.learning.device.open()?;
    let weights = VarBuilder::from_varmap(&variables, DType::F32, &device);
    let generator = Generator::new(&networks, &weights.pp(LEARNER))?;
    let average = Generator::new(&networks, &weights.pp(PictureGenerator::GENERATOR))?;
    let discriminator = Discriminator::new(&networks, &weights.pp(PictureGenerator::DISCRIMINATOR))?;
    start(&variables, config.learning.seed, |name, _| {
        if Generator::is_of_classes(name) { DEVIATION_OF_CLASSES } else { DEVIATION }
    })?;
    let averaged = averaged(&variables);
    if let Some(parent) = parent {
        parent.check(&named(networks.clone()))?;
        fit::load(&variables, &parent.path(), |name| !name.starts_with(LEARNER))?;
    }
    // The learner begins where the mean does.
    for (mean, learner) in &averaged {
        learner.set(mean)?;
    }
    let real = Features::new(&look(&judge.model, &pictures.validation)?, &pictures.validation.labels)?;
    let making = Making {
        config,
        networks: &networks,
        device,
        pictures,
        judge: &judge.model,
        generator,
        average,
        discriminator,
        averaged,
        real,
        out,
    };
    let (settings, data) =
        (json!({ "network": networks, "config": config, "parent": parent.map(Parent::name) }), pictures.fingerprint());
    let fit = Fit { learning: &config.learning, settings, data: data.clone(), metric: "minus_frechet", dir: out };
    let fitted = fit.run(&making, &variables)?;
    making.draw_sheet()?;
    let seconds = started.elapsed().as_secs_f64();
    let report = GanReport {
        best_epoch: fitted.best_epoch,
        epochs: fitted.epochs,
        seconds,
        made: score_made(&making.make(pictures.test.len(), 0)?, &judge.model, pictures)?,
        classifier_accuracy: (config.classified > 0).then(|| making.classify()).transpose()?,
    };
    let mut figures = vec![
        ("frechet", report.made.frechet),
        ("frechet_floor", report.made.frechet_floor),
        ("consistency", report.made.consistency),
        ("least_coverage", report.made.least_coverage()),
        ("near_copies", report.made.near_copies),
    ];
    figures.extend(report.classifier_accuracy.map(|accuracy| ("classifier_accuracy", accuracy)));
    let training =
        Training { data: pictures.name.clone(), data_hash: data, gate: config.gate.clone(), config: json!(config) };
    Learnt { spec: json!(named(networks.clone())), training, figures: &figures }.write(out)?;
    if report.made.near > 0.0 {
        judge.remember(&pictures.learning, report.made.near, out)?;
    } else {
        eprintln!("pictures to test by are among those to learn from: the version will not tell copies");
    }
    let model = PictureGenerator::load(out, &DeviceSpec::Cpu)?;
    let classes = pictures.classes.len() as u32;
    let wishes: Vec<Wish> = (0..RECORDED).map(|at| Wish { class: at % classes, seed: at.into() }).collect();
    model.write_golden(out, &wishes)?;
    Ok(report)
}

/// Each variable of the mean with that of the learner.
fn averaged(variables: &VarMap) -> Vec<(Var, Var)> {
    let all = by_name(variables);
    let learners = all.iter().filter_map(|(name, learner)| Some((name.strip_prefix(LEARNER)?, learner)));
    let pairs = learners.filter_map(|(name, learner)| {
        Some((all.get(&format!("{}{name}", PictureGenerator::GENERATOR))?.clone(), learner.clone()))
    });
    pairs.collect()
}

/// Learns to make pictures.
struct Making<'a> {
    config: &'a GanConfig,
    networks: &'a CganConfig,
    device: Device,
    pictures: &'a Pictures,
    judge: &'a PictureModel,
    generator: Generator,
    average: Generator,
    discriminator: Discriminator,
    averaged: Vec<(Var, Var)>,
    /// What the judge sees in real pictures that tell how good made ones are.
    real: Features,
    out: &'a Path,
}

/// Pictures, as the discriminator is to see them next, that the generator can still learn from.
struct Made {
    pictures: Tensor,
    classes: Tensor,
    /// What part of the batch they are.
    share: f64,
}

impl Making<'_> {
    /// Makes as many pictures as a half of a batch has; what the discriminator is to learn from both.
    fn discriminate(&self, batch: usize, mut half: Half<'_, usize>) -> Result<(Slope, Made)> {
        let count = half.examples.len();
        let (real, classes) = self.config.vary.batch(&self.pictures.learning, half.examples, &mut half.random)?;
        let (real, classes) = (real.to_device(&self.device)?, Tensor::new(classes, &self.device)?);
        let seeds: Vec<u64> = half.examples.iter().map(|_| half.random.random()).collect();
        let pictures = self.generator.forward(&self.noise(seeds.into_iter())?, &classes, &mut half.mode())?;
        let augment = &self.config.augment;
        let both = augment.apply(&Tensor::cat(&[&real, &pictures.detach()], 0)?, &mut half.random)?;
        let twice = Tensor::cat(&[&classes, &classes], 0)?;
        let verdicts = self.discriminator.forward(&both, &twice, &half.mode())?;
        let (of_real, of_made) = (verdicts.narrow(0, 0, count)?, verdicts.narrow(0, count, count)?);
        let share = count as f64 / batch as f64;
        let slope = Slope::of(&self.config.loss.discriminator(&of_real, &of_made)?, share)?;
        Ok((slope, Made { pictures: augment.apply(&pictures, &mut half.random)?, classes, share }))
    }

    fn noise(&self, seeds: impl Iterator<Item = u64>) -> Result<Tensor> {
        let noise: Vec<f32> = seeds.flat_map(|seed| self.networks.noise_of(seed)).collect();
        Ok(Tensor::from_vec(noise, ((), self.config.noise), &self.device)?)
    }

    fn make(&self, count: usize, first_seed: u64) -> Result<Labelled> {
        made(self.networks, count, first_seed, |wishes| {
            let noise = self.noise(wishes.iter().map(|wish| wish.seed))?;
            let classes: Vec<u32> = wishes.iter().map(|wish| wish.class).collect();
            Ok(self.average.forward(&noise, &Tensor::new(classes, &self.device)?, &mut Mode::serving())?)
        })
    }

    /// Learns classes from made pictures only, and names real ones.
    fn classify(&self) -> Result<f64> {
        let GanConfig { side, channels, classified, classifier_epochs, ref learning, .. } = *self.config;
        let usual = PictureConfig::usual(PictureKind::Cnn);
        let learning = learning::Learning { seed: learning.seed, epochs: classifier_epochs, ..usual.learning.clone() };
        let config = PictureConfig { side, channels, widths: vec![16, 32, 64], learning, ..usual };
        let pictures = Pictures {
            name: "made".to_owned(),
            classes: self.pictures.classes.clone(),
            learning: self.make(classified, 1 << 40)?,
            validation: self.make(classified / 10 + 1, 1 << 41)?,
            test: self.pictures.test.clone(),
        };
        let dir = self.out.join("classifier");
        if dir.exists() {
            // From the pictures of an earlier pass.
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(train_pictures(&config, PictureKind::Cnn, &pictures, None, &dir)?.test.accuracy.value)
    }

    /// Draws a line of pictures for each class.
    fn draw_sheet(&self) -> Result<()> {
        let (classes, side) = (self.pictures.classes.len() as u32, self.config.side as u32);
        let made = self.make((classes * COLUMNS) as usize, 0)?;
        let mut sheet = DynamicImage::ImageRgb8(RgbImage::new(COLUMNS * (side + 2), classes * (side + 2)));
        for (at, class) in (0_u32..).zip(&made.labels) {
            let numbers = made.picture(at as usize).to_vec();
            let picture = if self.config.channels == 1 {
                GrayImage::from_raw(side, side, numbers).map(DynamicImage::from)
            } else {
                RgbImage::from_raw(side, side, numbers).map(DynamicImage::from)
            };
            let picture = picture.context("a picture has other numbers than its size")?.into_rgb8();
            let [x, y] = [at / classes, *class].map(|place| i64::from(place * (side + 2) + 1));
            image::imageops::replace(&mut sheet, &DynamicImage::from(picture), x, y);
        }
        let path = self.out.join("sheet.png");
        sheet.save(&path).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Learner for Making<'_> {
    type Batch = Vec<usize>;

    fn batches(&self, random: &mut StdRng) -> Vec<Self::Batch> {
        fit::shuffled(0..self.pictures.learning.len(), self.config.learning.batch, random)
    }

    fn step(&self, places: &Self::Batch, random: &mut StdRng, optimizer: &mut Optimizer, rule: Rule) -> Result<f64> {
        self.discriminator.follow()?;
        let discriminate = |half| self.discriminate(places.len(), half);
        let learnt = halves::each(halves::of(places, random), &self.device, discriminate)?;
        let (slopes, made): (Vec<_>, Vec<_>) = learnt.into_iter().unzip();
        let faster = Rule { learning_rate: rule.learning_rate * self.config.discriminator_rate, ..rule };
        optimizer.step_by(&slopes, faster)?;

        let slopes = halves::each(made, &self.device, |Made { pictures, classes, share }| {
            let verdicts = self.discriminator.forward(&pictures, &classes, &Mode::serving())?;
            Ok(Slope::of(&self.config.loss.generator(&verdicts)?, share)?)
        })?;
        let loss = optimizer.step_by(&slopes, rule)?;
        // At first the mean is of few steps.
        let stays = self.config.average.min((1.0 + f64::from(rule.step)) / (10.0 + f64::from(rule.step)));
        for (mean, learner) in &self.averaged {
            mean.set(&((mean.as_tensor() * stays)? + (learner.as_tensor() * (1.0 - stays))?)?)?;
        }
        Ok(loss)
    }

    fn validate(&self) -> Result<f64> {
        self.draw_sheet()?;
        let made = self.make(self.config.judged, 1 << 42)?;
        Ok(-Features::new(&look(self.judge, &made)?, &made.labels)?.frechet(&self.real)?)
    }

    fn is_kept(&self, variable: &str) -> bool {
        !variable.starts_with(LEARNER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::dots;
    use crate::train::fit::WEIGHTS;
    use crate::train::learning::Learning;
    use vitrine_models::{GanLayers, GoldenCheck};

    fn small(epochs: u32) -> GanConfig {
        let usual = GanConfig::default();
        let learning = Learning { batch: 16, learning_rate: 0.002, epochs, patience: epochs, ..usual.learning.clone() };
        let layers = GanLayers::Dense { widths: vec![32, 64] };
        GanConfig { side: 6, noise: 8, layers, average: 0.9, judged: 64, classified: 0, learning, ..usual }
    }

    fn judge(dir: &Path) -> Judge {
        let usual = PictureConfig::usual(PictureKind::Cnn);
        let learning = Learning { batch: 16, learning_rate: 0.01, decay: 1.0, epochs: 15, ..usual.learning.clone() };
        let vary = crate::vary::Vary { flip: false, shift: 0.0, erase: 0.0 };
        let config = PictureConfig { side: 6, widths: vec![8, 8], vary, learning, ..usual };
        train_pictures(&config, PictureKind::Cnn, &dots(), None, dir).unwrap();
        Judge::load(dir, &DeviceSpec::Cpu).unwrap()
    }

    #[test]
    fn pictures_of_each_class_are_made_and_going_on_comes_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let judge = judge(&dir.path().join("judge"));
        let train = |config: &GanConfig, name: &str| {
            let out = dir.path().join(name);
            (train_gan(config, &dots(), &judge, None, &out).unwrap(), fs::read(out.join(WEIGHTS)).unwrap())
        };
        let (report, whole) = train(&small(60), "whole");
        assert!(report.made.consistency > 0.8, "{report:?}");
        // What is done in the end may be another matter each time, and is done anew.
        let classified = |epochs| GanConfig { classified: 20, classifier_epochs: 1, ..small(epochs) };
        train(&classified(6), "parts");
        train(&classified(7), "parts");
        assert!(train(&small(60), "parts").1 == whole, "going on");
        let model = PictureGenerator::load(&dir.path().join("whole"), &DeviceSpec::Cpu).unwrap();
        let checked = model.check_golden(&dir.path().join("whole"), 1e-6).unwrap();
        assert!(matches!(checked, GoldenCheck::Matched { rows: 4, .. }));
        let sheet = image::open(dir.path().join("whole/sheet.png")).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (8 * 8, 4 * 8));
        let wish = [Wish { class: 1, seed: 5 }];
        let made = model.make(&wish).unwrap();
        let verdict = model.judge(&made, &wish).unwrap()[0];
        assert!((0.0..=1.0).contains(&verdict), "{verdict}");
        assert!(model.make(&[Wish { class: 9, seed: 5 }]).is_err(), "a class that is not there");
    }

    #[test]
    fn a_judge_of_other_pictures_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let judge = judge(&dir.path().join("judge"));
        let out = dir.path().join("out");
        let error =
            train_gan(&GanConfig { channels: 3, ..small(1) }, &dots(), &judge, None, &out).unwrap_err().to_string();
        assert!(error.contains("the judge sees"), "{error}");
        let mut others = dots();
        others.classes.swap(0, 1);
        let error = train_gan(&small(1), &others, &judge, None, &out).unwrap_err().to_string();
        assert!(error.contains("the judge knows") && !out.exists(), "{error}");
    }
}
