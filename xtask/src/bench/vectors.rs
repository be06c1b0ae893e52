//! `cargo xtask bench vectors`: vector search on Fashion-MNIST, and on vectors of one's own. What measures is an example of
//! `vitrine-server`; `xtask/peers/vector_peers.py` measures other libraries on the same.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{cache, programs};

const EXAMPLE: &str = "vector_speed";
/// Debian's package of Fashion-MNIST, and where the files are in it.
const PACKAGE: &str = "dataset-fashion-mnist";
const FOLDER: &str = "usr/share/datasets/fashion-mnist";

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
        None => fashion_mnist()?,
    };
    programs::build_example(EXAMPLE)?;
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

/// The folder of the pictures, downloaded if they are not there.
fn fashion_mnist() -> Result<PathBuf> {
    let folder = cache::folder().join("debian").join(PACKAGE);
    let pictures = folder.join(FOLDER);
    if pictures.exists() {
        return Ok(pictures);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut download = Command::new("apt-get");
    download.args(["download", PACKAGE]).current_dir(&folder);
    programs::run(download, None)
        .context("Fashion-MNIST comes from Debian; elsewhere name the folder of its files with --pictures")?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|end| end == "deb");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let package = entries.filter_map(Result::ok).map(|entry| entry.path()).find(is_package);
    let package = package.with_context(|| format!("apt-get left no package in {}", folder.display()))?;
    // Unpacked beside and moved: what is in the cache is taken as it is.
    let (partial, whole) = (folder.join("partial"), folder.join("usr"));
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").args([&package, &partial]);
    programs::run(unpack, None)?;
    fs::rename(partial.join("usr"), &whole).with_context(|| whole.display().to_string())?;
    Ok(pictures)
}
