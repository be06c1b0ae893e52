//! The version whose weights learning begins with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use candle_nn::VarMap;
use serde::{Serialize, de::DeserializeOwned};
use vitrine_models::by_name;
use vitrine_registry::{ModelName, Registry, Version};

use super::fit::{self, WEIGHTS};
use super::learnt::{self, SPEC};

/// A folder with a version, or one that was learnt into.
#[derive(Clone, Debug)]
pub struct Parent {
    folder: PathBuf,
}

impl Parent {
    /// The folder of this name, or else the version of a registry that is called so, as MODEL/VERSION.
    ///
    /// # Errors
    /// There is neither.
    pub fn find(name: &str, registry: Option<&Path>) -> Result<Self> {
        let folder = Path::new(name);
        if folder.join(WEIGHTS).is_file() {
            return Ok(Self { folder: folder.to_owned() });
        }
        let place = || format!("{name} is neither a folder with {WEIGHTS} nor MODEL/VERSION of a registry");
        let (model, version) = name.split_once('/').with_context(place)?;
        let (model, version): (ModelName, Version) =
            (model.parse().with_context(place)?, version.parse().with_context(place)?);
        let registry = registry.with_context(|| format!("{}; name the registry by --registry", place()))?;
        Ok(Self { folder: Registry::open(registry)?.version(&model, version)?.path })
    }

    /// The version in a folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Tells other weights apart, in a checkpoint.
    pub fn name(&self) -> String {
        self.folder.display().to_string()
    }

    /// What one of its files says.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        learnt::read(&self.folder, name)
    }

    /// Refuses it if it is another network.
    pub fn check<T: DeserializeOwned + PartialEq + Serialize>(&self, ours: &T) -> Result<()> {
        let theirs: T = self.read(SPEC)?;
        let [ours, theirs] = [ours, &theirs].map(serde_json::to_value);
        let (ours, theirs) = (ours?, theirs?);
        ensure!(ours == theirs, "{} is another network: {theirs} instead of {ours}", self.name());
        Ok(())
    }

    /// The file of its weights.
    pub fn path(&self) -> PathBuf {
        self.folder.join(WEIGHTS)
    }

    /// Sets variables to its weights. Of `vectors`, a row for no item and one for each item, those of `known` items are set.
    pub fn give(&self, variables: &VarMap, vectors: &str, known: &[String], items: &[String]) -> Result<()> {
        fit::load(variables, &self.path(), |name| name != vectors)?;
        let weights = candle_core::safetensors::load(self.path(), &Device::Cpu)?;
        let place = || format!("{}: `{vectors}`", self.path().display());
        let theirs = weights.get(vectors).with_context(place)?.to_vec2::<f32>().with_context(place)?;
        let variable = by_name(variables).remove(vectors).with_context(place)?;
        let mut rows = variable.to_vec2::<f32>()?;
        let places: HashMap<&str, usize> = known.iter().enumerate().map(|(at, item)| (item.as_str(), at + 1)).collect();
        let from = std::iter::once(Some(0)).chain(items.iter().map(|item| places.get(item.as_str()).copied()));
        for (row, from) in rows.iter_mut().zip(from) {
            if let Some(vector) = from.and_then(|from| theirs.get(from)) {
                row.clone_from(vector);
            }
        }
        Ok(variable.set(&Tensor::new(rows, variable.device())?)?)
    }
}
