//! The loop of learning: pass after pass over all examples in another order, a validation after each, until there is nothing more to
//! gain. It keeps the best weights, and a checkpoint from which it goes on after it was killed, to the same weights.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use candle_core::Device;
use candle_nn::VarMap;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};
use vitrine_models::by_name;

use super::checkpoint::{self, Progress};
use super::curve::{self, Point};
use super::learning::Learning;
use super::optimizer::{Optimizer, Rule};

/// The best weights.
pub const WEIGHTS: &str = "model.safetensors";

/// What a network learns from, and how its loss is computed.
pub trait Learner {
    /// Examples that make one step.
    type Batch;

    /// All examples, once, in a random order.
    fn batches(&self, random: &mut StdRng) -> Vec<Self::Batch>;

    /// Learns a batch, by whatever losses, and returns the one that is to be shown.
    fn step(&self, batch: &Self::Batch, random: &mut StdRng, optimizer: &mut Optimizer, rule: Rule) -> Result<f64>;

    /// How good the network is at what it has not learnt from. More is better.
    fn validate(&self) -> Result<f64>;

    /// Whether a variable is one of the weights that are kept.
    fn is_kept(&self, _variable: &str) -> bool {
        true
    }
}

/// What is learnt, how, and where it is kept.
pub struct Fit<'a> {
    pub learning: &'a Learning,
    /// The network, and the configuration under `config`: a checkpoint of others is refused.
    pub settings: Value,
    /// Tells other data apart, in hexadecimal digits: a checkpoint of others is refused.
    pub data: String,
    /// What the validation is called.
    pub metric: &'static str,
    pub dir: &'a Path,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fitted {
    /// The best validation.
    pub best: f64,
    /// The pass that it came after, from 1.
    pub best_epoch: u32,
    /// Passes that were made.
    pub epochs: u32,
}

impl Fit<'_> {
    /// Learns. The variables then have the best weights, which are in [`WEIGHTS`] as well.
    ///
    /// # Errors
    /// The folder cannot be written, or has the checkpoint of something else; the loss is no longer finite.
    pub fn run(&self, learner: &(impl Learner + Sync), variables: &VarMap) -> Result<Fitted> {
        // In a thread of the pool: from outside, every operation would begin and end with another thread waking up.
        rayon::scope(|_| self.learn(learner, variables))
    }

    fn learn(&self, learner: &impl Learner, variables: &VarMap) -> Result<Fitted> {
        let Self { learning, dir, metric, .. } = *self;
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut optimizer = Optimizer::new(by_name(variables));
        let settings = self.settings.clone();
        let mut progress = Progress { settings, data: self.data.clone(), epoch: 0, steps: 0, best: None };
        if let Some((found, tensors)) = checkpoint::load(dir)? {
            found.check(&progress, dir)?;
            optimizer.resume(&tensors)?;
            progress = found;
            eprintln!("going on after pass {}", progress.epoch);
        }
        let weights = dir.join(WEIGHTS);
        let kept = || {
            let kept = by_name(variables).into_iter().filter(|(name, _)| learner.is_kept(name));
            kept.map(|(name, variable)| (name, variable.as_tensor().clone())).collect::<HashMap<_, _>>()
        };
        let mut log = Log::open(dir, learning.epochs, metric)?;
        while progress.epoch < learning.epochs && progress.waits_for_better(learning.patience) {
            progress.epoch += 1;
            // A pass is a function of seed and number, so that one which was interrupted is made again as it would have been.
            let mut random = StdRng::seed_from_u64(learning.seed ^ (u64::from(progress.epoch) << 32));
            let batches = learner.batches(&mut random);
            let mut total = 0.0;
            for batch in &batches {
                progress.steps += 1;
                let rule = learning.rule(progress.steps, progress.epoch);
                total += learner.step(batch, &mut random, &mut optimizer, rule)?;
            }
            let loss = total / batches.len().max(1) as f64;
            ensure!(loss.is_finite(), "the loss of pass {} is {loss}; try a smaller learning_rate", progress.epoch);
            let score = learner.validate()?;
            if progress.best.is_none_or(|(best, _)| score > best) {
                progress.best = Some((score, progress.epoch));
                candle_core::safetensors::save(&kept(), &weights)
                    .with_context(|| format!("cannot write {}", weights.display()))?;
            }
            checkpoint::save(dir, &progress, &optimizer.tensors()?)?;
            log.write(&progress, loss, score)?;
        }
        log.bar.finish_and_clear();
        load(variables, &weights, |name| learner.is_kept(name))?;
        let (best, best_epoch) = progress.best.context("no pass was made")?;
        curve::draw(&dir.join("curve.svg"), &log.points()?, metric, best_epoch)?;
        Ok(Fitted { best, best_epoch, epochs: progress.epoch })
    }
}

/// Places in a random order, so many at a time.
pub fn shuffled(places: Range<usize>, size: usize, random: &mut StdRng) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = places.collect();
    places.shuffle(random);
    places.chunks(size).map(<[_]>::to_vec).collect()
}

/// Sets variables to what a file of weights has for them.
///
/// # Errors
/// It cannot be read, or lacks one, or has it in another shape.
pub fn load(variables: &VarMap, path: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
    let weights = candle_core::safetensors::load(path, &Device::Cpu)
        .with_context(|| format!("cannot read {} as safetensors", path.display()))?;
    for (name, variable) in by_name(variables).into_iter().filter(|(name, _)| is_wanted(name)) {
        let weight = weights.get(&name).with_context(|| format!("{} has no `{name}`", path.display()))?;
        let weight = weight.to_device(variable.device())?;
        variable.set(&weight).with_context(|| format!("{}: `{name}`", path.display()))?;
    }
    Ok(())
}

impl Progress {
    fn waits_for_better(&self, patience: u32) -> bool {
        self.best.is_none_or(|(_, epoch)| self.epoch - epoch < patience)
    }
}

/// A line for each pass in `metrics.jsonl`, and the latest on the screen.
struct Log {
    path: PathBuf,
    file: fs::File,
    bar: ProgressBar,
    metric: &'static str,
}

impl Log {
    fn open(dir: &Path, epochs: u32, metric: &'static str) -> Result<Self> {
        let path = dir.join("metrics.jsonl");
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let style = ProgressStyle::with_template("{bar:30} pass {pos} of {len} at most: {msg} (up to {eta} to go)")?;
        let bar = ProgressBar::new(epochs.into()).with_style(style);
        bar.enable_steady_tick(Duration::from_secs(1));
        Ok(Self { path, file, bar, metric })
    }

    fn write(&mut self, progress: &Progress, loss: f64, score: f64) -> Result<()> {
        let best = progress.best.map_or(score, |(best, _)| best);
        self.bar.set_position(progress.epoch.into());
        self.bar.set_message(format!("loss {loss:.4}, {} {score:.4}, best {best:.4}", self.metric));
        let line = json!({ "epoch": progress.epoch, "loss": loss, self.metric: score });
        writeln!(self.file, "{line}").with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// All passes, those before an interruption too. One that was made twice is there twice, and the same.
    fn points(&self) -> Result<Vec<Point>> {
        let text = fs::read_to_string(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        let mut points = BTreeMap::new();
        for line in text.lines() {
            // A kill may have cut a line.
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let of = |name: &str| line.get(name).and_then(Value::as_f64);
            if let (Some(epoch), Some(loss), Some(score)) = (of("epoch"), of("loss"), of(self.metric)) {
                points.insert(epoch as u32, Point { epoch: epoch as u32, loss, score });
            }
        }
        Ok(points.into_values().collect())
    }
}
