//! What is left in a folder beside the weights, for whoever publishes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
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
