//! Networks for pictures: what PyTorch computes with the same weights (`golden/pictures.py`), gradients against differences, and that they can
//! learn at all.

#![cfg(test)]

mod learning;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use rand::{SeedableRng as _, rngs::StdRng};
use vitrine_models::{
    CganConfig, Cnn, CnnConfig, Discriminator, EfficientNetLite, EfficientNetLiteConfig, GanLayers, GanLoss, Generator,
    Mode, PictureNetwork, by_name, cross_entropy, start,
};

use learning::{check_gradients, golden, learn_by_heart};

fn classes(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

fn small_cnn() -> CnnConfig {
    CnnConfig { side: 7, channels: 3, classes: classes(5), widths: vec![4, 6], blocks: 2, dropout: 0.0 }
}

fn dense() -> CganConfig {
    CganConfig { side: 6, channels: 2, classes: classes(3), noise: 4, layers: GanLayers::Dense { widths: vec![5, 7] } }
}

fn convolutional() -> CganConfig {
    let layers = GanLayers::Convolutional { width: 4, discriminator_width: 3 };
    CganConfig { side: 20, channels: 2, classes: classes(3), noise: 4, layers }
}

#[track_caller]
fn close(name: &str, ours: &Tensor, wanted: &Tensor) {
    assert_eq!(ours.dims(), wanted.dims(), "{name}");
    let off = (ours - wanted).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let largest = wanted.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(off < 1e-4 * largest.max(1.0), "{name}: {off}");
}

fn sees_what_pytorch_sees(network: &dyn PictureNetwork, golden: &HashMap<String, Tensor>) {
    let embeddings = network.embed(&golden["pictures"], &mut Mode::serving()).unwrap();
    close("embeddings", &embeddings, &golden["embeddings"]);
    assert_eq!(embeddings.dims()[1], network.dimensions());
    close("logits", &network.logits(&embeddings, &mut Mode::serving()).unwrap(), &golden["logits"]);
}

#[test]
fn the_cnn_is_pytorchs() {
    let golden = golden("cnn");
    let weights = VarBuilder::from_tensors(golden.clone(), DType::F32, &Device::Cpu);
    sees_what_pytorch_sees(&Cnn::new(&small_cnn(), &weights).unwrap(), &golden);
}

/// The formula of `golden/pictures.py`.
fn made_up(name: &str, shape: &[usize], place: usize) -> Tensor {
    let number = |at: usize| {
        let number = (at as u64 * 2_654_435_761 + place as u64 * 97) & 0xffff_ffff;
        let number = ((number ^ (number >> 15)) * 1_103_515_245) & 0xffff_ffff;
        (number >> 8) as f64 / f64::from(1 << 24)
    };
    let numbers = (0..shape.iter().product()).map(number);
    let numbers: Vec<f32> = if name.ends_with("running_var") || shape.len() == 1 && name.ends_with("weight") {
        numbers.map(|number| (number + 0.5) as f32).collect()
    } else {
        let fan_in = if shape.len() > 1 { shape[1..].iter().product::<usize>() } else { 12 };
        numbers.map(|number| ((number - 0.5) * 4.0 / (fan_in as f64).sqrt()) as f32).collect()
    };
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

#[test]
fn efficientnet_lite_is_that_of_its_package() {
    let variables = VarMap::new();
    let weights = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let config = EfficientNetLiteConfig { side: 64, classes: classes(1000), dropout: 0.0 };
    let network = EfficientNetLite::new(&config, &weights).unwrap();
    for (place, (name, variable)) in by_name(&variables).iter().enumerate() {
        variable.set(&made_up(name, variable.dims(), place)).unwrap();
    }
    sees_what_pytorch_sees(&network, &golden("efficientnet-lite"));
}

#[test]
fn made_pictures_and_verdicts_on_them_are_pytorchs() {
    for (name, config) in [("cgan-dense", dense()), ("cgan-convolutional", convolutional())] {
        let golden = golden(name);
        let weights = VarBuilder::from_tensors(golden.clone(), DType::F32, &Device::Cpu);
        let generator = Generator::new(&config, &weights.pp("generator")).unwrap();
        let pictures = generator.forward(&golden["noise"], &golden["classes"], &mut Mode::serving()).unwrap();
        close(name, &pictures, &golden["pictures"]);
        let discriminator = Discriminator::new(&config, &weights.pp("discriminator")).unwrap();
        let verdicts = discriminator.forward(&pictures, &golden["classes"], &Mode::serving()).unwrap();
        close(name, &verdicts, &golden["verdicts"]);
    }
}

/// Pictures without a pattern, and classes.
fn pictures(side: usize, channels: usize) -> (Tensor, Vec<u32>) {
    let numbers: Vec<f32> = (0..4 * side * side * channels).map(|at| (at * 7919 % 31) as f32 / 31.0).collect();
    (Tensor::from_vec(numbers, (4, side, side, channels), &Device::Cpu).unwrap(), vec![0, 2, 1, 2])
}

fn loss_of(network: &dyn PictureNetwork, side: usize, mode: &mut Mode<'_>) -> Tensor {
    let (pictures, classes) = pictures(side, 3);
    let embeddings = network.embed(&pictures, mode).unwrap();
    cross_entropy(&network.logits(&embeddings, mode).unwrap(), &classes).unwrap()
}

fn learnable<N>(make: impl Fn(&VarBuilder<'_>) -> candle_core::Result<N>) -> (VarMap, N) {
    let variables = VarMap::new();
    let network = make(&VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu)).unwrap();
    start(&variables, 1, |_, shape| (2.0 / shape[1..].iter().product::<usize>() as f32).sqrt()).unwrap();
    (variables, network)
}

/// Those that a gradient reaches: the others are followed without one.
fn without_running(variables: &VarMap) -> VarMap {
    let learnt = VarMap::new();
    let all = by_name(variables).into_iter();
    let with_gradient =
        all.filter(|(name, _)| !["running_mean", "running_var", "singular"].iter().any(|part| name.ends_with(part)));
    learnt.data().lock().unwrap().extend(with_gradient);
    learnt
}

/// Some of each weight's.
fn some(numbers: usize) -> Vec<usize> {
    (0..numbers).step_by(numbers.div_ceil(5)).collect()
}

#[test]
fn gradients_of_the_cnn_are_those_of_small_differences_with_running_and_with_the_batchs_moments() {
    let (variables, network) = learnable(|weights| Cnn::new(&small_cnn(), weights));
    let learnt = without_running(&variables);
    check_gradients("cnn", &learnt, some, |_| loss_of(&network, 4, &mut Mode::serving()));
    let learning = |_: &mut Mode<'_>| loss_of(&network, 4, &mut Mode::training(&mut StdRng::seed_from_u64(1)));
    check_gradients("cnn, learning", &learnt, some, learning);
}

#[test]
fn a_batch_of_pictures_can_be_learnt_by_heart() {
    let (variables, network) = learnable(|weights| Cnn::new(&small_cnn(), weights));
    learn_by_heart("cnn", &variables, (150, 0.02), |mode| loss_of(&network, 7, mode));
}

/// The discriminator's loss on pictures that a generator makes, and the generator's own.
fn gan_losses(config: &CganConfig, loss: GanLoss, generator: &Generator, discriminator: &Discriminator) -> [Tensor; 2] {
    let mut random = StdRng::seed_from_u64(1);
    let mut mode = Mode::training(&mut random);
    let (real, classes) = pictures(config.side, config.channels);
    let classes = Tensor::new(classes, &Device::Cpu).unwrap();
    let noise: Vec<f32> = (0..4).flat_map(|seed| config.noise_of(seed)).collect();
    let noise = Tensor::from_vec(noise, (4, config.noise), &Device::Cpu).unwrap();
    let made = generator.forward(&noise, &classes, &mut mode).unwrap();
    let verdicts = |pictures: &Tensor, mode: &Mode<'_>| discriminator.forward(pictures, &classes, mode).unwrap();
    let of_discriminator = loss.discriminator(&verdicts(&real, &mode), &verdicts(&made.detach(), &mode)).unwrap();
    [of_discriminator, loss.generator(&verdicts(&made, &Mode::serving())).unwrap()]
}

#[test]
fn gradients_of_generators_and_discriminators_are_those_of_small_differences() {
    for (name, config) in [("dense", dense()), ("convolutional", convolutional())] {
        let (of_generator, generator) = learnable(|weights| Generator::new(&config, weights));
        let (of_discriminator, discriminator) = learnable(|weights| Discriminator::new(&config, weights));
        for loss in [GanLoss::Hinge, GanLoss::NonSaturating] {
            let losses = || gan_losses(&config, loss, &generator, &discriminator);
            // The largest singular values are followed step by step.
            (0..200).for_each(|_| drop(losses()));
            // A verdict is a sum over places, of which one or another is at the kink of a rectifier: for each of them, as other losses are.
            let places = if name == "dense" { 1.0 } else { 25.0 };
            let of_place = |at: usize| (&losses()[at] / places).unwrap();
            check_gradients(name, &without_running(&of_generator), some, |_| of_place(1));
            check_gradients(name, &without_running(&of_discriminator), some, |_| of_place(0));
            let gradients = losses()[1].backward().unwrap();
            assert!(by_name(&of_discriminator).values().all(|variable| gradients.get(variable).is_none()), "{name}");
        }
    }
}
