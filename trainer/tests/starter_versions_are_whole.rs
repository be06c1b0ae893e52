//! The versions that the repository comes with are whole, and compute what was recorded when they were learnt.

#![cfg(test)]

use std::path::Path;

use vitrine_models::{DeviceSpec, GoldenCheck, PictureGenerator, PictureModel};
use vitrine_registry::{Label, Registry, VersionDir};

/// Kernels of another CPU sum in another order.
const TOLERANCE: f32 = 1e-3;

fn stable(model: &str) -> VersionDir {
    let registry = Registry::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../model-registry/starter")).unwrap();
    let (model, label) = (model.parse().unwrap(), "stable".parse::<Label>().unwrap());
    let version = registry.labels(&model).unwrap().get(&label).unwrap();
    let version = registry.version(&model, version).unwrap();
    assert!(version.verify().unwrap().is_empty());
    version
}

#[test]
fn what_sees_and_what_makes_pictures_know_the_same_classes() {
    let [cnn, cgan] = ["fashion-cnn", "fashion-cgan"].map(stable);
    let seeing = PictureModel::load(&cnn.path, &DeviceSpec::Cpu).unwrap();
    let making = PictureGenerator::load(&cgan.path, &DeviceSpec::Cpu).unwrap();
    assert!(matches!(seeing.check_golden(&cnn.path, TOLERANCE).unwrap(), GoldenCheck::Matched { rows: 4, .. }));
    assert!(matches!(making.check_golden(&cgan.path, TOLERANCE).unwrap(), GoldenCheck::Matched { rows: 4, .. }));
    assert_eq!(seeing.spec().classes(), making.config().classes);
}
