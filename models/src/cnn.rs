//! A small residual network for pictures: "Deep Residual Learning for Image Recognition" (He et al. 2015,
//! <https://arxiv.org/abs/1512.03385>), section 4.2, its version for small pictures.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::batch_norm::BatchNorm;
use crate::convolution::{Conv2d, Windows};
use crate::fused::{Rectify, rectify};
use crate::linear::Linear;
use crate::picture::PictureNetwork;
use crate::training::Mode;

/// The network's sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CnnConfig {
    /// Height and width of a picture.
    pub side: usize,
    /// Channels of a picture: 1 grey, or 3 red, green and blue.
    pub channels: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Channels of each stage; every stage after the first halves height and width. The last is the embedding's length.
    pub widths: Vec<usize>,
    /// Blocks of two convolutions in each stage.
    pub blocks: usize,
    /// The part of the embedding that is dropped while learning.
    pub dropout: f32,
}

/// The network.
pub struct Cnn {
    stem: Conv2d,
    stem_norm: BatchNorm,
    blocks: Vec<Block>,
    classes: Linear,
    width: usize,
    dropout: f32,
}

struct Block {
    convolutions: [Conv2d; 2],
    norms: [BatchNorm; 2],
    /// Where height, width or channels change.
    shortcut: Option<(Conv2d, BatchNorm)>,
    stride: usize,
}

impl Cnn {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape; there are no stages.
    pub fn new(config: &CnnConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let CnnConfig { channels, ref classes, ref widths, blocks, dropout, .. } = *config;
        let (Some(&first), Some(&width)) = (widths.first(), widths.last()) else {
            candle_core::bail!("`widths` is empty; the network needs one stage at least")
        };
        let (mut before, mut all) = (first, Vec::new());
        for (stage, &width) in widths.iter().enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                all.push(Block::new(before, width, stride, &weights.pp("stages").pp(stage).pp(block))?);
                before = width;
            }
        }
        Ok(Self {
            stem: Conv2d::new(channels, first, 3, &weights.pp("stem"))?,
            stem_norm: BatchNorm::new(first, &weights.pp("stem_norm"))?,
            blocks: all,
            classes: Linear::new(width, classes.len(), &weights.pp("classes"))?,
            width,
            dropout,
        })
    }
}

impl PictureNetwork for Cnn {
    fn embed(&self, pictures: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        // From −1 to 1.
        let pictures = ((pictures * 2.0)? - 1.0)?;
        let stem = self.stem.forward(&pictures, Windows::around(3, 1))?;
        let mut features = self.stem_norm.forward(&stem, Rectify::RELU, mode)?;
        for block in &self.blocks {
            features = block.forward(&features, mode)?;
        }
        features.flatten(1, 2)?.mean(1)
    }

    fn logits(&self, embeddings: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.classes.forward(&mode.dropout(embeddings, self.dropout)?)
    }

    fn dimensions(&self) -> usize {
        self.width
    }
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let convolution = |inputs, at: usize| Conv2d::new(inputs, outputs, 3, &weights.pp("convolutions").pp(at));
        let norm = |at: usize| BatchNorm::new(outputs, &weights.pp("norms").pp(at));
        let shortcut = || -> Result<_> {
            let convolution = Conv2d::new(inputs, outputs, 1, &weights.pp("shortcut"))?;
            Ok((convolution, BatchNorm::new(outputs, &weights.pp("shortcut_norm"))?))
        };
        Ok(Self {
            convolutions: [convolution(inputs, 0)?, convolution(outputs, 1)?],
            norms: [norm(0)?, norm(1)?],
            shortcut: (stride > 1 || inputs != outputs).then(shortcut).transpose()?,
            stride,
        })
    }

    fn forward(&self, features: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let [first, second] = &self.convolutions;
        let [first_norm, second_norm] = &self.norms;
        let hidden = first.forward(features, Windows::around(3, self.stride))?;
        let hidden = first_norm.forward(&hidden, Rectify::RELU, mode)?;
        let hidden = second_norm.forward(&second.forward(&hidden, Windows::around(3, 1))?, Rectify::NOT, mode)?;
        let kept = match &self.shortcut {
            Some((convolution, norm)) => {
                norm.forward(&convolution.forward(features, Windows::around(1, self.stride))?, Rectify::NOT, mode)?
            }
            None => features.clone(),
        };
        rectify(&(hidden + kept)?, Rectify::RELU)
    }
}
