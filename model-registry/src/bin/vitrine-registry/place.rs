//! Where the registry is: a folder, or a store with a folder that mirrors it. What can be told without fetching versions
//! is.

use std::path::PathBuf;

use anyhow::Result;
use vitrine_registry::{
    Location, Mirror, ModelName, Registry, RegistryError, Sha256,
    pull::PullOptions,
    remote::{LeftOut, StoreUrl, StoredModel},
};

use crate::Common;

pub enum Place {
    Folder(PathBuf),
    Store(Mirror),
}

impl Place {
    pub fn of(common: &Common) -> Result<Self> {
        Ok(match &common.registry {
            Location::Folder(folder) => Self::Folder(folder.clone()),
            Location::Store(url) => {
                let cache = common.registry_cache.clone().unwrap_or_else(|| default_cache(url));
                Self::Store(Mirror::open(url, cache)?)
            }
        })
    }

    /// The registry, to change it. A store's versions need not be here for that.
    pub fn registry(&self) -> Result<Registry, RegistryError> {
        match self {
            Self::Folder(folder) => Registry::open(folder),
            Self::Store(mirror) => Ok(mirror.registry()),
        }
    }

    /// The same; a folder that is not there is made.
    pub fn made(&self) -> Result<Registry, RegistryError> {
        match self {
            Self::Folder(folder) => Registry::create(folder),
            Self::Store(mirror) => Ok(mirror.registry()),
        }
    }

    /// Fetches all versions of a store. Returns what it has, and cannot be used.
    pub fn fetch(&self) -> Result<Vec<LeftOut>, RegistryError> {
        match self {
            Self::Folder(_) => Ok(Vec::new()),
            Self::Store(mirror) => Ok(mirror.sync()?.left_out),
        }
    }

    /// The models, or the one asked for.
    pub fn models(&self, wanted: Option<&ModelName>) -> Result<Vec<StoredModel>, RegistryError> {
        let mut models = match self {
            Self::Folder(folder) => {
                let registry = Registry::open(folder)?;
                let read = |model: ModelName| {
                    let (labels, versions) = (registry.labels(&model)?, registry.versions(&model)?);
                    Ok(StoredModel { model, labels, versions })
                };
                chosen(&registry, wanted)?.into_iter().map(read).collect::<Result<_, RegistryError>>()?
            }
            Self::Store(mirror) => mirror.stored()?,
        };
        if let Some(wanted) = wanted {
            models.retain(|found| found.model == *wanted);
            if models.is_empty() {
                return Err(RegistryError::UnknownModel(wanted.clone()));
            }
        }
        Ok(models)
    }
}

/// The model asked for, or all.
pub fn chosen(registry: &Registry, wanted: Option<&ModelName>) -> Result<Vec<ModelName>, RegistryError> {
    let all = registry.models()?;
    match wanted {
        None => Ok(all),
        Some(model) if all.contains(model) => Ok(vec![model.clone()]),
        Some(model) => Err(RegistryError::UnknownModel(model.clone())),
    }
}

/// A folder for each store: a folder mirrors one.
fn default_cache(url: &StoreUrl) -> PathBuf {
    let name = format!("{:.16}", Sha256::of_bytes(url.to_string().as_bytes()).to_string());
    PullOptions::default_cache().join("registries").join(name)
}
