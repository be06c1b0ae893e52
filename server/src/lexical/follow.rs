//! The full-text index as a projection of the catalog's items.

use super::{LexicalError, LexicalIndex};
use crate::catalog::projection::{ItemChange, Projection};

impl Projection for LexicalIndex {
    type Error = LexicalError;

    fn watermark(&self) -> u64 {
        self.watermark()
    }

    fn apply(&self, changes: &[ItemChange]) -> Result<(), LexicalError> {
        self.apply(changes.iter().map(|change| (change.doc, change.item.as_deref())))
    }

    fn commit(&self, watermark: u64) -> Result<(), LexicalError> {
        self.commit(watermark)
    }
}
