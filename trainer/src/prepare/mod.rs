//! `vitrine-trainer prepare`: from a server's export, or a shop's own events, to interactions that are fit to learn from.

mod store;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use jiff::Timestamp;
use parquet::file::reader::SerializedFileReader;
use serde::Serialize;
use vitrine::v1::EventType;
use vitrine_client::json::{self, Line, LineReader};
use vitrine_client::parquet::{self as parquet_file, is_parquet};

use self::store::{Met, Store};
use crate::evaluate::event_type;
use crate::text_file;

/// So many problems are told with their lines.
const TOLD: usize = 5;
/// No shop has older events: what claims so has no time, or it was lost.
const EARLIEST: i64 = 631_152_000; // 1990
/// Clocks may be a day ahead.
const AHEAD: i64 = 86_400;

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
struct Report {
    /// Events that were read.
    events: usize,
    /// Interactions, or whole events that had none, by why they were left out.
    left_out: BTreeMap<&'static str, usize>,
    /// Users who were taken for machines.
    machines: usize,
    interactions: usize,
    users: usize,
    items: usize,
    /// The first problems, with their places.
    #[serde(skip)]
    told: Vec<String>,
}

impl Prepare {
    /// Reads, cleans and writes.
    ///
    /// # Errors
    /// A file cannot be read or written, or nothing is left.
    pub fn run(&self) -> Result<()> {
        let store = Store::new()?;
        let mut report = Report::default();
        let latest = Timestamp::now().as_second() + AHEAD;
        for path in &self.events {
            let place = path.display().to_string();
            for line in lines(path)? {
                let line = line.with_context(|| format!("cannot read {place}"))?;
                self.take(&line, &place, latest, &store, &mut report)?;
            }
        }
        let (machines, removed) = store.remove_hasty(self.most_per_minute)?;
        report.machines = machines;
        report.count("of machines", removed);
        report.count("of rare users or items", store.keep_core(self.core)?);
        [report.interactions, report.users, report.items] = store.counts()?;
        report.print();
        ensure!(report.interactions > 0, "nothing is left to learn from");

        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot make {}", self.out.display()))?;
        let name = self.out.file_name().unwrap_or(self.out.as_os_str()).to_string_lossy().into_owned();
        let path = self.out.join(format!("{name}.inter"));
        let place = || format!("cannot write {}", path.display());
        let mut file = BufWriter::new(File::create(&path).with_context(place)?);
        store.write(&mut file).with_context(place)?;
        file.flush().with_context(place)?;
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(self.out.join("report.json"), text).context("cannot write report.json")?;
        println!("written: {}", path.display());
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        }
        Ok(())
    }

    /// Takes what a line has, if it is fit.
    fn take(&self, line: &Line, place: &str, latest: i64, store: &Store, report: &mut Report) -> Result<()> {
        report.events += 1;
        let parsed = line.text.as_ref().map_err(Clone::clone);
        let event = match parsed.and_then(|text| json::parse_event(text).map_err(|error| error.to_string())) {
            Ok(event) => event,
            Err(problem) => {
                report.count("that cannot be read", 1);
                report.tell(format!("{place}:{}: {problem}", line.number));
                return Ok(());
            }
        };
        let kind = event.r#type();
        if !self.wants(kind) {
            report.count("of other types", 1);
            return Ok(());
        }
        let time = event.time.as_ref().map(|time| time.seconds as f64 + f64::from(time.nanos) / 1e9);
        let time = match time {
            Some(time) if (EARLIEST as f64..=latest as f64).contains(&time) => time,
            _ => {
                report.count("of an impossible time, or none", 1);
                report.tell(format!("{place}:{}: an impossible time, or none", line.number));
                return Ok(());
            }
        };
        // A visitor may have the id of a user who is another.
        let visitor = format!("visitor:{}", event.visitor_id);
        let user = match (event.user_id.as_str(), event.visitor_id.as_str()) {
            ("", "") => "",
            ("", _) => &visitor,
            (user, _) => user,
        };
        if user.is_empty() || event.items.is_empty() {
            report.count("without a user or an item", 1);
            return Ok(());
        }
        let Some(number) = store.begin(&event.event_id)? else {
            report.count("that were there already", 1);
            return Ok(());
        };
        for item in &event.items {
            if impossible_price(&item.price) {
                report.count("of an impossible price", 1);
                report.tell(format!("{place}:{}: an impossible price `{}`", line.number, item.price));
            } else if item.id.is_empty() {
                report.count("without a user or an item", 1);
            } else if !store.add(&Met { event: number, user, item: &item.id, kind: &json::event_type(&event), time })? {
                report.count("that were there already", 1);
            }
        }
        Ok(())
    }

    fn wants(&self, kind: EventType) -> bool {
        // What is shown is no one's doing, and what is taken back says that it was not wanted.
        let is_wanting = !matches!(
            kind,
            EventType::Impression
                | EventType::AdImpression
                | EventType::RemoveFromCart
                | EventType::Return
                | EventType::Dislike
                | EventType::Hide
        );
        if self.types.is_empty() { is_wanting } else { self.types.contains(&kind) }
    }
}

/// No price at all is possible, and so is none.
fn impossible_price(price: &str) -> bool {
    !price.is_empty() && !price.parse().is_ok_and(|price: f64| price.is_finite() && price >= 0.0)
}

fn lines(path: &Path) -> Result<Box<dyn Iterator<Item = std::io::Result<Line>>>> {
    if !is_parquet(path) {
        return Ok(Box::new(LineReader::new(text_file::open(path)?)));
    }
    let place = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(place)?;
    Ok(Box::new(parquet_file::lines(SerializedFileReader::new(file).with_context(place)?, 0)))
}

impl Report {
    fn count(&mut self, why: &'static str, times: usize) {
        if times > 0 {
            *self.left_out.entry(why).or_default() += times;
        }
    }

    fn tell(&mut self, problem: String) {
        if self.told.len() < TOLD {
            self.told.push(problem);
        }
    }

    fn print(&self) {
        println!("{} events read", self.events);
        for (why, times) in &self.left_out {
            println!("left out: {times} {why}");
        }
        if self.machines > 0 {
            println!("          {} users were taken for machines", self.machines);
        }
        self.told.iter().for_each(|problem| eprintln!("warning: {problem}"));
        println!("left: {} interactions of {} users with {} items", self.interactions, self.users, self.items);
    }
}
