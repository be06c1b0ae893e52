//! How a sequence network is made and learnt: defaults, and what a TOML file says instead.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use vitrine_models::{CellKind, Gru4RecConfig, SasRecConfig, SequenceSpec};

use super::learning::{self, Configuration, Learning};
use crate::publish::Gate;
use crate::sequences::Split;

/// A network architecture for sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SequenceKind {
    /// A transformer.
    Sasrec,
    /// A recurrent network.
    Gru4rec,
}

/// The sizes of the network, and how it learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceConfig {
    /// What is foretold, and what is learnt from.
    pub split: Split,
    /// The longest history.
    pub max_length: usize,
    /// Length of an item's vector.
    pub hidden: usize,
    /// Heads of attention (sasrec).
    pub heads: usize,
    /// Blocks of attention (sasrec).
    pub blocks: usize,
    /// Length of the state (gru4rec).
    pub state: usize,
    /// The recurrent cell (gru4rec).
    pub cell: CellKind,
    /// The part of the numbers that is dropped.
    pub dropout: f32,
    /// The standard deviation of starting weights.
    pub deviation: f32,
    /// So many items stand for all that did not come next; 0: all items are compared.
    pub negatives: usize,
    /// How it learns.
    pub learning: Learning,
    /// What it must reach to be published.
    pub gate: Gate,
}

impl Default for SequenceConfig {
    fn default() -> Self {
        Self {
            split: Split::default(),
            max_length: 50,
            hidden: 64,
            heads: 2,
            blocks: 2,
            state: 128,
            cell: CellKind::Gru,
            dropout: 0.5,
            deviation: 0.02,
            negatives: 0,
            learning: Learning::default(),
            gate: Gate::default(),
        }
    }
}

impl Configuration for SequenceConfig {
    fn check(&self) -> Result<()> {
        let sizes =
            [("max_length", self.max_length), ("hidden", self.hidden), ("heads", self.heads), ("state", self.state)];
        learning::check_sizes(&sizes)?;
        let (hidden, heads) = (self.hidden, self.heads);
        ensure!(hidden.is_multiple_of(heads), "hidden ({hidden}) is no multiple of heads ({heads})");
        learning::check_weights(self.dropout, self.deviation)?;
        self.learning.check()
    }
}

impl SequenceConfig {
    /// The network for so many items.
    pub(super) fn spec(&self, kind: SequenceKind, items: usize) -> SequenceSpec {
        let Self { max_length, hidden, heads, blocks, state, cell, dropout, .. } = *self;
        match kind {
            SequenceKind::Sasrec => {
                SequenceSpec::Sasrec(SasRecConfig { items, max_length, hidden, heads, blocks, dropout })
            }
            SequenceKind::Gru4rec => {
                SequenceSpec::Gru4rec(Gru4RecConfig { items, max_length, hidden, state, cell, dropout })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SequenceConfig> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        learning::read(Some(file.path()), SequenceConfig::default())
    }

    #[test]
    fn a_file_changes_what_it_names() {
        let config = read("hidden = 32\ncell = \"lstm\"\n[learning]\nepochs = 7").unwrap();
        let learning = Learning { epochs: 7, ..Learning::default() };
        assert_eq!(config, SequenceConfig { hidden: 32, cell: CellKind::Lstm, learning, ..Default::default() });
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, name) in [
            ("hiden = 32", "hiden"),
            ("hidden = 33", "heads"),
            ("dropout = 1.0", "dropout"),
            ("deviation = -1.0", "deviation"),
            ("cell = \"rnn\"", "rnn"),
            ("[learning]\nbatch = 0", "batch"),
            ("[learning]\nbach = 10", "bach"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
