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

    /// A row as it would be if one field after the other were not known: one for each, in their order.
    fn without_each(&self, row: &Row) -> impl Iterator<Item = Row> {
        let slots = self.fields.slots();
        self.fields.slots_of_each().map(move |of_field| {
            let mut row = row.clone();
            // Behind the ids are the weights.
            row[slots + of_field.start..slots + of_field.end].fill(0);
            row
        })
    }

    /// For each row the names of the features that speak most for it, at most `most`, and by how much the logarithm of the odds would be less
    /// without them. All are one request of the batcher: as many rows as there are features, for each.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn strongest(
        &self,
        rows: Vec<(Row, f32)>,
        most: usize,
        deadline: Option<Instant>,
    ) -> Result<Vec<Vec<(String, f32)>>, BatchError> {
        let without = rows.iter().flat_map(|(row, _)| self.without_each(row)).collect();
        let chances = self.chances(without, Class::Interactive, deadline).await?;
        let of_rows = rows.iter().zip(chances.chunks(self.features.len().max(1)));
        let strongest = of_rows.map(|((_, chance), without)| {
            let shares = self.features.iter().zip(without);
            let shares = shares.map(|((feature, _), without)| (feature.to_string(), odds(*chance) - odds(*without)));
            let mut shares: Vec<(String, f32)> = shares.filter(|(_, share)| *share > 0.0).collect();
            shares.sort_by(|a, b| b.1.total_cmp(&a.1));
            shares.truncate(most);
            shares
        });
        Ok(strongest.collect())
    }

    /// The chance of each row, in their order.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn chances(
        &self,
        rows: Vec<Row>,
        class: Class,
        deadline: Option<Instant>,
    ) -> Result<Vec<f32>, BatchError> {
        let outputs = self.opened.lane.run(rows, class, deadline).await?;
        Ok(outputs.into_iter().map(|output| output.first().copied().unwrap_or_default()).collect())
    }
}

/// The logarithm of the odds; finite for chances that are 0 or 1 to an f32.
pub fn odds(chance: f32) -> f32 {
    let chance = chance.clamp(f32::EPSILON, 1.0 - f32::EPSILON);
    (chance / (1.0 - chance)).ln()
}
