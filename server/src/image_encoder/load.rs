//! From a version's folder to an image encoder that can run.

use std::time::Instant;

use vitrine_models::{DeviceSpec, PictureModel};
use vitrine_registry::VersionDir;

use super::{ImageEncoder, Look, packed, unpacked};
use crate::{
    batch::{RowCost, RunError, Runner},
    model::{Load, Ready, Warming, checked},
};

/// How far a recorded number may be from what is computed here, unless the manifest says.
const TOLERANCE: f32 = 1e-3;

/// Loads image encoders onto a device.
pub struct LoadImageEncoder {
    /// The device.
    pub device: DeviceSpec,
}

impl Load<ImageEncoder> for LoadImageEncoder {
    fn load(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<ImageEncoder>, String> {
        let network = PictureModel::load(&version.path, &self.device).map_err(|error| error.to_string())?;
        warming()?;
        let tolerance = version.manifest.golden_tolerance.unwrap_or(TOLERANCE);
        checked(network.check_golden(&version.path, tolerance), version)?;
        let [side, _, channels] = network.spec().shape();
        let dimensions = network.dimensions();
        let size = side * side * channels;
        let mut runner = Network { network, size };
        let blank = packed(&vec![0; size]);
        let started = Instant::now();
        runner.run(&[&blank]).map_err(|error| error.to_string())?;
        let took = started.elapsed();
        Ok(Ready {
            runner: Box::new(runner),
            max_tokens: blank.len(),
            cost: RowCost::from_fn(blank.len(), |_| took),
            published: version.manifest.created.to_string(),
            open: Box::new(move |opened| ImageEncoder { opened, look: Look { side, channels }, dimensions }),
        })
    }
}

struct Network {
    network: PictureModel,
    /// Of a picture, in numbers.
    size: usize,
}

impl Runner for Network {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let numbers: Vec<f32> = rows.iter().flat_map(|row| unpacked(row, self.size)).collect();
        self.network.embed_numbers(numbers).map_err(|error| RunError(error.to_string()))
    }
}
