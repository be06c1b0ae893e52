//! How networks learn, whatever they are: what a TOML file may say of it, and which learning rate a step has.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use vitrine_models::DeviceSpec;

use super::optimizer::Rule;
use super::parent::Parent;

/// The section `[learning]` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learning {
    /// Every random choice comes from it.
    pub seed: u64,
    /// Where it is computed, `cpu` or `cuda:N`. The same seed gives the same weights on one device, and others on another.
    pub device: DeviceSpec,
    /// Examples in a batch.
    pub batch: usize,
    /// Of AdamW.
    pub learning_rate: f64,
    /// How much AdamW keeps of the running mean of gradients with each step.
    pub momentum: f64,
    /// So many steps at first have smaller rates, rising to `learning_rate`.
    pub warm_up: u32,
    /// With each pass over the examples the rate is multiplied with it.
    pub decay: f64,
    /// Of AdamW (L2).
    pub weight_decay: f64,
    /// The longest gradient.
    pub clip: f64,
    /// The most passes over all examples.
    pub epochs: u32,
    /// So many passes without a better validation end it.
    pub patience: u32,
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            seed: 1,
            device: DeviceSpec::Cpu,
            batch: 32,
            learning_rate: 0.001,
            momentum: 0.9,
            warm_up: 0,
            decay: 1.0,
            weight_decay: 0.0,
            clip: 5.0,
            epochs: 300,
            patience: 10,
        }
    }
}

impl Learning {
    /// Refuses what cannot be, by name.
    pub fn check(&self) -> Result<()> {
        let counts = [("batch", self.batch), ("epochs", self.epochs as usize), ("patience", self.patience as usize)];
        for (name, count) in counts {
            ensure!(count > 0, "learning.{name} is 0; it must be at least 1");
        }
        for (name, value) in [("learning_rate", self.learning_rate), ("clip", self.clip)] {
            ensure!(value.is_finite() && value > 0.0, "learning.{name} is {value}; it must be above 0");
        }
        ensure!(
            self.decay > 0.0 && self.decay <= 1.0,
            "learning.decay is {}; it must be above 0 and up to 1",
            self.decay
        );
        for (name, value) in [("weight_decay", self.weight_decay), ("momentum", self.momentum)] {
            ensure!((0.0..1.0).contains(&value), "learning.{name} is {value}; it must be from 0 to below 1");
        }
        Ok(())
    }

    /// What a step does, counted from 1 over all passes; passes count from 1, too.
    pub fn rule(&self, step: i32, epoch: u32) -> Rule {
        let risen = if self.warm_up == 0 { 1.0 } else { (f64::from(step) / f64::from(self.warm_up)).min(1.0) };
        let fallen = self.decay.powf(f64::from(epoch.saturating_sub(1)));
        let Self { momentum, weight_decay, clip, .. } = *self;
        Rule { step, learning_rate: self.learning_rate * risen * fallen, momentum, weight_decay, clip }
    }
}

/// How to learn, and where to keep it: on the command line, whatever is learnt.
#[derive(Debug, Args)]
pub struct How {
    /// Where weights, configuration, metrics and the checkpoint are written; training goes on from a checkpoint there
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Sizes and rates, as TOML; every value has a default
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Begin with the weights of a version: MODEL/VERSION of the registry, or a folder that was learnt into
    #[arg(long, value_name = "MODEL/VERSION")]
    warm_start: Option<String>,
    /// The registry of that version
    #[arg(long, env = "VITRINE_REGISTRY", value_name = "FOLDER")]
    registry: Option<PathBuf>,
    /// Instead of the configuration's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Instead of the configuration's: `cpu`, or `cuda:N` where this program was built for it
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceSpec>,
    /// End with a line of JSON
    #[arg(long)]
    pub json: bool,
}

impl How {
    /// Puts in what was said besides the configuration.
    pub fn settle(&self, learning: &mut Learning) {
        learning.seed = self.seed.unwrap_or(learning.seed);
        learning.device = self.device.unwrap_or(learning.device);
    }

    /// What to begin with.
    pub fn parent(&self) -> Result<Option<Parent>> {
        self.warm_start.as_deref().map(|name| Parent::find(name, self.registry.as_deref())).transpose()
    }
}

/// What a file may say of a network and its learning.
pub trait Configuration: Serialize + DeserializeOwned {
    /// Refuses what cannot be, by name.
    fn check(&self) -> Result<()>;
}

/// A configuration: the defaults, and what a file says instead, section by section.
///
/// # Errors
/// The file cannot be read, names what there is not, or a value cannot be.
pub fn read<C: Configuration>(path: Option<&Path>, default: C) -> Result<C> {
    let Some(path) = path else { return Ok(default) };
    let place = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(place)?;
    overlaid(default, text.parse().with_context(place)?).with_context(place)
}

/// The same of what was read already.
///
/// # Errors
/// It names what there is not, or a value cannot be.
pub fn overlaid<C: Configuration>(default: C, over: toml::Table) -> Result<C> {
    let mut values = toml::Table::try_from(default)?;
    overlay(&mut values, over);
    let config: C = values.try_into()?;
    config.check()?;
    Ok(config)
}

/// Refuses sizes of 0, by name.
pub fn check_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    for (name, size) in sizes {
        ensure!(*size > 0, "{name} is 0; it must be at least 1");
    }
    Ok(())
}

/// Refuses what weights cannot start with, or be dropped by.
pub fn check_weights(dropout: f32, deviation: f32) -> Result<()> {
    ensure!((0.0..1.0).contains(&dropout), "dropout is {dropout}; it must be from 0 to below 1");
    ensure!(deviation.is_finite() && deviation > 0.0, "deviation is {deviation}; it must be above 0");
    Ok(())
}

fn overlay(values: &mut toml::Table, over: toml::Table) {
    for (name, value) in over {
        match (values.get_mut(&name), value) {
            // Values of one kind say nothing of another.
            (Some(toml::Value::Table(values)), toml::Value::Table(over))
                if over.get("kind").is_none_or(|kind| values.get("kind") == Some(kind)) =>
            {
                overlay(values, over);
            }
            (_, value) => {
                values.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_with_steps_and_falls_with_passes() {
        let learning = Learning { learning_rate: 0.1, warm_up: 4, decay: 0.5, ..Learning::default() };
        for (step, epoch, wanted) in [(1, 1, 0.025), (4, 1, 0.1), (90, 1, 0.1), (90, 3, 0.025)] {
            let rate = learning.rule(step, epoch).learning_rate;
            assert!((rate - wanted).abs() < 1e-12, "step {step}, pass {epoch}: {rate}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let usual = Learning::default;
        for (learning, name) in [
            (Learning { batch: 0, ..usual() }, "batch"),
            (Learning { learning_rate: f64::NAN, ..usual() }, "learning_rate"),
            (Learning { decay: 1.5, ..usual() }, "decay"),
            (Learning { weight_decay: 1.0, ..usual() }, "weight_decay"),
            (Learning { momentum: 1.0, ..usual() }, "momentum"),
            (Learning { clip: -1.0, ..usual() }, "clip"),
        ] {
            assert!(learning.check().unwrap_err().to_string().contains(name), "{name}");
        }
        usual().check().unwrap();
    }
}
