//! `cargo xtask starter`: learns the networks again that `model-registry/starter` has, a registry: those for pictures from Fashion-MNIST, the one
//! for histories from the purchases of *The Complete Journey*. They are small, and a shop's own pictures and histories are better to learn from; with them, there is
//! something to serve before that.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::{fashion_mnist, programs};

/// The registry, and beside its versions how each is learnt.
const STARTER: &str = "model-registry/starter";

#[derive(Args)]
pub struct Starter {
    /// Which one.
    network: Network,
    /// The registry that gets a version of it.
    #[arg(long, value_name = "FOLDER", default_value = STARTER)]
    registry: PathBuf,
    /// Where they are learnt into, a folder each. Learning goes on from there when it was interrupted.
    #[arg(long, value_name = "FOLDER", default_value = "target/starter")]
    learnt: PathBuf,
    /// For pictures: the folder of Fashion-MNIST's `*-ubyte.gz`. Absent: from Debian's package, kept in the cache.
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    /// For histories: what `trainer/scripts/complete_journey.py` makes.
    #[arg(long, value_name = "FILE")]
    histories: Option<PathBuf>,
}

/// A network that a shop may start with.
#[derive(Clone, Copy, ValueEnum)]
enum Network {
    /// Knows classes, and embeds pictures.
    Cnn,
    /// Makes pictures of a class; the cnn is learnt first if it is not there, for it tells how good they are.
    Cgan,
    /// Says what a grocer's customers put into their baskets next.
    Sasrec,
}

impl Network {
    /// As the trainer calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Cnn => "cnn",
            Self::Cgan => "cgan",
            Self::Sasrec => "sasrec",
        }
    }

    /// The model's name.
    fn model(self) -> &'static str {
        match self {
            Self::Cnn => programs::IMAGE_ENCODER.model,
            Self::Cgan => programs::GENERATOR.model,
            Self::Sasrec => programs::SEQUENCER.model,
        }
    }
}

pub fn run(starter: &Starter) -> Result<()> {
    let Starter { network, registry, learnt, .. } = starter;
    let folder = learnt.join(network.name());
    match network {
        Network::Sasrec => {
            let histories = starter.histories.as_ref();
            let histories =
                histories.context("--histories must name what `trainer/scripts/complete_journey.py` makes")?;
            programs::build()?;
            let mut train = train(*network, &folder)?;
            train.arg("--interactions").arg(histories);
            step(train)?;
        }
        Network::Cnn | Network::Cgan => {
            let pictures = match &starter.pictures {
                Some(folder) => folder.clone(),
                None => fashion_mnist::folder()?,
            };
            programs::build()?;
            let judge = learnt.join(Network::Cnn.name());
            if matches!(network, Network::Cgan) && !judge.join("metrics.json").exists() {
                step(train_on_pictures(Network::Cnn, &pictures, &judge)?)?;
            }
            let mut train = train_on_pictures(*network, &pictures, &folder)?;
            if matches!(network, Network::Cgan) {
                train.arg("--judge").arg(&judge);
            }
            step(train)?;
        }
    }
    step(publish(*network, &folder, registry)?)
}

fn train(network: Network, folder: &Path) -> Result<Command> {
    let mut train = Command::new(programs::ours("vitrine-trainer")?);
    train.args(["train", network.name(), "--config"]).arg(Path::new(STARTER).join(format!("{}.toml", network.name())));
    train.arg("--out").arg(folder);
    Ok(train)
}

fn train_on_pictures(network: Network, pictures: &Path, folder: &Path) -> Result<Command> {
    let mut train = train(network, folder)?;
    train.arg("--pictures").arg(pictures).args(["--class-names", &fashion_mnist::CLASSES.join(",")]);
    Ok(train)
}

fn publish(network: Network, folder: &Path, registry: &Path) -> Result<Command> {
    let mut publish = Command::new(programs::ours("vitrine-trainer")?);
    publish.arg("publish").arg(folder).arg("--registry").arg(registry);
    publish.args(["--model", network.model(), "--label", "stable"]);
    Ok(publish)
}

fn step(command: Command) -> Result<()> {
    programs::say(&programs::shown(&command));
    programs::run(command, None)
}
