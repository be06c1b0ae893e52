//! "Spectral Normalization for Generative Adversarial Networks" (Miyato et al. 2018, <https://arxiv.org/abs/1802.05957>): weights over their
//! largest singular value, so that a layer makes no difference larger than it was. The value is followed by a step of the power iteration
//! with each batch that is learnt.

use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};

use crate::convolution::{Windows, convolve};
use crate::fused::add_bias;
use crate::linear::linear;
use crate::training::Mode;

const EPSILON: f64 = 1e-12;

/// The left singular vector of a weight, which is learnt without a gradient.
struct Norm {
    vector: Var,
}

impl Norm {
    fn new(outputs: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let start = Init::Const(1.0 / (outputs.max(1) as f64).sqrt());
        Ok(Self { vector: Var::from_tensor(&weights.get_with_hints((outputs, 1), "singular", start)?)? })
    }

    /// A step of the power iteration.
    fn follow(&self, weight: &Tensor) -> Result<()> {
        let matrix = weight.flatten_from(1)?.detach();
        let right = unit(&matrix.t()?.matmul(&self.vector.as_detached_tensor())?)?;
        self.vector.set(&unit(&matrix.matmul(&right)?)?)
    }

    /// The weight over its largest singular value.
    fn apply(&self, weight: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let weight = of(weight, mode);
        let matrix = weight.flatten_from(1)?;
        let left = self.vector.as_detached_tensor();
        let right = unit(&matrix.detach().t()?.matmul(&left)?)?;
        let largest = left.t()?.matmul(&matrix)?.matmul(&right)?;
        weight.broadcast_div(&largest.reshape(vec![1; weight.rank()])?)
    }
}

/// Weights of a network that does not learn, through which gradients pass to what it sees, take none themselves.
fn of(weight: &Tensor, mode: &Mode<'_>) -> Tensor {
    if mode.learns() { weight.clone() } else { weight.detach() }
}

fn unit(vector: &Tensor) -> Result<Tensor> {
    let length = (vector.sqr()?.sum_all()?.sqrt()? + EPSILON)?;
    vector.broadcast_div(&length)
}

pub(crate) struct SpectralLinear {
    weight: Tensor,
    bias: Tensor,
    norm: Norm,
}

impl SpectralLinear {
    /// Weights `weight`, `bias` and `singular`.
    pub(crate) fn new(inputs: usize, outputs: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let zeros = Init::Const(0.0);
        Ok(Self {
            weight: weights.get_with_hints((outputs, inputs), "weight", zeros)?,
            bias: weights.get_with_hints(outputs, "bias", zeros)?,
            norm: Norm::new(outputs, weights)?,
        })
    }

    /// Before each batch that is learnt.
    pub(crate) fn follow(&self) -> Result<()> {
        self.norm.follow(&self.weight)
    }

    pub(crate) fn forward(&self, rows: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        linear(rows, &self.norm.apply(&self.weight, mode)?, &of(&self.bias, mode))
    }
}

pub(crate) struct SpectralConv2d {
    kernel: Tensor,
    bias: Tensor,
    norm: Norm,
}

impl SpectralConv2d {
    /// Weights `weight`, `bias` and `singular`.
    pub(crate) fn new(inputs: usize, outputs: usize, side: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let zeros = Init::Const(0.0);
        Ok(Self {
            kernel: weights.get_with_hints((outputs, inputs, side, side), "weight", zeros)?,
            bias: weights.get_with_hints(outputs, "bias", zeros)?,
            norm: Norm::new(outputs, weights)?,
        })
    }

    /// Before each batch that is learnt.
    pub(crate) fn follow(&self) -> Result<()> {
        self.norm.follow(&self.kernel)
    }

    pub(crate) fn forward(&self, pictures: &Tensor, windows: Windows, mode: &Mode<'_>) -> Result<Tensor> {
        let convolved = convolve(pictures, &self.norm.apply(&self.kernel, mode)?, windows)?;
        add_bias(&convolved, &of(&self.bias, mode))
    }
}

/// A vector for each class.
pub(crate) struct SpectralEmbedding {
    vectors: Tensor,
    norm: Norm,
}

impl SpectralEmbedding {
    /// Weights `weight` and `singular`.
    pub(crate) fn new(classes: usize, width: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let vectors = weights.get_with_hints((classes, width), "weight", Init::Const(0.0))?;
        Ok(Self { vectors, norm: Norm::new(classes, weights)? })
    }

    /// Before each batch that is learnt.
    pub(crate) fn follow(&self) -> Result<()> {
        self.norm.follow(&self.vectors)
    }

    pub(crate) fn forward(&self, classes: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        self.norm.apply(&self.vectors, mode)?.index_select(classes, 0)
    }
}
