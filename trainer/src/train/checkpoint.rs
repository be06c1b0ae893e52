//! What training needs to go on after it was killed: the optimiser's variables and state, and what it has found so far. Written beside
//! and renamed, so that there is always a whole one.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where training is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// With which it was begun.
    pub settings: Value,
    /// Tells other data apart.
    pub data: String,
    /// Passes over all examples that are done.
    pub epoch: u32,
    pub steps: i32,
    /// The best validation so far, and after which pass.
    pub best: Option<(f64, u32)>,
}

/// The key of the progress among a file's notes.
const PROGRESS: &str = "progress";

fn path(dir: &Path) -> PathBuf {
    dir.join("checkpoint.safetensors")
}

/// Writes it.
pub fn save(dir: &Path, progress: &Progress, tensors: &HashMap<String, Tensor>) -> Result<()> {
    let (path, partial) = (path(dir), dir.join("checkpoint.partial"));
    let notes = HashMap::from([(PROGRESS.to_owned(), serde_json::to_string(progress)?)]);
    safetensors::serialize_to_file(tensors, Some(notes), &partial)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, &path).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads it, if there is one.
pub fn load(dir: &Path) -> Result<Option<(Progress, HashMap<String, Tensor>)>> {
    let path = path(dir);
    if !path.exists() {
        return Ok(None);
    }
    let place = || format!("{} is no checkpoint; remove it to begin anew", path.display());
    let bytes = fs::read(&path).with_context(place)?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).with_context(place)?;
    let notes = header.metadata().as_ref().and_then(|notes| notes.get(PROGRESS)).with_context(place)?;
    let progress = serde_json::from_str(notes).with_context(place)?;
    Ok(Some((progress, candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).with_context(place)?)))
}

impl Progress {
    /// Whether what was begun is what is asked for.
    pub fn check(&self, wanted: &Self, dir: &Path) -> Result<()> {
        let of =
            |what: &str| format!("{} has a checkpoint of {what}; name another folder, or remove it", dir.display());
        ensure!(lasting(&self.settings) == lasting(&wanted.settings), of("another configuration"));
        ensure!(self.data == wanted.data, of("other data"));
        Ok(())
    }
}

/// Settings without what may change on the way: more passes or patience are a reason to go on, and what is done with the network in the end
/// does not change it.
fn lasting(settings: &Value) -> Value {
    let mut settings = settings.clone();
    for (section, names) in
        [("/config/learning", &["epochs", "patience"][..]), ("/config", &["gate", "classified", "classifier_epochs"])]
    {
        if let Some(section) = settings.pointer_mut(section).and_then(Value::as_object_mut) {
            section.retain(|name, _| !names.contains(&name.as_str()));
        }
    }
    settings
}
