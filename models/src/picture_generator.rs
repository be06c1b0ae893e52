//! A version of task `image-generation`: its generator, and the discriminator that learnt with it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use candle_nn::ops::sigmoid;
use serde::{Deserialize, Serialize};

use crate::golden::{GoldenCheck, Recording};
use crate::training::Mode;
use crate::weights::Weights;
use crate::{CganConfig, DeviceSpec, Discriminator, Generator, KnownPictures, ModelError, files};

/// Which networks they are, and their sizes: the version's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum GeneratorSpec {
    /// A class-conditional generator and its discriminator.
    Cgan(CganConfig),
}

/// A loaded version.
pub struct PictureGenerator {
    generator: Generator,
    discriminator: Discriminator,
    /// What it has learnt from, if the version tells.
    known: Option<KnownPictures>,
    config: CganConfig,
    device: Device,
}

/// What a picture is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The class, counted from 0.
    pub class: u32,
    /// The same seed gives the same picture.
    pub seed: u64,
}

impl PictureGenerator {
    /// The prefix of the generator's weights: the mean of those of many steps.
    pub const GENERATOR: &str = "generator";
    /// The prefix of the discriminator's weights.
    pub const DISCRIMINATOR: &str = "discriminator";

    /// Loads `config.json`, `model.safetensors` and, if there are any, [`KnownPictures`] in `dir`.
    ///
    /// # Errors
    /// A file is missing, damaged or contradicts another, or the device cannot be opened.
    pub fn load(dir: &Path, spec: &DeviceSpec) -> Result<Self, ModelError> {
        let GeneratorSpec::Cgan(config) = files::json(&dir.join("config.json"), "; it describes the network")?;
        let device = spec.open()?;
        let path = dir.join("model.safetensors");
        let weights = Weights::open(&path)?.on(&device);
        let damaged = |error| ModelError::format(&path, error);
        let generator = Generator::new(&config, &weights.pp(Self::GENERATOR)).map_err(damaged)?;
        let discriminator = Discriminator::new(&config, &weights.pp(Self::DISCRIMINATOR)).map_err(damaged)?;
        let known = KnownPictures::load(dir, spec)?;
        Ok(Self { generator, discriminator, known, config, device })
    }

    /// Sizes and classes.
    pub fn config(&self) -> &CganConfig {
        &self.config
    }

    /// Whether it tells how near pictures come to those that it has learnt from.
    pub fn knows_copies(&self) -> bool {
        self.known.is_some()
    }

    /// Makes pictures: f32 `[pictures, side, side, channels]`, from 0 to 1.
    ///
    /// # Errors
    /// A class is not there, a number that comes out is none, or the device failed.
    pub fn make(&self, wishes: &[Wish]) -> Result<Tensor, ModelError> {
        let noise: Vec<f32> = wishes.iter().flat_map(|wish| self.config.noise_of(wish.seed)).collect();
        let noise = Tensor::from_vec(noise, (wishes.len(), self.config.noise), &self.device)?;
        let pictures = self.generator.forward(&noise, &self.classes(wishes)?, &mut Mode::serving())?;
        let sums = pictures.flatten_from(1)?.sum(1)?.to_vec1::<f32>()?;
        match sums.iter().position(|sum| !sum.is_finite()) {
            Some(row) => Err(ModelError::NotFinite { row }),
            None => Ok(pictures),
        }
    }

    /// Each picture's numbers, behind them how likely the discriminator thinks that it is real, and, if this
    /// [is known](Self::knows_copies), how near it comes to a picture that was learnt from.
    ///
    /// # Errors
    /// Those of [`make`](Self::make).
    pub fn make_and_judge(&self, wishes: &[Wish]) -> Result<Vec<Vec<f32>>, ModelError> {
        let pictures = self.make(wishes)?;
        let verdicts = self.judge(&pictures, wishes)?;
        let mut numbers: Vec<Vec<f32>> = pictures.flatten_from(1)?.to_vec2()?;
        for (numbers, verdict) in numbers.iter_mut().zip(verdicts) {
            numbers.push(verdict);
        }
        if let Some(known) = &self.known {
            for (numbers, nearest) in numbers.iter_mut().zip(known.nearest(&pictures)?) {
                numbers.push(nearest);
            }
        }
        Ok(numbers)
    }

    /// How likely the discriminator thinks that each picture is real, from 0 to 1.
    ///
    /// # Errors
    /// Those of [`make`](Self::make), or the pictures are not as many as the wishes.
    pub fn judge(&self, pictures: &Tensor, wishes: &[Wish]) -> Result<Vec<f32>, ModelError> {
        let verdicts = self.discriminator.forward(pictures, &self.classes(wishes)?, &Mode::serving())?;
        Ok(sigmoid(&verdicts)?.to_vec1()?)
    }

    fn classes(&self, wishes: &[Wish]) -> Result<Tensor, ModelError> {
        let classes: Vec<u32> = wishes.iter().map(|wish| wish.class).collect();
        Ok(Tensor::new(classes, &self.device)?)
    }

    /// Records pictures in `golden.safetensors` in `dir`: `classes` (u32), `seeds` (i64 of the same bits), and `pictures`.
    ///
    /// # Errors
    /// Those of [`make`](Self::make), or the file cannot be written.
    pub fn write_golden(&self, dir: &Path, wishes: &[Wish]) -> Result<PathBuf, ModelError> {
        let seeds: Vec<i64> = wishes.iter().map(|wish| wish.seed.cast_signed()).collect();
        let tensors = HashMap::from([
            ("classes", self.classes(wishes)?.to_device(&Device::Cpu)?),
            ("seeds", Tensor::new(seeds, &Device::Cpu)?),
            ("pictures", self.make(wishes)?.flatten_from(1)?.to_device(&Device::Cpu)?),
        ]);
        Recording::write(dir, &tensors)
    }

    /// Makes what is recorded in `dir` again, and compares.
    ///
    /// # Errors
    /// [`ModelError::Golden`] when a number is more than `tolerance` away from its recording; a damaged recording; the device's failure.
    pub fn check_golden(&self, dir: &Path, tolerance: f32) -> Result<GoldenCheck, ModelError> {
        let Some(mut recording) = Recording::read(dir)? else { return Ok(GoldenCheck::NotRecorded) };
        let [classes, seeds, pictures] = ["classes", "seeds", "pictures"].map(|name| recording.take(name));
        let damaged = |error| recording.damaged(error);
        let (classes, seeds) = (classes?.to_vec1::<u32>().map_err(damaged)?, seeds?.to_vec1::<i64>().map_err(damaged)?);
        let recorded: Vec<Vec<f32>> = pictures?.to_vec2().map_err(damaged)?;
        let wish = |(class, seed): (u32, i64)| Wish { class, seed: seed.cast_unsigned() };
        let wishes: Vec<Wish> = classes.into_iter().zip(seeds).map(wish).collect();
        let made: Vec<Vec<f32>> = self.make(&wishes)?.flatten_from(1)?.to_vec2()?;
        if made.len() != recorded.len()
            || made.iter().zip(&recorded).any(|(made, recorded)| made.len() != recorded.len())
        {
            return Err(recording.damaged("its pictures are not those of this network"));
        }
        recording.compare(&made, &recorded, tolerance)
    }
}
