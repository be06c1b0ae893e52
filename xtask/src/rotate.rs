//! `cargo xtask rotate`: another version of a text encoder, to swap to: the encoder followed by a random rotation. Its vectors
//! are others, the angles between them the same: it finds what the first version finds, and with vectors of both nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

#[derive(Args)]
pub struct Rotate {
    /// The folder of the version, laid out as sentence-transformers do.
    pub version: PathBuf,
    /// The folder of the other one, made if it is missing.
    pub rotated: PathBuf,
    /// Which rotation.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
}

/// Where the rotation goes.
const MODULE: &str = "rotation";
/// Files of the first version that are not right for the other one.
const OTHERS: [&str; 3] = ["manifest.json", "golden.safetensors", "modules.json"];

pub fn run(rotate: &Rotate) -> Result<()> {
    let Rotate { version, rotated, seed } = rotate;
    let read = |name: &str| -> Result<Value> {
        let path = version.join(name);
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    };
    let width = read("config.json")?["hidden_size"].as_u64().context("config.json does not say hidden_size")?;
    let Value::Array(mut modules) = read("modules.json")? else { bail!("modules.json is no list") };
    if modules.iter().any(|module| module["type"].as_str().is_some_and(|class| class.ends_with(".Dense"))) {
        bail!("it has a Dense layer already: of which width its vectors are is not known here");
    }
    modules.push(json!({"path": MODULE, "type": "sentence_transformers.models.Dense"}));
    let config = json!({
        "in_features": width, "out_features": width, "bias": false,
        "activation_function": "torch.nn.modules.linear.Identity",
    });
    let layer = rotated.join(MODULE);
    link_all(version, rotated).with_context(|| format!("cannot copy {}", version.display()))?;
    fs::create_dir(&layer).with_context(|| layer.display().to_string())?;
    let weights = weights(&orthogonal(width as usize, *seed));
    let made = [
        (rotated.join("modules.json"), serde_json::to_vec_pretty(&modules)?),
        (layer.join("config.json"), serde_json::to_vec_pretty(&config)?),
        (layer.join("model.safetensors"), weights),
    ];
    for (path, content) in made {
        fs::write(&path, content).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Copies a version's files; where the file system can, they share their content, which is never changed.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            link_all(&source, &target)?;
        } else if !OTHERS.iter().any(|name| entry.file_name() == *name) && fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

/// A safetensors file with the weights of a linear layer. The format:
/// <https://huggingface.co/docs/safetensors/index#format>.
fn weights(rows: &[Vec<f64>]) -> Vec<u8> {
    let data: Vec<u8> = rows.iter().flatten().flat_map(|&value| (value as f32).to_le_bytes()).collect();
    let shape = [rows.len(), rows.len()];
    let header =
        json!({"linear.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, data.len()]}}).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// A random orthogonal matrix, by rows (Gram and Schmidt on random rows).
fn orthogonal(width: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for _ in 0..width {
        let mut row: Vec<f64> = (0..width).map(|_| random.random_range(-1.0..1.0)).collect();
        for other in &rows {
            let along = dot(&row, other);
            row.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
        }
        let norm = dot(&row, &row).sqrt();
        for x in &mut row {
            *x /= norm;
        }
        rows.push(row);
    }
    rows
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_every_angle() {
        let rows = orthogonal(48, 1);
        for (place, row) in rows.iter().enumerate() {
            for (other_place, other) in rows.iter().enumerate() {
                let wanted = f64::from(u8::from(place == other_place));
                assert!((dot(row, other) - wanted).abs() < 1e-9);
            }
        }
        assert_ne!(rows, orthogonal(48, 2));
    }

    #[test]
    fn the_other_version_has_the_first_ones_files_and_a_layer_more() {
        let dir = tempfile::tempdir().unwrap();
        let (version, rotated) = (dir.path().join("1"), dir.path().join("2"));
        fs::create_dir_all(version.join("1_Pooling")).unwrap();
        let files = ["model.safetensors", "manifest.json", "golden.safetensors", "1_Pooling/config.json"];
        for name in files {
            fs::write(version.join(name), name).unwrap();
        }
        fs::write(version.join("config.json"), r#"{"hidden_size": 2}"#).unwrap();
        fs::write(version.join("modules.json"), r#"[{"path": "", "type": "models.Transformer"}]"#).unwrap();
        let rotate = Rotate { version: version.clone(), rotated: rotated.clone(), seed: 7 };
        run(&rotate).unwrap();
        assert_eq!(fs::read_to_string(rotated.join("1_Pooling/config.json")).unwrap(), "1_Pooling/config.json");
        assert!(!rotated.join("manifest.json").exists() && !rotated.join("golden.safetensors").exists());
        let modules: Vec<Value> = serde_json::from_slice(&fs::read(rotated.join("modules.json")).unwrap()).unwrap();
        assert_eq!(modules[1]["path"], "rotation");
        let layer = fs::read(rotated.join("rotation/model.safetensors")).unwrap();
        assert_eq!(layer.len() % 16, (8 + layer[0] as usize) % 16, "four numbers after the header");
        // The first one is as it was.
        let modules: Vec<Value> = serde_json::from_slice(&fs::read(version.join("modules.json")).unwrap()).unwrap();
        assert_eq!(modules.len(), 1);
        let again = Rotate { version: rotated, rotated: dir.path().join("3"), seed: 8 };
        assert!(run(&again).unwrap_err().to_string().contains("Dense"));
    }
}
