//! Networks for sequences: what PyTorch computes with the same weights (`golden/sequences.py`), gradients against differences, and that
//! they can learn at all.

#![cfg(test)]

mod learning;

use std::collections::HashMap;
use std::fs;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap, loss};
use rand::{SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use vitrine_models::{
    CellKind, DeviceSpec, GoldenCheck, Gru4Rec, Gru4RecConfig, Mode, ModelError, SasRec, SasRecConfig, SequenceModel,
    SequenceNetwork, SequenceSpec, padded, start,
};

use learning::{check_gradients, golden, learn_by_heart};

const SASREC: SasRecConfig = SasRecConfig { items: 11, max_length: 6, hidden: 8, heads: 2, blocks: 2, dropout: 0.0 };
const GRU4REC: Gru4RecConfig =
    Gru4RecConfig { items: 11, max_length: 6, hidden: 8, state: 10, cell: CellKind::Gru, dropout: 0.0 };

type Make = fn(&VarBuilder<'_>) -> Result<Box<dyn SequenceNetwork>>;

/// Each network, and the name of its golden file.
const NETWORKS: [(&str, Make); 3] = [
    ("sasrec", |weights| Ok(Box::new(SasRec::new(SASREC, weights)?))),
    ("gru4rec", |weights| Ok(Box::new(Gru4Rec::new(GRU4REC, weights)?))),
    ("lstm", |weights| Ok(Box::new(Gru4Rec::new(Gru4RecConfig { cell: CellKind::Lstm, ..GRU4REC }, weights)?))),
];

fn from(weights: HashMap<String, Tensor>) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu)
}

fn serve(network: &dyn SequenceNetwork, ids: &Tensor) -> Vec<Vec<Vec<f32>>> {
    network.forward(ids, &mut Mode::serving()).unwrap().to_vec3().unwrap()
}

#[test]
fn vectors_are_pytorchs() {
    for (name, make) in NETWORKS {
        let golden = golden(name);
        let network = make(&from(golden.clone())).unwrap();
        let ids: Vec<Vec<u32>> = golden["ids"].to_vec2().unwrap();
        let wanted: Vec<Vec<Vec<f32>>> = golden["vectors"].to_vec3().unwrap();
        let ours = serve(&*network, &golden["ids"]);
        for ((ids, ours), wanted) in ids.iter().zip(&ours).zip(&wanted) {
            let real = ids.iter().zip(ours.iter().zip(wanted)).filter(|(id, _)| **id != 0);
            for (ours, wanted) in real.flat_map(|(_, (ours, wanted))| ours.iter().zip(wanted)) {
                assert!((ours - wanted).abs() < 1e-4, "{name}, {ids:?}: {ours} is not {wanted}");
            }
        }
    }
}

#[test]
fn a_history_does_not_depend_on_its_neighbours_and_of_a_long_one_the_end_counts() {
    for (name, make) in NETWORKS {
        let network = make(&from(golden(name))).unwrap();
        let last = |histories: &[&[u32]]| {
            let ids = padded(histories, 6, &Device::Cpu).unwrap();
            serve(&*network, &ids).pop().unwrap().pop().unwrap()
        };
        let alone = last(&[&[4, 9]]);
        for (alone, beside) in alone.iter().zip(last(&[&[1, 2, 3, 4, 5], &[4, 9]])) {
            assert!((alone - beside).abs() < 1e-5, "{name}: {alone} and {beside}");
        }
        assert_eq!(last(&[&[8, 1, 2, 3, 4, 5, 6]]), last(&[&[1, 2, 3, 4, 5, 6]]), "{name}");
    }
}

#[test]
fn ids_that_are_no_items_and_longer_histories_are_errors() {
    for (name, make) in NETWORKS {
        let network = make(&from(golden(name))).unwrap();
        let unknown = padded(&[&[12]], 6, &Device::Cpu).unwrap();
        assert!(network.forward(&unknown, &mut Mode::serving()).is_err(), "{name}");
    }
    let network = SasRec::new(SASREC, &from(golden("sasrec"))).unwrap();
    let long = padded(&[&[1; 7]], 7, &Device::Cpu).unwrap();
    assert!(network.forward(&long, &mut Mode::serving()).unwrap_err().to_string().contains("takes 6"));
    assert!(SasRec::new(SasRecConfig { heads: 3, ..SASREC }, &from(golden("sasrec"))).is_err());
}

/// The mean cross entropy of what comes next in two histories.
fn loss_of(network: &dyn SequenceNetwork, mode: &mut Mode<'_>) -> Tensor {
    let ids = padded(&[&[1, 2, 3], &[4, 5, 6]], 6, &Device::Cpu).unwrap();
    let targets = Tensor::new(&[1_u32, 2, 3, 4, 5, 6], &Device::Cpu).unwrap();
    let vectors = network.forward(&ids, mode).unwrap().flatten_to(1).unwrap();
    let scores = vectors.matmul(&network.items().unwrap().t().unwrap()).unwrap();
    loss::cross_entropy(&scores, &targets).unwrap()
}

fn learnable(make: Make) -> (VarMap, Box<dyn SequenceNetwork>) {
    let variables = VarMap::new();
    let network = make(&VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu)).unwrap();
    start(&variables, 1, |_, _| 0.3).unwrap();
    (variables, network)
}

#[test]
fn gradients_are_those_of_small_differences() {
    for (name, make) in NETWORKS {
        let (variables, network) = learnable(make);
        check_gradients(name, &variables, |numbers| vec![numbers / 2], |mode| loss_of(&*network, mode));
    }
}

#[test]
fn a_batch_can_be_learnt_by_heart_with_parts_dropped() {
    for (name, make) in NETWORKS {
        let (variables, network) = learnable(make);
        learn_by_heart(name, &variables, (150, 0.02), |mode| loss_of(&*network, mode));
    }
}

#[test]
fn a_part_is_dropped_the_mean_stays_and_a_seed_gives_the_same_again() {
    let ones = Tensor::ones(20_000, DType::F32, &Device::Cpu).unwrap();
    let drop = |seed| -> Vec<f32> {
        let mut random = StdRng::seed_from_u64(seed);
        Mode::training(&mut random).dropout(&ones, 0.25).unwrap().to_vec1().unwrap()
    };
    let numbers = drop(1);
    assert!(numbers.iter().all(|number| *number == 0.0 || (*number - 4.0 / 3.0).abs() < 1e-6));
    let dropped = numbers.iter().filter(|number| **number == 0.0).count();
    assert!((4_700..5_300).contains(&dropped), "{dropped}");
    assert_eq!(numbers, drop(1));
    assert_ne!(numbers, drop(2));
}

/// A version's folder with the golden weights.
fn folder(name: &str, config: &str, items: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut weights = golden(name);
    weights.retain(|name, _| !["ids", "vectors"].contains(&name.as_str()));
    candle_core::safetensors::save(&weights, dir.path().join("model.safetensors")).unwrap();
    fs::write(dir.path().join("config.json"), config).unwrap();
    let items: Vec<String> = (1..=items).map(|item| format!("item {item}")).collect();
    fs::write(dir.path().join("items.json"), serde_json::to_string(&items).unwrap()).unwrap();
    dir
}

fn load(dir: &TempDir) -> std::result::Result<SequenceModel, ModelError> {
    SequenceModel::load(dir.path(), &DeviceSpec::Cpu)
}

#[test]
fn a_version_scores_what_comes_next_and_its_recording_tells_other_weights_apart() {
    for (name, spec) in [
        ("sasrec", SequenceSpec::Sasrec(SASREC)),
        ("gru4rec", SequenceSpec::Gru4rec(GRU4REC)),
        ("lstm", SequenceSpec::Gru4rec(Gru4RecConfig { cell: CellKind::Lstm, ..GRU4REC })),
    ] {
        let dir = folder(name, &serde_json::to_string(&spec).unwrap(), 11);
        let model = load(&dir).unwrap();
        assert_eq!(model.check_golden(dir.path(), 1e-4).unwrap(), GoldenCheck::NotRecorded);
        let scores = model.scores(&[&[5, 1]]).unwrap();
        let vector = &golden(name)["vectors"].to_vec3::<f32>().unwrap()[1][5];
        let item: Vec<f32> = golden(name)["items.weight"].get(7).unwrap().to_vec1().unwrap();
        let wanted: f32 = vector.iter().zip(&item).map(|(a, b)| a * b).sum();
        assert!((scores[0][6] - wanted).abs() < 1e-3, "{name}: {} is not {wanted}", scores[0][6]);

        model.write_golden(dir.path(), &[&[3], &[5, 1], &[1, 2, 3, 4, 5, 6]]).unwrap();
        let check = load(&dir).unwrap().check_golden(dir.path(), 1e-4).unwrap();
        assert!(matches!(check, GoldenCheck::Matched { rows: 3, .. }), "{name}: {check:?}");
        let mut weights = candle_core::safetensors::load(dir.path().join("model.safetensors"), &Device::Cpu).unwrap();
        let items = weights.get_mut("items.weight").unwrap();
        *items = (&*items * 1.5).unwrap();
        candle_core::safetensors::save(&weights, dir.path().join("model.safetensors")).unwrap();
        let error = load(&dir).unwrap().check_golden(dir.path(), 1e-4).unwrap_err();
        assert!(matches!(error, ModelError::Golden { .. }), "{name}: {error}");
    }
}

#[test]
fn files_that_contradict_each_other_are_named() {
    let config = serde_json::to_string(&SequenceSpec::Sasrec(SASREC)).unwrap();
    for (config, items, wanted) in [
        (config.clone(), 10, "items.json"),
        (config.replace("\"hidden\":8", "\"hidden\":16"), 11, "model.safetensors"),
        (config.replace("\"heads\":2", "\"heads\":3"), 11, "heads"),
        (config.replace("\"blocks\":2", "\"blocks\":3"), 11, "blocks.2"),
        (config.replace("sasrec", "bert"), 11, "config.json"),
        (config.replace("\"blocks\"", "\"bricks\""), 11, "bricks"),
    ] {
        let error = load(&folder("sasrec", &config, items)).err().unwrap().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}
