//! Learning what will be clicked on. The loss is the cross entropy of what happened; the oldest examples are learnt from, and the newest are
//! foretold.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap, ops::sigmoid};
use clap::Args;
use rand::rngs::StdRng;
use serde::Serialize;
use serde_json::json;
use vitrine_models::{ClickModel, ClickNetwork, ClickSpec, DeviceSpec, Mode, cross_entropy_of_odds, start};

use super::click_config::{ClickConfig, ClickKind};
use super::fit::{self, Fit, Learner};
use super::learning::{self, How};
use super::learnt::{self, Learnt};
use super::optimizer::{Optimizer, Rule};
use super::parent::Parent;
use crate::click_metrics::{self, ClickScores, Foretold};
use crate::clicks::{ClickFiles, Clicks, Look};
use crate::evaluate::print_scores;
use crate::publish::Training;
use crate::reliability;

/// Examples that are foretold together.
const BATCH: usize = 4096;

/// So many are recorded for whoever loads the version.
const RECORDED: usize = 16;

/// What to learn from, and where to keep it.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    files: ClickFiles,
    #[command(flatten)]
    how: How,
}

/// What was learnt.
#[derive(Debug, Serialize)]
pub struct ClickReport {
    /// The network.
    pub kind: ClickKind,
    /// Examples that were foretold.
    pub examples: usize,
    /// The part of them that was clicked on.
    pub rate: f64,
    /// The pass that gave the best weights.
    pub best_epoch: u32,
    /// Passes that were made.
    pub epochs: u32,
    /// What it took.
    pub seconds: f64,
    /// AUC of the examples that told when to stop.
    pub validation_auc: f64,
    /// Of the newest examples.
    pub test: ClickScores,
}

pub fn run(arguments: &Arguments, kind: ClickKind) -> Result<()> {
    let mut config: ClickConfig = learning::read(arguments.how.config.as_deref(), ClickConfig::default())?;
    arguments.how.settle(&mut config.learning);
    let parent = arguments.how.parent()?;
    let known = parent.as_ref().map(|parent| parent.read::<ClickSpec>(learnt::SPEC)).transpose()?;
    let clicks = Clicks::read(&arguments.files, &config.look(), known.as_ref().map(ClickSpec::fields))?;
    let out = &arguments.how.out;
    // What is to be beaten is learnt first.
    let baselines = [ClickKind::Lr, ClickKind::Fm].map(|kind| (kind, out.join(kind.name())));
    let all = baselines.into_iter().chain([(kind, out.clone())]);
    let learnt = all.map(|(learnt, out)| {
        let parent = parent.as_ref().filter(|_| learnt == kind);
        train_clicks(&config, learnt, &clicks, parent, &out)
    });
    let reports = learnt.collect::<Result<Vec<_>>>();
    let reports = reports.with_context(|| arguments.files.interactions.display().to_string())?;
    let always = clicks.rate(clicks.learning());
    let known = click_metrics::score(&clicks.foretold(clicks.test(), |_| always as f32));
    let of_networks = reports.iter().map(|report| (report.kind.name().to_owned(), report.test.clone()));
    print_scores(
        &std::iter::once(("the rate of before".to_owned(), known.clone())).chain(of_networks).collect::<Vec<_>>(),
    );
    for report in &reports {
        let ClickReport { kind, best_epoch, epochs, seconds, .. } = report;
        println!("{}: best after {best_epoch} of {epochs} passes, {seconds:.0} s", kind.name());
    }
    println!(
        "{} examples foretold, {:.1} % of them clicked on",
        clicks.test().len(),
        100.0 * clicks.rate(clicks.test())
    );
    if arguments.how.json {
        println!("{}", json!({ "models": reports, "rate_of_before": known }));
    }
    Ok(())
}

/// Learns, and leaves the best weights, the configuration and the metrics in a folder.
///
/// It begins with the weights of `parent`, if there is one: then the examples must have been read by its fields.
///
/// # Errors
/// The parent is another network, there are not both examples with and without a click to learn from and to stop by, the folder cannot be written, or has the
/// checkpoint of something else.
pub fn train_clicks(
    config: &ClickConfig,
    kind: ClickKind,
    clicks: &Clicks,
    parent: Option<&Parent>,
    out: &Path,
) -> Result<ClickReport> {
    let started = Instant::now();
    for (examples, what) in [(clicks.learning(), "learn from"), (clicks.validation(), "stop by")] {
        let rate = clicks.rate(examples.clone());
        ensure!(
            rate > 0.0 && rate < 1.0,
            "of the {} examples to {what}, {:.0} % were clicked on: there must be some with and some without",
            examples.len(),
            100.0 * rate
        );
    }
    let (variables, device) = (VarMap::new(), config.learning.device.open()?);
    let weights = VarBuilder::from_varmap(&variables, DType::F32, &device);
    let spec = config.spec(kind, clicks.fields.clone());
    let network = spec.network(&weights)?;
    start(&variables, config.learning.seed, |name, shape| config.deviation(name, shape))?;
    if let Some(parent) = parent {
        parent.check(&spec)?;
        fit::load(&variables, &parent.path(), |_| true)?;
    }
    let clicking = Clicking { network: &*network, device, config, clicks };
    let (settings, data) =
        (json!({ "network": spec, "config": config, "parent": parent.map(Parent::name) }), clicks.fingerprint()?);
    let fit = Fit { learning: &config.learning, settings, data: data.clone(), metric: "auc", dir: out };
    let fitted = fit.run(&clicking, &variables)?;
    let report = ClickReport {
        kind,
        examples: clicks.test().len(),
        rate: clicks.rate(clicks.test()),
        best_epoch: fitted.best_epoch,
        epochs: fitted.epochs,
        seconds: started.elapsed().as_secs_f64(),
        validation_auc: fitted.best,
        test: clicking.score(clicks.test())?,
    };
    let figures = [
        ("auc", report.test.auc),
        ("grouped_auc", report.test.grouped_auc),
        ("log_loss", report.test.log_loss),
        ("calibration_error", report.test.calibration_error),
        ("validation_auc", report.validation_auc),
    ];
    let training =
        Training { data: clicks.name.clone(), data_hash: data, gate: config.gate.clone(), config: json!(config) };
    Learnt { spec: json!(spec), training, figures: &figures }.write(out)?;
    reliability::draw(&out.join("reliability.svg"), &report.test.reliability)?;
    let model = ClickModel::load(out, &DeviceSpec::Cpu)?;
    model.write_golden(out, &clicks.encoded.part(clicks.test().take(RECORDED), clicks.fields.slots()))?;
    Ok(report)
}

impl ClickConfig {
    /// What of the files is looked at.
    pub fn look(&self) -> Look<'_> {
        Look { columns: &self.columns, most_buckets: self.most_buckets, most_words: self.most_words }
    }
}

impl Clicks {
    pub(crate) fn foretold(&self, examples: Range<usize>, chance: impl Fn(usize) -> f32) -> Vec<Foretold> {
        let of = |(at, example): (usize, usize)| Foretold {
            chance: chance(at),
            clicked: self.clicked[example],
            user: self.users[example],
        };
        examples.enumerate().map(of).collect()
    }
}

/// Learns what will be clicked on.
struct Clicking<'a> {
    network: &'a dyn ClickNetwork,
    device: Device,
    config: &'a ClickConfig,
    clicks: &'a Clicks,
}

impl Clicking<'_> {
    fn logits(&self, places: &[usize], mode: &mut Mode<'_>) -> candle_core::Result<Tensor> {
        let Clicks { fields, encoded, .. } = self.clicks;
        self.network.logits(&fields.examples(encoded, places, &self.device)?, mode)
    }

    fn score(&self, examples: Range<usize>) -> Result<ClickScores> {
        let mut chances: Vec<f32> = Vec::with_capacity(examples.len());
        for places in examples.clone().collect::<Vec<_>>().chunks(BATCH) {
            chances.extend(sigmoid(&self.logits(places, &mut Mode::serving())?)?.to_vec1::<f32>()?);
        }
        Ok(click_metrics::score(&self.clicks.foretold(examples, |at| chances[at])))
    }
}

impl Learner for Clicking<'_> {
    type Batch = Vec<usize>;

    fn batches(&self, random: &mut StdRng) -> Vec<Self::Batch> {
        fit::shuffled(self.clicks.learning(), self.config.learning.batch, random)
    }

    fn step(&self, places: &Self::Batch, random: &mut StdRng, optimizer: &mut Optimizer, rule: Rule) -> Result<f64> {
        let clicked: Vec<f32> = places.iter().map(|&place| f32::from(u8::from(self.clicks.clicked[place]))).collect();
        let logits = self.logits(places, &mut Mode::training(random))?;
        let loss = cross_entropy_of_odds(&logits, &Tensor::new(clicked, &self.device)?)?;
        Ok(optimizer.step(&loss, rule)?)
    }

    fn validate(&self) -> Result<f64> {
        Ok(self.score(self.clicks.validation())?.auc)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;

    use super::*;
    use crate::train::fit::WEIGHTS;
    use crate::train::learning::Learning;

    /// Whether a shape is liked depends on its colour: no single column says anything.
    fn clicks(dir: &Path, liked: impl Fn(usize, usize) -> bool) -> Clicks {
        let mut text =
            "user_id:token\titem_id:token\tcolour:token\tshape:token\tlabel:float\ttimestamp:float\n".to_owned();
        for at in 0..400 {
            let (colour, shape) = (at * 7 % 5, at * 3 % 4);
            let label = u8::from(liked(colour, shape));
            writeln!(text, "u{}\ti{}\tc{colour}\ts{shape}\t{label}\t{at}", at % 10, at % 20).unwrap();
        }
        let interactions = dir.join("x.inter");
        fs::write(&interactions, text).unwrap();
        let label = "label".to_owned();
        let files = ClickFiles { interactions, users: None, items: None, label, at_least: 1.0 };
        let columns = ["colour".to_owned(), "shape".to_owned()];
        Clicks::read(&files, &Look { columns: &columns, most_buckets: 64, most_words: 4 }, None).unwrap()
    }

    fn small(epochs: u32) -> ClickConfig {
        let learning = Learning { batch: 32, learning_rate: 0.01, epochs, patience: 50, ..Learning::default() };
        ClickConfig { width: 8, layers: vec![16], dropout: 0.0, deviation: 0.1, learning, ..ClickConfig::default() }
    }

    #[test]
    fn what_pairs_say_is_learnt_by_those_that_look_at_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let clicks = clicks(dir.path(), |colour, shape| (colour + shape) % 2 == 0);
        let auc = |kind: ClickKind| {
            train_clicks(&small(50), kind, &clicks, None, &dir.path().join(kind.name())).unwrap().test.auc
        };
        for kind in [ClickKind::Fm, ClickKind::Deepfm, ClickKind::DcnV2] {
            assert!(auc(kind) > 0.99, "{kind:?}");
        }
        assert!(auc(ClickKind::Lr) < 0.8);
    }

    #[test]
    fn the_same_seed_gives_the_same_weights_and_so_does_going_on() {
        let dir = tempfile::tempdir().unwrap();
        let clicks = clicks(dir.path(), |colour, shape| colour > shape);
        let train = |epochs, name: &str| {
            train_clicks(&small(epochs), ClickKind::Deepfm, &clicks, None, &dir.path().join(name)).unwrap();
            fs::read(dir.path().join(name).join(WEIGHTS)).unwrap()
        };
        let whole = train(6, "whole");
        assert!(whole == train(6, "again"), "the same seed");
        train(3, "parts");
        assert!(whole == train(6, "parts"), "going on");
    }

    #[test]
    fn a_parent_is_begun_with_and_its_fields_stay() {
        let dir = tempfile::tempdir().unwrap();
        let clicks = clicks(dir.path(), |colour, shape| (colour + shape) % 2 == 0);
        let train = |epochs, parent: Option<&Parent>, name: &str| {
            train_clicks(&small(epochs), ClickKind::Deepfm, &clicks, parent, &dir.path().join(name))
        };
        train(50, None, "old").unwrap();
        let parent = Parent::find(dir.path().join("old").to_str().unwrap(), None).unwrap();
        let (fresh, warm) = (train(1, None, "fresh").unwrap(), train(1, Some(&parent), "warm").unwrap());
        assert!(warm.test.auc > 0.99 && fresh.test.auc < 0.9, "{warm:?} after {fresh:?}");
        let known: ClickSpec = parent.read("config.json").unwrap();
        assert_eq!(known.fields(), &clicks.fields);
        assert!(Parent::find("nowhere", None).unwrap_err().to_string().contains("neither"));
        assert!(Parent::find("next/1", None).unwrap_err().to_string().contains("--registry"));
    }

    #[test]
    fn examples_that_are_all_alike_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let clicks = clicks(dir.path(), |_, _| true);
        let error =
            train_clicks(&small(1), ClickKind::Fm, &clicks, None, &dir.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("100 % were clicked on"), "{error}");
        assert!(!dir.path().join("out").exists());
    }
}
