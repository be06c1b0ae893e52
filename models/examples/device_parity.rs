//! Whether a version computes the same on a device as on the CPU: fails when it does not.
//!
//! `cargo run -p vitrine-models --example device_parity -- VERSION_DIR --device cuda:N [--precision f32|f16|bf16]`
//!
//! The CPU computes with the portable kernels, in f32. Rows are random, of every length that the version takes, so that
//! most of them are padded. Rows recorded with the version are computed too.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vitrine_models::{DeviceSpec, Isa, Precision, Ragged, TextEncoder, check_golden, golden_tolerance};

/// Embeddings that point elsewhere find other items.
const LEAST_COSINE: f32 = 0.999;

struct Options {
    dir: PathBuf,
    device: DeviceSpec,
    precision: Precision,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options { dir: PathBuf::from("."), device: DeviceSpec::Cpu, precision: Precision::F32 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--device" => options.device = value()?.parse()?,
            "--precision" => options.precision = value()?.parse()?,
            _ => options.dir = word.into(),
        }
    }
    Ok(options)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Options { dir, device, precision } = options()?;
    let reference = TextEncoder::load_for(&dir, Isa::Portable)?;
    let encoder = TextEncoder::load_on_candle(&dir, &device, precision)?;
    println!("{}: {device}, {} against cpu, {}", dir.display(), encoder.backend(), reference.backend());

    let tolerance = golden_tolerance(&encoder);
    println!("recorded rows: {:?}", check_golden(&dir, &encoder, tolerance)?);

    let rows = every_length(encoder.tokenizer().max_tokens(), encoder.vocabulary());
    let (ours, wanted) = (encoder.embed(&rows)?, reference.embed(&rows)?);
    let (mut largest, mut least) = (0_f32, 1_f32);
    for (ours, wanted) in ours.iter().zip(&wanted) {
        largest = ours.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(largest, f32::max);
        least = least.min(cosine(ours, wanted));
    }
    let same = largest <= tolerance && least >= LEAST_COSINE;
    println!(
        "{} rows: largest difference of a number {largest:.1e} (at most {tolerance:.0e}), least cosine {least:.6} (at least \
         {LEAST_COSINE}): {}",
        rows.len(),
        if same { "the same" } else { "NOT THE SAME" }
    );
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A random row of each length.
fn every_length(longest: usize, vocabulary: usize) -> Ragged {
    let mut random = StdRng::seed_from_u64(3);
    (1..=longest)
        .map(|length| (0..length).map(|_| random.random_range(0..vocabulary) as u32).collect::<Vec<_>>())
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
