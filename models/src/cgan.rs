//! Pictures of a class that never were: "Conditional Generative Adversarial Nets" (Mirza & Osindero 2014,
//! <https://arxiv.org/abs/1411.1784>). A generator makes pictures of noise, and a discriminator learns to tell them from real ones.
//!
//! The generator is a few linear layers, or the transposed convolutions of "Unsupervised Representation Learning with Deep
//! Convolutional Generative Adversarial Networks" (Radford et al. 2016, <https://arxiv.org/abs/1511.06434>). How it is told the class, and how
//! the discriminator compares what it sees with it, is that of "cGANs with Projection Discriminator" (Miyato & Koyama 2018,
//! <https://arxiv.org/abs/1802.05637>): normalised features are scaled and shifted by class. The discriminator is kept smooth by
//! [spectral normalisation](crate::spectral).

use candle_core::{Result, Tensor};
use candle_nn::{VarBuilder, ops::sigmoid};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::batch_norm::ConditionalBatchNorm;
use crate::convolution::{ConvTranspose2d, Windows};
use crate::fused::{Rectify, rectify};
use crate::linear::Linear;
use crate::spectral::{SpectralConv2d, SpectralEmbedding, SpectralLinear};
use crate::training::{Mode, normal};

/// Each of the transposed convolutions doubles height and width, and each convolution of a discriminator halves them.
const TWICE: Windows = Windows { side: 4, stride: 2, padding: [1, 1] };

/// The sizes of both networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CganConfig {
    /// Height and width of a picture.
    pub side: usize,
    /// Channels of a picture: 1 grey, or 3 red, green and blue.
    pub channels: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Numbers that a picture is made of, beside its class.
    pub noise: usize,
    /// How it is made.
    pub layers: GanLayers,
}

/// What both networks are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum GanLayers {
    /// Linear layers: the generator's of these widths, the discriminator's the same backwards.
    Dense {
        /// From noise to picture.
        widths: Vec<usize>,
    },
    /// Convolutions, with so many channels where the picture is half as high and wide, and twice as many with each halving.
    Convolutional {
        /// Of the generator.
        width: usize,
        /// Of the discriminator.
        discriminator_width: usize,
    },
}

impl CganConfig {
    /// Height and width of the smallest features, and how often they are doubled: an odd side cannot be halved, and 8 is small enough.
    fn halvings(&self) -> (usize, usize) {
        let (mut side, mut halvings) = (self.side, 0);
        while side.is_multiple_of(2) && side > 8 {
            side /= 2;
            halvings += 1;
        }
        (side, halvings)
    }

    /// Numbers of a picture.
    fn numbers(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Noise for one picture, normally distributed: the same seed gives the same.
    #[must_use]
    pub fn noise_of(&self, seed: u64) -> Vec<f32> {
        let mut random = StdRng::seed_from_u64(seed);
        (0..self.noise).map(|_| normal(&mut random)).collect()
    }
}

/// Makes pictures.
pub struct Generator {
    layers: GeneratorLayers,
    config: CganConfig,
}

enum GeneratorLayers {
    Dense {
        hidden: Vec<(Linear, ConditionalBatchNorm)>,
        output: Linear,
    },
    Convolutional {
        first: Linear,
        first_norm: ConditionalBatchNorm,
        hidden: Vec<(ConvTranspose2d, ConditionalBatchNorm)>,
        output: ConvTranspose2d,
    },
}

impl Generator {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape; a convolutional one whose side is odd, or no more than 8.
    pub fn new(config: &CganConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let (noise, classes) = (config.noise, config.classes.len());
        let layers = match &config.layers {
            GanLayers::Dense { widths } => {
                let (mut before, mut hidden) = (noise, Vec::new());
                for (layer, &width) in widths.iter().enumerate() {
                    let linear = Linear::new(before, width, &weights.pp("layers").pp(layer))?;
                    hidden.push((linear, ConditionalBatchNorm::new(classes, width, &weights.pp("norms").pp(layer))?));
                    before = width;
                }
                GeneratorLayers::Dense { hidden, output: Linear::new(before, config.numbers(), &weights.pp("output"))? }
            }
            GanLayers::Convolutional { width, .. } => {
                let (side, halvings) = config.halvings();
                let Some(doublings) = halvings.checked_sub(1) else {
                    candle_core::bail!(
                        "pictures of {0} × {0} cannot be halved to make them of convolutions",
                        config.side
                    )
                };
                let mut before = width << doublings;
                let first = Linear::new(noise, side * side * before, &weights.pp("first"))?;
                let first_norm = ConditionalBatchNorm::new(classes, before, &weights.pp("first_norm"))?;
                let mut hidden = Vec::new();
                for layer in 0..doublings {
                    let larger =
                        ConvTranspose2d::new(before, before / 2, TWICE.side, false, &weights.pp("layers").pp(layer))?;
                    before /= 2;
                    hidden.push((larger, ConditionalBatchNorm::new(classes, before, &weights.pp("norms").pp(layer))?));
                }
                let output = ConvTranspose2d::new(before, config.channels, TWICE.side, true, &weights.pp("output"))?;
                GeneratorLayers::Convolutional { first, first_norm, hidden, output }
            }
        };
        Ok(Self { layers, config: config.clone() })
    }

    /// Whether a weight of this name is what classes scale or shift features by.
    #[must_use]
    pub fn is_of_classes(name: &str) -> bool {
        name.split('.').any(|part| [ConditionalBatchNorm::SCALES, ConditionalBatchNorm::SHIFTS].contains(&part))
    }

    /// Pictures f32 `[pictures, side, side, channels]`, from 0 to 1, of noise f32 `[pictures, noise]` and classes u32 `[pictures]`.
    ///
    /// # Errors
    /// A class is not there, or the device failed.
    pub fn forward(&self, noise: &Tensor, classes: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let CganConfig { side, channels, .. } = self.config;
        let pictures = match &self.layers {
            GeneratorLayers::Dense { hidden, output } => {
                let mut rows = noise.clone();
                for (layer, norm) in hidden {
                    rows = norm.forward(&layer.forward(&rows)?, classes, Rectify::LEAKY, mode)?;
                }
                output.forward(&rows)?.reshape(((), side, side, channels))?
            }
            GeneratorLayers::Convolutional { first, first_norm, hidden, output } => {
                let (side, _) = self.config.halvings();
                let rows = first.forward(noise)?;
                let width = rows.dim(1)? / (side * side);
                let rows = rows.reshape(((), side, side, width))?;
                let mut features = first_norm.forward(&rows, classes, Rectify::RELU, mode)?;
                for (larger, norm) in hidden {
                    features = norm.forward(&larger.forward(&features, TWICE)?, classes, Rectify::RELU, mode)?;
                }
                output.forward(&features, TWICE)?
            }
        };
        sigmoid(&pictures)
    }
}

/// Tells real pictures from made ones.
pub struct Discriminator {
    layers: DiscriminatorLayers,
    output: SpectralLinear,
    classes: SpectralEmbedding,
}

enum DiscriminatorLayers {
    Dense(Vec<SpectralLinear>),
    Convolutional { halving: Vec<SpectralConv2d>, last: SpectralConv2d },
}

impl Discriminator {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape.
    pub fn new(config: &CganConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let layer = |at: usize| weights.pp("layers").pp(at);
        let (layers, width) = match &config.layers {
            GanLayers::Dense { widths } => {
                let (mut before, mut layers) = (config.numbers(), Vec::new());
                for (at, &width) in widths.iter().rev().enumerate() {
                    layers.push(SpectralLinear::new(before, width, &layer(at))?);
                    before = width;
                }
                (DiscriminatorLayers::Dense(layers), before)
            }
            GanLayers::Convolutional { discriminator_width, .. } => {
                let (mut before, mut halving) = (config.channels, Vec::new());
                for at in 0..config.halvings().1 {
                    let width = discriminator_width << at;
                    halving.push(SpectralConv2d::new(before, width, TWICE.side, &layer(at))?);
                    before = width;
                }
                let last = SpectralConv2d::new(before, before, 3, &weights.pp("last"))?;
                (DiscriminatorLayers::Convolutional { halving, last }, before)
            }
        };
        Ok(Self {
            layers,
            output: SpectralLinear::new(width, 1, &weights.pp("output"))?,
            classes: SpectralEmbedding::new(config.classes.len(), width, &weights.pp("classes"))?,
        })
    }

    /// Lets the singular values of its weights follow them: before each batch that is learnt.
    ///
    /// # Errors
    /// The device failed.
    pub fn follow(&self) -> Result<()> {
        match &self.layers {
            DiscriminatorLayers::Dense(layers) => layers.iter().try_for_each(SpectralLinear::follow)?,
            DiscriminatorLayers::Convolutional { halving, last } => {
                halving.iter().chain([last]).try_for_each(SpectralConv2d::follow)?;
            }
        }
        self.output.follow()?;
        self.classes.follow()
    }

    /// How real each picture of its class looks, f32 `[pictures]`: above 0 real, below it made. Pictures are f32 `[pictures, side, side,
    /// channels]` with numbers from 0 to 1, classes u32 `[pictures]`. It learns, and its gradient reaches its weights, in the mode for it
    /// only.
    ///
    /// # Errors
    /// Pictures have another size, a class is not there, or the device failed.
    pub fn forward(&self, pictures: &Tensor, classes: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let pictures = ((pictures * 2.0)? - 1.0)?;
        let features = match &self.layers {
            DiscriminatorLayers::Dense(layers) => {
                let mut rows = pictures.flatten_from(1)?;
                for layer in layers {
                    rows = rectify(&layer.forward(&rows, mode)?, Rectify::LEAKY)?;
                }
                rows
            }
            DiscriminatorLayers::Convolutional { halving, last } => {
                let mut features = pictures;
                for layer in halving {
                    features = rectify(&layer.forward(&features, TWICE, mode)?, Rectify::LEAKY)?;
                }
                let features = rectify(&last.forward(&features, Windows::around(3, 1), mode)?, Rectify::LEAKY)?;
                features.flatten(1, 2)?.sum(1)?
            }
        };
        let alike = (self.classes.forward(classes, mode)? * &features)?.sum(1)?;
        alike + self.output.forward(&features, mode)?.squeeze(1)?
    }
}

/// What both networks make small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GanLoss {
    /// "Geometric GAN" (Lim & Ye 2017, <https://arxiv.org/abs/1705.02894>): real ones are to be above 1, made ones below −1.
    #[default]
    Hinge,
    /// "Generative Adversarial Networks" (Goodfellow et al. 2014, <https://arxiv.org/abs/1406.2661>), the loss of section 3 that does not fade.
    NonSaturating,
}

impl GanLoss {
    /// The discriminator's, from its verdicts.
    ///
    /// # Errors
    /// The device failed.
    pub fn discriminator(self, of_real: &Tensor, of_made: &Tensor) -> Result<Tensor> {
        match self {
            Self::Hinge => (1.0 - of_real)?.relu()?.mean_all()? + (of_made + 1.0)?.relu()?.mean_all()?,
            Self::NonSaturating => softplus(&of_real.neg()?)?.mean_all()? + softplus(of_made)?.mean_all()?,
        }
    }

    /// The generator's, from the discriminator's verdicts.
    ///
    /// # Errors
    /// The device failed.
    pub fn generator(self, of_made: &Tensor) -> Result<Tensor> {
        match self {
            Self::Hinge => of_made.mean_all()?.neg(),
            Self::NonSaturating => softplus(&of_made.neg()?)?.mean_all(),
        }
    }
}

/// `ln(1 + eˣ)`, which is finite for all.
fn softplus(numbers: &Tensor) -> Result<Tensor> {
    numbers.relu()? + (numbers.abs()?.neg()?.exp()? + 1.0)?.log()?
}
