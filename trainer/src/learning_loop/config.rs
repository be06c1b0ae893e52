//! `loop.toml`: where everything is, what is learnt, and how a candidate has to prove itself.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::SignedDuration;
use serde::Deserialize;
use vitrine::v1::ExperimentMetric;
use vitrine_registry::{Label, Location, ModelName};

use crate::sequences::Split;
use crate::train::learning;
use crate::train::{SequenceConfig, SequenceKind};

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Where the server listens.
    #[serde(default = "usual_server")]
    pub server: String,
    /// Whose events are learnt from, and whose shoppers take part, as `shop`.
    pub catalog: String,
    /// The registry that the server follows.
    #[serde(deserialize_with = "parsed")]
    pub registry: Location,
    /// Where a store's versions are kept on this machine.
    pub registry_cache: Option<PathBuf>,
    /// The loop's own: its state, and what it learns.
    pub folder: PathBuf,
    /// The model that gets new versions.
    pub model: ModelName,
    /// What answers. The server's `sequence_model.label`.
    #[serde(default = "Label::stable")]
    pub live_label: Label,
    /// What is tried. A version that somebody else puts this label on is tried, too.
    #[serde(default = "Label::canary")]
    pub candidate_label: Label,
    /// How long to wait before looking again, without `--once`.
    #[serde(default = "five_minutes", deserialize_with = "duration")]
    pub poll: SignedDuration,
    /// What is learnt from.
    #[serde(default)]
    pub data: DataConfig,
    /// The network, as a table: `kind`, and what `train --config` knows.
    #[serde(default)]
    network: toml::Table,
    /// What a network must reach to be published.
    #[serde(default)]
    pub gate: GateConfig,
    /// How a candidate is tried.
    #[serde(default)]
    pub experiment: ExperimentConfig,
}

/// The section `[data]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Only events of so many days before now are learnt from. 0: all.
    pub window_days: u32,
    /// So many events must have come since the last network was learnt.
    pub min_new_events: usize,
    /// As `prepare --core`.
    pub core: u32,
    /// As `prepare --most-per-minute`.
    pub most_per_minute: u32,
}

/// The section `[gate]`. Both networks, and what is popular, foretell the newest tenth of the interactions; NDCG@10 among all items.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// By how much it must be above what answers.
    pub over_live: f64,
    /// By how much it must be above what is popular.
    pub over_popular: f64,
}

/// The section `[experiment]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExperimentConfig {
    /// How the names of experiments begin.
    pub prefix: String,
    /// What decides.
    #[serde(deserialize_with = "metric")]
    pub metric: ExperimentMetric,
    /// A candidate that is shown to be worse by more than this share of the live version's figure is rolled back.
    pub tolerance: f64,
    /// When a candidate is promoted, after the last step.
    pub require: Require,
    /// Which share of all shoppers gets the candidate, step by step. As many get the live version to compare with.
    pub shares: Vec<f64>,
    /// How long a step lasts at least.
    #[serde(deserialize_with = "duration")]
    pub min_step_time: SignedDuration,
    /// How many shoppers each arm must have seen for the first time in a step.
    pub min_step_users: i64,
    /// A candidate that cannot be measured, or after the last step has not shown what is required, so long after a step began is rolled back.
    #[serde(deserialize_with = "duration")]
    pub patience: SignedDuration,
    /// Intervals miss the truth this often.
    pub alpha: f64,
    /// The number of shoppers at which always-valid intervals are tightest. 0: as the server has it.
    pub sequential_tuning: i64,
    /// What else must not become worse.
    pub guard_rails: Vec<GuardRailConfig>,
}

/// When a candidate is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// Nothing shows it to be worse than tolerated.
    UnlessWorse,
    /// It is shown not to be worse than tolerated.
    NotWorse,
    /// It is shown to be better.
    Better,
}

/// One of `[[experiment.guard_rails]]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardRailConfig {
    /// Of what.
    #[serde(deserialize_with = "metric")]
    pub metric: ExperimentMetric,
    /// How much worse than the live version the candidate may be, as a share of its figure.
    pub tolerance: f64,
}

fn usual_server() -> String {
    "http://127.0.0.1:7700".to_owned()
}

fn five_minutes() -> SignedDuration {
    SignedDuration::from_mins(5)
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { window_days: 90, min_new_events: 10_000, core: 5, most_per_minute: 60 }
    }
}

impl Default for ExperimentConfig {
    fn default() -> Self {
        Self {
            prefix: "loop".to_owned(),
            metric: ExperimentMetric::Ctr,
            tolerance: 0.02,
            require: Require::UnlessWorse,
            shares: vec![0.05, 0.2, 0.5],
            min_step_time: SignedDuration::from_hours(24),
            min_step_users: 500,
            patience: SignedDuration::from_hours(14 * 24),
            alpha: 0.05,
            sequential_tuning: 0,
            guard_rails: vec![
                GuardRailConfig { metric: ExperimentMetric::Ctr, tolerance: 0.05 },
                GuardRailConfig { metric: ExperimentMetric::Empty, tolerance: 0.1 },
            ],
        }
    }
}

impl LoopConfig {
    /// Reads the file. Its paths are from the folder that it is in.
    ///
    /// # Errors
    /// It cannot be read, names what there is not, or a value cannot be: its key is named.
    pub fn read(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(place)?;
        let mut config: Self = toml::from_str(&text).with_context(place)?;
        config.check().with_context(place)?;
        let base = path.parent().unwrap_or(Path::new(""));
        config.folder = base.join(&config.folder);
        config.registry_cache = config.registry_cache.map(|cache| base.join(cache));
        if let Location::Folder(folder) = &mut config.registry {
            *folder = base.join(&*folder);
        }
        Ok(config)
    }

    /// Refuses what cannot be, by name.
    fn check(&self) -> Result<()> {
        self.network()?;
        ensure!(self.live_label != self.candidate_label, "candidate_label is the live_label: they must differ");
        let needs_cache = matches!(self.registry, Location::Store(_)) && self.registry_cache.is_none();
        ensure!(!needs_cache, "registry_cache is missing: a registry in a store needs one");
        for (name, margin) in [("over_live", self.gate.over_live), ("over_popular", self.gate.over_popular)] {
            ensure!(margin.is_finite(), "gate.{name} is {margin}; it must be a number");
        }
        self.experiment.check()
    }

    /// The network, and how it is learnt.
    pub fn network(&self) -> Result<(SequenceKind, SequenceConfig)> {
        let mut table = self.network.clone();
        let kind = table.remove("kind").map_or(Ok(SequenceKind::Sasrec), |kind| {
            kind.try_into().context("network.kind: it must be \"sasrec\" or \"gru4rec\"")
        })?;
        for (name, instead) in [("split", "it is always \"time\" here"), ("gate", "the section [gate] says it")] {
            ensure!(!table.contains_key(name), "network.{name} is not allowed: {instead}");
        }
        let usual = SequenceConfig { split: Split::Time, ..SequenceConfig::default() };
        Ok((kind, learning::overlaid(usual, table).context("network")?))
    }

    /// `catalogs/{catalog}`.
    pub fn catalog(&self) -> String {
        format!("catalogs/{}", self.catalog.trim_start_matches("catalogs/"))
    }
}

impl ExperimentConfig {
    fn check(&self) -> Result<()> {
        let shares = &self.shares;
        ensure!(!shares.is_empty(), "experiment.shares is empty");
        for (at, share) in shares.iter().enumerate() {
            let more = at == 0 || *share > shares[at - 1];
            ensure!(
                *share > 0.0 && *share <= 0.5 && more,
                "experiment.shares: {share} must be above 0, at most 0.5, and more than the one before"
            );
        }
        let tolerances = self.guard_rails.iter().map(|rail| ("guard_rails: tolerance", rail.tolerance));
        for (name, tolerance) in tolerances {
            let fits = tolerance > 0.0 && tolerance <= 10.0;
            ensure!(fits, "experiment.{name} is {tolerance}; it must be above 0 and at most 10");
        }
        ensure!(
            (0.0..=10.0).contains(&self.tolerance),
            "experiment.tolerance is {}; it must be from 0 to 10",
            self.tolerance
        );
        ensure!(
            self.alpha > 0.0 && self.alpha < 0.5,
            "experiment.alpha is {}; it must be above 0 and below 0.5",
            self.alpha
        );
        for (name, count) in [("min_step_users", self.min_step_users), ("sequential_tuning", self.sequential_tuning)] {
            ensure!(count >= 0, "experiment.{name} is {count}; it must not be below 0");
        }
        if matches!(self.metric, ExperimentMetric::Empty | ExperimentMetric::LatencyP50 | ExperimentMetric::LatencyP99)
        {
            bail!("experiment.metric: only what should be more can decide; make what should be less a guard rail");
        }
        // What the server allows, less the version and the round behind it.
        let prefix = format!("{}-1", self.prefix).parse::<Label>();
        ensure!(
            prefix.is_ok() && self.prefix.len() <= 30,
            "experiment.prefix: 1 to 30 characters of a-z, 0-9 and `-`, starting with a letter"
        );
        Ok(())
    }

    /// The part of all shoppers that takes part in a step: those of both arms.
    pub fn coverage(&self, step: usize) -> f64 {
        2.0 * self.shares[step.min(self.shares.len() - 1)]
    }

    /// The last step.
    pub fn last_step(&self) -> usize {
        self.shares.len() - 1
    }
}

fn parsed<'de, D: serde::Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// A time, as `24h`, `14d` or `0s`.
fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let days = text.strip_suffix('d').and_then(|days| days.trim().parse::<i32>().ok());
    let read = match days {
        Some(days) => Some(SignedDuration::from_hours(24 * i64::from(days))),
        None => text.parse::<SignedDuration>().ok(),
    };
    let known = read.filter(|time| !time.is_negative());
    known.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no duration; write it as \"36h\" or \"14d\"")))
}

/// A metric as it is written, as `add-to-cart`.
fn metric<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ExperimentMetric, D::Error> {
    let name = String::deserialize(deserializer)?;
    let full = format!("EXPERIMENT_METRIC_{}", name.replace('-', "_").to_ascii_uppercase());
    let known = ExperimentMetric::from_str_name(&full).filter(|metric| *metric != ExperimentMetric::Unspecified);
    known.ok_or_else(|| {
        let of = "ctr, add-to-cart, conversion, revenue, ad-revenue, empty, latency-p50 or latency-p99";
        serde::de::Error::custom(format!("`{name}` is no metric: use {of}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "catalog = \"shop\"\nregistry = \"registry\"\nfolder = \"loop\"\nmodel = \"next-item\"\n";

    fn read(text: &str) -> Result<LoopConfig> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        LoopConfig::read(file.path())
    }

    #[test]
    fn little_has_to_be_said_and_paths_are_from_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), LEAST).unwrap();
        let config = LoopConfig::read(file.path()).unwrap();
        assert_eq!(config.folder, file.path().parent().unwrap().join("loop"));
        assert_eq!(config.catalog(), "catalogs/shop");
        assert_eq!(config.live_label.as_str(), "stable");
        let coverages: Vec<f64> = (0..3).map(|step| config.experiment.coverage(step)).collect();
        assert_eq!((coverages, config.experiment.last_step()), (vec![0.1, 0.4, 1.0], 2));
        let (kind, network) = config.network().unwrap();
        assert_eq!((kind, network.split), (SequenceKind::Sasrec, Split::Time));
    }

    #[test]
    fn durations_and_metrics_are_read() {
        let text = format!(
            "{LEAST}poll = \"0s\"\n[network]\nkind = \"gru4rec\"\nhidden = 32\n[experiment]\nmin_step_time = \"36h\"\n\
             require = \"better\"\n[[experiment.guard_rails]]\nmetric = \"latency-p99\"\ntolerance = 0.5"
        );
        let config = read(&text).unwrap();
        assert_eq!(config.experiment.min_step_time, SignedDuration::from_hours(36));
        assert_eq!(config.experiment.require, Require::Better);
        assert_eq!(config.experiment.guard_rails[0].metric, ExperimentMetric::LatencyP99);
        let (kind, network) = config.network().unwrap();
        assert_eq!((kind, network.hidden), (SequenceKind::Gru4rec, 32));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, name) in [
            ("modle = \"x\"", "modle"),
            ("live_label = \"canary\"", "candidate_label"),
            ("[network]\nhiden = 3", "hiden"),
            ("[network]\nhidden = 33", "heads"),
            ("[network]\nsplit = \"leave-one-out\"", "network.split"),
            ("[network]\nkind = \"deepfm\"", "network.kind"),
            ("[network.learning]\nbatch = 0", "batch"),
            ("[gate]\nover_life = 0.1", "over_life"),
            ("[experiment]\nshares = []", "experiment.shares"),
            ("[experiment]\nshares = [0.2, 0.1]", "experiment.shares"),
            ("[experiment]\nshares = [0.6]", "experiment.shares"),
            ("[experiment]\nmetric = \"clicks\"", "clicks"),
            ("[experiment]\nmetric = \"latency-p50\"", "experiment.metric"),
            ("[experiment]\nalpha = 0.5", "experiment.alpha"),
            ("[experiment]\ntolerance = -1.0", "experiment.tolerance"),
            ("[experiment]\nprefix = \"The Loop\"", "experiment.prefix"),
            ("[experiment]\nmin_step_time = \"-1h\"", "min_step_time"),
            ("[experiment]\nmin_step_time = \"soon\"", "min_step_time"),
            ("[[experiment.guard_rails]]\nmetric = \"ctr\"\ntolerance = 0.0", "experiment.guard_rails"),
        ] {
            let error = format!("{:#}", read(&format!("{LEAST}{text}")).unwrap_err());
            assert!(error.contains(name), "{text}: {error}");
        }
        let error = format!("{:#}", read("catalog = \"shop\"").unwrap_err());
        assert!(error.contains("registry"), "{error}");
    }
}
