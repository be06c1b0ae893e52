//! The version whose weights learning begins with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use serde::{Serialize, de::DeserializeOwned};
use vitrine_registry::{ModelName, Registry, Version};

use super::fit::WEIGHTS;

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

    /// Tells other weights apart, in a checkpoint.
    pub fn name(&self) -> String {
        self.folder.display().to_string()
    }

    /// What one of its files says.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.folder.join(name);
        let place = || path.display().to_string();
        serde_json::from_slice(&std::fs::read(&path).with_context(place)?).with_context(place)
    }

    /// Refuses it if it is another network.
    pub fn check<T: DeserializeOwned + PartialEq + Serialize>(&self, ours: &T) -> Result<()> {
        let theirs: T = self.read("config.json")?;
        let [ours, theirs] = [ours, &theirs].map(serde_json::to_value);
        let (ours, theirs) = (ours?, theirs?);
        ensure!(ours == theirs, "{} is another network: {theirs} instead of {ours}", self.name());
        Ok(())
    }

    /// The file of its weights.
    pub fn path(&self) -> PathBuf {
        self.folder.join(WEIGHTS)
    }

    /// Its weights, by name.
    pub fn weights(&self) -> Result<HashMap<String, Tensor>> {
        let path = self.path();
        candle_core::safetensors::load(&path, &Device::Cpu).with_context(|| path.display().to_string())
    }
}
