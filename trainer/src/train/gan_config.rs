//! How a generator and its discriminator are made and learnt: defaults, and what a TOML file says instead.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use vitrine_models::{CganConfig, GanLayers, GanLoss, GeneratorSpec};

use super::augment::Augment;
use super::learning::{self, Configuration, Learning};
use super::picture_config::check_channels;
use crate::pictures::Pictures;
use crate::publish::Gate;
use crate::vary::Vary;

/// The sizes of both networks, and how they learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GanConfig {
    /// Height and width of a picture; others are made so.
    pub side: usize,
    /// Channels of a picture: 1 grey, or 3 red, green and blue.
    pub channels: usize,
    /// Numbers that a picture is made of, beside its class.
    pub noise: usize,
    /// What both networks are made of.
    pub layers: GanLayers,
    /// What both make small.
    pub loss: GanLoss,
    /// The discriminator learns so many times as fast ("GANs Trained by a Two Time-Scale Update Rule", Heusel et al. 2017).
    pub discriminator_rate: f64,
    /// How much of the mean of the generator's weights stays with each step.
    pub average: f64,
    /// How real pictures are varied.
    pub vary: Vary,
    /// How real and made ones are, before the discriminator sees them.
    pub augment: Augment,
    /// So many pictures are made after each pass, to see how good they are.
    pub judged: usize,
    /// A classifier learns from so many made pictures in the end, and is tested by real ones; 0: none does.
    pub classified: usize,
    /// Its passes.
    pub classifier_epochs: u32,
    /// How both learn.
    pub learning: Learning,
    /// What they must reach to be published.
    pub gate: Gate,
}

impl Default for GanConfig {
    fn default() -> Self {
        Self {
            side: 28,
            channels: 1,
            noise: 100,
            layers: GanLayers::Convolutional { width: 64, discriminator_width: 32 },
            loss: GanLoss::default(),
            discriminator_rate: 2.0,
            average: 0.999,
            vary: Vary { flip: false, shift: 0.0, erase: 0.0 },
            augment: Augment::default(),
            judged: 2000,
            classified: 20_000,
            classifier_epochs: 4,
            learning: Learning {
                batch: 64,
                learning_rate: 0.0002,
                momentum: 0.5,
                clip: 100.0,
                epochs: 20,
                patience: 20,
                ..Learning::default()
            },
            gate: Gate::default(),
        }
    }
}

impl Configuration for GanConfig {
    fn check(&self) -> Result<()> {
        learning::check_sizes(&[("side", self.side), ("noise", self.noise), ("judged", self.judged)])?;
        check_channels(self.channels)?;
        let sizes = match &self.layers {
            GanLayers::Dense { widths } => widths.clone(),
            GanLayers::Convolutional { width, discriminator_width } => vec![*width, *discriminator_width],
        };
        ensure!(!sizes.is_empty() && !sizes.contains(&0), "layers must have widths of at least 1");
        let rate = self.discriminator_rate;
        ensure!(rate.is_finite() && rate > 0.0, "discriminator_rate is {rate}; it must be above 0");
        ensure!((0.0..1.0).contains(&self.average), "average is {}; it must be from 0 to below 1", self.average);
        self.vary.check()?;
        self.augment.check()?;
        self.learning.check()
    }
}

impl GanConfig {
    /// The networks for these pictures.
    pub(super) fn spec(&self, pictures: &Pictures) -> CganConfig {
        let Self { side, channels, noise, ref layers, .. } = *self;
        CganConfig { side, channels, classes: pictures.classes.clone(), noise, layers: layers.clone() }
    }
}

/// What `config.json` has.
pub(super) fn named(config: CganConfig) -> GeneratorSpec {
    GeneratorSpec::Cgan(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GanConfig> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        learning::read(Some(file.path()), GanConfig::default())
    }

    #[test]
    fn layers_are_of_one_kind_or_the_other() {
        let config = read("[layers]\nkind = \"dense\"\nwidths = [256, 512, 1024]").unwrap();
        assert_eq!(config.layers, GanLayers::Dense { widths: vec![256, 512, 1024] });
        let config = read("layers.width = 16").unwrap();
        assert_eq!(config.layers, GanLayers::Convolutional { width: 16, discriminator_width: 32 });
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, name) in [
            ("channels = 4", "channels"),
            ("average = 1.0", "average"),
            ("discriminator_rate = 0.0", "discriminator_rate"),
            ("layers.width = 0", "widths"),
            ("[layers]\nkind = \"dense\"\nwidths = []", "widths"),
            ("loss = \"wasserstein\"", "wasserstein"),
            ("augment.cutout = 2.0", "augment.cutout"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
