//! Writing a file out: it appears under its name when it is complete.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::output::counted;

/// Has `fill` write the file and count what it wrote, and tells of it on stderr.
pub async fn write_file(path: &Path, noun: &str, fill: impl AsyncFnOnce(BufWriter<File>) -> Result<i64>) -> Result<()> {
    let unfinished = path.with_extension("partial");
    let file = File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
    let count = fill(BufWriter::new(file)).await?;
    fs::rename(&unfinished, path).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {} to {}", counted(count, noun), path.display());
    Ok(())
}
