//! From a version's folder to a generator that can run.

use std::time::Instant;

use vitrine_models::{DeviceSpec, PictureGenerator, Wish};
use vitrine_registry::VersionDir;

use super::{Generator, row, wish};
use crate::{
    batch::{RowCost, RunError, Runner},
    model::{Load, Ready, Warming, checked},
};

/// How far a recorded picture's numbers may be from those that are made here, unless the manifest says.
const TOLERANCE: f32 = 1e-3;

/// Loads picture generators onto a device.
pub struct LoadGenerator {
    /// The device.
    pub device: DeviceSpec,
}

impl Load<Generator> for LoadGenerator {
    fn load(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<Generator>, String> {
        let network = PictureGenerator::load(&version.path, &self.device).map_err(|error| error.to_string())?;
        warming()?;
        let tolerance = version.manifest.golden_tolerance.unwrap_or(TOLERANCE);
        checked(network.check_golden(&version.path, tolerance), version)?;
        let (config, knows_copies) = (network.config().clone(), network.knows_copies());
        let mut runner = Network(network);
        let one = row(&Wish { class: 0, seed: 0 });
        let started = Instant::now();
        runner.run(&[&one]).map_err(|error| error.to_string())?;
        let took = started.elapsed();
        Ok(Ready {
            runner: Box::new(runner),
            max_tokens: one.len(),
            cost: RowCost::from_fn(one.len(), |_| took),
            published: version.manifest.created.to_string(),
            open: Box::new(move |opened| Generator { opened, config, knows_copies }),
        })
    }
}

struct Network(PictureGenerator);

impl Runner for Network {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let wishes: Option<Vec<Wish>> = rows.iter().map(|row| wish(row)).collect();
        let wishes = wishes.ok_or_else(|| RunError("a row is not a class and a seed".to_owned()))?;
        self.0.make_and_judge(&wishes).map_err(|error| RunError(error.to_string()))
    }
}
