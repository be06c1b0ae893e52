//! From a version's folder to a ranker that can run.

use std::time::Instant;

use vitrine_models::{ClickModel, Column, DeviceSpec, Encoded, Feature, FieldKind, Fields};
use vitrine_registry::VersionDir;

use super::Ranker;
use crate::{
    batch::{RowCost, RunError, Runner},
    model::{Load, Ready, Warming, checked},
};

/// How far a recorded chance may be from what is computed here, unless the manifest says.
const TOLERANCE: f32 = 1e-3;

/// Rows of a trial run: about as many as one recommendation has.
const TRIED: usize = 200;

/// Loads rankers onto a device.
pub struct LoadRanker {
    /// The device.
    pub device: DeviceSpec,
}

impl Load<Ranker> for LoadRanker {
    fn load(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<Ranker>, String> {
        let network = ClickModel::load(&version.path, &self.device).map_err(|error| error.to_string())?;
        let features = features(network.fields())?;
        warming()?;
        let tolerance = version.manifest.golden_tolerance.unwrap_or(TOLERANCE);
        checked(network.check_golden(&version.path, tolerance), version)?;
        let fields = network.fields().clone();
        let mut runner = Network(network);
        // Of the first row of each table, with no weight.
        let nothing = vec![0; 2 * fields.slots()];
        let started = Instant::now();
        runner.run(&[nothing.as_slice(); TRIED]).map_err(|error| error.to_string())?;
        let took = started.elapsed() / TRIED as u32;
        Ok(Ready {
            runner: Box::new(runner),
            max_tokens: nothing.len(),
            cost: RowCost::from_fn(nothing.len(), |_| took),
            published: version.manifest.created.to_string(),
            open: Box::new(move |opened| Ranker { opened, fields, features }),
        })
    }
}

/// The features that the fields are named after.
fn features(fields: &Fields) -> Result<Vec<(Feature, Column)>, String> {
    let feature = |field: &vitrine_models::Field| {
        let feature: Feature = field.name.parse().map_err(|error| format!("a field of the network: {error}"))?;
        let numbers = matches!(field.kind, FieldKind::Number { .. });
        let column = feature.column(numbers);
        if numbers == (column == Column::Number) {
            Ok((feature, column))
        } else {
            Err(format!("the network's field `{}` holds values of another type than that feature", field.name))
        }
    };
    fields.0.iter().map(feature).collect()
}

struct Network(ClickModel);

impl Runner for Network {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let encoded = Encoded::of_rows(rows);
        let chances = self.0.chances(&encoded).map_err(|error| RunError(error.to_string()))?;
        Ok(chances.into_iter().map(|chance| vec![chance]).collect())
    }
}
