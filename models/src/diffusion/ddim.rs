//! From noise to picture in few steps: "Denoising Diffusion Implicit Models" (Song et al. 2020, <https://arxiv.org/abs/2010.02502>), with no noise
//! added between the steps (η = 0), as `DDIMScheduler` of diffusers does it from a `scheduler_config.json`.
//!
//! Candle's own takes no `set_alpha_to_one`, `clip_sample`, `trained_betas` or `rescale_betas_zero_snr`, and makes more steps than are asked for
//! of the spacing `trailing`.

use std::path::Path;

use candle_core::{Result, Tensor};
use serde::Deserialize;

use crate::{ModelError, files};

/// A `scheduler_config.json`, whatever the class that it names: all of them say how the network was taught, and most have these fields.
#[derive(Clone, Debug, Deserialize)]
struct SchedulerConfig {
    #[serde(default, rename = "_class_name")]
    class: String,
    #[serde(default = "SchedulerConfig::train_steps")]
    num_train_timesteps: usize,
    #[serde(default = "SchedulerConfig::beta_start")]
    beta_start: f64,
    #[serde(default = "SchedulerConfig::beta_end")]
    beta_end: f64,
    #[serde(default)]
    beta_schedule: BetaSchedule,
    trained_betas: Option<Vec<f64>>,
    clip_sample: Option<bool>,
    #[serde(default = "SchedulerConfig::clip_range")]
    clip_sample_range: f64,
    set_alpha_to_one: Option<bool>,
    #[serde(default)]
    steps_offset: usize,
    #[serde(default)]
    prediction_type: Prediction,
    #[serde(default)]
    thresholding: bool,
    #[serde(default)]
    timestep_spacing: Spacing,
    #[serde(default)]
    rescale_betas_zero_snr: bool,
}

impl SchedulerConfig {
    /// What is not said is as `DDIMScheduler` has it.
    fn train_steps() -> usize {
        1_000
    }

    fn beta_start() -> f64 {
        0.0001
    }

    fn beta_end() -> f64 {
        0.02
    }

    fn clip_range() -> f64 {
        1.0
    }

    /// Whether a value that its class would know is as in that class; other classes do not know of it.
    fn of_ddim(&self, said: Option<bool>) -> bool {
        said.unwrap_or(self.class == "DDIMScheduler")
    }
}

/// How much noise each of the steps added that the network was taught with.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BetaSchedule {
    #[default]
    Linear,
    ScaledLinear,
    SquaredcosCapV2,
}

/// What the network foretells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Prediction {
    /// The noise.
    #[default]
    Epsilon,
    /// The picture.
    Sample,
    /// Something between both: <https://arxiv.org/abs/2202.00512>, section 4.
    #[serde(rename = "v_prediction")]
    Velocity,
}

/// Which of the taught steps are taken, table 2 of <https://arxiv.org/abs/2305.08891>.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Spacing {
    #[default]
    Leading,
    Trailing,
    Linspace,
}

/// How a picture gets less noisy from step to step.
pub(super) struct Ddim {
    /// For each taught step, how much of the picture is left, from nearly 1 down.
    left: Vec<f64>,
    /// The same before the first.
    left_at_last: f64,
    clip: Option<f64>,
    offset: usize,
    prediction: Prediction,
    spacing: Spacing,
}

impl Ddim {
    /// Reads a `scheduler_config.json`.
    ///
    /// # Errors
    /// It cannot be read, or asks for what only other schedulers do.
    pub fn load(path: &Path) -> std::result::Result<Self, ModelError> {
        let config: SchedulerConfig = files::json(path, "; it says how the network was taught")?;
        if config.thresholding {
            let (path, what) = (path.to_owned(), "`thresholding`".to_owned());
            return Err(ModelError::Unsupported {
                path,
                what,
                supported: "schedulers of networks that work on latents",
            });
        }
        let betas = betas(&config);
        if betas.is_empty() || betas.iter().any(|beta| !(0.0..1.0).contains(beta)) {
            return Err(ModelError::format(path, "its betas are not one or more numbers from 0 to 1"));
        }
        let mut left = Vec::with_capacity(betas.len());
        let mut product = 1.0;
        for beta in betas {
            product *= 1.0 - beta;
            left.push(product);
        }
        if config.rescale_betas_zero_snr {
            nothing_left_at_first(&mut left);
        }
        Ok(Self {
            left_at_last: if config.of_ddim(config.set_alpha_to_one) { 1.0 } else { left[0] },
            clip: config.of_ddim(config.clip_sample).then_some(config.clip_sample_range),
            offset: config.steps_offset,
            prediction: config.prediction_type,
            spacing: config.timestep_spacing,
            left,
        })
    }

    /// The most steps that there can be.
    pub fn most_steps(&self) -> usize {
        self.left.len()
    }

    /// The taught step that is taken at each of `steps` steps, from the noisiest on. There are 1 to [`most_steps`](Self::most_steps).
    pub fn timesteps(&self, steps: usize) -> Vec<usize> {
        let taught = self.left.len();
        let last = taught - 1;
        let at = |step: usize| match self.spacing {
            Spacing::Leading => (steps - 1 - step) * (taught / steps) + self.offset,
            Spacing::Trailing => {
                let gone = step as f64 * (taught as f64 / steps as f64);
                ((taught as f64 - gone).round_ties_even() as usize).saturating_sub(1)
            }
            Spacing::Linspace => {
                let (whole, parts) = (last as f64, (steps - 1).max(1) as f64);
                ((steps - 1 - step) as f64 * whole / parts).round_ties_even() as usize
            }
        };
        (0..steps).map(|step| at(step).min(last)).collect()
    }

    /// The latents after the taught step `timestep`, one of `steps`, of those before and what the network foretold of them: formula 12 of the paper.
    ///
    /// # Errors
    /// The device failed.
    pub fn step(&self, steps: usize, timestep: usize, foretold: &Tensor, latents: &Tensor) -> Result<Tensor> {
        let left = self.left[timestep];
        let next = timestep.checked_sub(self.left.len() / steps).map_or(self.left_at_last, |next| self.left[next]);
        let (picture, noise) = (left.sqrt(), (1.0 - left).sqrt());
        let (clean, noisy) = match self.prediction {
            Prediction::Epsilon => (((latents - (foretold * noise)?)? / picture)?, foretold.clone()),
            Prediction::Sample => (foretold.clone(), ((latents - (foretold * picture)?)? / noise)?),
            Prediction::Velocity => {
                (((latents * picture)? - (foretold * noise)?)?, ((foretold * picture)? + (latents * noise)?)?)
            }
        };
        let clean = match self.clip {
            Some(most) => clean.clamp(-most, most)?,
            None => clean,
        };
        (clean * next.sqrt())? + (noisy * (1.0 - next).sqrt())?
    }
}

fn betas(config: &SchedulerConfig) -> Vec<f64> {
    if let Some(betas) = &config.trained_betas {
        return betas.clone();
    }
    let taught = config.num_train_timesteps;
    let between = |from: f64, to: f64, at: usize| from + (to - from) * at as f64 / (taught.max(2) - 1) as f64;
    let beta = |at| match config.beta_schedule {
        BetaSchedule::Linear => between(config.beta_start, config.beta_end, at),
        BetaSchedule::ScaledLinear => between(config.beta_start.sqrt(), config.beta_end.sqrt(), at).powi(2),
        BetaSchedule::SquaredcosCapV2 => {
            let left =
                |at: usize| ((at as f64 / taught as f64 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
            (1.0 - left(at + 1) / left(at)).min(0.999)
        }
    };
    (0..taught).map(beta).collect()
}

/// So that the noisiest step is noise and nothing else: algorithm 1 of <https://arxiv.org/abs/2305.08891>.
fn nothing_left_at_first(left: &mut [f64]) {
    let (Some(most), Some(least)) = (left.first().map(|left| left.sqrt()), left.last().map(|left| left.sqrt())) else {
        return;
    };
    for left in left {
        *left = ((left.sqrt() - least) * most / (most - least)).powi(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> std::result::Result<Ddim, ModelError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scheduler_config.json");
        std::fs::write(&path, json).unwrap();
        Ddim::load(&path)
    }

    #[test]
    fn steps_are_spaced_as_diffusers_spaces_them() {
        let spaced = |spacing: &str, offset: usize, steps| {
            of(&format!(r#"{{"timestep_spacing": "{spacing}", "steps_offset": {offset}}}"#)).unwrap().timesteps(steps)
        };
        assert_eq!(spaced("leading", 1, 4), [751, 501, 251, 1]);
        assert_eq!(spaced("leading", 0, 3), [666, 333, 0]);
        assert_eq!(spaced("trailing", 0, 3), [999, 666, 332]);
        assert_eq!(spaced("linspace", 0, 3), [999, 500, 0]);
        assert_eq!(spaced("linspace", 0, 1), [0]);
        let all = spaced("leading", 1, 1_000);
        assert_eq!((all.len(), all[0], all[999]), (1_000, 999, 1), "none is beyond those that were taught");
    }

    #[test]
    fn another_class_clips_nothing_and_a_threshold_is_refused() {
        assert_eq!(of(r#"{"_class_name": "PNDMScheduler"}"#).unwrap().clip, None);
        assert_eq!(of(r#"{"_class_name": "DDIMScheduler"}"#).unwrap().clip, Some(1.0));
        for (json, named) in [
            (r#"{"thresholding": true}"#, "thresholding"),
            (r#"{"trained_betas": []}"#, "betas"),
            (r#"{"num_train_timesteps": 0}"#, "betas"),
            (r#"{"beta_schedule": "laplace"}"#, "laplace"),
        ] {
            let error = of(json).err().unwrap().to_string();
            assert!(error.contains(named), "{error}");
        }
        let zero = of(r#"{"rescale_betas_zero_snr": true, "num_train_timesteps": 10}"#).unwrap();
        assert!(zero.left[9] == 0.0 && zero.left[0] > 0.99);
    }
}
