//! Milliseconds of a text encoder's forward pass, by rows × tokens: token ids in, embeddings out.
//!
//! `cargo run -p vitrine-models --example encoder_speed -- VERSION_DIR [--device cpu|cuda:N] [--precision f32|f16|bf16]
//! [--beyond] [--threads N] [--json]`
//!
//! `--precision` runs candle, on the CPU too (not in bf16); without it a version runs as the server would run it. `--beyond` adds
//! batches that only a GPU has the time for.
//!
//! `--json` adds a line `{"ms": {"1x8": …}, "worst_cosine": …, "path": …}` with medians. The cosine is the smallest of 64
//! random rows of 16 tokens to the portable kernels, which compute in f32. `VITRINE_CPU_ISA` forces an instruction set.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use vitrine_models::{DeviceSpec, Isa, Precision, Ragged, TextEncoder};

const GRID: [(usize, usize); 9] = [(1, 8), (1, 16), (1, 32), (8, 16), (8, 32), (32, 16), (32, 32), (8, 128), (32, 128)];
const BEYOND: [(usize, usize); 2] = [(256, 32), (1024, 32)];
/// Each point is measured for so long, and so many times.
const AT_LEAST: (Duration, usize) = (Duration::from_secs(1), 9);
const WARM_UP: usize = 12;

struct Options {
    dir: PathBuf,
    device: DeviceSpec,
    precision: Option<Precision>,
    beyond: bool,
    threads: usize,
    json: bool,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let threads = available_parallelism().map_or(1, NonZero::get);
    let mut options = Options {
        dir: PathBuf::from("."),
        device: DeviceSpec::Cpu,
        precision: None,
        beyond: false,
        threads,
        json: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--json" => options.json = true,
            "--device" => options.device = value()?.parse()?,
            "--precision" => options.precision = Some(value()?.parse()?),
            "--beyond" => options.beyond = true,
            "--threads" => options.threads = value()?.parse()?,
            _ => options.dir = word.into(),
        }
    }
    Ok(options)
}

/// Random rows, none of them with special tokens.
fn sample(rows: usize, tokens: usize, vocabulary: usize, seed: u64) -> Ragged {
    let mut random = StdRng::seed_from_u64(seed);
    let ids = 1000_usize.min(vocabulary / 2)..20_000_usize.min(vocabulary);
    (0..rows).map(|_| (0..tokens).map(|_| random.random_range(ids.clone()) as u32).collect::<Vec<_>>()).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let started = Instant::now();
    let encoder = match options.precision {
        Some(precision) => TextEncoder::load_on_candle(&options.dir, &options.device, precision)?,
        None => TextEncoder::load(&options.dir, &options.device)?,
    };
    println!("loaded in {:.0} ms; it runs on {}, {}", millis(started.elapsed()), options.device, encoder.backend());
    encoder.share_work(options.threads)?;
    let mut medians = BTreeMap::new();
    let beyond = if options.beyond { &BEYOND[..] } else { &[] };
    for &(rows, tokens) in GRID.iter().chain(beyond) {
        let batch = sample(rows, tokens, encoder.vocabulary(), 0);
        for _ in 0..WARM_UP {
            encoder.embed(&batch)?;
        }
        let (mut times, started) = (Vec::new(), Instant::now());
        while times.len() < AT_LEAST.1 || started.elapsed() < AT_LEAST.0 {
            let start = Instant::now();
            encoder.embed(&batch)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let (best, median) = (millis(times[0]), millis(times[times.len() / 2]));
        println!("{rows:4} × {tokens:3}: median {median:8.3} ms, best {best:8.3} ms, {} runs", times.len());
        medians.insert(format!("{rows}x{tokens}"), (median * 1e3).round() / 1e3);
    }
    let worst = worst_cosine(&options, &encoder)?;
    println!("worst cosine {worst:.5}");
    if options.json {
        println!("{}", json!({ "ms": medians, "worst_cosine": worst, "path": encoder.backend().to_string() }));
    }
    Ok(())
}

fn worst_cosine(options: &Options, encoder: &TextEncoder) -> Result<f32, Box<dyn Error>> {
    let rows = sample(64, 16, encoder.vocabulary(), 1);
    let reference = TextEncoder::load_for(&options.dir, Isa::Portable)?.embed(&rows)?;
    let ours = encoder.embed(&rows)?;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    Ok(ours.iter().zip(&reference).map(cosine).fold(1.0, f32::min))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
