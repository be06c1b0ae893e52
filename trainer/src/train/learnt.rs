//! What is left in a folder beside the weights, for whoever publishes or measures it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::publish::{METRICS, TRAINING, Training};

/// Which network it is: with the weights, all that is needed to load it.
pub const SPEC: &str = "config.json";

/// A network that was learnt.
pub struct Learnt<'a> {
    /// Which network it is.
    pub spec: Value,
    pub training: Training,
    /// By name.
    pub figures: &'a [(&'static str, f64)],
}

impl Learnt<'_> {
    pub fn write(&self, dir: &Path) -> Result<()> {
        write(dir, SPEC, &self.spec)?;
        write(dir, TRAINING, &self.training)?;
        write(dir, METRICS, &self.figures.iter().copied().collect::<BTreeMap<_, _>>())
    }
}

/// Writes a file of JSON.
pub fn write(dir: &Path, name: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    fs::write(dir.join(name), text).with_context(|| format!("cannot write {name} in {}", dir.display()))
}

/// What of [`SPEC`] says which network it is.
#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// The kind of the network in a folder.
pub fn kind(dir: &Path) -> Result<String> {
    Ok(read::<Kind>(dir, SPEC)?.kind)
}

/// A value of the configuration that it was learnt with, if that has one of the name.
pub fn setting<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    let training: Training = read(dir, TRAINING)?;
    let value = training.config.get(name).cloned();
    value.map(serde_json::from_value).transpose().with_context(|| format!("{name} in {TRAINING}"))
}

/// Reads a file of JSON.
pub fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T> {
    let path = dir.join(name);
    let text = fs::read(&path).with_context(|| format!("{} is no folder that was learnt into", dir.display()))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}
