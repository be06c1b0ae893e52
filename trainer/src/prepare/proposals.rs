//! `vitrine-trainer prepare-clicks`: from a shop's items and events to examples of what was proposed to whom, and what came of it, with the
//! features by which a server ranks ([`Feature`]): a network learns from the values that it will be asked about.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use prost_types::value::Kind;
use vitrine::v1::Item;
use vitrine_client::json;
use vitrine_models::{Column, Feature};

use super::replay::{Options, Replay, Report};
use super::store::Store;
use super::{Reading, conclude, inter_file, lines};

/// What to prepare, and how.
#[derive(Debug, Args)]
pub struct PrepareClicks {
    /// Items, one JSON object a line (may be gzipped) or Parquet, as the shop imports them
    #[arg(long, value_name = "FILE")]
    items: PathBuf,
    /// Events, one JSON object a line (may be gzipped) or Parquet, as `vitrine events export` writes them; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    events: Vec<PathBuf>,
    /// Where `NAME.inter` and `report.json` are written; the name is that of the folder
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// What is done with an item so many seconds after it was shown came of that
    #[arg(long, value_name = "SECONDS", default_value_t = 1_800)]
    within: u32,
    /// For a log that does not say what was shown: each item that somebody met is an example, and so many drawn by chance that they did not
    #[arg(long, value_name = "N", default_value_t = 0)]
    drawn: u32,
    /// For `evaluate off-policy`: only what answers with `exploration` showed, and with each item all others of `--items` that could have come to
    /// its place; those must be just the candidates of these answers
    #[arg(long, conflicts_with = "drawn")]
    off_policy: bool,
    /// The most attributes that become features, the most common first
    #[arg(long, value_name = "N", default_value_t = 20)]
    attributes: usize,
    /// Of what is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End with a line of JSON
    #[arg(long)]
    json: bool,
}

impl PrepareClicks {
    /// Reads, replays what happened, and writes.
    ///
    /// # Errors
    /// A file cannot be read or written, or the log does not say what was shown and nothing is to be drawn.
    pub fn run(&self) -> Result<()> {
        let items = read_items(&self.items)?;
        ensure!(!items.is_empty(), "{} has no items", self.items.display());
        let store = Store::new()?;
        let mut reading = Reading::default();
        for path in &self.events {
            reading.take_all(path, &store, |_| true)?;
        }
        reading.print();
        let features = features(&items, self.attributes);
        let path = inter_file(&self.out)?;
        let place = || format!("cannot write {}", path.display());
        let file = BufWriter::new(File::create(&path).with_context(place)?);
        let options =
            Options { within: f64::from(self.within), drawn: self.drawn, off_policy: self.off_policy, seed: self.seed };
        let mut replay = Replay::begin(items, features, options, file).with_context(place)?;
        store.each(|happened| replay.take(happened))?;
        let report = replay.finish().with_context(place)?;
        let Report { examples, clicked, of_unknown_items, explored, .. } = report;
        println!("left: {examples} examples, of {clicked} of which something came");
        ensure!(
            explored > 0 || !self.off_policy,
            "the log has no impressions with a propensity: answers with `exploration`, whose tokens came back with the impressions, give one"
        );
        if of_unknown_items > 0 {
            println!("left out: {of_unknown_items} of items that are not there");
        }
        ensure!(
            examples > 0,
            "the log does not say what was shown (impressions); --drawn takes what was not met for it"
        );
        conclude(&path, &report, self.json)
    }
}

fn read_items(path: &Path) -> Result<BTreeMap<String, Item>> {
    let mut items = BTreeMap::new();
    for line in lines(path)? {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let at = || format!("{}:{}", path.display(), line.number);
        let text = line.text.as_ref().map_err(|problem| anyhow::anyhow!("{problem}")).with_context(at)?;
        let item = json::parse_item(text).with_context(at)?;
        items.insert(item.id.clone(), item);
    }
    Ok(items)
}

/// The features of a shop, and how their columns are written.
fn features(items: &BTreeMap<String, Item>, attributes: usize) -> Vec<(Feature, Column)> {
    // How many have it, and how many of these a number.
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let fields = items.values().filter_map(|item| item.attributes.as_ref()).flat_map(|attributes| &attributes.fields);
    for (name, value) in fields {
        let (count, numbers) = counts.entry(name).or_default();
        *count += 1;
        *numbers += usize::from(matches!(value.kind, Some(Kind::NumberValue(_))));
    }
    // Names with blanks or colons would be no column's.
    let mut common: Vec<_> = counts.into_iter().filter(|(name, _)| !name.contains([':', '\t', '\n', '\r'])).collect();
    common.sort_by_key(|&(_, (count, _))| std::cmp::Reverse(count));
    let of_attributes = common.into_iter().take(attributes).map(|(name, (count, numbers))| {
        let feature = Feature::Attribute(name.to_owned());
        let column = feature.column(count == numbers);
        (feature, column)
    });
    let plain = Feature::PLAIN.into_iter().map(|feature| {
        let column = feature.column(false);
        (feature, column)
    });
    plain.chain(of_attributes).collect()
}
