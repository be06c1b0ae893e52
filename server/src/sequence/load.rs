//! From a version's folder to a sequence model that can run.

use std::time::{Duration, Instant};

use vitrine_models::{DeviceSpec, SequenceModel};
use vitrine_registry::VersionDir;

use super::Sequencer;
use crate::{
    batch::{RowCost, RunError, Runner},
    model::{Load, Ready, Warming, checked},
};

/// How far a recorded score may be from what is computed here, unless the manifest says.
const TOLERANCE: f32 = 1e-3;

/// Loads sequence models onto a device.
pub struct LoadSequencer {
    /// The device.
    pub device: DeviceSpec,
}

impl Load<Sequencer> for LoadSequencer {
    fn load(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<Sequencer>, String> {
        let network = SequenceModel::load(&version.path, &self.device).map_err(|error| error.to_string())?;
        warming()?;
        let tolerance = version.manifest.golden_tolerance.unwrap_or(TOLERANCE);
        checked(network.check_golden(&version.path, tolerance), version)?;
        let ids = network.items().iter().cloned().zip(1..).collect();
        let max_length = network.max_length();
        let mut runner = Network(network);
        let [short, long] = [1, max_length].map(|length| runner.time(length));
        let (short, long) = (short?, long?);
        let each = long.saturating_sub(short) / max_length as u32;
        Ok(Ready {
            runner: Box::new(runner),
            max_tokens: max_length,
            cost: RowCost::from_fn(max_length, |length| short + each * length as u32),
            published: version.manifest.created.to_string(),
            open: Box::new(move |opened| Sequencer { opened, ids, max_length }),
        })
    }
}

struct Network(SequenceModel);

impl Network {
    /// What a history of that length takes: it knows one item at least.
    fn time(&mut self, length: usize) -> Result<Duration, String> {
        let started = Instant::now();
        self.run(&[&vec![1; length]]).map_err(|error| error.to_string())?;
        Ok(started.elapsed())
    }
}

impl Runner for Network {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        self.0.scores(rows).map_err(|error| RunError(error.to_string()))
    }
}
