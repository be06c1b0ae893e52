//! A version of task `ctr-ranking`: its network, and the fields that it looks at.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Result, Tensor};
use candle_nn::{VarBuilder, ops::sigmoid};
use serde::{Deserialize, Serialize};

use crate::fields::{ClickNetwork, Encoded, Examples, Fields};
use crate::golden::{GoldenCheck, Recording};
use crate::training::Mode;
use crate::weights::Weights;
use crate::{DcnV2, DcnV2Config, DeepFm, DeepFmConfig, DeviceSpec, ModelError, files};

/// Which network it is, and its sizes: the version's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ClickSpec {
    /// A factorisation machine and a network, or less.
    Deepfm(DeepFmConfig),
    /// Cross layers and a network.
    DcnV2(DcnV2Config),
}

impl ClickSpec {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape, or the sizes do not fit together.
    pub fn network(&self, weights: &VarBuilder<'_>) -> Result<Box<dyn ClickNetwork>> {
        Ok(match self {
            Self::Deepfm(config) => Box::new(DeepFm::new(config, weights)?),
            Self::DcnV2(config) => Box::new(DcnV2::new(config, weights)?),
        })
    }

    /// What it looks at.
    pub fn fields(&self) -> &Fields {
        match self {
            Self::Deepfm(config) => &config.fields,
            Self::DcnV2(config) => &config.fields,
        }
    }
}

/// A loaded version.
pub struct ClickModel {
    network: Box<dyn ClickNetwork>,
    spec: ClickSpec,
    device: Device,
}

impl ClickModel {
    /// Loads `config.json` and `model.safetensors` in `dir`.
    ///
    /// # Errors
    /// A file is missing, damaged or contradicts another, or the device cannot be opened.
    pub fn load(dir: &Path, device: &DeviceSpec) -> std::result::Result<Self, ModelError> {
        let path = dir.join("config.json");
        let spec: ClickSpec = files::json(&path, "; it describes the network")?;
        spec.fields().check().map_err(|error| ModelError::format(path, error))?;
        let device = device.open()?;
        let path = dir.join("model.safetensors");
        let network = spec.network(&Weights::open(&path)?.on(&device));
        let network = network.map_err(|error| ModelError::format(path, error))?;
        Ok(Self { network, spec, device })
    }

    /// What it looks at: examples are to be encoded by it.
    pub fn fields(&self) -> &Fields {
        self.spec.fields()
    }

    /// The chance of a click for each of so many encoded examples, from 0 to 1.
    ///
    /// # Errors
    /// A chance is no number, or the device failed.
    pub fn chances(&self, encoded: &Encoded) -> std::result::Result<Vec<f32>, ModelError> {
        let places: Vec<usize> = (0..self.fields().count(encoded)).collect();
        self.chances_of(&self.fields().examples(encoded, &places, &self.device)?)
    }

    fn chances_of(&self, examples: &Examples) -> std::result::Result<Vec<f32>, ModelError> {
        let chances: Vec<f32> = sigmoid(&self.network.logits(examples, &mut Mode::serving())?)?.to_vec1()?;
        match chances.iter().position(|chance| chance.is_nan()) {
            Some(row) => Err(ModelError::NotFinite { row }),
            None => Ok(chances),
        }
    }

    /// Records the chances of examples in `golden.safetensors` in `dir`: `ids` (u32 `[examples, slots]`), `weights` (f32, the same shape)
    /// and `chances` (f32 `[examples, 1]`).
    ///
    /// # Errors
    /// Those of [`chances`](Self::chances), or the file cannot be written.
    pub fn write_golden(&self, dir: &Path, encoded: &Encoded) -> std::result::Result<PathBuf, ModelError> {
        let chances = self.chances(encoded)?;
        let places: Vec<usize> = (0..chances.len()).collect();
        let Examples { ids, weights } = self.fields().examples(encoded, &places, &Device::Cpu)?;
        let chances = Tensor::from_vec(chances, (places.len(), 1), &Device::Cpu)?;
        let tensors = HashMap::from([("ids", ids), ("weights", weights), ("chances", chances)]);
        Recording::write(dir, &tensors)
    }

    /// Computes what is recorded in `dir` again, and compares.
    ///
    /// # Errors
    /// [`ModelError::Golden`] when a chance is more than `tolerance` away from its recording; a damaged recording; the device's failure.
    pub fn check_golden(&self, dir: &Path, tolerance: f32) -> std::result::Result<GoldenCheck, ModelError> {
        let Some(mut recording) = Recording::read(dir)? else { return Ok(GoldenCheck::NotRecorded) };
        let [ids, weights, recorded] = ["ids", "weights", "chances"].map(|name| recording.take(name));
        let (ids, weights) = (ids?, weights?);
        let recorded: Vec<Vec<f32>> = recorded?.to_vec2().map_err(|error| recording.damaged(error))?;
        let wanted = [recorded.len(), self.fields().slots()];
        if ids.dims() != wanted || weights.dims() != wanted || recorded.iter().any(|row| row.len() != 1) {
            return Err(recording.damaged("its examples are not those of this network's fields"));
        }
        let examples = Examples { ids: ids.to_device(&self.device)?, weights: weights.to_device(&self.device)? };
        let chances: Vec<Vec<f32>> = self.chances_of(&examples)?.into_iter().map(|chance| vec![chance]).collect();
        recording.compare(&chances, &recorded, tolerance)
    }
}
