//! What is left in a folder beside the weights, for whoever publishes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::publish::{METRICS, TRAINING, Training};

/// A network that was learnt.
pub struct Learnt<'a> {
    /// Which network it is.
    pub spec: Value,
    pub training: Training,
    /// By name.
    pub figures: &'a [(&'static str, f64)],
}

impl Learnt<'_> {
    /// Writes which network it is: with the weights, that is what is needed to load it.
    pub fn write_spec(dir: &Path, spec: &Value) -> Result<()> {
        write(dir, "config.json", spec)
    }

    pub fn write(&self, dir: &Path) -> Result<()> {
        Self::write_spec(dir, &self.spec)?;
        write(dir, TRAINING, &self.training)?;
        write(dir, METRICS, &self.figures.iter().copied().collect::<BTreeMap<_, _>>())
    }
}

/// Writes a file of JSON.
pub fn write(dir: &Path, name: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    fs::write(dir.join(name), text).with_context(|| format!("cannot write {name} in {}", dir.display()))
}
