//! `cargo xtask bench encoder`: the text encoder's forward pass. What measures is an example of `vitrine-models`, so that
//! these chores need no networks to be built.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use clap::Args;

use crate::programs;

/// Where the encoder's version is put when none is given.
const REGISTRY: &str = "target/bench/registry";
const EXAMPLE: &str = "encoder_speed";

#[derive(Args)]
pub struct Encoder {
    /// The folder of an encoder's version. Absent: all-MiniLM-L6-v2, pulled if it is not there.
    version: Option<PathBuf>,
    /// Threads that share the work. Absent: as many as there are cores.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// End with a line of JSON: medians in milliseconds, the worst cosine to f32, and what it ran on.
    #[arg(long)]
    json: bool,
}

pub fn run(bench: &Encoder) -> Result<()> {
    let version = match &bench.version {
        Some(version) => version.clone(),
        None => pull()?,
    };
    programs::build_one("--example", EXAMPLE)?;
    programs::run(measurement(bench, &version)?, None)
}

fn measurement(bench: &Encoder, version: &Path) -> Result<Command> {
    let mut command = Command::new(programs::example(EXAMPLE)?);
    command.arg(version);
    if let Some(threads) = bench.threads {
        command.arg("--threads").arg(threads.to_string());
    }
    if bench.json {
        command.arg("--json");
    }
    Ok(command)
}

/// The folder of all-MiniLM-L6-v2, pulled if it is not there.
pub fn pull() -> Result<PathBuf> {
    programs::build_one("--bin", "vitrine-registry")?;
    let registry = Path::new(REGISTRY);
    let mut pull = programs::pull_encoder(registry)?;
    pull.arg("--quiet");
    programs::output(pull)?;
    Ok(registry.join("models/minilm/1"))
}
