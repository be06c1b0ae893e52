//! From a version's folder to a generator that can run.

use std::time::Instant;

use vitrine_models::{DeviceSpec, GoldenCheck, PictureGenerator, Wish};
use vitrine_registry::VersionDir;

use super::{Generator, IMAGE_GENERATION, row, wish};
use crate::{
    batch::{RowCost, RunError, Runner},
    model::{Load, Ready, Warming},
};

/// The networks of this task, as manifests name them.
const KINDS: [&str; 1] = ["cgan"];

/// How far a recorded picture's numbers may be from those that are made here, unless the manifest says.
const TOLERANCE: f32 = 1e-3;

/// Loads picture generators onto a device.
pub struct LoadGenerator {
    /// The device.
    pub device: DeviceSpec,
}

impl Load<Generator> for LoadGenerator {
    fn load(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<Generator>, String> {
        let (task, kind) = (&version.manifest.task, &version.manifest.kind);
        if task != IMAGE_GENERATION {
            return Err(format!("its task is {task}, not {IMAGE_GENERATION}"));
        }
        if !KINDS.contains(&kind.as_str()) {
            return Err(format!("its kind is {kind}; supported: {}", KINDS.join(", ")));
        }
        let network = PictureGenerator::load(&version.path, &self.device).map_err(|error| error.to_string())?;
        warming()?;
        let tolerance = version.manifest.golden_tolerance.unwrap_or(TOLERANCE);
        match network.check_golden(&version.path, tolerance).map_err(|error| error.to_string())? {
            GoldenCheck::Matched { rows, difference } => tracing::debug!(rows, difference, "golden rows match"),
            GoldenCheck::NotRecorded => {
                tracing::warn!(path = %version.path.display(), "no golden rows: the weights are not checked by running them");
            }
        }
        let config = network.config().clone();
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
            open: Box::new(|opened| Generator { opened, config }),
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
