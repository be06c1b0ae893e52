//! `cargo xtask bench vectors`: vector search on Fashion-MNIST, and on vectors of one's own. What measures is an example of
//! `vitrine-server`; `xtask/peers/vector_peers.py` measures other libraries on the same.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use clap::Args;

use crate::{fashion_mnist, programs};

const EXAMPLE: &str = "vector_speed";

#[derive(Args)]
pub struct Vectors {
    /// The folder of Fashion-MNIST's `*-images-idx3-ubyte.gz`. Absent: from Debian's package, kept in the cache.
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    /// An index generation's vectors.db, to measure on its vectors as well.
    #[arg(long = "vectors", value_name = "FILE")]
    generation: Option<PathBuf>,
    /// Also how long searches take with ever more of the items, with a graph and without.
    #[arg(long)]
    sizes: bool,
    /// End with a line of JSON: recall and searches a second, by search width and filter.
    #[arg(long)]
    json: bool,
}

pub fn run(bench: &Vectors) -> Result<()> {
    let pictures = match &bench.pictures {
        Some(folder) => folder.clone(),
        None => fashion_mnist::folder()?,
    };
    programs::build_one("--example", EXAMPLE)?;
    programs::run(measurement(bench, &pictures)?, None)
}

fn measurement(bench: &Vectors, pictures: &Path) -> Result<Command> {
    let mut command = Command::new(programs::example(EXAMPLE)?);
    command.arg("--pictures").arg(pictures);
    if let Some(vectors) = &bench.generation {
        command.arg("--vectors").arg(vectors);
    }
    for (wanted, flag) in [(bench.sizes, "--sizes"), (bench.json, "--json")] {
        if wanted {
            command.arg(flag);
        }
    }
    programs::say(&programs::shown(&command));
    Ok(command)
}
