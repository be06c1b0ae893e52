//! Milliseconds of a text encoder's forward pass, best and median, by rows × tokens.
//!
//! `cargo run -p vitrine-models --example encoder_speed -- VERSION_DIR [cpu|cuda:N]`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use vitrine_models::{DeviceSpec, ModelError, Ragged, TextEncoder};

const SHAPES: [(usize, usize); 6] = [(1, 8), (1, 32), (8, 8), (8, 32), (32, 32), (32, 128)];
const AT_LEAST: Duration = Duration::from_secs(1);

fn main() -> Result<(), ModelError> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let device = arguments.next().map_or(Ok(DeviceSpec::Cpu), |name| name.parse())?;
    let started = Instant::now();
    let encoder = TextEncoder::load(&dir, &device)?;
    println!("loaded on {device} in {:.0} ms", millis(started.elapsed()));
    for (rows, tokens) in SHAPES {
        let row: Vec<u32> = (0..tokens).map(|at| (1000 + at * 37 % 2000) as u32).collect();
        let batch: Ragged = std::iter::repeat_n(row, rows).collect();
        encoder.embed(&batch)?;
        let (mut times, started) = (Vec::new(), Instant::now());
        while times.len() < 5 || started.elapsed() < AT_LEAST {
            let start = Instant::now();
            encoder.embed(&batch)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let (best, median) = (millis(times[0]), millis(times[times.len() / 2]));
        println!("{rows:3} × {tokens:3}: best {best:8.2} ms, median {median:8.2} ms, {} runs", times.len());
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
