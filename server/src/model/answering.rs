//! Which loaded version answers for what: one table, replaced as a whole, so that everybody sees a switch at once.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{Arc, Weak},
};

use vitrine::v1::ServedBy;

use super::{Loaded, NotLoaded, states::States};

/// What requests resolve against.
pub(super) struct Answering<L> {
    /// By label.
    pub labels: BTreeMap<String, Arc<L>>,
    /// By number: everything loaded.
    pub versions: BTreeMap<u32, Arc<L>>,
    /// For requests that select nothing: the version, and the label that led to it, if one did.
    pub default: Option<Pinned<L>>,
}

impl<L> Default for Answering<L> {
    fn default() -> Self {
        Self { labels: BTreeMap::new(), versions: BTreeMap::new(), default: None }
    }
}

/// A version, held from a request's admission to its last byte, and the label that led to it.
#[derive(Debug)]
pub struct Pinned<L> {
    pub(super) loaded: Arc<L>,
    pub(super) label: String,
}

impl<L> Clone for Pinned<L> {
    fn clone(&self) -> Self {
        Self { loaded: Arc::clone(&self.loaded), label: self.label.clone() }
    }
}

impl<L> Pinned<L> {
    /// Without holding it.
    pub fn downgrade(&self) -> Weak<L> {
        Arc::downgrade(&self.loaded)
    }
}

impl<L: Loaded> Pinned<L> {
    /// As answers name it.
    pub fn served_by(&self) -> ServedBy {
        ServedBy {
            task: L::TASK.to_owned(),
            model: self.loaded.opened().model.clone(),
            version: self.loaded.opened().version,
            label: self.label.clone(),
        }
    }
}

impl<L> Deref for Pinned<L> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.loaded
    }
}

impl<L: Loaded> Answering<L> {
    /// The version that `selector`, a label or a number, leads to; without one, the default.
    pub fn resolve(&self, selector: Option<&str>, states: &States) -> Result<Pinned<L>, NotLoaded> {
        let pinned = match selector {
            None => self.default.clone().ok_or_else(|| states.explain()),
            Some(selector) => self.select(selector).ok_or_else(|| self.explain(selector)),
        };
        let pinned = pinned.map_err(NotLoaded)?;
        pinned.loaded.opened().requests.count();
        Ok(pinned)
    }

    /// Whether `selector` leads to a version.
    pub fn has(&self, selector: &str) -> bool {
        self.labels.contains_key(selector)
            || selector.parse().is_ok_and(|number: u32| self.versions.contains_key(&number))
    }

    fn select(&self, selector: &str) -> Option<Pinned<L>> {
        if let Some(loaded) = self.labels.get(selector) {
            return Some(Pinned { loaded: Arc::clone(loaded), label: selector.to_owned() });
        }
        let loaded = self.versions.get(&selector.parse().ok()?)?;
        Some(Pinned { loaded: Arc::clone(loaded), label: String::new() })
    }

    fn explain(&self, selector: &str) -> String {
        if self.versions.is_empty() {
            return format!("`{selector}` is not loaded, and neither is any other version");
        }
        let versions: Vec<String> = self.versions.keys().map(u32::to_string).collect();
        let labels: Vec<&str> = self.labels.keys().map(String::as_str).collect();
        let (versions, labels) = (versions.join(", "), labels.join(", "));
        format!(
            "`{selector}` is not loaded; loaded are the versions {versions}, and the labels that answer are [{labels}]"
        )
    }
}
