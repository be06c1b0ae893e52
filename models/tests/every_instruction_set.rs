//! The CPU's kernels compute what candle does, on every instruction set that this CPU has, however the rows are batched
//! and whoever shares the work.
#![cfg(test)]

mod versions;

use std::fs;
use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use proptest::prelude::*;
use serde_json::{Value, json};
use vitrine_models::{Backend, Isa, Ragged, TextEncoder};

use versions::{POSITIONS, VOCABULARY, config, version_of, weights, write_json};

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The mean of a row's token vectors, straight from candle.
fn by_candle(model: &BertModel, row: &[u32]) -> Vec<f32> {
    let ids = Tensor::new(row, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
    hidden.mean(1).unwrap().squeeze(0).unwrap().to_vec1().unwrap()
}

fn sized(hidden: usize, heads: usize, intermediate: usize) -> Value {
    let mut config = config();
    config["hidden_size"] = json!(hidden);
    config["num_attention_heads"] = json!(heads);
    config["intermediate_size"] = json!(intermediate);
    config
}

#[test]
fn networks_of_many_sizes_compute_what_candle_does() {
    let rows: Ragged = (1..=POSITIONS as u32)
        .map(|length| (0..length).map(|at| (at * 7 + length) % VOCABULARY).collect::<Vec<_>>())
        .collect();
    for (hidden, heads, intermediate) in [(16, 4, 24), (6, 3, 7), (34, 1, 65), (96, 2, 33), (128, 4, 256)] {
        let config = sized(hidden, heads, intermediate);
        let dir = version_of(&config, 7);
        let parsed: Config = serde_json::from_value(config.clone()).unwrap();
        let tensors = VarBuilder::from_tensors(weights(&config, 7), DType::F32, &Device::Cpu);
        let model = BertModel::load(tensors, &parsed).unwrap();
        for isa in Isa::available() {
            let encoder = TextEncoder::load_for(dir.path(), isa).unwrap();
            assert_eq!(*encoder.backend(), Backend::Kernels(isa));
            for (row, ours) in rows.iter().zip(encoder.embed(&rows).unwrap()) {
                let wanted = by_candle(&model, row);
                let largest = ours.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let (most, least) = if isa.rounds() { (5e-2, 0.999) } else { (2e-5, 0.999_999) };
                let cosine = cosine(&ours, &wanted);
                assert!(largest <= most && cosine >= least, "{isa}, {hidden}: {largest:e}, cosine {cosine}");
            }
        }
    }
}

#[test]
fn what_the_kernels_cannot_run_is_left_to_candle_and_said() {
    for (change, value) in [("hidden_act", json!("relu")), ("num_attention_heads", json!(16))] {
        let mut config = config();
        config[change] = value;
        let dir = version_of(&config, 3);
        let encoder = TextEncoder::load_for(dir.path(), Isa::Portable).unwrap();
        let Backend::Candle { reason: Some(reason), .. } = encoder.backend() else { panic!("{}", encoder.backend()) };
        assert!(reason.contains("hidden_act") || reason.contains("16 heads"), "{reason}");
        encoder.share_work(2).unwrap();
        assert_eq!(encoder.embed(&[[2, 5, 3]].into_iter().collect()).unwrap()[0].len(), 16);
    }
}

#[test]
fn weights_under_tensorflows_names_load_the_same() {
    let (plain, old) = (version_of(&config(), 4), version_of(&config(), 4));
    let renamed = weights(&config(), 4).into_iter().map(|(name, tensor)| {
        let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        (old, tensor)
    });
    let renamed: std::collections::HashMap<_, _> = renamed.collect();
    candle_core::safetensors::save(&renamed, old.path().join("model.safetensors")).unwrap();
    let rows: Ragged = [[2, 4, 6, 3]].into_iter().collect();
    for isa in Isa::available() {
        let [a, b] = [&plain, &old].map(|dir| TextEncoder::load_for(dir.path(), isa).unwrap().embed(&rows).unwrap());
        assert_eq!(a, b);
    }
}

#[test]
fn weights_of_another_shape_are_refused_and_named() {
    let dir = version_of(&config(), 4);
    write_json(dir.path(), "config.json", &sized(16, 4, 25));
    for isa in Isa::available() {
        let error = TextEncoder::load_for(dir.path(), isa).err().unwrap().to_string();
        assert!(error.contains("model.safetensors") && error.contains("intermediate.dense"), "{error}");
    }
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert!(TextEncoder::load_for(dir.path(), Isa::Portable).is_err());
}

/// Shared by all cases: loading is most of a case's time. One thread, and three, for each instruction set.
static ENCODERS: LazyLock<Vec<[TextEncoder; 2]>> = LazyLock::new(|| {
    let dir = version_of(&sized(64, 2, 96), 5);
    Isa::available()
        .map(|isa| {
            [1, 3].map(|threads| {
                let encoder = TextEncoder::load_for(dir.path(), isa).unwrap();
                encoder.share_work(threads).unwrap();
                encoder
            })
        })
        .collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    // Often enough that every way of sharing is gone, for batches of each size.
    #[test]
    fn an_embedding_does_not_depend_on_its_neighbours_or_on_who_shares_the_work(
        rows in prop::collection::vec(prop::collection::vec(0..VOCABULARY, 1..=POSITIONS), 0..24),
    ) {
        for [alone, shared] in ENCODERS.iter() {
            let one_by_one: Vec<Vec<f32>> =
                rows.iter().map(|row| alone.embed(&[row].into_iter().collect()).unwrap().remove(0)).collect();
            let bits = |embeddings: &[Vec<f32>]| -> Vec<u32> {
                embeddings.iter().flatten().map(|number| number.to_bits()).collect()
            };
            for encoder in [alone, shared] {
                let together = encoder.embed(&rows.iter().collect()).unwrap();
                prop_assert_eq!(together.len(), rows.len());
                prop_assert_eq!(bits(&together), bits(&one_by_one), "{}", encoder.backend());
            }
        }
    }
}
