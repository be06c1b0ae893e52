//! `vitrine-trainer publish`: makes a version of what was learnt, if it is good enough.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vitrine_models::{ClickModel, DeviceSpec, GoldenCheck, PictureGenerator, PictureModel, SequenceModel};
use vitrine_registry::{
    FilePath, Label, Location, Mirror, ModelName, PublishRequest, Registry, TrainingData, Version, VersionDir,
};

use crate::train::learnt;

/// What a version is made of, where it is there.
const FILES: [&str; 8] = [
    "config.json",
    "items.json",
    "model.safetensors",
    "golden.safetensors",
    "known.safetensors",
    "judge/config.json",
    "judge/model.safetensors",
    TRAINING,
];
/// How it was learnt.
pub const TRAINING: &str = "training.json";
/// The figures, by name.
pub const METRICS: &str = "metrics.json";

/// Recorded rows may come out so far from their recording: another processor adds in another order.
const TOLERANCE: f32 = 1e-3;

/// What to publish.
#[derive(Debug, Args)]
pub struct Publish {
    /// The folder that was learnt into
    folder: PathBuf,
    /// The registry: a folder, which is made, or a store, as `s3://bucket/prefix`
    #[arg(long, env = "VITRINE_REGISTRY", value_name = "REGISTRY")]
    registry: Location,
    /// Where a store's versions are kept on this machine
    #[arg(long, env = "VITRINE_REGISTRY_CACHE", value_name = "FOLDER")]
    registry_cache: Option<PathBuf>,
    /// The model that gets a new version
    #[arg(long, value_name = "NAME")]
    model: ModelName,
    /// The version before, with which the gate compares [default: that of the label `stable`, if there is one]
    #[arg(long, value_name = "N")]
    parent: Option<Version>,
    /// Points to the new version afterwards
    #[arg(long, value_name = "NAME")]
    label: Option<Label>,
    /// Print one JSON value instead of text
    #[arg(long)]
    json: bool,
}

/// What a version must reach to be published: the section `[gate]` of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// By the name of a figure: it must not be below this.
    pub at_least: BTreeMap<String, f64>,
    /// By the name of a figure: it must not be further below the parent's.
    pub below_parent: BTreeMap<String, f64>,
}

/// How a version was learnt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Training {
    /// What it was learnt from.
    pub data: String,
    /// Tells other data apart, in hexadecimal digits.
    pub data_hash: String,
    /// What it must reach.
    pub gate: Gate,
    /// Sizes and rates, and the seed.
    pub config: Value,
}

impl Publish {
    /// Publishes a version.
    ///
    /// # Errors
    /// The folder is not one that was learnt into, its figures do not pass the gate, or the registry cannot be written. Then nothing
    /// is published.
    pub fn run(&self) -> Result<()> {
        let published = self.publish()?;
        let (version, path) = (published.version, published.path.display());
        if self.json {
            println!("{}", json!({ "model": self.model.to_string(), "version": version, "path": published.path }));
        } else {
            println!("published {} version {version}: {path}", self.model);
        }
        Ok(())
    }

    fn publish(&self) -> Result<VersionDir> {
        // Before a registry is made for it.
        let learnt = Learnt::read(&self.folder)?;
        let registry = open(&self.registry, self.registry_cache.as_deref(), "--registry-cache")?;
        let parent = self.parent(&registry)?;
        let published = learnt.publish(&registry, &self.model, parent, None)?;
        if let Some(label) = &self.label {
            let before = registry.current_labels(&self.model)?.get(label);
            registry
                .set_label(&self.model, label, published.version, before)
                .with_context(|| format!("version {} is published, but without its label", published.version))?;
        }
        Ok(published)
    }

    fn parent(&self, registry: &Registry) -> Result<Option<Version>> {
        if self.parent.is_some() || !registry.models()?.contains(&self.model) {
            return Ok(self.parent);
        }
        Ok(registry.current_labels(&self.model)?.get(&"stable".parse()?))
    }
}

/// Opens a registry, and makes a folder that is not there. `cache`, which is called `named`, is where a store's versions are kept.
pub(crate) fn open(location: &Location, cache: Option<&Path>, named: &str) -> Result<Registry> {
    match location {
        Location::Folder(folder) => Ok(Registry::create(folder)?),
        Location::Store(url) => {
            let mirror = Mirror::open(url, cache.with_context(|| format!("a store needs {named}"))?)?;
            mirror.sync()?;
            Ok(mirror.registry())
        }
    }
}

/// What becomes a version.
pub(crate) struct Learnt<'a> {
    folder: &'a Path,
    kind: String,
    task: &'static str,
    training: Training,
    metrics: BTreeMap<String, f64>,
}

impl<'a> Learnt<'a> {
    /// Reads and checks a folder that was learnt into.
    pub fn read(folder: &'a Path) -> Result<Self> {
        let kind = learnt::kind(folder)?;
        let training: Training = learnt::read(folder, TRAINING)?;
        let metrics: BTreeMap<String, f64> = learnt::read(folder, METRICS)?;
        let task = checked(folder, &kind)?;
        Ok(Self { folder, kind, task, training, metrics })
    }

    /// Publishes it, if its figures pass its gate: after `parent`, and learnt from a log up to `watermark`.
    pub fn publish(
        self,
        registry: &Registry,
        model: &ModelName,
        parent: Option<Version>,
        watermark: Option<u64>,
    ) -> Result<VersionDir> {
        let Self { folder, kind, task, training, metrics } = self;
        let of_parent = parent.map(|parent| registry.version(model, parent)).transpose()?;
        training.gate.check(&metrics, of_parent.as_ref().map(|parent| &parent.manifest.metrics))?;

        let mut files: BTreeMap<FilePath, PathBuf> = BTreeMap::new();
        for name in FILES.into_iter().filter(|name| folder.join(name).exists()) {
            files.insert(name.parse()?, folder.join(name));
        }
        let request = PublishRequest {
            parent,
            metrics,
            training_data: Some(TrainingData { name: training.data, watermark, hash: Some(training.data_hash) }),
            golden_tolerance: Some(TOLERANCE),
            ..PublishRequest::new(model, &kind, task, files)
        };
        Ok(registry.publish(&request)?)
    }
}

/// Loads what is to be published as a server would, computes its recorded rows again, and says what it is for.
fn checked(folder: &Path, kind: &str) -> Result<&'static str> {
    let device = DeviceSpec::Cpu;
    let (task, golden) = match kind {
        "sasrec" | "gru4rec" => {
            ("sequence-recommendation", SequenceModel::load(folder, &device)?.check_golden(folder, TOLERANCE)?)
        }
        "deepfm" | "dcn-v2" => ("ctr-ranking", ClickModel::load(folder, &device)?.check_golden(folder, TOLERANCE)?),
        "cnn" | "efficientnet-lite" => {
            ("image-embedding", PictureModel::load(folder, &device)?.check_golden(folder, TOLERANCE)?)
        }
        "cgan" => ("image-generation", PictureGenerator::load(folder, &device)?.check_golden(folder, TOLERANCE)?),
        other => bail!("{}: the kind {other} is none that is learnt here", folder.display()),
    };
    ensure!(golden != GoldenCheck::NotRecorded, "{} has no recorded rows", folder.display());
    Ok(task)
}

impl Gate {
    fn check(&self, metrics: &BTreeMap<String, f64>, parent: Option<&BTreeMap<String, f64>>) -> Result<()> {
        let figure = |name: &String| {
            let known = || metrics.keys().cloned().collect::<Vec<_>>().join(", ");
            metrics.get(name).with_context(|| format!("the gate asks for {name}; the figures are {}", known()))
        };
        for (name, least) in &self.at_least {
            let value = figure(name)?;
            ensure!(value >= least, "not published: {name} is {value:.4}, and the gate asks for {least}");
        }
        for (name, most) in &self.below_parent {
            let value = figure(name)?;
            // A version of other figures, or none at all, is nothing to compare with.
            let Some(before) = parent.and_then(|parent| parent.get(name)) else { continue };
            ensure!(
                value >= &(before - most),
                "not published: {name} is {value:.4}, the parent's {before:.4}, and the gate lets it be {most} below that"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(value: f64) -> BTreeMap<String, f64> {
        BTreeMap::from([("ndcg@10".to_owned(), value)])
    }

    #[test]
    fn the_gate_holds_back_what_is_worse() {
        let gate = Gate { at_least: figures(0.1), below_parent: figures(0.02) };
        gate.check(&figures(0.1), None).unwrap();
        gate.check(&figures(0.15), Some(&figures(0.16))).unwrap();
        gate.check(&figures(0.15), Some(&BTreeMap::new())).unwrap();
        let refused = |value, parent: Option<f64>| {
            gate.check(&figures(value), parent.map(figures).as_ref()).unwrap_err().to_string()
        };
        assert!(refused(0.09, None).contains("the gate asks for 0.1"));
        assert!(refused(f64::NAN, None).contains("not published"));
        assert!(refused(0.15, Some(0.18)).contains("the parent's 0.1800"));
        let unknown = Gate { at_least: BTreeMap::from([("auc".to_owned(), 0.5)]), ..Gate::default() };
        assert!(unknown.check(&figures(0.1), None).unwrap_err().to_string().contains("ndcg@10"));
    }
}
