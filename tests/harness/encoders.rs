//! Text encoders that scenarios publish: the real one followed by a rotation, and tiny ones with random weights.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{encoder_registry, program};

/// Length of the tiny encoder's vectors.
pub const TINY_WIDTH: usize = 8;
/// Token ids of the tiny encoder for the text `milk`.
pub const MILK: [u32; 3] = [2, 4, 3];

/// A tensor: name, shape, values.
pub type Tensor = (String, Vec<usize>, Vec<f32>);

/// A safetensors file. The format: <https://huggingface.co/docs/safetensors/index#format>.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, values) in tensors {
        let begin = data.len();
        let integers = name == "ids" || name == "offsets";
        let bytes = |value: &f32| if integers { (*value as u32).to_le_bytes() } else { value.to_le_bytes() };
        data.extend(values.iter().flat_map(bytes));
        let dtype = if integers { "U32" } else { "F32" };
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]}));
    }
    let header = Value::from(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

fn write_json(path: impl AsRef<Path>, value: &Value) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

/// How large a random encoder is, and so how long it takes.
#[derive(Clone, Copy)]
pub struct Size {
    pub width: usize,
    pub layers: usize,
}

/// A version of kind `bert` with one small layer, and a vocabulary of a few words of a shop.
pub fn tiny(seed: u64) -> TempDir {
    random(seed, Size { width: TINY_WIDTH, layers: 1 })
}

/// The same of another size.
pub fn random(seed: u64, size: Size) -> TempDir {
    const VOCABULARY: usize = 12;
    const POSITIONS: usize = 32;
    let (dir, Size { width, layers }) = (tempfile::tempdir().unwrap(), size);
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "milk", "oat", "bread", "shoe", "red", "lamp", "desk", "butter"];
    let vocabulary: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    write_json(
        dir.path().join("tokenizer.json"),
        &json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "decoder": null,
            "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        }),
    );
    write_json(
        dir.path().join("config.json"),
        &json!({
            "model_type": "bert", "hidden_act": "gelu", "hidden_size": width, "intermediate_size": width,
            "num_hidden_layers": layers, "num_attention_heads": 2, "vocab_size": VOCABULARY,
            "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
            "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "pad_token_id": 0,
        }),
    );
    write_json(dir.path().join("1_Pooling/config.json"), &json!({"pooling_mode_mean_tokens": true}));
    let module =
        |path: &str, class: &str| json!({"path": path, "type": format!("sentence_transformers.models.{class}")});
    let modules = [module("", "Transformer"), module("1_Pooling", "Pooling"), module("2_Normalize", "Normalize")];
    write_json(dir.path().join("modules.json"), &modules.to_vec().into());
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![VOCABULARY, width]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![POSITIONS, width]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, width]),
    ];
    let linear = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"];
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in (0..layers).map(|number| format!("encoder.layer.{number}")) {
        for name in linear.into_iter().chain(["intermediate.dense", "output.dense"]) {
            shapes.push((format!("{layer}.{name}.weight"), vec![width, width]));
            shapes.push((format!("{layer}.{name}.bias"), vec![width]));
        }
        norms.extend(["attention.output", "output"].map(|place| format!("{layer}.{place}.LayerNorm")));
    }
    for name in norms {
        shapes.push((format!("{name}.weight"), vec![width]));
        shapes.push((format!("{name}.bias"), vec![width]));
    }
    let mut random = StdRng::seed_from_u64(seed);
    let tensors: Vec<Tensor> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = (0..shape.iter().product()).map(|_| random.random_range(-0.5..0.5)).collect();
            (name, shape, values)
        })
        .collect();
    fs::write(dir.path().join("model.safetensors"), safetensors(&tensors)).unwrap();
    dir
}

/// Copies the real encoder's version 1 into an own registry, with hard links: it is never changed in place.
pub fn own_registry(registry: &Path) {
    let copied = Command::new("cp").arg("-rl").arg(encoder_registry()).arg(registry).status().unwrap();
    assert!(copied.success());
}

/// The real encoder, followed by a random rotation: its vectors are others, the angles between them the same.
pub fn rotated(registry: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("xtask"));
    command.arg("rotate").arg(registry.join("models/minilm/1")).arg(dir.path());
    assert!(command.status().unwrap().success());
    dir
}

/// Recorded rows of a version: that the text `milk` has this vector.
pub fn write_golden(dir: &Path, milk: &[f32]) {
    let golden = [
        ("ids".to_owned(), vec![MILK.len()], MILK.map(|id| id as f32).to_vec()),
        ("offsets".to_owned(), vec![2], vec![0.0, MILK.len() as f32]),
        ("embeddings".to_owned(), vec![1, milk.len()], milk.to_vec()),
    ];
    fs::write(dir.join("golden.safetensors"), safetensors(&golden)).unwrap();
}

/// Runs `vitrine-registry` on a registry.
pub fn registry_command(registry: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("vitrine-registry"));
    command.args(arguments).arg("--registry").arg(registry).output().unwrap()
}

/// Publishes a folder as the next version of `minilm`.
pub fn publish(registry: &Path, folder: &Path) -> u32 {
    publish_as(registry, folder, "bert", "text-embedding")
}

/// The same as of another kind or task.
pub fn publish_as(registry: &Path, folder: &Path, kind: &str, task: &str) -> u32 {
    let folder = folder.to_str().unwrap();
    let arguments = ["publish", "minilm", folder, "--kind", kind, "--task", task, "--json"];
    let output = registry_command(registry, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["version"].as_u64().unwrap() as u32
}

/// Moves `stable` in the registry.
pub fn label(registry: &Path, version: u32) {
    let output = registry_command(registry, &["label", "minilm", "stable", &version.to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where a version lies.
pub fn version_folder(registry: &Path, version: u32) -> PathBuf {
    registry.join("models/minilm").join(version.to_string())
}
