//! What every network that learns is held against.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, VarMap};
use rand::{SeedableRng as _, rngs::StdRng};
use vitrine_models::{Mode, by_name};

/// What PyTorch recorded.
pub fn golden(name: &str) -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name).with_extension("safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// Holds gradients against differences, at some places of each weight, of which there are so many.
pub fn check_gradients(
    name: &str,
    variables: &VarMap,
    places: impl Fn(usize) -> Vec<usize>,
    loss: impl Fn(&mut Mode<'_>) -> Tensor,
) {
    let gradients = loss(&mut Mode::serving()).backward().unwrap();
    for (weight, variable) in by_name(variables) {
        let numbers = variable.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let gradient = gradients.get(&variable).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for at in places(numbers.len()) {
            let moved = |by: f32| {
                let mut numbers = numbers.clone();
                numbers[at] += by;
                variable.set(&Tensor::from_vec(numbers, variable.shape(), &Device::Cpu).unwrap()).unwrap();
                loss(&mut Mode::serving()).to_scalar::<f32>().unwrap()
            };
            let difference = (moved(3e-4) - moved(-3e-4)) / 6e-4;
            moved(0.0);
            let gradient = gradient[at];
            // The kink of a ReLU may lie between.
            let off = (gradient - difference).abs();
            assert!(
                off < 3e-3 + 1e-2 * gradient.abs(),
                "{name}, {weight} {at}: {gradient}, and by difference {difference}"
            );
        }
    }
}

/// Learns one batch, with parts dropped, until nothing is left to learn.
pub fn learn_by_heart(
    name: &str,
    variables: &VarMap,
    (steps, rate): (usize, f64),
    loss: impl Fn(&mut Mode<'_>) -> Tensor,
) {
    let variables: Vec<Var> = by_name(variables).into_values().collect();
    let mut optimizer = AdamW::new_lr(variables, rate).unwrap();
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..steps {
        optimizer.backward_step(&loss(&mut Mode::training(&mut random))).unwrap();
    }
    let loss = loss(&mut Mode::serving()).to_scalar::<f32>().unwrap();
    assert!(loss < 0.05, "{name}: {loss}");
}
