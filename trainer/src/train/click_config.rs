//! How a network for clicks is made and learnt: defaults, and what a TOML file says instead.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use vitrine_models::{ClickSpec, DcnV2Config, DeepFmConfig, Fields, glorot};

use super::learning::{self, Configuration, Learning};
use crate::publish::Gate;

/// A network architecture for clicks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClickKind {
    /// Logistic regression: a weight for each value.
    Lr,
    /// A factorisation machine: pairs of fields as well.
    Fm,
    /// A factorisation machine beside a network.
    Deepfm,
    /// Cross layers beside a network.
    DcnV2,
}

/// The sizes of the network, and how it learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClickConfig {
    /// Columns that are looked at; none: all but the label and the time.
    pub columns: Vec<String>,
    /// The most buckets of a column.
    pub most_buckets: u32,
    /// The most words of a column with several.
    pub most_words: usize,
    /// Length of a field's vector.
    pub width: usize,
    /// Cross layers (dcn-v2).
    pub crosses: usize,
    /// Widths of the network's layers (deepfm, dcn-v2).
    pub layers: Vec<usize>,
    /// The part of the network's numbers that is dropped.
    pub dropout: f32,
    /// The standard deviation of starting vectors.
    pub deviation: f32,
    /// How it learns.
    pub learning: Learning,
    /// What it must reach to be published.
    pub gate: Gate,
}

impl Default for ClickConfig {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            most_buckets: 1 << 16,
            most_words: 8,
            width: 16,
            crosses: 2,
            layers: vec![128, 64],
            dropout: 0.3,
            deviation: 0.01,
            learning: Learning { batch: 512, epochs: 50, patience: 3, ..Learning::default() },
            gate: Gate::default(),
        }
    }
}

impl ClickKind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lr => "lr",
            Self::Fm => "fm",
            Self::Deepfm => "deepfm",
            Self::DcnV2 => "dcn-v2",
        }
    }
}

impl Configuration for ClickConfig {
    fn check(&self) -> Result<()> {
        let sizes =
            [("most_buckets", self.most_buckets as usize), ("most_words", self.most_words), ("width", self.width)];
        learning::check_sizes(&sizes)?;
        ensure!(!self.layers.is_empty() && !self.layers.contains(&0), "layers must name widths of at least 1");
        learning::check_weights(self.dropout, self.deviation)?;
        self.learning.check()
    }
}

impl ClickConfig {
    /// The network over these fields.
    pub(super) fn spec(&self, kind: ClickKind, fields: Fields) -> ClickSpec {
        let Self { width, crosses, dropout, .. } = *self;
        let layers = self.layers.clone();
        let machine = |fields, pairs, layers| ClickSpec::Deepfm(DeepFmConfig { fields, width, pairs, layers, dropout });
        match kind {
            ClickKind::Lr => machine(fields, false, Vec::new()),
            ClickKind::Fm => machine(fields, true, Vec::new()),
            ClickKind::Deepfm => machine(fields, true, layers),
            ClickKind::DcnV2 => ClickSpec::DcnV2(DcnV2Config { fields, width, crosses, layers, dropout }),
        }
    }

    /// The deviation of a starting matrix: of fields' vectors as configured, of layers such that numbers keep their size.
    pub(super) fn deviation(&self, name: &str, shape: &[usize]) -> f32 {
        if name.starts_with("vectors") || name.starts_with("linear") { self.deviation } else { glorot(shape) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, name) in [
            ("layers = []", "layers"),
            ("width = 0", "width"),
            ("dropout = 1.0", "dropout"),
            ("[learning]\nlearning_rate = 0.0", "learning_rate"),
            ("heads = 2", "heads"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let error = format!("{:#}", learning::read(Some(file.path()), ClickConfig::default()).unwrap_err());
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
