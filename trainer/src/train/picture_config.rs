//! How a network for pictures is made and learnt: defaults, and what a TOML file says instead.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use vitrine_models::{CnnConfig, EfficientNetLiteConfig, PictureSpec};

use super::learning::{self, Configuration, Learning};
use crate::pictures::Pictures;
use crate::publish::Gate;
use crate::vary::Vary;

/// A network architecture for pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PictureKind {
    /// A small residual network.
    Cnn,
    /// EfficientNet-Lite0.
    EfficientnetLite,
}

/// The sizes of the network, and how it learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureConfig {
    /// Height and width of a picture; others are made so.
    pub side: usize,
    /// Channels of a picture: 1 grey, or 3 red, green and blue.
    pub channels: usize,
    /// Channels of each stage (cnn).
    pub widths: Vec<usize>,
    /// Blocks of each stage (cnn).
    pub blocks: usize,
    /// The part of the embedding that is dropped.
    pub dropout: f32,
    /// How much of the chance is to be shared by all classes ("Rethinking the Inception Architecture", Szegedy et al. 2016).
    pub smoothing: f32,
    /// How pictures are varied.
    pub vary: Vary,
    /// How it learns.
    pub learning: Learning,
    /// What it must reach to be published.
    pub gate: Gate,
}

impl PictureConfig {
    /// What is usual for a network.
    #[must_use]
    pub fn usual(kind: PictureKind) -> Self {
        let cnn = Self {
            side: 28,
            channels: 1,
            widths: vec![32, 64, 128],
            blocks: 1,
            dropout: 0.1,
            smoothing: 0.1,
            vary: Vary { flip: true, shift: 0.08, erase: 0.3 },
            learning: Learning {
                batch: 32,
                decay: 0.85,
                epochs: 20,
                patience: 5,
                weight_decay: 0.01,
                ..Learning::default()
            },
            gate: Gate::default(),
        };
        match kind {
            PictureKind::Cnn => cnn,
            PictureKind::EfficientnetLite => {
                let learning = Learning { learning_rate: 0.0003, epochs: 15, ..cnn.learning.clone() };
                Self { side: 128, channels: 3, dropout: 0.2, learning, ..cnn }
            }
        }
    }

    /// The network for these pictures.
    pub(super) fn spec(&self, kind: PictureKind, pictures: &Pictures) -> PictureSpec {
        let Self { side, channels, ref widths, blocks, dropout, .. } = *self;
        let classes = pictures.classes.clone();
        match kind {
            PictureKind::Cnn => {
                PictureSpec::Cnn(CnnConfig { side, channels, classes, widths: widths.clone(), blocks, dropout })
            }
            PictureKind::EfficientnetLite => {
                PictureSpec::EfficientnetLite(EfficientNetLiteConfig { side, classes, dropout })
            }
        }
    }
}

impl PictureKind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cnn => "cnn",
            Self::EfficientnetLite => "efficientnet-lite",
        }
    }
}

impl Configuration for PictureConfig {
    fn check(&self) -> Result<()> {
        learning::check_sizes(&[("side", self.side), ("blocks", self.blocks)])?;
        check_channels(self.channels)?;
        ensure!(!self.widths.is_empty() && !self.widths.contains(&0), "widths must name widths of at least 1");
        for (name, value) in [("dropout", self.dropout), ("smoothing", self.smoothing)] {
            ensure!((0.0..1.0).contains(&value), "{name} is {value}; it must be from 0 to below 1");
        }
        self.vary.check()?;
        self.learning.check()
    }
}

/// Refuses what no picture has.
pub(super) fn check_channels(channels: usize) -> Result<()> {
    ensure!(matches!(channels, 1 | 3), "channels is {channels}; it must be 1 (grey) or 3 (coloured)");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, name) in [
            ("channels = 2", "channels"),
            ("widths = []", "widths"),
            ("smoothing = 1.0", "smoothing"),
            ("[vary]\nerase = 1.5", "erase"),
            ("[vary]\nmirror = true", "mirror"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let read = learning::read(Some(file.path()), PictureConfig::usual(PictureKind::Cnn));
            let error = format!("{:#}", read.unwrap_err());
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
