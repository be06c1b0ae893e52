//! Golden rows: input and output recorded when a version is published, computed again after every load. They show that
//! weights, configuration and code still belong together; rows of every length warm the device up before them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::{Backend, ModelError, Precision, Ragged, TextEncoder, files};

/// Where a version has them.
pub(crate) const GOLDEN: &str = "golden.safetensors";

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
    let path = dir.join(GOLDEN);
    let tokenizer = encoder.tokenizer();
    let rows = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Ragged, _>>()?;
    if rows.is_empty() {
        return Err(ModelError::format(path, "no texts were given to record"));
    }
    let embeddings = encoder.embed(&rows)?.concat();
    let offsets: Vec<u32> = rows.offsets().map(|offset| offset as u32).collect();
    let cpu = &Device::Cpu;
    let tensors = HashMap::from([
        ("ids", Tensor::from_slice(rows.ids(), rows.tokens(), cpu)?),
        ("offsets", Tensor::from_vec(offsets, rows.len() + 1, cpu)?),
        ("embeddings", Tensor::from_vec(embeddings, (rows.len(), encoder.dimensions()), cpu)?),
    ]);
    candle_core::safetensors::save(&tensors, &path).map_err(|error| ModelError::format(&path, error))?;
    Ok(path)
}

/// Warms the encoder up with made-up rows of every length, then runs the rows recorded in `dir`, and compares.
///
/// # Errors
/// [`ModelError::NotFinite`] when an output is not finite; [`ModelError::Golden`] when an element is more than
/// `tolerance` away from its recording; a damaged recording; the device's failure.
pub fn check_golden(dir: &Path, encoder: &TextEncoder, tolerance: f32) -> Result<GoldenCheck, ModelError> {
    let path = dir.join(GOLDEN);
    encoder.embed(&made_up_rows(encoder))?;
    if !path.exists() {
        return Ok(GoldenCheck::NotRecorded);
    }
    let (rows, recorded) = read(&path, encoder.dimensions())?;
    let embeddings = encoder.embed(&rows)?;
    let (row, difference) = largest_difference(&embeddings, &recorded);
    if difference <= tolerance {
        return Ok(GoldenCheck::Matched { rows: rows.len(), difference });
    }
    Err(ModelError::Golden { path, row, difference, tolerance })
}

/// The row with the largest difference of one element, and that difference; a recorded NaN differs infinitely.
pub(crate) fn largest_difference(computed: &[Vec<f32>], recorded: &[Vec<f32>]) -> (usize, f32) {
    let difference = |(a, b): (&f32, &f32)| if b.is_nan() { f32::INFINITY } else { (a - b).abs() };
    computed
        .iter()
        .zip(recorded)
        .map(|(a, b)| a.iter().zip(b).map(difference).fold(0.0, f32::max))
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or_default()
}

fn read(path: &Path, dimensions: usize) -> Result<(Ragged, Vec<Vec<f32>>), ModelError> {
    let bytes = files::bytes(path, "")?;
    let damaged = |error: candle_core::Error| ModelError::format(path, error);
    let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(damaged)?;
    let mut take =
        |name: &str| tensors.remove(name).ok_or_else(|| ModelError::format(path, format!("it holds no `{name}`")));
    let ids = take("ids")?.to_vec1().map_err(damaged)?;
    let offsets: Vec<u32> = take("offsets")?.to_vec1().map_err(damaged)?;
    let recorded: Vec<Vec<f32>> = take("embeddings")?.to_vec2().map_err(damaged)?;
    let rows = Ragged::from_parts(ids, &offsets).map_err(|error| ModelError::format(path, error))?;
    if rows.is_empty() || recorded.len() != rows.len() || recorded.iter().any(|row| row.len() != dimensions) {
        let reason = format!(
            "{} recorded embeddings for {} rows; wanted one of {dimensions} dimensions for each",
            recorded.len(),
            rows.len(),
        );
        return Err(ModelError::format(path, reason));
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
