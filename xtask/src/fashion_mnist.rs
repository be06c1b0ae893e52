//! Fashion-MNIST, 70,000 small pictures of clothes in ten classes: where it is found, and what the classes are.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{cache, programs};

/// Debian's package, and where the files are in it.
const PACKAGE: &str = "dataset-fashion-mnist";
const FOLDER: &str = "usr/share/datasets/fashion-mnist";

/// What the labels stand for, in their order: <https://github.com/zalandoresearch/fashion-mnist#labels>.
pub const CLASSES: [&str; 10] =
    ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"];

/// The folder of the pictures, downloaded if they are not there.
pub fn folder() -> Result<PathBuf> {
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
