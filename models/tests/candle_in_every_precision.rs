//! What runs on candle computes what candle-transformers' own BERT does in f32, padded or not, and in 16 bits nearly so. bf16 is
//! left out: candle multiplies it on GPUs only.
#![cfg(test)]

mod versions;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde_json::json;
use vitrine_models::{Backend, DeviceSpec, ModelError, Precision, Ragged, TextEncoder};

use versions::{POSITIONS, VOCABULARY, config, version_of, weights, write_json};

/// Rows of every length, so that most of them are padded.
fn rows() -> Ragged {
    (1..=POSITIONS as u32)
        .map(|length| (0..length).map(|at| (at * 7 + length) % VOCABULARY).collect::<Vec<_>>())
        .collect()
}

fn load(dir: &std::path::Path, precision: Precision) -> Result<TextEncoder, ModelError> {
    TextEncoder::load_on_candle(dir, &DeviceSpec::Cpu, precision)
}

#[test]
fn padded_rows_come_out_as_alone_from_candle_transformers() {
    for act in ["gelu", "relu"] {
        let mut config = config();
        config["hidden_act"] = json!(act);
        let dir = version_of(&config, 5);
        let parsed: Config = serde_json::from_value(config.clone()).unwrap();
        let tensors = VarBuilder::from_tensors(weights(&config, 5), DType::F32, &Device::Cpu);
        let model = BertModel::load(tensors, &parsed).unwrap();
        for (precision, most) in [(Precision::F32, 1e-5), (Precision::F16, 2e-2)] {
            let encoder = load(dir.path(), precision).unwrap();
            assert_eq!(*encoder.backend(), Backend::Candle { precision, reason: None });
            for (row, ours) in rows().iter().zip(encoder.embed(&rows()).unwrap()) {
                let ids = Tensor::new(row, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
                let hidden = model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
                let wanted: Vec<f32> = hidden.mean(1).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
                let largest = ours.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest <= most, "{act}, {precision}, {} tokens: {largest:e}", row.len());
            }
        }
    }
}

#[test]
fn heads_that_cannot_share_the_numbers_are_refused() {
    for heads in [0, 3] {
        let dir = version_of(&config(), 6);
        let mut other = config();
        other["num_attention_heads"] = json!(heads);
        write_json(dir.path(), "config.json", &other);
        let error = load(dir.path(), Precision::F32).err().unwrap().to_string();
        assert!(error.contains(&format!("{heads} heads")), "{error}");
    }
}
