//! From a version's folder to a generator that can run.

use std::time::Instant;

use vitrine_models::{DeviceSpec, Diffusion, DiffusionWish, PictureGenerator, Wish};
use vitrine_registry::VersionDir;

use super::{Generator, Kind, row, step, wish};
use crate::{
    batch::{RowCost, RunError, Runner},
    model::{Load, Ready, Warming, checked},
};

/// How far a recorded picture's numbers may be from those that are made here, unless the manifest says.
const TOLERANCE: f32 = 1e-3;

/// The side of the picture by which a network is warmed up whose pictures may be large, in pixels.
const SMALL: usize = 64;

/// Loads picture generators onto a device.
pub struct LoadGenerator {
    /// The device.
    pub device: DeviceSpec,
}

impl Load<Generator> for LoadGenerator {
    fn load(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<Generator>, String> {
        if version.manifest.kind == "stable-diffusion" {
            self.diffusion(version, warming)
        } else {
            self.cgan(version, warming)
        }
    }
}

impl LoadGenerator {
    fn cgan(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<Generator>, String> {
        let network = PictureGenerator::load(&version.path, &self.device).map_err(|error| error.to_string())?;
        warming()?;
        checked(network.check_golden(&version.path, tolerance(version)), version)?;
        let kind = Kind::Cgan { config: network.config().clone(), knows_copies: network.knows_copies() };
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
            open: Box::new(move |opened| Generator { opened, kind }),
        })
    }

    fn diffusion(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<Generator>, String> {
        let mut network = Diffusion::load(&version.path, &self.device).map_err(|error| error.to_string())?;
        warming()?;
        checked(network.check_golden(&version.path, tolerance(version)), version)?;
        let start = network.start();
        let nothing = start.tokens("").map_err(|error| error.to_string())?.ids;
        let side = start.side().min(SMALL).next_multiple_of(start.unit());
        let mut picture = start.begin(&DiffusionWish {
            prompt: nothing.clone(),
            negative: nothing,
            seed: 0,
            steps: 1,
            guidance: 2.0,
            size: [side; 2],
        });
        let one = step::row(&picture);
        let mut runner = Steps(network);
        let started = Instant::now();
        let outputs = runner.run(&[&one]).map_err(|error| error.to_string())?;
        let took = started.elapsed();
        picture.latents = outputs.into_iter().next().unwrap_or_default();
        picture.done = 1;
        runner.run(&[&step::row(&picture)]).map_err(|error| error.to_string())?;
        let device = self.device;
        Ok(Ready {
            runner: Box::new(runner),
            max_tokens: step::longest(&start),
            cost: RowCost::of_each_token(took.div_f64(one.len() as f64)),
            published: version.manifest.created.to_string(),
            open: Box::new(move |opened| Generator { opened, kind: Kind::Diffusion { start, device } }),
        })
    }
}

fn tolerance(version: &VersionDir) -> f32 {
    version.manifest.golden_tolerance.unwrap_or(TOLERANCE)
}

struct Network(PictureGenerator);

impl Runner for Network {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let wishes: Option<Vec<Wish>> = rows.iter().map(|row| wish(row)).collect();
        let wishes = wishes.ok_or_else(|| RunError("a row is not a class and a seed".to_owned()))?;
        self.0.make_and_judge(&wishes).map_err(|error| RunError(error.to_string()))
    }
}

/// A row is a step of a picture, or, once all of them are done, asks for its pixels.
struct Steps(Diffusion);

impl Runner for Steps {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let step = |row: &&[u32]| {
            let picture = step::picture(row).ok_or_else(|| RunError("a row is no step of a picture".to_owned()))?;
            let done = picture.done >= picture.steps;
            let made = if done { self.0.finish(&picture) } else { self.0.step(&picture) };
            made.map_err(|error| RunError(error.to_string()))
        };
        rows.iter().map(step).collect()
    }

    /// A step fills the device by itself; and a picture is the same to the last bit whichever others are made.
    fn most_rows(&self) -> usize {
        1
    }
}
