//! A layer of batch normalisation: by the batch's own mean and variance while learning, by running ones in answers.

use candle_core::{Result, Tensor, Var};
use candle_nn::{Embedding, Init, Module as _, VarBuilder, embedding};

use crate::fused::{Moments, Rectify, modulate, moments, normalize};
use crate::training::Mode;

pub(crate) struct BatchNorm {
    scale: Tensor,
    shift: Tensor,
    /// What is learnt without a gradient.
    mean: Var,
    variance: Var,
    epsilon: f32,
    /// How far the running ones move with each batch; 0: they stay, and batches are normalised by them while learning as well.
    momentum: f64,
}

impl BatchNorm {
    /// As the paper and PyTorch have it. Weights `weight`, `bias`, `running_mean` and `running_var`.
    pub(crate) fn new(channels: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        Self::with(channels, 1e-5, 0.1, weights)
    }

    /// With what is added to variances, and how far the running ones move.
    pub(crate) fn with(channels: usize, epsilon: f32, momentum: f64, weights: &VarBuilder<'_>) -> Result<Self> {
        let of = |name: &str, start| weights.get_with_hints(channels, name, Init::Const(start));
        Ok(Self {
            scale: of("weight", 1.0)?,
            shift: of("bias", 0.0)?,
            mean: Var::from_tensor(&of("running_mean", 0.0)?)?,
            variance: Var::from_tensor(&of("running_var", 1.0)?)?,
            epsilon,
            momentum,
        })
    }

    /// f32 `[.., channels]` to the same, rectified.
    pub(crate) fn forward(&self, rows: &Tensor, then: Rectify, mode: &Mode<'_>) -> Result<Tensor> {
        if !mode.learns() || self.momentum <= 0.0 {
            let running = Moments { mean: self.mean.to_vec1()?, variance: self.variance.to_vec1()? };
            return normalize(rows, &self.scale, &self.shift, &running, self.epsilon, true, then);
        }
        let moments = moments(rows)?;
        if mode.moves() {
            self.move_to(&moments, rows.elem_count() / moments.mean.len().max(1))?;
        }
        normalize(rows, &self.scale, &self.shift, &moments, self.epsilon, false, then)
    }

    /// Moves the running ones towards those of a batch of so many rows.
    fn move_to(&self, moments: &Moments, rows: usize) -> Result<()> {
        // The variance of what the batch was drawn from.
        let unbiased = rows as f64 / rows.saturating_sub(1).max(1) as f64;
        for (running, new, by) in [(&self.mean, &moments.mean, 1.0), (&self.variance, &moments.variance, unbiased)] {
            let new = Tensor::new(&new[..], running.device())?;
            running.set(&((running.as_tensor() * (1.0 - self.momentum))? + (new * (self.momentum * by))?)?)?;
        }
        Ok(())
    }
}

/// Batch normalisation whose numbers are scaled and shifted by class, too ("Modulating early visual processing by language", de Vries et al.
/// 2017, <https://arxiv.org/abs/1707.00683>).
pub(crate) struct ConditionalBatchNorm {
    norm: BatchNorm,
    scales: Embedding,
    shifts: Embedding,
}

impl ConditionalBatchNorm {
    /// The names of what belongs to classes.
    pub(crate) const SCALES: &str = "scales";
    pub(crate) const SHIFTS: &str = "shifts";

    /// Weights of [`BatchNorm`], and `scales` and `shifts`: vectors for each class, of which scales are what they have above 1.
    pub(crate) fn new(classes: usize, channels: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm: BatchNorm::new(channels, weights)?,
            scales: embedding(classes, channels, weights.pp(Self::SCALES))?,
            shifts: embedding(classes, channels, weights.pp(Self::SHIFTS))?,
        })
    }

    /// f32 `[pictures, .., channels]` of classes u32 `[pictures]` to the same, rectified.
    pub(crate) fn forward(
        &self,
        features: &Tensor,
        classes: &Tensor,
        then: Rectify,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let features = self.norm.forward(features, Rectify::NOT, mode)?;
        modulate(&features, &self.scales.forward(classes)?, &self.shifts.forward(classes)?, then)
    }
}
