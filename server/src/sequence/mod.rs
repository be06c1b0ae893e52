//! Networks that read histories: a [model](crate::model) of the task `sequence-recommendation`. A row is a history, as the version's own
//! ids of items; what comes out is a score for each of its items.

mod expected;
mod load;
mod places;

use std::{collections::HashMap, time::Instant};

use crate::{
    batch::{BatchError, Class, Output, Row},
    model::{Loaded, Model, Opened},
};

pub use expected::Expected;
pub use load::LoadSequencer;
pub use places::Places;

/// The task, as manifests name it.
pub const SEQUENCE_RECOMMENDATION: &str = "sequence-recommendation";

/// The sequence models of this server.
pub type Sequencers = Model<Sequencer>;

/// One loaded version.
pub struct Sequencer {
    opened: Opened,
    /// The version's ids, from 1, by the items' own.
    ids: HashMap<String, u32>,
    max_length: usize,
}

impl Loaded for Sequencer {
    const TASK: &'static str = SEQUENCE_RECOMMENDATION;
    const KINDS: &'static [&'static str] = &["sasrec", "gru4rec"];
    const INDEXED: bool = false;

    fn opened(&self) -> &Opened {
        &self.opened
    }
}

impl Sequencer {
    /// The version's id of an item, from 1, if it knows it.
    pub fn id(&self, item: &str) -> Option<u32> {
        self.ids.get(item).copied()
    }

    /// How many items it knows.
    pub fn items(&self) -> usize {
        self.ids.len()
    }

    /// The longest history that it looks at: of a longer one the end.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// What comes next after histories of ids, none of them empty: a score for each item, of id 1 first; one row for each history.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn scores(
        &self,
        histories: Vec<Row>,
        class: Class,
        deadline: Option<Instant>,
    ) -> Result<Vec<Output>, BatchError> {
        self.opened.lane.run(histories, class, deadline).await
    }
}
