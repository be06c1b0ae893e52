//! Which loaded version answers for what: one table, replaced as a whole, so that everybody sees a switch at once.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use vitrine::v1::ServedBy;

use super::{Encoder, EncoderError, TEXT_EMBEDDING, states::States};

/// What requests resolve against.
#[derive(Default)]
pub(super) struct Answering {
    /// By label.
    pub labels: BTreeMap<String, Arc<Encoder>>,
    /// By number: everything loaded.
    pub versions: BTreeMap<u32, Arc<Encoder>>,
    /// For requests that select nothing: the version, and the label that led to it, if one did.
    pub default: Option<Pinned>,
}

/// A version, held from a request's admission to its last byte, and the label that led to it.
#[derive(Clone, Debug)]
pub struct Pinned {
    pub(super) encoder: Arc<Encoder>,
    pub(super) label: String,
}

impl Pinned {
    /// As answers name it.
    pub fn served_by(&self) -> ServedBy {
        ServedBy {
            task: TEXT_EMBEDDING.to_owned(),
            model: self.encoder.model.clone(),
            version: self.encoder.version,
            label: self.label.clone(),
        }
    }
}

impl Deref for Pinned {
    type Target = Encoder;

    fn deref(&self) -> &Encoder {
        &self.encoder
    }
}

impl Answering {
    /// The version that `selector`, a label or a number, leads to; without one, the default.
    pub fn resolve(&self, selector: Option<&str>, states: &States) -> Result<Pinned, EncoderError> {
        let pinned = match selector {
            None => self.default.clone().ok_or_else(|| states.explain()),
            Some(selector) => self.select(selector).ok_or_else(|| self.explain(selector)),
        };
        let pinned = pinned.map_err(|detail| EncoderError::NotLoaded { detail })?;
        pinned.encoder.requests().count();
        Ok(pinned)
    }

    fn select(&self, selector: &str) -> Option<Pinned> {
        if let Some(encoder) = self.labels.get(selector) {
            return Some(Pinned { encoder: Arc::clone(encoder), label: selector.to_owned() });
        }
        let encoder = self.versions.get(&selector.parse().ok()?)?;
        Some(Pinned { encoder: Arc::clone(encoder), label: String::new() })
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
