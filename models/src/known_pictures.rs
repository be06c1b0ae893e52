//! The pictures that a generator has learnt from, as a network that knows their classes sees them: how near a made picture comes to the
//! nearest of them tells a copy from something new.
//!
//! Features are whole numbers of 8 bits on one scale for all, so that a set of tens of thousands is a few megabytes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::{DeviceSpec, ModelError, PictureModel, files};

const FILE: &str = "known.safetensors";

/// Features of pictures, and the network that makes them.
pub struct KnownPictures {
    judge: PictureModel,
    /// `[pictures, columns]`.
    features: Vec<u8>,
    columns: usize,
    grid: Grid,
    near: f32,
}

/// Numbers as whole ones from 0 to 255.
#[derive(Clone, Copy)]
struct Grid {
    low: f32,
    step: f32,
}

impl Grid {
    fn of(rows: &[Vec<f32>]) -> Self {
        let numbers = || rows.iter().flatten().copied();
        let (low, high) = (numbers().fold(f32::INFINITY, f32::min), numbers().fold(f32::NEG_INFINITY, f32::max));
        Self { low, step: ((high - low) / f32::from(u8::MAX)).max(f32::MIN_POSITIVE) }
    }

    fn whole(self, number: f32) -> u8 {
        ((number - self.low) / self.step).round() as u8
    }
}

impl KnownPictures {
    /// The folder of the network that sees them, in that of a version: as [`PictureModel::load`] takes it.
    pub const JUDGE: &str = "judge";

    /// Records pictures in a version's folder, which has the network in [`JUDGE`](Self::JUDGE) already. `embeddings` are what it sees in them, and
    /// `near` is the distance that is to be called 1.
    ///
    /// # Errors
    /// There are none, or the file cannot be written.
    pub fn write(dir: &Path, embeddings: &[Vec<f32>], near: f32) -> Result<PathBuf, ModelError> {
        let path = dir.join(FILE);
        let columns = embeddings.first().map_or(0, Vec::len);
        if columns == 0 || embeddings.iter().any(|row| row.len() != columns) || !(near.is_finite() && near > 0.0) {
            return Err(ModelError::format(path, "there is nothing to record, or no distance to measure by"));
        }
        let grid = Grid::of(embeddings);
        let features = embeddings.iter().flatten().map(|&number| grid.whole(number)).collect();
        let cpu = &Device::Cpu;
        let tensors = HashMap::from([
            ("features", Tensor::from_vec::<_, u8>(features, (embeddings.len(), columns), cpu)?),
            ("low_step_near", Tensor::new(&[grid.low, grid.step, near], cpu)?),
        ]);
        candle_core::safetensors::save(&tensors, &path).map_err(|error| ModelError::format(&path, error))?;
        Ok(path)
    }

    /// Loads them from a version's folder; a version need not have any.
    ///
    /// # Errors
    /// The file or the network is damaged, or the device cannot be opened.
    pub fn load(dir: &Path, device: &DeviceSpec) -> Result<Option<Self>, ModelError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let judge = PictureModel::load(&dir.join(Self::JUDGE), device)?;
        let damaged = |reason: String| ModelError::format(&path, reason);
        let tensors = candle_core::safetensors::load_buffer(&files::bytes(&path, "")?, &Device::Cpu)
            .map_err(|error| damaged(error.to_string()))?;
        let tensor = |name: &str| tensors.get(name).ok_or_else(|| damaged(format!("it holds no `{name}`")));
        let features = tensor("features")?;
        let (_, columns) = features.dims2().map_err(|error| damaged(error.to_string()))?;
        let numbers: Vec<f32> = tensor("low_step_near")?.to_vec1().map_err(|error| damaged(error.to_string()))?;
        let features = features.flatten_all()?.to_vec1().map_err(|error| damaged(error.to_string()))?;
        match numbers[..] {
            [low, step, near] if step > 0.0 && near > 0.0 && columns > 0 => {
                Ok(Some(Self { judge, features, columns, grid: Grid { low, step }, near }))
            }
            _ => Err(damaged(format!("{numbers:?} are no scale for {columns} features"))),
        }
    }

    /// How far each picture is from the nearest known one; 1 is the distance that was recorded as near. Pictures are f32
    /// `[pictures, side, side, channels]`, from 0 to 1.
    ///
    /// # Errors
    /// Those of [`PictureModel::embed`], or its features are not those that were recorded.
    pub fn nearest(&self, pictures: &Tensor) -> Result<Vec<f32>, ModelError> {
        let seen = self.judge.embed(pictures)?;
        if seen.iter().any(|embedding| embedding.len() != self.columns) {
            let error = format!("the judge's features are not the {} that are recorded", self.columns);
            return Err(candle_core::Error::msg(error).into());
        }
        let nearest = seen.iter().map(|embedding| {
            let features: Vec<u8> = embedding.iter().map(|&number| self.grid.whole(number)).collect();
            let squares = self.features.chunks_exact(self.columns).map(|known| square(&features, known)).min();
            (squares.unwrap_or(i32::MAX) as f32).sqrt() * self.grid.step / self.near
        });
        Ok(nearest.collect())
    }
}

/// The square of the distance.
fn square(a: &[u8], b: &[u8]) -> i32 {
    let apart = a.iter().zip(b).map(|(a, b)| i32::from(*a) - i32::from(*b));
    apart.map(|apart| apart * apart).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_within_half_a_step_and_those_beyond_at_the_ends() {
        let grid = Grid::of(&[vec![-1.0, 0.5], vec![1.55, 0.0]]);
        for number in [-1.0, -0.333, 0.0, 0.123, 1.55] {
            let back = grid.low + f32::from(grid.whole(number)) * grid.step;
            assert!((back - number).abs() <= 0.5 * grid.step + 1e-6, "{back} of {number}");
        }
        assert_eq!((grid.whole(-9.0), grid.whole(9.0)), (0, 255));
        assert_eq!(square(&[0, 255, 7], &[255, 0, 7]), 2 * 255 * 255);
    }

    #[test]
    fn nothing_to_record_is_refused_and_a_version_without_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        assert!(KnownPictures::load(dir.path(), &DeviceSpec::Cpu).unwrap().is_none());
        assert!(KnownPictures::write(dir.path(), &[], 1.0).is_err());
        assert!(KnownPictures::write(dir.path(), &[vec![1.0]], f32::NAN).is_err());
        KnownPictures::write(dir.path(), &[vec![1.0]], 1.0).unwrap();
        let error = KnownPictures::load(dir.path(), &DeviceSpec::Cpu).err().unwrap().to_string();
        assert!(error.contains("judge"), "{error}");
    }
}
