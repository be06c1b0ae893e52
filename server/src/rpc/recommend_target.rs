//! The items that the target of a recommendation names, looked up in the catalog.

use tonic::Status;
use vitrine::v1::ForSession;

use crate::{Doc, catalog::items::Table, error::not_found};

/// Ids of a target, parted into items that exist and others.
#[derive(Default)]
pub struct Known {
    /// The items.
    pub docs: Vec<Doc>,
    /// Ids that the catalog lacks.
    pub missing: Vec<String>,
}

impl Known {
    /// Looks them up.
    ///
    /// # Errors
    /// There are some, and the catalog has none of them.
    pub fn of<'a>(table: &Table, ids: impl IntoIterator<Item = &'a String>) -> Result<Self, Status> {
        let mut known = Self::default();
        for id in ids {
            match table.doc(id).filter(|&doc| table.item(doc).is_some()) {
                Some(doc) => known.docs.push(doc),
                None => known.missing.push(id.clone()),
            }
        }
        match known.missing.first() {
            Some(first) if known.docs.is_empty() => {
                Err(not_found("item", first, "none of the target's items exists in this catalog"))
            }
            _ => Ok(known),
        }
    }
}

/// What a session's events are about, and ids that the catalog lacks.
pub struct Seen {
    /// By event.
    pub docs: Vec<Vec<Doc>>,
    /// Ids that the catalog lacks.
    pub missing: Vec<String>,
}

impl Seen {
    /// Looks them up.
    pub fn of(table: &Table, session: &ForSession) -> Self {
        let mut missing = Vec::new();
        let docs = session
            .events
            .iter()
            .map(|event| {
                let found = event.items.iter().filter_map(|item| {
                    let doc = table.doc(&item.id);
                    if doc.is_none() && !missing.contains(&item.id) {
                        missing.push(item.id.clone());
                    }
                    doc
                });
                found.collect()
            })
            .collect();
        Self { docs, missing }
    }
}
