//! Versions of a small random BERT, for tests.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::bert::{BertModel, Config};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const VOCABULARY: u32 = 40;
pub const POSITIONS: usize = 24;

pub fn config() -> Value {
    json!({
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "pad_token_id": 0,
    })
}

/// Weights under candle's names for them, from a seed.
pub fn weights(config: &Value, seed: u64) -> HashMap<String, Tensor> {
    let (cpu, map) = (&Device::Cpu, VarMap::new());
    let config: Config = serde_json::from_value(config.clone()).unwrap();
    BertModel::load(VarBuilder::from_varmap(&map, DType::F32, cpu), &config).unwrap();
    let mut named: Vec<_> =
        map.data().lock().unwrap().iter().map(|(name, var)| (name.clone(), var.shape().clone())).collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let mut random = StdRng::seed_from_u64(seed);
    let mut tensor = |shape: &candle_core::Shape| {
        let values: Vec<f32> = (0..shape.elem_count()).map(|_| random.random_range(-0.5..0.5)).collect();
        Tensor::from_vec(values, shape, cpu).unwrap()
    };
    named.into_iter().map(|(name, shape)| (name, tensor(&shape))).collect()
}

pub fn tokenizer() -> Value {
    let vocabulary: HashMap<String, u32> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "milk", "bread", "red", "shoe"]
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), id as u32))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "added_tokens": [], "normalizer": null, "decoder": null,
        "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    })
}

pub fn write_json(dir: &Path, name: &str, value: &Value) {
    fs::write(dir.join(name), value.to_string()).unwrap();
}

pub fn write_pooling(dir: &Path, mode: &str, normalize: bool) {
    let module =
        |class: &str, path: &str| json!({"path": path, "type": format!("sentence_transformers.models.{class}")});
    let mut modules = vec![module("Transformer", ""), module("Pooling", "1_Pooling")];
    modules.extend(normalize.then(|| module("Normalize", "2_Normalize")));
    write_json(dir, "modules.json", &modules.into());
    fs::create_dir_all(dir.join("1_Pooling")).unwrap();
    let flag = |name: &str| (format!("pooling_mode_{name}"), json!(name == mode));
    let mut flags: serde_json::Map<_, _> =
        ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"].map(flag).into_iter().collect();
    flags.insert(format!("pooling_mode_{mode}"), json!(true));
    flags.insert("word_embedding_dimension".to_owned(), json!(16));
    write_json(dir, "1_Pooling/config.json", &flags.into());
}

/// A whole version with mean pooling and no normalisation.
pub fn version_of(config: &Value, seed: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_json(dir.path(), "config.json", config);
    write_json(dir.path(), "tokenizer.json", &tokenizer());
    write_pooling(dir.path(), "mean_tokens", false);
    candle_core::safetensors::save(&weights(config, seed), dir.path().join("model.safetensors")).unwrap();
    dir
}
