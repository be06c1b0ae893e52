//! A version of task `sequence-recommendation`: its network, and the items that it knows.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::cpu::CpuLinear;
use crate::golden::{GoldenCheck, Recording};
use crate::linear::{apply, pack};
use crate::sequence::{SequenceNetwork, last_vectors, padded};
use crate::weights::Weights;
use crate::{DeviceSpec, Gru4Rec, Gru4RecConfig, ModelError, SasRec, SasRecConfig, files};

/// Which network it is, and its sizes: the version's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SequenceSpec {
    /// A transformer.
    Sasrec(SasRecConfig),
    /// A recurrent network.
    Gru4rec(Gru4RecConfig),
}

impl SequenceSpec {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape, or the sizes do not fit together.
    pub fn network(&self, weights: &VarBuilder<'_>) -> Result<Box<dyn SequenceNetwork>> {
        Ok(match self {
            Self::Sasrec(config) => Box::new(SasRec::new(config.clone(), weights)?),
            Self::Gru4rec(config) => Box::new(Gru4Rec::new(config.clone(), weights)?),
        })
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        match self {
            Self::Sasrec(config) => config.items,
            Self::Gru4rec(config) => config.items,
        }
    }

    /// The longest history that is looked at.
    pub fn max_length(&self) -> usize {
        match self {
            Self::Sasrec(config) => config.max_length,
            Self::Gru4rec(config) => config.max_length,
        }
    }
}

/// A loaded version.
pub struct SequenceModel {
    network: Box<dyn SequenceNetwork>,
    /// The vectors of all items for the kernels, on the CPU.
    vectors: Option<Box<dyn CpuLinear>>,
    spec: SequenceSpec,
    items: Vec<String>,
    device: Device,
}

impl SequenceModel {
    /// Loads `config.json`, `items.json` (the items' own ids, of id 1 first) and `model.safetensors` in `dir`.
    ///
    /// # Errors
    /// A file is missing, damaged or contradicts another, or the device cannot be opened.
    pub fn load(dir: &Path, device: &DeviceSpec) -> std::result::Result<Self, ModelError> {
        let spec: SequenceSpec = files::json(&dir.join("config.json"), "; it describes the network")?;
        let path = dir.join("items.json");
        let items: Vec<String> = files::json(&path, "; it holds the items that the network knows")?;
        if items.len() != spec.items() {
            return Err(ModelError::format(path, format!("{} items; the network knows {}", items.len(), spec.items())));
        }
        let mut met = HashSet::new();
        if let Some(twice) = items.iter().find(|item| !met.insert(item.as_str())) {
            return Err(ModelError::format(path, format!("`{twice}` is there twice")));
        }
        let device = device.open()?;
        let path = dir.join("model.safetensors");
        let network = spec.network(&Weights::open(&path)?.on(&device));
        let network = network.map_err(|error| ModelError::format(path, error))?;
        let vectors = network.items()?;
        let nothing = Tensor::zeros(vectors.dim(0)?, DType::F32, &device)?;
        Ok(Self { vectors: pack(&vectors, &nothing)?, network, spec, items, device })
    }

    /// The items' own ids, of id 1 first.
    pub fn items(&self) -> &[String] {
        &self.items
    }

    /// The longest history that is looked at: of a longer one the end.
    pub fn max_length(&self) -> usize {
        self.spec.max_length()
    }

    /// What comes next after histories of ids: a score for each item, of id 1 first; one row for each history, none of them empty.
    ///
    /// # Errors
    /// An id is no item, a score is not finite, or the device failed.
    pub fn scores(&self, histories: &[&[u32]]) -> std::result::Result<Vec<Vec<f32>>, ModelError> {
        let last = last_vectors(&*self.network, histories, self.spec.max_length(), &self.device)?;
        let scores = match &self.vectors {
            Some(vectors) => apply(&**vectors, &last)?,
            None => last.matmul(&self.network.items()?.t()?)?,
        };
        let scores: Vec<Vec<f32>> = scores.to_vec2()?;
        match scores.iter().position(|row| row.iter().any(|score| !score.is_finite())) {
            Some(row) => Err(ModelError::NotFinite { row }),
            None => Ok(scores),
        }
    }

    /// Records the scores after histories in `golden.safetensors` in `dir`: `ids` (u32 `[rows, length]`, padded with 0 at the beginning)
    /// and `scores` (f32 `[rows, items]`).
    ///
    /// # Errors
    /// Those of [`scores`](Self::scores), or the file cannot be written.
    pub fn write_golden(&self, dir: &Path, histories: &[&[u32]]) -> std::result::Result<PathBuf, ModelError> {
        let scores = self.scores(histories)?.concat();
        let tensors = HashMap::from([
            ("ids", padded(histories, self.spec.max_length(), &Device::Cpu)?),
            ("scores", Tensor::from_vec(scores, (histories.len(), self.items.len()), &Device::Cpu)?),
        ]);
        Recording::write(dir, &tensors)
    }

    /// Computes what is recorded in `dir` again, and compares.
    ///
    /// # Errors
    /// [`ModelError::Golden`] when a score is more than `tolerance` away from its recording; a damaged recording; the device's failure.
    pub fn check_golden(&self, dir: &Path, tolerance: f32) -> std::result::Result<GoldenCheck, ModelError> {
        let Some(mut recording) = Recording::read(dir)? else {
            self.scores(&[&[1]])?;
            return Ok(GoldenCheck::NotRecorded);
        };
        let [ids, recorded] = ["ids", "scores"].map(|name| recording.take(name));
        let damaged = |error: candle_core::Error| recording.damaged(error);
        let ids: Vec<Vec<u32>> = ids?.to_vec2().map_err(damaged)?;
        let recorded: Vec<Vec<f32>> = recorded?.to_vec2().map_err(damaged)?;
        let histories: Vec<&[u32]> =
            ids.iter().map(|row| &row[row.iter().take_while(|id| **id == crate::PADDING).count()..]).collect();
        let known = |id: &u32| (1..=self.items.len() as u32).contains(id);
        let sound = histories.iter().all(|history| !history.is_empty() && history.iter().all(known));
        if !sound || recorded.len() != ids.len() || recorded.iter().any(|row| row.len() != self.items.len()) {
            return Err(recording.damaged("its histories and scores are not those of this network's items"));
        }
        recording.compare(&self.scores(&histories)?, &recorded, tolerance)
    }
}
