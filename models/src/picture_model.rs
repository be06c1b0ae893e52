//! A version of task `image-embedding`: its network, and the classes that it knows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::golden::{GoldenCheck, Recording};
use crate::picture::PictureNetwork;
use crate::training::Mode;
use crate::weights::Weights;
use crate::{Cnn, CnnConfig, DeviceSpec, EfficientNetLite, EfficientNetLiteConfig, ModelError, files};

/// Which network it is, and its sizes: the version's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PictureSpec {
    /// A small residual network.
    Cnn(CnnConfig),
    /// EfficientNet-Lite0.
    EfficientnetLite(EfficientNetLiteConfig),
}

impl PictureSpec {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape, or the sizes do not fit together.
    pub fn network(&self, weights: &VarBuilder<'_>) -> Result<Box<dyn PictureNetwork>> {
        Ok(match self {
            Self::Cnn(config) => Box::new(Cnn::new(config, weights)?),
            Self::EfficientnetLite(config) => Box::new(EfficientNetLite::new(config, weights)?),
        })
    }

    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        match self {
            Self::Cnn(config) => &config.classes,
            Self::EfficientnetLite(config) => &config.classes,
        }
    }

    /// Height, width and channels of a picture.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Cnn(config) => [config.side, config.side, config.channels],
            Self::EfficientnetLite(config) => [config.side, config.side, 3],
        }
    }
}

/// A loaded version.
pub struct PictureModel {
    network: Box<dyn PictureNetwork>,
    spec: PictureSpec,
    device: Device,
}

/// What a network sees in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// For comparing pictures by their cosine.
    pub embedding: Vec<f32>,
    /// The logarithm of each class's chance, up to a constant.
    pub logits: Vec<f32>,
}

impl PictureModel {
    /// Loads `config.json` and `model.safetensors` in `dir`.
    ///
    /// # Errors
    /// A file is missing, damaged or contradicts another, or the device cannot be opened.
    pub fn load(dir: &Path, device: &DeviceSpec) -> std::result::Result<Self, ModelError> {
        let spec: PictureSpec = files::json(&dir.join("config.json"), "; it describes the network")?;
        let device = device.open()?;
        let path = dir.join("model.safetensors");
        let network = spec.network(&Weights::open(&path)?.on(&device));
        let network = network.map_err(|error| ModelError::format(path, error))?;
        Ok(Self { network, spec, device })
    }

    /// Kind, sizes and classes.
    pub fn spec(&self) -> &PictureSpec {
        &self.spec
    }

    /// Looks at pictures: f32 `[pictures, height, width, channels]`, with numbers from 0 to 1.
    ///
    /// # Errors
    /// They have another shape than the network's, a number that comes out is none, or the device failed.
    pub fn look(&self, pictures: &Tensor) -> std::result::Result<Vec<Seen>, ModelError> {
        let [height, width, channels] = self.spec.shape();
        if pictures.rank() != 4 || pictures.dims()[1..] != [height, width, channels] {
            let shape = pictures.shape();
            let error = format!("pictures of shape {shape:?}; the network sees {height} × {width} × {channels}");
            return Err(candle_core::Error::msg(error).into());
        }
        let mode = &mut Mode::serving();
        let embeddings = self.network.embed(&pictures.to_device(&self.device)?, mode)?;
        let logits = self.network.logits(&embeddings, mode)?.to_vec2::<f32>()?;
        let seen = embeddings.to_vec2::<f32>()?.into_iter().zip(logits);
        let seen: Vec<Seen> = seen.map(|(embedding, logits)| Seen { embedding, logits }).collect();
        match seen.iter().position(|seen| seen.logits.iter().chain(&seen.embedding).any(|number| !number.is_finite())) {
            Some(row) => Err(ModelError::NotFinite { row }),
            None => Ok(seen),
        }
    }

    /// Records what is seen in pictures in `golden.safetensors` in `dir`: `pictures`, `embeddings` and `logits`.
    ///
    /// # Errors
    /// Those of [`look`](Self::look), or the file cannot be written.
    pub fn write_golden(&self, dir: &Path, pictures: &Tensor) -> std::result::Result<PathBuf, ModelError> {
        let seen = self.look(pictures)?.into_iter().map(|seen| (seen.embedding, seen.logits));
        let (embeddings, logits): (Vec<_>, Vec<_>) = seen.unzip();
        let tensors = HashMap::from([
            ("pictures", pictures.to_device(&Device::Cpu)?),
            ("embeddings", Tensor::new(embeddings, &Device::Cpu)?),
            ("logits", Tensor::new(logits, &Device::Cpu)?),
        ]);
        Recording::write(dir, &tensors)
    }

    /// Looks at what is recorded in `dir` again, and compares.
    ///
    /// # Errors
    /// [`ModelError::Golden`] when a number is more than `tolerance` away from its recording; a damaged recording; the device's failure.
    pub fn check_golden(&self, dir: &Path, tolerance: f32) -> std::result::Result<GoldenCheck, ModelError> {
        let Some(mut recording) = Recording::read(dir)? else { return Ok(GoldenCheck::NotRecorded) };
        let pictures = recording.take("pictures")?;
        let recorded = Tensor::cat(&[recording.take("embeddings")?, recording.take("logits")?], 1);
        let recorded: Vec<Vec<f32>> =
            recorded.and_then(|rows| rows.to_vec2()).map_err(|error| recording.damaged(error))?;
        let seen = self.look(&pictures).map_err(|error| recording.damaged(error))?;
        let seen: Vec<Vec<f32>> = seen.into_iter().map(|seen| [seen.embedding, seen.logits].concat()).collect();
        if seen.len() != recorded.len()
            || seen.iter().zip(&recorded).any(|(seen, recorded)| seen.len() != recorded.len())
        {
            return Err(recording.damaged("its rows are not those of this network"));
        }
        recording.compare(&seen, &recorded, tolerance)
    }
}
