//! Networks that foretell clicks: what PyTorch computes with the same weights (`golden/clicks.py`), gradients against differences, and
//! that they can learn at all.

#![cfg(test)]

mod learning;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use vitrine_models::{
    ClickNetwork, DcnV2, DcnV2Config, DeepFm, DeepFmConfig, Examples, Field, FieldKind, Fields, Mode, by_name,
    cross_entropy_of_odds, start,
};

use learning::{check_gradients, golden, learn_by_heart};

fn fields() -> Fields {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    Fields(vec![
        field("genre", FieldKind::Category { buckets: 8, most: 3 }),
        field("age", FieldKind::Number { mean: 30.0, deviation: 10.0 }),
        field("user", FieldKind::Category { buckets: 4, most: 1 }),
    ])
}

fn deepfm(pairs: bool, layers: &[usize], weights: &VarBuilder<'_>) -> Result<Box<dyn ClickNetwork>> {
    let config = DeepFmConfig { fields: fields(), width: 4, pairs, layers: layers.to_vec(), dropout: 0.0 };
    Ok(Box::new(DeepFm::new(&config, weights)?))
}

fn dcn_v2(weights: &VarBuilder<'_>) -> Result<Box<dyn ClickNetwork>> {
    let config = DcnV2Config { fields: fields(), width: 4, crosses: 2, layers: vec![6, 5], dropout: 0.0 };
    Ok(Box::new(DcnV2::new(&config, weights)?))
}

type Make = fn(&VarBuilder<'_>) -> Result<Box<dyn ClickNetwork>>;

/// Each network, its golden file, and the name of its log-odds there.
const NETWORKS: [(&str, &str, Make); 4] = [
    ("deepfm", "lr", |weights| deepfm(false, &[], weights)),
    ("deepfm", "fm", |weights| deepfm(true, &[], weights)),
    ("deepfm", "deepfm", |weights| deepfm(true, &[6, 5], weights)),
    ("dcn-v2", "dcn-v2", dcn_v2),
];

fn examples() -> Examples {
    let golden = golden("deepfm");
    Examples { ids: golden["ids"].clone(), weights: golden["weights"].clone() }
}

fn logits(network: &dyn ClickNetwork) -> Vec<f32> {
    network.logits(&examples(), &mut Mode::serving()).unwrap().to_vec1().unwrap()
}

#[test]
fn log_odds_are_pytorchs() {
    for (file, name, make) in NETWORKS {
        let golden = golden(file);
        let network = make(&VarBuilder::from_tensors(golden.clone(), DType::F32, &Device::Cpu)).unwrap();
        for (ours, wanted) in logits(&*network).iter().zip(golden[name].to_vec1::<f32>().unwrap()) {
            assert!((ours - wanted).abs() < 1e-4, "{name}: {ours} is not {wanted}");
        }
    }
}

#[test]
fn ids_beyond_the_tables_are_errors_and_so_are_no_layers() {
    let weights = VarMap::new();
    let weights = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let ids = Tensor::new(&[[13_u32; 5]], &Device::Cpu).unwrap();
    let beyond = Examples { ids, weights: Tensor::ones((1, 5), DType::F32, &Device::Cpu).unwrap() };
    for (_, name, make) in NETWORKS {
        let network = make(&weights.pp(name)).unwrap();
        assert!(network.logits(&beyond, &mut Mode::serving()).is_err(), "{name}");
    }
    let config = DcnV2Config { fields: fields(), width: 4, crosses: 2, layers: vec![], dropout: 0.0 };
    assert!(DcnV2::new(&config, &weights).err().unwrap().to_string().contains("layers"));
}

fn loss_of(network: &dyn ClickNetwork, mode: &mut Mode<'_>) -> Tensor {
    let clicks = Tensor::new(&[1.0_f32, 0.0, 1.0], &Device::Cpu).unwrap();
    cross_entropy_of_odds(&network.logits(&examples(), mode).unwrap(), &clicks).unwrap()
}

fn learnable(make: Make) -> (VarMap, Box<dyn ClickNetwork>) {
    let variables = VarMap::new();
    let network = make(&VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu)).unwrap();
    start(&variables, 1, |_, _| 0.3).unwrap();
    // With biases of 0, an example without numbers above 0 would lie on the kink of the next ReLU.
    for bias in by_name(&variables).values().filter(|variable| variable.dims().len() == 1) {
        bias.set(&(bias.ones_like().unwrap() * 0.1).unwrap()).unwrap();
    }
    (variables, network)
}

#[test]
fn gradients_are_those_of_small_differences() {
    for (_, name, make) in NETWORKS {
        let (variables, network) = learnable(make);
        let all = |numbers: usize| (0..numbers).collect();
        check_gradients(name, &variables, all, |mode| loss_of(&*network, mode));
    }
}

#[test]
fn a_batch_can_be_learnt_by_heart() {
    for (_, name, make) in NETWORKS {
        let (variables, network) = learnable(make);
        learn_by_heart(name, &variables, (200, 0.05), |mode| loss_of(&*network, mode));
    }
}
