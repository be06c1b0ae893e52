//! Loading and running a small random BERT: pooling, padding, order, and what damaged versions get.
#![cfg(test)]

mod versions;

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use versions::{POSITIONS, VOCABULARY, config, tokenizer, version_of, write_json, write_pooling};
use vitrine_models::{
    DeviceSpec, GoldenCheck, Isa, ModelError, Ragged, TextEncoder, check_golden, resting, write_golden,
};

fn weights(seed: u64) -> HashMap<String, Tensor> {
    versions::weights(&config(), seed)
}

fn version(seed: u64) -> TempDir {
    version_of(&config(), seed)
}

fn load(dir: &Path) -> Result<TextEncoder, ModelError> {
    TextEncoder::load(dir, &DeviceSpec::Cpu)
}

fn refusal(dir: &Path) -> String {
    load(dir).err().expect("the version loads").to_string()
}

fn embed_one(encoder: &TextEncoder, row: &[u32]) -> Vec<f32> {
    encoder.embed(&[row].into_iter().collect()).unwrap().remove(0)
}

/// What rounding may make of a number, as a share of it.
fn tolerance(isa: Isa) -> f32 {
    if isa.rounds() { 2e-2 } else { 1e-5 }
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{a} and {b}");
    }
}

/// The token vectors behind an embedding, straight from candle.
fn token_vectors(seed: u64, row: &[u32]) -> Vec<Vec<f32>> {
    let cpu = &Device::Cpu;
    let config: Config = serde_json::from_value(config()).unwrap();
    let model = BertModel::load(VarBuilder::from_tensors(weights(seed), DType::F32, cpu), &config).unwrap();
    let ids = Tensor::new(row, cpu).unwrap().unsqueeze(0).unwrap();
    model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap().squeeze(0).unwrap().to_vec2().unwrap()
}

#[test]
fn each_pooling_mode_combines_the_token_vectors_of_the_row_and_no_padding() {
    let dir = version(1);
    let row = [2, 5, 7, 3];
    let vectors = token_vectors(1, &row);
    let column = |at: usize| vectors.iter().map(move |vector| vector[at]);
    let value = |mode: &str, at: usize| match mode {
        "cls_token" => vectors[0][at],
        "mean_tokens" => column(at).sum::<f32>() / 4.0,
        "max_tokens" => column(at).fold(f32::MIN, f32::max),
        _ => column(at).sum::<f32>() / 2.0,
    };
    // The longer neighbour makes the row be padded.
    let rows: Ragged = [&row[..], &[2, 9, 9, 9, 3]].into_iter().collect();
    for mode in ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"] {
        for normalize in [false, true] {
            write_pooling(dir.path(), mode, normalize);
            let mut wanted: Vec<f32> = (0..16).map(|at| value(mode, at)).collect();
            if normalize {
                let norm = wanted.iter().map(|x| x * x).sum::<f32>().sqrt();
                wanted = wanted.iter().map(|x| x / norm).collect();
            }
            for isa in Isa::available() {
                let encoder = TextEncoder::load_for(dir.path(), isa).unwrap();
                assert_close(&encoder.embed(&rows).unwrap()[0], &wanted, tolerance(isa));
            }
        }
    }
}

#[test]
fn an_unknown_pooling_or_module_is_refused_by_name() {
    let dir = version(1);
    for mode in ["weightedmean_tokens", "lasttoken"] {
        write_pooling(dir.path(), mode, true);
        let error = refusal(dir.path());
        assert!(error.contains("1_Pooling") && error.contains(mode), "{error}");
    }
    write_json(
        dir.path(),
        "1_Pooling/config.json",
        &json!({"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}),
    );
    assert!(refusal(dir.path()).contains("cls_token, max_tokens"));
    write_pooling(dir.path(), "mean_tokens", true);
    for (class, path) in [("LSTM", "2_LSTM"), ("Pooling", "1_Pooling")] {
        add_module(dir.path(), class, path);
        let error = refusal(dir.path());
        assert!(error.contains("modules.json") && error.contains(class), "{error}");
    }
}

fn add_module(dir: &Path, class: &str, path: &str) {
    let mut modules: Vec<Value> = serde_json::from_slice(&fs::read(dir.join("modules.json")).unwrap()).unwrap();
    modules.push(json!({"path": path, "type": format!("sentence_transformers.models.{class}")}));
    write_json(dir, "modules.json", &modules.into());
}

/// Adds a Dense module with the weights `[out, in]`, by rows.
fn add_dense(dir: &Path, path: &str, activation: &str, weight: &Tensor, bias: Option<&Tensor>) {
    let (out, into) = weight.dims2().unwrap();
    fs::create_dir_all(dir.join(path)).unwrap();
    let config = json!({
        "in_features": into, "out_features": out, "bias": bias.is_some(),
        "activation_function": format!("torch.nn.modules.activation.{activation}"),
    });
    write_json(dir, &format!("{path}/config.json"), &config);
    let mut tensors = HashMap::from([("linear.weight", weight.clone())]);
    tensors.extend(bias.map(|bias| ("linear.bias", bias.clone())));
    candle_core::safetensors::save(&tensors, dir.join(path).join("model.safetensors")).unwrap();
    add_module(dir, "Dense", path);
}

#[test]
fn dense_layers_follow_the_pooling_in_their_order() {
    let (dir, cpu) = (version(1), &Device::Cpu);
    let row = [2, 5, 7, 3];
    let pooled = embed_one(&load(dir.path()).unwrap(), &row);
    let weight: Vec<f32> = (0..3 * 16).map(|at| (at as f32 * 0.7).sin()).collect();
    let bias = [0.5_f32, -0.25, 1.0];
    let dense = |input: &[f32], weight: &[f32], bias: f32| {
        input.iter().zip(weight).map(|(input, weight)| input * weight).sum::<f32>() + bias
    };
    let tensor = Tensor::from_slice(&weight, (3, 16), cpu).unwrap();
    add_dense(dir.path(), "2_Dense", "Tanh", &tensor, Some(&Tensor::new(&bias, cpu).unwrap()));
    let mut wanted: Vec<f32> =
        weight.chunks(16).zip(bias).map(|(weight, bias)| dense(&pooled, weight, bias).tanh()).collect();
    let encoder = load(dir.path()).unwrap();
    assert_eq!(encoder.dimensions(), 3);
    assert_close(&embed_one(&encoder, &row), &wanted, 1e-5);

    add_module(dir.path(), "Normalize", "3_Normalize");
    let turn = [0.0_f32, 0.0, 1.0, 1.0, 0.0, 0.0];
    add_dense(dir.path(), "4_Dense", "Identity", &Tensor::from_slice(&turn, (2, 3), cpu).unwrap(), None);
    let norm = wanted.iter().map(|x| x * x).sum::<f32>().sqrt();
    wanted = vec![wanted[2] / norm, wanted[0] / norm];
    assert_close(&embed_one(&load(dir.path()).unwrap(), &row), &wanted, 1e-5);
}

#[test]
fn a_dense_layer_that_does_not_fit_is_refused_and_named() {
    let cpu = &Device::Cpu;
    let square = |size: usize| Tensor::zeros((size, size), DType::F32, cpu).unwrap();
    let dir = version(1);
    add_dense(dir.path(), "2_Dense", "Tanh", &square(8), None);
    assert!(refusal(dir.path()).contains("in_features is 8"));
    let dir = version(1);
    add_dense(dir.path(), "2_Dense", "Softsign", &square(16), None);
    assert!(refusal(dir.path()).contains("Softsign"));
    let dir = version(1);
    add_dense(dir.path(), "2_Dense", "Tanh", &square(16), None);
    candle_core::safetensors::save(
        &HashMap::from([("linear.weight", square(4))]),
        dir.path().join("2_Dense/model.safetensors"),
    )
    .unwrap();
    let error = refusal(dir.path());
    assert!(error.contains("2_Dense/model.safetensors") && error.contains("shape"), "{error}");
}

#[test]
fn a_pooling_outside_the_version_is_refused() {
    let dir = version(1);
    for path in ["../1_Pooling", "/etc"] {
        let modules = json!([{"path": "", "type": "a.Transformer"}, {"path": path, "type": "a.Pooling"}]);
        write_json(dir.path(), "modules.json", &modules);
        assert!(refusal(dir.path()).contains("leaves the version's directory"));
    }
}

#[test]
fn weights_saved_with_a_head_load_the_same() {
    let plain = version(2);
    let headed = version(2);
    let mut renamed: HashMap<String, Tensor> =
        weights(2).into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor)).collect();
    renamed.insert("cls.bias".to_owned(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&renamed, headed.path().join("model.safetensors")).unwrap();
    let row = [2, 4, 6, 3];
    let [a, b] = [plain, headed].map(|dir| embed_one(&load(dir.path()).unwrap(), &row));
    assert_eq!(a, b);
}

#[test]
fn a_missing_file_is_named() {
    for name in ["config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"] {
        let dir = version(1);
        fs::remove_file(dir.path().join(name)).unwrap();
        let error = refusal(dir.path());
        assert!(error.contains(name) && error.contains("cannot read"), "{error}");
    }
}

#[test]
fn a_damaged_file_is_named() {
    for name in ["config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"] {
        let dir = version(1);
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        for damaged in [&b""[..], &whole[..whole.len() / 2], b"PK\x03\x04 a pickle", &[0xff; 64]] {
            fs::write(&path, damaged).unwrap();
            let error = refusal(dir.path());
            assert!(error.contains(name), "{error}");
        }
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let dir = version(1);
    let mut other = config();
    other["hidden_size"] = json!(32);
    write_json(dir.path(), "config.json", &other);
    assert!(refusal(dir.path()).contains("model.safetensors"));
    write_json(dir.path(), "config.json", &config());
    let mut large = tokenizer();
    large["model"]["vocab"]["shop"] = json!(VOCABULARY);
    write_json(dir.path(), "tokenizer.json", &large);
    assert!(refusal(dir.path()).contains("tokenizer.json"));
}

#[test]
fn another_kind_is_refused_by_name() {
    let dir = version(1);
    for kind in [json!("t5"), Value::Null] {
        let mut other = config();
        other["model_type"] = kind;
        write_json(dir.path(), "config.json", &other);
        let error = refusal(dir.path());
        assert!(error.contains("model_type") && error.contains("supported: bert"), "{error}");
    }
}

#[test]
fn rows_that_the_network_cannot_take_are_refused() {
    let dir = version(1);
    let encoder = load(dir.path()).unwrap();
    let embed = |row: &[u32]| encoder.embed(&[&[2, 3][..], row].into_iter().collect()).unwrap_err();
    assert!(matches!(embed(&[]), ModelError::EmptyRow { row: 1 }));
    assert!(matches!(embed(&[1; POSITIONS + 1]), ModelError::LongRow { row: 1, tokens: 25, limit: 24 }));
    assert!(matches!(embed(&[1, VOCABULARY]), ModelError::UnknownToken { row: 1, id: 40, vocabulary: 40 }));
    assert_eq!(encoder.embed(&Ragged::default()).unwrap(), Vec::<Vec<f32>>::new());
}

#[test]
fn texts_are_truncated_as_the_tokenizer_says_and_never_padded() {
    let dir = version(1);
    let long = "milk ".repeat(100);
    let lengths = |dir: &Path| {
        let tokenizer = load(dir).unwrap().tokenizer();
        assert_eq!(tokenizer.encode("red shoe").unwrap(), [2, 6, 7, 3]);
        assert_eq!(tokenizer.encode("").unwrap(), [2, 3]);
        (tokenizer.max_tokens(), tokenizer.encode(&long).unwrap().len())
    };
    assert_eq!(lengths(dir.path()), (POSITIONS, POSITIONS), "nothing said: the network's positions");
    write_json(dir.path(), "sentence_bert_config.json", &json!({"max_seq_length": 12}));
    assert_eq!(lengths(dir.path()), (12, 12), "sentence-transformers' own file");
    for (said, wanted) in [(8, 8), (512, POSITIONS)] {
        let mut truncating = tokenizer();
        truncating["truncation"] = json!({"max_length": said, "strategy": "LongestFirst", "stride": 0});
        write_json(dir.path(), "tokenizer.json", &truncating);
        assert_eq!(lengths(dir.path()), (wanted, wanted), "tokenizer.json");
    }
}

#[test]
fn golden_rows_match_their_own_weights_and_no_others() {
    let (recorded, other) = (version(3), version(4));
    let encoder = load(recorded.path()).unwrap();
    assert_eq!(check_golden(recorded.path(), &encoder, 1e-5).unwrap(), GoldenCheck::NotRecorded);
    let file = write_golden(recorded.path(), &encoder, &["milk", "red shoe", ""]).unwrap();
    let check = check_golden(recorded.path(), &encoder, 1e-5).unwrap();
    assert!(matches!(check, GoldenCheck::Matched { rows: 3, .. }), "{check:?}");

    fs::copy(file, other.path().join("golden.safetensors")).unwrap();
    let error = check_golden(other.path(), &load(other.path()).unwrap(), 1e-3).unwrap_err();
    assert!(matches!(error, ModelError::Golden { .. }), "{error}");
}

#[test]
fn loading_and_checking_rest_on_the_way_and_only_then() {
    let (dir, rests) = (version(3), Rc::new(Cell::new(0)));
    let rested = |rests: &Rc<Cell<usize>>| {
        let counted = Rc::clone(rests);
        move || counted.set(counted.get() + 1)
    };
    let encoder = resting(rested(&rests), || load(dir.path())).unwrap();
    let while_loading = rests.take();
    assert!(while_loading > 10, "after every matrix at least, not {while_loading} times");
    resting(rested(&rests), || check_golden(dir.path(), &encoder, 1e-5)).unwrap();
    assert!(rests.take() > 1, "after every row");
    load(dir.path()).unwrap();
    assert_eq!(rests.take(), 0);
}

#[test]
fn a_damaged_recording_is_an_error() {
    let dir = version(3);
    let encoder = load(dir.path()).unwrap();
    let file = write_golden(dir.path(), &encoder, &["milk"]).unwrap();
    let whole = fs::read(&file).unwrap();
    for damaged in [&b""[..], &whole[..whole.len() - 1], b"not safetensors"] {
        fs::write(&file, damaged).unwrap();
        let error = check_golden(dir.path(), &encoder, 1.0).unwrap_err();
        assert!(error.to_string().contains("golden.safetensors"), "{error}");
    }
    assert!(write_golden(dir.path(), &encoder, &[]).is_err());
}

#[test]
fn weights_with_a_nan_are_refused_and_named_and_where_candle_runs_them_do_not_answer() {
    for (name, number) in [("embeddings.word_embeddings.weight", f64::NAN), ("query.weight", f64::INFINITY)] {
        let dir = version(1);
        let mut broken = weights(1);
        let name = broken.keys().find(|key| key.ends_with(name)).unwrap().clone();
        let bad = (broken[&name].ones_like().unwrap() * number).unwrap();
        broken.insert(name.clone(), bad);
        candle_core::safetensors::save(&broken, dir.path().join("model.safetensors")).unwrap();
        let error = refusal(dir.path());
        assert!(error.contains(&name) && error.contains("is not finite; the weights are damaged"), "{error}");

        let mut relu = config();
        relu["hidden_act"] = json!("relu");
        write_json(dir.path(), "config.json", &relu);
        let error = check_golden(dir.path(), &load(dir.path()).unwrap(), 1e-3).unwrap_err();
        assert!(matches!(error, ModelError::NotFinite { .. }), "{error}");
    }
}
