//! `cargo xtask bench batcher`: the batcher beside the forward passes that it runs. What measures is an example of
//! `vitrine-server`, so that these chores need no networks to be built.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{
    encoder,
    films::{self, Films},
    shop::KEPT,
};
use crate::programs;

const EXAMPLE: &str = "batcher_speed";

#[derive(Args)]
pub struct Batcher {
    /// The folder of an encoder's version. Absent: all-MiniLM-L6-v2, pulled if it is not there.
    version: Option<PathBuf>,
    /// Where the Movie Search Ranking Dataset is, whose queries are asked.
    #[arg(long, value_name = "DIR", default_value = films::FOLDER)]
    movies: PathBuf,
    /// End with a line of JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(bench: &Batcher) -> Result<()> {
    let Some(films) = Films::find(&bench.movies) else { return Ok(()) };
    let version = match &bench.version {
        Some(version) => version.clone(),
        None => encoder::pull()?,
    };
    let queries = Path::new(KEPT).join("queries.txt");
    fs::create_dir_all(KEPT).with_context(|| format!("cannot make {KEPT}"))?;
    fs::write(&queries, films.queries()?.join("\n")).with_context(|| queries.display().to_string())?;
    programs::build_one("--example", EXAMPLE)?;
    let mut command = Command::new(programs::example(EXAMPLE)?);
    command.args([&version, &queries]);
    if bench.json {
        command.arg("--json");
    }
    programs::run(command, None)
}
