//! The forward pass of the text encoder on one thread, for each instruction set that this CPU has.
//!
//! `cargo xtask bench encoder` first, which fetches the weights; then `cargo bench --profile dev -p vitrine-models`.
//! `VITRINE_BENCH_ENCODER` names the folder of another version.

use std::{hint::black_box, path::PathBuf, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vitrine_models::{Isa, ModelError, Ragged, TextEncoder};

/// Rows × tokens: a short query, some of them, and some long texts.
const SHAPES: [(usize, usize); 4] = [(1, 8), (1, 32), (32, 8), (8, 128)];
/// Where `cargo xtask bench encoder` puts it.
const ENCODER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench/registry/models/minilm/1");

fn forward(criterion: &mut Criterion) {
    let dir = std::env::var_os("VITRINE_BENCH_ENCODER").map_or_else(|| PathBuf::from(ENCODER), PathBuf::from);
    if !dir.join("model.safetensors").exists() {
        eprintln!("skipped: no weights in {}; `cargo xtask bench encoder` fetches them", dir.display());
        return;
    }
    let mut group = criterion.benchmark_group("forward");
    for isa in Isa::available() {
        let encoder = match TextEncoder::load_for(&dir, isa) {
            Ok(encoder) => encoder,
            Err(error) => {
                eprintln!("skipped: {isa}: {error}");
                continue;
            }
        };
        for (rows, tokens) in SHAPES {
            let batch: Ragged = (0..rows).map(|row| sample(row, tokens)).collect();
            group.throughput(Throughput::Elements((rows * tokens) as u64));
            group.bench_with_input(
                BenchmarkId::new(isa.to_string(), format!("{rows}x{tokens}")),
                &batch,
                |b, batch| {
                    b.iter(|| -> Result<(), ModelError> {
                        black_box(encoder.embed(batch)?);
                        Ok(())
                    });
                },
            );
        }
    }
    group.finish();
}

/// Ids of words, another for each row.
fn sample(row: usize, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|token| 2_000 + (row * 131 + token * 17) as u32 % 20_000).collect()
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = forward
}
criterion_main!(benches);
