//! Golden rows: input and output recorded when a version is published, computed again after every load. They show that
//! weights, configuration and code still belong together; rows of every length warm the device up before them.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::rest::rest;
use crate::{Backend, ModelError, Precision, Ragged, TextEncoder, files};

const FILE: &str = "golden.safetensors";

/// The tolerance where a version's manifest names none: room for another processor's order of summing, and for 16 bits
/// where it computes with those; none for other weights.
pub fn golden_tolerance(encoder: &TextEncoder) -> f32 {
    match encoder.backend() {
        Backend::Kernels(isa) if isa.rounds() => 1e-2,
        Backend::Candle { precision: Precision::Bf16 | Precision::F16, .. } => 1e-2,
        _ => 1e-3,
    }
}

/// Row lengths for the warm-up; longer ones than the version takes are left out.
const WARM_UP_LENGTHS: [usize; 6] = [2, 8, 16, 32, 64, 128];

/// What [`check_golden`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GoldenCheck {
    /// The recorded rows came out as recorded.
    Matched {
        /// Number of rows.
        rows: usize,
        /// Largest absolute difference of one element.
        difference: f32,
    },
    /// The version has no recording: its output is finite, and nothing else is known about its weights.
    NotRecorded,
}

/// Records the embeddings of `texts` in `golden.safetensors` in `dir`, and returns its path.
///
/// The file holds `ids` (u32, all rows end to end), `offsets` (u32, one more than rows) and `embeddings` (f32
/// `[rows, dimensions]`).
///
/// # Errors
/// What [`TextEncoder::embed`] returns, or that the file cannot be written.
pub fn write_golden(dir: &Path, encoder: &TextEncoder, texts: &[&str]) -> Result<PathBuf, ModelError> {
    let tokenizer = encoder.tokenizer();
    let rows = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Ragged, _>>()?;
    if rows.is_empty() {
        return Err(ModelError::format(dir.join(FILE), "no texts were given to record"));
    }
    let embeddings = encoder.embed(&rows)?.concat();
    let offsets: Vec<u32> = rows.offsets().map(|offset| offset as u32).collect();
    let cpu = &Device::Cpu;
    let tensors = HashMap::from([
        ("ids", Tensor::from_slice(rows.ids(), rows.tokens(), cpu)?),
        ("offsets", Tensor::from_vec(offsets, rows.len() + 1, cpu)?),
        ("embeddings", Tensor::from_vec(embeddings, (rows.len(), encoder.dimensions()), cpu)?),
    ]);
    Recording::write(dir, &tensors)
}

/// Warms the encoder up with made-up rows of every length, then runs the rows recorded in `dir`, and compares.
///
/// # Errors
/// [`ModelError::NotFinite`] when an output is not finite; [`ModelError::Golden`] when an element is more than
/// `tolerance` away from its recording; a damaged recording; the device's failure.
pub fn check_golden(dir: &Path, encoder: &TextEncoder, tolerance: f32) -> Result<GoldenCheck, ModelError> {
    one_by_one(encoder, &made_up_rows(encoder))?;
    let Some(mut recording) = Recording::read(dir)? else { return Ok(GoldenCheck::NotRecorded) };
    let (rows, recorded) = rows_of(&mut recording, encoder.dimensions())?;
    recording.compare(&one_by_one(encoder, &rows)?, &recorded, tolerance)
}

/// Embeddings of rows, with a rest after each.
fn one_by_one(encoder: &TextEncoder, rows: &Ragged) -> Result<Vec<Vec<f32>>, ModelError> {
    let mut embeddings = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        embeddings.extend(encoder.embed(&Ragged::from_iter([row])).map_err(|error| match error {
            ModelError::NotFinite { .. } => ModelError::NotFinite { row: at },
            other => other,
        })?);
        rest();
    }
    Ok(embeddings)
}

/// A version's recording: what went in and what came out, as named tensors.
pub(crate) struct Recording {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Recording {
    /// Writes one into a folder, and returns its path.
    pub(crate) fn write(dir: &Path, tensors: &HashMap<&str, Tensor>) -> Result<PathBuf, ModelError> {
        let path = dir.join(FILE);
        candle_core::safetensors::save(tensors, &path).map_err(|error| ModelError::format(&path, error))?;
        Ok(path)
    }

    /// The one in a folder, if there is one.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, ModelError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::bytes(&path, "")?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
        let tensors = tensors.map_err(|error| ModelError::format(&path, error))?;
        Ok(Some(Self { path, tensors }))
    }

    pub(crate) fn take(&mut self, name: &str) -> Result<Tensor, ModelError> {
        self.tensors.remove(name).ok_or_else(|| self.damaged(format!("it holds no `{name}`")))
    }

    /// It is not as it should be.
    pub(crate) fn damaged(&self, reason: impl Display) -> ModelError {
        ModelError::format(&self.path, reason)
    }

    /// Holds what was computed against what was recorded, row by row.
    pub(crate) fn compare(
        self,
        computed: &[Vec<f32>],
        recorded: &[Vec<f32>],
        tolerance: f32,
    ) -> Result<GoldenCheck, ModelError> {
        let (row, difference) = largest_difference(computed, recorded);
        if difference <= tolerance {
            return Ok(GoldenCheck::Matched { rows: recorded.len(), difference });
        }
        Err(ModelError::Golden { path: self.path, row, difference, tolerance })
    }
}

/// The row with the largest difference of one element, and that difference; a recorded NaN differs infinitely.
fn largest_difference(computed: &[Vec<f32>], recorded: &[Vec<f32>]) -> (usize, f32) {
    let difference = |(a, b): (&f32, &f32)| if b.is_nan() { f32::INFINITY } else { (a - b).abs() };
    computed
        .iter()
        .zip(recorded)
        .map(|(a, b)| a.iter().zip(b).map(difference).fold(0.0, f32::max))
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or_default()
}

fn rows_of(recording: &mut Recording, dimensions: usize) -> Result<(Ragged, Vec<Vec<f32>>), ModelError> {
    let [ids, offsets, recorded] = ["ids", "offsets", "embeddings"].map(|name| recording.take(name));
    let damaged = |error: candle_core::Error| recording.damaged(error);
    let (ids, offsets) = (ids?.to_vec1().map_err(damaged)?, offsets?.to_vec1::<u32>().map_err(damaged)?);
    let recorded: Vec<Vec<f32>> = recorded?.to_vec2().map_err(damaged)?;
    let rows = Ragged::from_parts(ids, &offsets).map_err(|error| recording.damaged(error))?;
    if rows.is_empty() || recorded.len() != rows.len() || recorded.iter().any(|row| row.len() != dimensions) {
        return Err(recording.damaged(format!(
            "{} recorded embeddings for {} rows; wanted one of {dimensions} dimensions for each",
            recorded.len(),
            rows.len(),
        )));
    }
    Ok((rows, recorded))
}

fn made_up_rows(encoder: &TextEncoder) -> Ragged {
    let (longest, vocabulary) = (encoder.tokenizer().max_tokens(), encoder.vocabulary());
    WARM_UP_LENGTHS
        .into_iter()
        .filter(|&length| length <= longest)
        .map(|length| (0..length).map(|at| (at * 7919 % vocabulary) as u32).collect::<Vec<_>>())
        .collect()
}
