//! Pictures of words: "High-Resolution Image Synthesis with Latent Diffusion Models" (Rombach et al. 2022, <https://arxiv.org/abs/2112.10752>), as
//! Stable Diffusion 1 and 2 are. A version's folder is one of diffusers': `unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`.
//!
//! A picture is made in steps, and nothing is kept between them but the picture itself: whoever asks for one step after the other can stop
//! after each, and let others run in between.
//!
//! - `start`: what a picture begins as. `tokens`: prompts to token ids. `config`: what the files say of the networks.
//! - `text`: what the tokens mean. The network that foretells the noise and the one that makes pixels are candle's. `ddim`: the steps.

mod config;
mod ddim;
mod start;
mod text;
mod tokens;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_transformers::models::stable_diffusion::unet_2d::UNet2DConditionModel;
use candle_transformers::models::stable_diffusion::vae::AutoEncoderKL;

use crate::golden::{GoldenCheck, Recording};
use crate::rest::rest;
use crate::weights::Weights;
use crate::{DeviceSpec, ModelError, files};
use ddim::Ddim;
use text::{TextConfig, TextEncoder};
use tokens::PromptTokenizer;

pub use start::{Denoising, DiffusionStart, DiffusionWish};
pub use tokens::PromptTokens;

/// So many prompts need not be read again for each step.
const REMEMBERED: usize = 16;

/// How often the network that makes pixels has a number for each two latents at once.
const PAIRS_OF_PIXELS: usize = 5;

/// A loaded version of kind `stable-diffusion`.
pub struct Diffusion {
    text: TextEncoder,
    unet: UNet2DConditionModel,
    vae: AutoEncoderKL,
    /// Latents are so many times smaller for the network that makes pixels.
    scaling: f64,
    ddim: Ddim,
    start: Arc<DiffusionStart>,
    /// What prompts mean, the latest first.
    meanings: VecDeque<(Vec<u32>, Tensor)>,
    device: Device,
}

impl Diffusion {
    /// Loads a folder of diffusers. Weights are f32 on the device, whatever they are in the files.
    ///
    /// # Errors
    /// A file is missing, damaged or contradicts another, asks for a network that is none of Stable Diffusion 1 or 2, or the device cannot be
    /// opened.
    pub fn load(dir: &Path, spec: &DeviceSpec) -> Result<Self, ModelError> {
        let device = spec.open()?;
        let (text_file, unet_file, vae_file) =
            (dir.join("text_encoder/config.json"), dir.join("unet/config.json"), dir.join("vae/config.json"));
        let text_config: TextConfig = files::json(&text_file, "; it describes the text encoder")?;
        let (unet_config, vae_config) = (config::unet(&unet_file)?, config::vae(&vae_file)?);
        check(&text_config, &text_file)?;
        let (hidden, asked) = (text_config.hidden_size, unet_config.network.cross_attention_dim);
        if hidden != asked {
            let reason =
                format!("it asks for a text encoder of {asked} numbers a token; {} says {hidden}", text_file.display());
            return Err(ModelError::format(&unet_file, reason));
        }
        if unet_config.channels != vae_config.network.latent_channels {
            let reason = format!("its latents have not the {} channels of unet/", unet_config.channels);
            return Err(ModelError::format(&vae_file, reason));
        }
        let ddim = Ddim::load(&dir.join("scheduler/scheduler_config.json"))?;
        let (positions, vocabulary) = (text_config.max_position_embeddings, text_config.vocab_size);
        let widths = &vae_config.network.block_out_channels;
        let start = DiffusionStart {
            tokenizer: PromptTokenizer::load(&dir.join("tokenizer"), positions, vocabulary)?,
            channels: unet_config.channels,
            side: unet_config.side,
            factor: vae_config.factor(),
            most_steps: ddim.most_steps(),
            pairs: unet_config.pairs().max(PAIRS_OF_PIXELS),
            widest: widths.iter().take(2).copied().max().unwrap_or_default(),
        };
        let damaged = |path: &PathBuf| {
            let path = path.clone();
            move |error| ModelError::format(path, error)
        };
        let path = weights(&dir.join("text_encoder"), "model");
        let text = TextEncoder::new(&text_config, &Weights::open(&path)?.on(&device)).map_err(damaged(&path))?;
        let path = weights(&dir.join("unet"), "diffusion_pytorch_model");
        let (channels, of_unet) = (unet_config.channels, Weights::open(&path)?.on(&device));
        let unet = UNet2DConditionModel::new(of_unet, channels, channels, false, unet_config.network);
        let unet = unet.map_err(damaged(&path))?;
        let path = weights(&dir.join("vae"), "diffusion_pytorch_model");
        let scaling = vae_config.scaling;
        let vae = AutoEncoderKL::new(Weights::open(&path)?.on(&device), 3, 3, vae_config.network);
        let vae = vae.map_err(damaged(&path))?;
        Ok(Self { text, unet, vae, scaling, ddim, start: Arc::new(start), meanings: VecDeque::new(), device })
    }

    /// Where pictures begin.
    pub fn start(&self) -> Arc<DiffusionStart> {
        Arc::clone(&self.start)
    }

    /// The latents after one more step.
    ///
    /// # Errors
    /// The picture is not one that was [begun](DiffusionStart::begin) here, or is done; a number that comes out is none; the device failed.
    pub fn step(&mut self, picture: &Denoising) -> Result<Vec<f32>, ModelError> {
        let steps = picture.steps as usize;
        if !(1..=self.ddim.most_steps()).contains(&steps) || picture.done >= picture.steps {
            return Err(candle_core::Error::msg(format!("step {} of {steps} cannot be taken", picture.done)).into());
        }
        let timestep = self.ddim.timesteps(steps)[picture.done as usize];
        let latents = self.latents(picture)?;
        let foretold = self.foretell(picture, timestep, &latents)?;
        finite(&self.ddim.step(steps, timestep, &foretold, &latents)?)
    }

    /// The pixels of a picture whose steps are done, line by line from above: `[height, width, 3]`, from 0 to 1.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn finish(&self, picture: &Denoising) -> Result<Vec<f32>, ModelError> {
        let pixels = self.vae.decode(&(self.latents(picture)? / self.scaling)?)?;
        // Before what is no number is cut off: it would become one.
        finite(&((pixels / 2.0)? + 0.5)?.squeeze(0)?.permute((1, 2, 0))?)
            .map(|pixels| pixels.into_iter().map(|pixel| pixel.clamp(0.0, 1.0)).collect())
    }

    fn latents(&self, picture: &Denoising) -> Result<Tensor, ModelError> {
        let [height, width] = picture.size;
        Ok(Tensor::from_slice(&picture.latents, (1, self.start.channels, height, width), &self.device)?)
    }

    /// What the network foretells of latents `[1, channels, height, width]`: with guidance, what it does of the prompt, and away from what it does
    /// of the other one ("Classifier-Free Diffusion Guidance", Ho & Salimans 2022, <https://arxiv.org/abs/2207.12598>).
    fn foretell(&mut self, picture: &Denoising, timestep: usize, latents: &Tensor) -> Result<Tensor, ModelError> {
        let prompt = self.meaning(&picture.prompt)?;
        if picture.guidance <= 1.0 {
            return Ok(self.unet.forward(latents, timestep as f64, &prompt)?);
        }
        let negative = self.meaning(&picture.negative)?;
        let (twice, both) = (Tensor::cat(&[latents, latents], 0)?, Tensor::cat(&[negative, prompt], 0)?);
        let foretold = self.unet.forward(&twice, timestep as f64, &both)?;
        let (without, with) = (foretold.narrow(0, 0, 1)?, foretold.narrow(0, 1, 1)?);
        Ok((&without + ((with - &without)? * f64::from(picture.guidance))?)?)
    }

    /// f32 `[1, tokens, hidden]` of a prompt.
    fn meaning(&mut self, ids: &[u32]) -> Result<Tensor, ModelError> {
        if let Some((_, meaning)) = self.meanings.iter().find(|(known, _)| known == ids) {
            return Ok(meaning.clone());
        }
        let meaning = self.text.forward(ids)?;
        self.meanings.truncate(REMEMBERED - 1);
        self.meanings.push_front((ids.to_vec(), meaning.clone()));
        Ok(meaning)
    }

    /// Makes what is recorded in `golden.safetensors` in `dir` again, and compares. It holds `prompt_ids` and `negative_ids` (i64), `steps_guidance`,
    /// `latents` `[1, channels, height, width]`, and the `picture` `[height, width, 3]` from 0 to 1.
    ///
    /// # Errors
    /// [`ModelError::Golden`] when a number is more than `tolerance` away from its recording; a damaged recording; the device's failure.
    pub fn check_golden(&mut self, dir: &Path, tolerance: f32) -> Result<GoldenCheck, ModelError> {
        let Some(mut recording) = Recording::read(dir)? else { return Ok(GoldenCheck::NotRecorded) };
        let [prompt, negative, run, latents, recorded] =
            ["prompt_ids", "negative_ids", "steps_guidance", "latents", "picture"].map(|name| recording.take(name));
        let damaged = |error| recording.damaged(error);
        let ids = |tensor: Tensor| tensor.to_dtype(candle_core::DType::U32)?.to_vec1();
        let (_, _, height, width) = latents.as_ref().map_or(Ok((0, 0, 0, 0)), Tensor::dims4).map_err(damaged)?;
        let run: Vec<f32> = run?.to_vec1().map_err(damaged)?;
        let &[steps, guidance] = &run[..] else {
            return Err(recording.damaged("`steps_guidance` are not two numbers"));
        };
        let picture = Denoising {
            prompt: ids(prompt?).map_err(damaged)?,
            negative: ids(negative?).map_err(damaged)?,
            steps: steps as u32,
            done: 0,
            guidance,
            size: [height, width],
            latents: latents?.flatten_all().and_then(|all| all.to_vec1()).map_err(damaged)?,
        };
        let recorded: Vec<f32> = recorded?.flatten_all().and_then(|all| all.to_vec1()).map_err(damaged)?;
        let made = self.make(picture)?;
        if made.len() != recorded.len() {
            return Err(recording.damaged("its picture is not of the size of its latents"));
        }
        recording.compare(&[made], &[recorded], tolerance)
    }

    /// All steps of a picture, and its pixels, with a rest after each step.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn make(&mut self, mut picture: Denoising) -> Result<Vec<f32>, ModelError> {
        while picture.done < picture.steps {
            picture.latents = self.step(&picture)?;
            picture.done += 1;
            rest();
        }
        self.finish(&picture)
    }
}

/// The file of weights in a folder, or the one of half the precision, if that alone is there.
fn weights(dir: &Path, name: &str) -> PathBuf {
    let (whole, half) = (dir.join(format!("{name}.safetensors")), dir.join(format!("{name}.fp16.safetensors")));
    if !whole.exists() && half.exists() { half } else { whole }
}

fn check(config: &TextConfig, path: &Path) -> Result<(), ModelError> {
    let TextConfig { hidden_size, num_attention_heads: heads, .. } = *config;
    if heads == 0 || !hidden_size.is_multiple_of(heads) {
        return Err(ModelError::format(path, format!("{hidden_size} numbers cannot be parted into {heads} heads")));
    }
    Ok(())
}

fn finite(numbers: &Tensor) -> Result<Vec<f32>, ModelError> {
    let numbers: Vec<f32> = numbers.flatten_all()?.to_vec1()?;
    if numbers.iter().all(|number| number.is_finite()) { Ok(numbers) } else { Err(ModelError::NotFinite { row: 0 }) }
}

#[cfg(test)]
mod tests;
