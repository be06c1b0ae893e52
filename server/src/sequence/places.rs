//! Which items of a catalog are which of a version's.

use std::sync::Weak;

use parking_lot::RwLock;

use super::Sequencer;
use crate::{Doc, catalog::items::Table};

/// Which items of a catalog are which of a version's. Docs are given once and for all, so only new ones are looked up.
pub struct Places {
    /// They must not keep a version in memory that has left.
    sequencer: Weak<Sequencer>,
    known: RwLock<Known>,
}

struct Known {
    /// By doc: the version's id; 0: it does not know the item.
    ids: Vec<u32>,
    /// By the version's id, less 1.
    docs: Vec<Option<Doc>>,
}

impl Places {
    /// Of a version, and of no items yet.
    pub fn new(sequencer: Weak<Sequencer>) -> Self {
        let items = sequencer.upgrade().map_or(0, |sequencer| sequencer.items());
        Self { sequencer, known: RwLock::new(Known { ids: Vec::new(), docs: vec![None; items] }) }
    }

    /// Whether they are those of this version.
    pub fn are_of(&self, sequencer: &Sequencer) -> bool {
        std::ptr::eq(self.sequencer.as_ptr(), sequencer)
    }

    /// Whether any request may still ask for them.
    pub fn are_needed(&self) -> bool {
        self.sequencer.strong_count() > 0
    }

    /// Looks up the items that came to the catalog since the last time.
    pub fn follow(&self, table: &Table) {
        if self.known.read().ids.len() >= table.doc_count() {
            return;
        }
        let Some(sequencer) = self.sequencer.upgrade() else { return };
        let Known { ids, docs } = &mut *self.known.write();
        for doc in ids.len() as Doc..table.doc_count() as Doc {
            let id = table.id(doc).and_then(|item| sequencer.id(item)).unwrap_or(0);
            ids.push(id);
            if let Some(place) = (id as usize).checked_sub(1).and_then(|place| docs.get_mut(place)) {
                *place = Some(doc);
            }
        }
    }

    /// The items of a history that the version knows, of them the last `most`.
    pub fn history(&self, docs: impl DoubleEndedIterator<Item = Doc>, most: usize) -> Vec<u32> {
        let known = self.known.read();
        let id = |doc: Doc| known.ids.get(doc as usize).copied().filter(|id| *id > 0);
        let mut history: Vec<u32> = docs.rev().filter_map(id).take(most).collect();
        history.reverse();
        history
    }

    /// The version's id of an item, if it knows it.
    pub fn id(&self, doc: Doc) -> Option<u32> {
        self.known.read().ids.get(doc as usize).copied().filter(|id| *id > 0)
    }

    /// The item of an id, if the catalog has it.
    pub fn doc(&self, id: u32) -> Option<Doc> {
        self.known.read().docs.get((id as usize).checked_sub(1)?).copied().flatten()
    }

    /// The catalog's items with their scores, of id 1 first.
    pub fn scored(&self, scores: &[f32]) -> Vec<(Doc, f32)> {
        let known = self.known.read();
        known.docs.iter().zip(scores).filter_map(|(doc, score)| Some(((*doc)?, *score))).collect()
    }
}
