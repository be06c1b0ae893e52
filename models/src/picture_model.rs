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

/// In a version's weights: the mean of the embeddings of what it has learnt from, f32 `[dimensions]`.
const CENTRE: &str = "centre";

/// A loaded version.
///
/// Its embeddings are told from their mean: what all pictures have in common says nothing, and makes every cosine large ("All-but-the-Top",
/// Mu & Viswanath 2018, <https://arxiv.org/abs/1702.01417>). A version without a mean gives them as they are.
pub struct PictureModel {
    network: Box<dyn PictureNetwork>,
    centre: Option<Tensor>,
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
        let weights = Weights::open(&path)?.on(&device);
        let loaded = || -> Result<_> {
            let network = spec.network(&weights)?;
            let has_centre = weights.contains_tensor(CENTRE);
            Ok((has_centre.then(|| weights.get(network.dimensions(), CENTRE)).transpose()?, network))
        };
        let (centre, network) = loaded().map_err(|error| ModelError::format(&path, error))?;
        Ok(Self { network, centre, spec, device })
    }

    /// Puts the mean of embeddings into the weights in `dir`: from then on they are told from it.
    ///
    /// # Errors
    /// The weights cannot be read or written.
    pub fn write_centre(dir: &Path, mean: Tensor) -> std::result::Result<(), ModelError> {
        let path = dir.join("model.safetensors");
        let changed = || -> Result<()> {
            let mut weights = candle_core::safetensors::load(&path, &Device::Cpu)?;
            weights.insert(CENTRE.to_owned(), mean);
            candle_core::safetensors::save(&weights, &path)
        };
        changed().map_err(|error| ModelError::format(&path, error))
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
        let embeddings = self.embeddings(pictures)?;
        let logits = finite(self.network.logits(&embeddings, &mut Mode::serving())?.to_vec2()?)?;
        let seen = finite(self.centred(embeddings)?.to_vec2()?)?.into_iter().zip(logits);
        Ok(seen.map(|(embedding, logits)| Seen { embedding, logits }).collect())
    }

    /// Only the embeddings of what [`look`](Self::look) sees.
    ///
    /// # Errors
    /// Those of [`look`](Self::look).
    pub fn embed(&self, pictures: &Tensor) -> std::result::Result<Vec<Vec<f32>>, ModelError> {
        finite(self.centred(self.embeddings(pictures)?)?.to_vec2()?)
    }

    /// As [`embed`](Self::embed), of the numbers of the pictures one after the other.
    ///
    /// # Errors
    /// Those of [`look`](Self::look), or they are not whole pictures.
    pub fn embed_numbers(&self, numbers: Vec<f32>) -> std::result::Result<Vec<Vec<f32>>, ModelError> {
        let [height, width, channels] = self.spec.shape();
        let shape = (numbers.len() / (height * width * channels).max(1), height, width, channels);
        self.embed(&Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    }

    /// How many numbers an embedding has.
    pub fn dimensions(&self) -> usize {
        self.network.dimensions()
    }

    fn centred(&self, embeddings: Tensor) -> Result<Tensor> {
        match &self.centre {
            Some(centre) => embeddings.broadcast_sub(centre),
            None => Ok(embeddings),
        }
    }

    /// As the network makes them: its last layer takes them so.
    fn embeddings(&self, pictures: &Tensor) -> std::result::Result<Tensor, ModelError> {
        let [height, width, channels] = self.spec.shape();
        if pictures.rank() != 4 || pictures.dims()[1..] != [height, width, channels] {
            let shape = pictures.shape();
            let error = format!("pictures of shape {shape:?}; the network sees {height} × {width} × {channels}");
            return Err(candle_core::Error::msg(error).into());
        }
        Ok(self.network.embed(&pictures.to_device(&self.device)?, &mut Mode::serving())?)
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

fn finite(rows: Vec<Vec<f32>>) -> std::result::Result<Vec<Vec<f32>>, ModelError> {
    match rows.iter().position(|row| row.iter().any(|number| !number.is_finite())) {
        Some(row) => Err(ModelError::NotFinite { row }),
        None => Ok(rows),
    }
}
