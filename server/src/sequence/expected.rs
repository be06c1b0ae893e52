//! What a version expects after one history, and because of what.

use std::{sync::Arc, time::Instant};

use vitrine::v1::ServedBy;

use super::{Places, Sequencer};
use crate::{
    Doc,
    batch::{BatchError, Class, Output, Row},
    model::Pinned,
};

/// So many of the last items of a history are left out, one at a time, to see what they count.
const LEFT_OUT: usize = 10;

/// What comes next after a history.
pub struct Expected {
    /// The version.
    pub by: ServedBy,
    /// The catalog's items that it knows, with the logarithms of how likely they are, but for a constant.
    pub scores: Vec<(Doc, f32)>,
    places: Arc<Places>,
    history: Row,
    /// By the version's id, less 1.
    full: Output,
    /// The same after the history without one of its items: its place.
    without: Vec<(usize, Output)>,
}

impl Expected {
    /// Has a history read, which is not empty. `explain`: and also without each of its last items, all in one batch.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn after(
        history: Row,
        sequencer: &Pinned<Sequencer>,
        places: Arc<Places>,
        explain: bool,
        (class, deadline): (Class, Instant),
    ) -> Result<Self, BatchError> {
        // Of a single item nothing would be left.
        let first = if explain && history.len() > 1 { history.len().saturating_sub(LEFT_OUT) } else { history.len() };
        let mut rows = vec![history.clone()];
        rows.extend((first..history.len()).map(|place| {
            let mut rest = history.clone();
            rest.remove(place);
            rest
        }));
        let mut outputs = sequencer.scores(rows, class, Some(deadline)).await?.into_iter();
        let full = outputs.next().unwrap_or_default();
        let without = (first..).zip(outputs).collect();
        Ok(Self { by: sequencer.served_by(), scores: places.scored(&full), places, history, full, without })
    }

    /// The items of the history without which an item would be less likely, what counts most first.
    pub fn because_of(&self, doc: Doc) -> Vec<Doc> {
        let Some(place) = self.places.id(doc).map(|id| id as usize - 1) else { return Vec::new() };
        let score = |scores: &Output| scores.get(place).copied().unwrap_or_default();
        let all = score(&self.full);
        let mut shares: Vec<(usize, f32)> =
            self.without.iter().map(|(left_out, scores)| (*left_out, all - score(scores))).collect();
        if self.history.len() == 1 {
            shares.push((0, 1.0));
        }
        shares.retain(|(_, share)| *share > 0.0);
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        shares.into_iter().filter_map(|(place, _)| self.places.doc(self.history[place])).collect()
    }
}
