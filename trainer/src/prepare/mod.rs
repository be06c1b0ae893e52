//! `vitrine-trainer prepare`: from a server's export, or a shop's own events, to interactions that are fit to learn from.

mod proposals;
mod reading;
mod replay;
mod store;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use parquet::file::reader::SerializedFileReader;
use serde::Serialize;
use vitrine::v1::EventType;
use vitrine_client::json::{Line, LineReader};
use vitrine_client::parquet::{self as parquet_file, is_parquet};
use vitrine_models::is_met;

pub use self::proposals::PrepareClicks;
use self::reading::Reading;
use self::store::Store;
use crate::evaluate::event_type;
use crate::text_file;

/// What to prepare, and how.
#[derive(Debug, Args)]
pub struct Prepare {
    /// Events, one JSON object a line (may be gzipped) or Parquet, as `vitrine events export` writes them; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    events: Vec<PathBuf>,
    /// Where `NAME.inter` and `report.json` are written; the name is that of the folder
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Events of these types only, as `purchase` [default: all that a person does to an item]
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = event_type)]
    types: Vec<EventType>,
    /// Users with fewer interactions, and items with fewer users, are left out, until there are none
    #[arg(long, value_name = "K", default_value_t = 5)]
    core: u32,
    /// Whoever has more events within a minute is taken for a machine, and left out
    #[arg(long, value_name = "N", default_value_t = 60)]
    most_per_minute: u32,
    /// End with a line of JSON
    #[arg(long)]
    json: bool,
}

/// What was read, left out, and is left.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    reading: Reading,
    /// Users who were taken for machines.
    machines: usize,
    /// What is left.
    pub interactions: usize,
    /// Of so many.
    pub users: usize,
    /// With so many.
    pub items: usize,
}

impl Prepare {
    /// Reads, cleans and writes.
    ///
    /// # Errors
    /// A file cannot be read or written, or nothing is left.
    pub fn run(&self) -> Result<()> {
        let (path, report) = self.prepare()?;
        report.print();
        conclude(&path.context("nothing is left to learn from")?, &report, self.json)
    }

    /// A server's export as it is usually prepared.
    pub(crate) fn of(events: PathBuf, out: &Path, core: u32, most_per_minute: u32) -> Self {
        Self { events: vec![events], out: out.to_owned(), types: Vec::new(), core, most_per_minute, json: false }
    }

    /// Reads, cleans and writes; says where, if anything is left, and what.
    pub(crate) fn prepare(&self) -> Result<(Option<PathBuf>, Report)> {
        let store = Store::new()?;
        let mut report = Report::default();
        for path in &self.events {
            report.reading.take_all(path, &store, |kind| self.wants(kind))?;
        }
        let (machines, removed) = store.remove_hasty(self.most_per_minute)?;
        report.machines = machines;
        report.reading.count("of machines", removed);
        report.reading.count("of rare users or items", store.keep_core(self.core)?);
        [report.interactions, report.users, report.items] = store.counts()?;
        if report.interactions == 0 {
            return Ok((None, report));
        }

        let path = inter_file(&self.out)?;
        let place = || format!("cannot write {}", path.display());
        let mut file = BufWriter::new(File::create(&path).with_context(place)?);
        store.write(&mut file).with_context(place)?;
        file.flush().with_context(place)?;
        Ok((Some(path), report))
    }

    fn wants(&self, kind: EventType) -> bool {
        if self.types.is_empty() { is_met(kind) } else { self.types.contains(&kind) }
    }
}

fn lines(path: &Path) -> Result<Box<dyn Iterator<Item = std::io::Result<Line>>>> {
    if !is_parquet(path) {
        return Ok(Box::new(LineReader::new(text_file::open(path)?)));
    }
    let place = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(place)?;
    Ok(Box::new(parquet_file::lines(SerializedFileReader::new(file).with_context(place)?, 0)))
}

/// Makes a folder, and says which file in it takes what is prepared.
fn inter_file(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    Ok(folder.join(format!("{name}.inter")))
}

/// Puts a report beside what was prepared, and says where that is.
fn conclude(inter: &Path, report: &impl Serialize, as_json: bool) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(inter.with_file_name("report.json"), text).context("cannot write report.json")?;
    println!("written: {}", inter.display());
    if as_json {
        println!("{}", serde_json::to_string(report)?);
    }
    Ok(())
}

impl Report {
    fn print(&self) {
        self.reading.print();
        if self.machines > 0 {
            println!("          {} users were taken for machines", self.machines);
        }
        println!("left: {} interactions of {} users with {} items", self.interactions, self.users, self.items);
    }
}
