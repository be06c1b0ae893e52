//! Learning what comes next in histories. The loss is the cross entropy of the next item, after every item of a history, among all items
//! or among a sample of them: with one negative and a binary loss SASRec is much worse, as "Turning Dross Into Gold Loss" (Klenitskiy
//! & Vasilev 2023, <https://arxiv.org/abs/2309.07602>) shows.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use clap::Args;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde::Serialize;
use serde_json::json;
use vitrine_models::{DeviceSpec, PADDING, SequenceModel, SequenceNetwork, cross_entropy, padded, start};

use super::fit::{Fit, Learner};
use super::halves::{self, Half};
use super::learning::{self, How};
use super::learnt::{self, Learnt};
use super::negatives::Negatives;
use super::optimizer::{Optimizer, Rule, Slope};
use super::parent::Parent;
use super::ranking::{self, Ranked};
use super::sequence_config::{SequenceConfig, SequenceKind};
use crate::evaluate::compare;
use crate::interactions;
use crate::publish::Training;
use crate::sequences::Sequences;

/// The length of rankings that are scored.
const K: usize = 10;

/// The items' own ids.
const ITEMS: &str = "items.json";

/// The vectors of items, the first of them of no item: the only weight that grows with them.
const VECTORS: &str = "items.weight";

/// So many users' histories are recorded for whoever loads the version.
const RECORDED: usize = 4;

/// What to learn from, and where to keep it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Tab-separated with the columns `user_id`, `item_id` and `timestamp`: an `.inter` file of RecBole
    #[arg(long, value_name = "FILE.inter")]
    interactions: PathBuf,
    #[command(flatten)]
    how: How,
}

/// What was learnt.
#[derive(Debug, Serialize)]
pub struct SequenceReport {
    /// The network.
    pub kind: SequenceKind,
    /// Users who are foretold.
    pub users: usize,
    /// Items among which each user's next one is looked for.
    pub items: usize,
    /// The pass that gave the best weights.
    pub best_epoch: u32,
    /// Passes that were made.
    pub epochs: u32,
    /// What it took.
    pub seconds: f64,
    /// NDCG of the items before the last ones.
    pub validation_ndcg: f64,
    /// Of the last items.
    pub test: Ranked,
}

pub fn run(arguments: &Arguments, kind: SequenceKind) -> Result<()> {
    let mut config: SequenceConfig = learning::read(arguments.how.config.as_deref(), SequenceConfig::default())?;
    arguments.how.settle(&mut config.learning);
    let interactions = interactions::read(&arguments.interactions)?;
    let name = arguments.interactions.file_stem().unwrap_or_default().to_string_lossy();
    let sequences = Sequences::new(&name, config.split, interactions.clone());
    let parent = arguments.how.parent()?;
    let report = train_sequence(&config, kind, &sequences, parent.as_ref(), &arguments.how.out)
        .with_context(|| arguments.interactions.display().to_string())?;

    let lines = compare(&arguments.how.out, config.split, interactions)?;
    println!("best after {} of {} passes, {:.0} s", report.best_epoch, report.epochs, report.seconds);
    if arguments.how.json {
        println!("{}", json!({ "report": report, "models": lines }));
    }
    Ok(())
}

/// Learns, and leaves the best weights, the configuration, the items and the metrics in a folder.
///
/// It begins with the weights of `parent`, if there is one: items that it knows keep their vectors, and new ones get some.
///
/// # Errors
/// There is nothing to learn from, the parent is another network, the folder cannot be written, or has the checkpoint of something else.
pub fn train_sequence(
    config: &SequenceConfig,
    kind: SequenceKind,
    sequences: &Sequences,
    parent: Option<&Parent>,
    out: &Path,
) -> Result<SequenceReport> {
    let started = Instant::now();
    ensure!(
        !sequences.validation().is_empty() && sequences.learning().next().is_some(),
        "no user has enough interactions to learn from: one to be tested by, one to stop by, and two before them"
    );
    let (variables, device) = (VarMap::new(), config.learning.device.open()?);
    let weights = VarBuilder::from_varmap(&variables, DType::F32, &device);
    let spec = config.spec(kind, sequences.items().len());
    let network = spec.network(&weights)?;
    start(&variables, config.learning.seed, |_, _| config.deviation)?;
    if let Some(parent) = parent {
        let known = config.known(kind, parent)?;
        parent.give(&variables, VECTORS, &known, sequences.items())?;
    }
    let histories: Vec<&[u32]> = sequences.learning().collect();
    let negatives =
        (config.negatives > 0).then(|| Negatives::new(&histories, sequences.items().len(), config.negatives));
    let next = Next { network: &*network, device: device.clone(), config, histories, sequences, negatives };
    let (settings, data) =
        (json!({ "network": spec, "config": config, "parent": parent.map(Parent::name) }), sequences.fingerprint());
    let fit = Fit { learning: &config.learning, settings, data: data.clone(), metric: "ndcg", dir: out };
    let fitted = fit.run(&next, &variables)?;
    let places = ranking::places(&*network, &sequences.test(), config.max_length, &device)?;
    let report = SequenceReport {
        kind,
        users: places.len(),
        items: sequences.items().len(),
        best_epoch: fitted.best_epoch,
        epochs: fitted.epochs,
        seconds: started.elapsed().as_secs_f64(),
        validation_ndcg: fitted.best,
        test: ranking::score(&places, K),
    };
    let figures = [
        ("ndcg@10", report.test.ndcg.value),
        ("hit_rate@10", report.test.hit_rate.value),
        ("mrr@10", report.test.reciprocal_rank.value),
        ("validation_ndcg@10", report.validation_ndcg),
    ];
    let training = Training {
        data: sequences.name().to_owned(),
        data_hash: data,
        gate: config.gate.clone(),
        config: json!(config),
    };
    let learnt = Learnt { spec: json!(spec), training, figures: &figures };
    learnt.write(out)?;
    learnt::write(out, ITEMS, sequences.items())?;
    let model = SequenceModel::load(out, &DeviceSpec::Cpu)?;
    let histories = sequences.test().into_iter().map(|case| case.history).take(RECORDED).collect::<Vec<_>>();
    model.write_golden(out, &histories)?;
    Ok(report)
}

impl SequenceConfig {
    /// Whether learning may begin with a version's weights: it is the same network but for the items.
    pub(crate) fn continues(&self, kind: SequenceKind, parent: &Parent) -> bool {
        self.known(kind, parent).is_ok()
    }

    /// The items that a version knows, if it is the same network but for them.
    fn known(&self, kind: SequenceKind, parent: &Parent) -> Result<Vec<String>> {
        let known: Vec<String> = parent.read(ITEMS)?;
        parent.check(&self.spec(kind, known.len()))?;
        Ok(known)
    }
}

/// Learns what comes next.
struct Next<'a> {
    network: &'a dyn SequenceNetwork,
    device: Device,
    config: &'a SequenceConfig,
    histories: Vec<&'a [u32]>,
    sequences: &'a Sequences,
    negatives: Option<Negatives>,
}

impl Next<'_> {
    /// The mean cross entropy of what comes next.
    fn loss(&self, mut half: Half<'_, &[u32]>) -> Result<Tensor> {
        let windows = half.examples;
        let most = self.config.max_length;
        let inputs: Vec<&[u32]> = windows.iter().map(|window| &window[..window.len() - 1]).collect();
        let targets: Vec<&[u32]> = windows.iter().map(|window| &window[1..]).collect();
        let ids = padded(&inputs, most, &self.device)?;
        let targets: Vec<u32> = padded(&targets, most, &Device::Cpu)?.flatten_all()?.to_vec1()?;
        let real: Vec<u32> = (0..).zip(&targets).filter(|(_, target)| **target != PADDING).map(|(at, _)| at).collect();
        let wanted: Vec<u32> = targets.into_iter().filter(|target| *target != PADDING).map(|item| item - 1).collect();
        let vectors = self.network.forward(&ids, &mut half.mode())?.flatten_to(D::Minus2)?;
        let vectors = vectors.index_select(&Tensor::new(real, &self.device)?, 0)?;
        let items = self.network.items()?;
        if let Some(negatives) = &self.negatives {
            return Ok(negatives.loss(&vectors, &wanted, &items, &mut half.random)?);
        }
        Ok(cross_entropy(&vectors.matmul(&items.t()?)?, &wanted)?)
    }
}

impl<'a> Learner for Next<'a> {
    type Batch = Vec<&'a [u32]>;

    fn batches(&self, random: &mut StdRng) -> Vec<Self::Batch> {
        let mut windows = windows(&self.histories, self.config.max_length, random);
        windows.shuffle(random);
        windows.chunks(self.config.learning.batch).map(<[_]>::to_vec).collect()
    }

    fn step(&self, windows: &Self::Batch, random: &mut StdRng, optimizer: &mut Optimizer, rule: Rule) -> Result<f64> {
        let steps = |windows: &[&[u32]]| windows.iter().map(|window| window.len() - 1).sum::<usize>() as f64;
        let slopes = halves::each(halves::of(windows, random), &self.device, |half| {
            let share = steps(half.examples) / steps(windows);
            Ok(Slope::of(&self.loss(half)?, share)?)
        })?;
        Ok(optimizer.step_by(&slopes, rule)?)
    }

    fn validate(&self) -> Result<f64> {
        let places = ranking::places(self.network, &self.sequences.validation(), self.config.max_length, &self.device)?;
        Ok(ranking::score(&places, K).ndcg.value)
    }
}

/// Cuts histories into windows of up to `most` steps from an item to the next, each step in one window. Where the cuts are is
/// another matter in each pass, so that all items are learnt after much history and after little.
fn windows<'a>(histories: &[&'a [u32]], most: usize, random: &mut StdRng) -> Vec<&'a [u32]> {
    let mut windows = Vec::new();
    for history in histories {
        let steps = history.len() - 1;
        let mut end = if steps > most { random.random_range(1..=most) } else { steps };
        let mut begin = 0;
        loop {
            windows.push(&history[begin..=end]);
            if end == steps {
                break;
            }
            (begin, end) = (end, (end + most).min(steps));
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::interactions::Interaction;
    use crate::sequences::Split;
    use crate::train::fit::WEIGHTS;
    use crate::train::learning::Learning;
    use rand::SeedableRng as _;

    /// Users who walk round a circle of items.
    fn circle(users: u32, items: u32, steps: u32) -> Sequences {
        let met = |user: u32, step: u32| Interaction {
            user: format!("u{user}"),
            item: format!("i{:02}", (user * 7 + step) % items),
            time: step.into(),
        };
        Sequences::new(
            "circle",
            Split::LeaveOneOut,
            (0..users).flat_map(|user| (0..steps).map(move |step| met(user, step))).collect(),
        )
    }

    fn small(epochs: u32) -> SequenceConfig {
        let learning = Learning { learning_rate: 0.01, epochs, patience: 30, ..Learning::default() };
        SequenceConfig { max_length: 6, hidden: 16, state: 16, dropout: 0.1, learning, ..SequenceConfig::default() }
    }

    fn weights(dir: &Path) -> Vec<u8> {
        fs::read(dir.join(WEIGHTS)).unwrap()
    }

    #[test]
    fn what_always_follows_is_learnt() {
        for (kind, negatives) in [(SequenceKind::Sasrec, 0), (SequenceKind::Gru4rec, 0), (SequenceKind::Sasrec, 8)] {
            let dir = tempfile::tempdir().unwrap();
            // Histories shorter than the circle, as items of a history are not foretold.
            let config = SequenceConfig { negatives, ..small(60) };
            let report = train_sequence(&config, kind, &circle(40, 20, 12), None, dir.path()).unwrap();
            assert!(report.test.ndcg.value > 0.95, "{kind:?}: {report:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_weights_and_so_does_going_on() {
        let sequences = circle(20, 15, 9);
        let train = |config: &SequenceConfig, dir: &tempfile::TempDir| {
            train_sequence(config, SequenceKind::Sasrec, &sequences, None, dir.path())
        };
        let [whole, again, parts] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let report = train(&small(4), &whole).unwrap();
        train(&small(4), &again).unwrap();
        assert!(weights(whole.path()) == weights(again.path()), "the same seed");
        train(&small(2), &parts).unwrap();
        let resumed = train(&small(4), &parts).unwrap();
        assert!(weights(whole.path()) == weights(parts.path()), "going on");
        assert_eq!((report.best_epoch, report.test), (resumed.best_epoch, resumed.test));

        let other = SequenceConfig { hidden: 8, ..small(4) };
        assert!(train(&other, &again).unwrap_err().to_string().contains("another configuration"));
        let other = train_sequence(&small(4), SequenceKind::Sasrec, &circle(21, 15, 9), None, again.path());
        assert!(other.unwrap_err().to_string().contains("other data"));
    }

    #[test]
    fn a_parent_is_begun_with_and_its_items_keep_their_vectors() {
        let [old, new, other] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let train = |config: &SequenceConfig, items, parent: Option<&Parent>, dir: &Path| {
            train_sequence(config, SequenceKind::Sasrec, &circle(40, items, 12), parent, dir)
        };
        train(&small(60), 20, None, old.path()).unwrap();
        let parent = Parent::find(old.path().to_str().unwrap(), None).unwrap();
        // Two items more, and a rate that changes nothing much.
        let slow = small(1);
        let slow = SequenceConfig { learning: Learning { learning_rate: 1e-6, ..slow.learning.clone() }, ..slow };
        let fresh = train(&slow, 22, None, other.path()).unwrap().test.ndcg.value;
        let warm = train(&slow, 22, Some(&parent), new.path()).unwrap().test.ndcg.value;
        assert!(warm > fresh + 0.3, "{warm} after {fresh}");
        let vectors = |dir: &Path| {
            let weights = candle_core::safetensors::load(dir.join(WEIGHTS), &Device::Cpu).unwrap();
            weights[VECTORS].to_vec2::<f32>().unwrap()
        };
        let (of_old, of_new) = (vectors(old.path()), vectors(new.path()));
        assert_eq!((of_old.len(), of_new.len()), (21, 23));
        let off = of_old.iter().zip(&of_new).flat_map(|(old, new)| old.iter().zip(new)).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-3);
        let wider = SequenceConfig { hidden: 32, ..small(1) };
        let error = train(&wider, 20, Some(&parent), &other.path().join("wider")).unwrap_err().to_string();
        assert!(error.contains("another network"), "{error}");
    }

    #[test]
    fn too_little_to_learn_from_is_said() {
        let dir = tempfile::tempdir().unwrap();
        for sequences in [Sequences::new("nothing", Split::LeaveOneOut, Vec::new()), circle(1, 5, 3)] {
            let error = train_sequence(&small(1), SequenceKind::Sasrec, &sequences, None, dir.path()).unwrap_err();
            assert!(error.to_string().contains("enough interactions"), "{error}");
            assert!(!dir.path().join(WEIGHTS).exists());
        }
    }

    #[test]
    fn every_step_is_in_one_window() {
        let history: Vec<u32> = (1..=23).collect();
        let mut random = StdRng::seed_from_u64(1);
        for most in 1..30 {
            let windows = windows(&[&history], most, &mut random);
            assert!(windows.iter().all(|window| (2..=most + 1).contains(&window.len())));
            let steps = windows.iter().flat_map(|window| window.windows(2)).map(|step| (step[0], step[1]));
            assert!(steps.eq((1..23).map(|item| (item, item + 1))));
        }
    }
}
