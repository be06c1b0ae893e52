//! all-MiniLM-L6-v2 computes what the original in Python does. `reference.py` made the reference.
#![cfg(test)]

use std::path::{Path, PathBuf};

use candle_core::Device;
use vitrine_models::{DeviceSpec, GoldenCheck, Ragged, TextEncoder, check_golden};
use vitrine_registry::Registry;
use vitrine_registry::pull::{Progress, PullOptions, pull, recipe};

const TOLERANCE: f32 = 1e-4;

/// The version, pulled once into the cache, with the rows that `reference.py` recorded.
fn minilm() -> PathBuf {
    let cache = PullOptions::default_cache();
    let registry = Registry::create(cache.join("test-registry")).unwrap();
    let request = recipe::request("all-MiniLM-L6-v2").unwrap();
    pull(&registry, &request, &PullOptions::new(cache), &Progress::on_stderr()).unwrap().version.path
}

struct Reference {
    texts: Vec<String>,
    rows: Ragged,
    embeddings: Vec<Vec<f32>>,
}

fn reference(version: &Path) -> Reference {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let texts = serde_json::from_slice(&std::fs::read(data.join("texts.json")).unwrap()).unwrap();
    let tensors = candle_core::safetensors::load(version.join("golden.safetensors"), &Device::Cpu).unwrap();
    let rows = Ragged::from_parts(tensors["ids"].to_vec1().unwrap(), &tensors["offsets"].to_vec1::<u32>().unwrap());
    Reference { texts, rows: rows.unwrap(), embeddings: tensors["embeddings"].to_vec2().unwrap() }
}

fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b)
    });
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

// One test, so that the weights are read once: nextest gives every test its own process.
#[test]
fn tokens_and_embeddings_equal_pytorchs_together_and_one_by_one() {
    let dir = minilm();
    let encoder = TextEncoder::load(&dir, &DeviceSpec::Cpu).unwrap();
    let tokenizer = encoder.tokenizer();
    assert_eq!((encoder.dimensions(), tokenizer.max_tokens()), (384, 128));

    let reference = reference(&dir);
    assert_eq!(reference.texts.len(), 32);
    let rows: Ragged = reference.texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    assert_eq!(rows, reference.rows, "the tokenizer differs");

    let together = encoder.embed(&rows).unwrap();
    let difference = largest_difference(&together, &reference.embeddings);
    assert!(difference <= TOLERANCE, "together: {difference:e}");

    for (row, expected) in rows.iter().zip(&reference.embeddings) {
        let alone = encoder.embed(&[row].into_iter().collect()).unwrap();
        let difference = largest_difference(&alone, std::slice::from_ref(expected));
        assert!(difference <= TOLERANCE, "alone, {} tokens: {difference:e}", row.len());
    }

    let check = check_golden(&dir, &encoder, TOLERANCE).unwrap();
    assert!(matches!(check, GoldenCheck::Matched { rows: 32, .. }), "{check:?}");
}
