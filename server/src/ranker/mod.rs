//! Networks that foretell clicks: a [model](crate::model) of the task `ctr-ranking`. A row is an item that is proposed to somebody, as the
//! version's fields see it; what comes out is the chance that they want it.

mod load;

use std::time::Instant;

use vitrine::v1::Item;
use vitrine_models::{Column, Encoded, Feature, FieldError, Fields, Moment, Value};

use crate::{
    batch::{BatchError, Class, Row},
    model::{Loaded, Model, Opened},
};

pub use load::LoadRanker;

/// The task, as manifests name it.
pub const CTR_RANKING: &str = "ctr-ranking";

/// The rankers of this server.
pub type Rankers = Model<Ranker>;

/// One loaded version.
pub struct Ranker {
    opened: Opened,
    fields: Fields,
    /// Of the fields, in their order, and how their values are written.
    features: Vec<(Feature, Column)>,
}

impl Loaded for Ranker {
    const TASK: &'static str = CTR_RANKING;
    const KINDS: &'static [&'static str] = &["deepfm", "dcn-v2"];
    const INDEXED: bool = false;

    fn opened(&self) -> &Opened {
        &self.opened
    }
}

impl Ranker {
    /// Rows of items that are proposed at a moment, in their order.
    ///
    /// # Errors
    /// A value does not fit its field.
    pub fn rows<'a>(
        &self,
        items: impl IntoIterator<Item = &'a Item>,
        moment: &Moment<'_>,
    ) -> Result<Vec<Row>, FieldError> {
        let mut encoded = Encoded::default();
        let mut values: Vec<Value> = Vec::new();
        for (number, item) in items.into_iter().enumerate() {
            if number == 0 {
                values = self.features.iter().map(|(feature, column)| feature.value(item, moment, *column)).collect();
            } else {
                let of_item = self.features.iter().zip(&mut values).filter(|((feature, _), _)| !feature.is_of_moment());
                for ((feature, column), value) in of_item {
                    *value = feature.value(item, moment, *column);
                }
            }
            self.fields.encode(&values, &mut encoded)?;
        }
        Ok(encoded.rows(self.fields.slots()))
    }

    /// The chance of each row, in their order.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn chances(&self, rows: Vec<Row>, deadline: Option<Instant>) -> Result<Vec<f32>, BatchError> {
        let outputs = self.opened.lane.run(rows, Class::Interactive, deadline).await?;
        Ok(outputs.into_iter().map(|output| output.first().copied().unwrap_or_default()).collect())
    }
}
