//! `vitrine-trainer prepare-clicks`: from a shop's items and events to examples of what was proposed to whom, and what came of it, with the
//! features by which a server ranks ([`Feature`]): a network learns from the values that it will be asked about.

use std::collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use prost_types::value::Kind;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use vitrine::v1::{EventType, Item};
use vitrine_client::json;
use vitrine_models::{Column, Feature, MOST_MET, Moment, Value, is_met};

use super::store::{Explored, Happened, Store};
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

/// What was read and written.
#[derive(Debug, Default, Serialize)]
struct Report {
    items: usize,
    /// What was done or shown, item by item.
    events: usize,
    /// Of these, with items that are not there.
    of_unknown_items: usize,
    /// Shown by an answer that explored.
    explored: usize,
    examples: usize,
    clicked: usize,
}

/// A shown item, until it is known what came of it.
struct Shown {
    user: String,
    item: String,
    time: f64,
    /// The features' cells: its own, and, for what is told of a policy, those of the others that could have come to its place.
    cells: Vec<String>,
    /// The answer that explored, and how likely it was to come there.
    explored: Option<Explored>,
}

/// What is shown of one item to one person.
struct Waiting {
    /// So many times.
    shown: u32,
    /// When they met it last, since.
    met: Option<f64>,
    /// What is told of a policy: the answers that deeds named which came of them.
    of_answers: Vec<u64>,
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
        let mut replay = Replay {
            features,
            ids: if self.drawn > 0 || self.off_policy { items.keys().cloned().collect() } else { Vec::new() },
            items,
            within: f64::from(self.within),
            drawn: self.drawn,
            off_policy: self.off_policy,
            placed: HashMap::new(),
            random: StdRng::seed_from_u64(self.seed),
            met: HashMap::new(),
            shown: VecDeque::new(),
            waiting: HashMap::new(),
            report: Report::default(),
            file,
        };
        replay.report.items = replay.items.len();
        replay.header().with_context(place)?;
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

/// What happened, in order of time, as it becomes examples.
struct Replay<W> {
    features: Vec<(Feature, Column)>,
    items: BTreeMap<String, Item>,
    /// To draw from, or all that could be shown.
    ids: Vec<String>,
    within: f64,
    drawn: u32,
    off_policy: bool,
    /// By answer that explored: the items that came to their places already.
    placed: HashMap<u64, Vec<String>>,
    random: StdRng,
    /// The items that each person met last, newest first.
    met: HashMap<String, VecDeque<String>>,
    /// Oldest first.
    shown: VecDeque<Shown>,
    /// What it waits for, by person and item.
    waiting: HashMap<(String, String), Waiting>,
    report: Report,
    file: W,
}

impl<W: Write> Replay<W> {
    fn header(&mut self) -> Result<()> {
        write!(self.file, "label:float\ttimestamp:float")?;
        if self.off_policy {
            write!(self.file, "\timpression:float\tshown:float\tpropensity:float")?;
        }
        for (feature, column) in &self.features {
            let kind = match column {
                Column::Word => "token",
                Column::Words => "token_seq",
                Column::Number => "float",
            };
            write!(self.file, "\t{feature}:{kind}")?;
        }
        writeln!(self.file)?;
        Ok(())
    }

    fn take(&mut self, happened: &Happened) -> Result<()> {
        self.report.events += 1;
        if !self.items.contains_key(&happened.item) {
            self.report.of_unknown_items += 1;
            return Ok(());
        }
        self.settle(happened.time - self.within)?;
        let Happened { user, item, kind, time, explored } = happened;
        let shown = matches!(kind, EventType::Impression | EventType::AdImpression);
        if shown && (explored.is_some() || !self.off_policy) {
            let mut cells = vec![self.cells(user, item, *time)];
            if let Some(explored) = explored.filter(|_| self.off_policy) {
                let placed = self.placed.entry(explored.answer).or_default();
                placed.push(item.clone());
                let others: Vec<&String> = self.ids.iter().filter(|id| !placed.contains(id)).collect();
                cells.extend(others.into_iter().map(|other| self.cells(user, other, *time)));
            }
            let waiting = self.waiting.entry((user.clone(), item.clone()));
            waiting.or_insert(Waiting { shown: 0, met: None, of_answers: Vec::new() }).shown += 1;
            self.report.explored += usize::from(explored.is_some());
            self.shown.push_back(Shown {
                user: user.clone(),
                item: item.clone(),
                time: *time,
                cells,
                explored: *explored,
            });
        }
        if is_met(*kind) {
            if let Some(waiting) = self.waiting.get_mut(&(user.clone(), item.clone())) {
                match explored.filter(|_| self.off_policy) {
                    Some(explored) => waiting.of_answers.push(explored.answer),
                    None => waiting.met = Some(*time),
                }
            }
            if self.drawn > 0 {
                self.draw(happened)?;
            }
            let met = self.met.entry(user.clone()).or_default();
            met.push_front(item.clone());
            met.truncate(MOST_MET);
        }
        Ok(())
    }

    /// Takes what somebody met for shown, and some that they did not meet.
    fn draw(&mut self, happened: &Happened) -> Result<()> {
        let Happened { user, item, time, .. } = happened;
        let cells = self.cells(user, item, *time);
        self.write(true, *time, &cells)?;
        for _ in 0..self.drawn {
            let other = self.ids[self.random.random_range(0..self.ids.len())].clone();
            if other != *item {
                let cells = self.cells(user, &other, *time);
                self.write(false, *time, &cells)?;
            }
        }
        Ok(())
    }

    /// Writes what was shown up to a time: what comes later no longer came of it.
    fn settle(&mut self, until: f64) -> Result<()> {
        while let Some(shown) = self.shown.pop_front_if(|shown| shown.time < until) {
            let mut clicked = false;
            if let Entry::Occupied(mut waiting) = self.waiting.entry((shown.user, shown.item)) {
                clicked = waiting.get().met.is_some_and(|at| at >= shown.time)
                    || shown.explored.is_some_and(|explored| waiting.get().of_answers.contains(&explored.answer));
                waiting.get_mut().shown -= 1;
                if waiting.get().shown == 0 {
                    waiting.remove();
                }
            }
            let impression = self.report.examples;
            for (place, cells) in shown.cells.iter().enumerate() {
                let of_policy = shown.explored.filter(|_| self.off_policy).map(|Explored { propensity, .. }| {
                    format!("\t{impression}\t{}\t{propensity}", u8::from(place == 0))
                });
                let cells = of_policy.unwrap_or_default() + cells;
                self.write(clicked && place == 0, shown.time, &cells)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, clicked: bool, time: f64, cells: &str) -> Result<()> {
        self.report.examples += 1;
        self.report.clicked += usize::from(clicked);
        writeln!(self.file, "{}\t{time}{cells}", u8::from(clicked))?;
        Ok(())
    }

    /// The features of an item that is shown to somebody, each behind a tab.
    fn cells(&self, user: &str, item: &str, time: f64) -> String {
        let met = self.met.get(user).into_iter().flatten().filter_map(|id| self.items.get(id));
        let met: Vec<&Item> = met.collect();
        let moment = Moment { person: user, met: &met, seconds: time.floor() as i64 };
        let mut cells = String::new();
        for (feature, column) in &self.features {
            cells.push('\t');
            match feature.value(&self.items[item], &moment, *column) {
                Value::Words(words) => cells.push_str(&words.join(" ")),
                Value::Number(number) => cells.push_str(&number.to_string()),
                Value::Unknown => {}
            }
        }
        cells
    }

    fn finish(mut self) -> Result<Report> {
        self.settle(f64::INFINITY)?;
        self.file.flush()?;
        Ok(self.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(user: &str, item: &str, kind: EventType, time: f64) -> Happened {
        Happened { user: user.into(), item: item.into(), kind, time, explored: None }
    }

    fn replay(drawn: u32, off_policy: bool, all: &[Happened]) -> (Vec<Vec<String>>, Report) {
        let item =
            |id: &str, brand: &str| (id.to_owned(), Item { id: id.into(), brand: brand.into(), ..Item::default() });
        let items = BTreeMap::from([item("a", "Acme"), item("b", "Best"), item("c", "")]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let features = [Feature::Item, Feature::Brand, Feature::MetItems].map(|feature| {
            let column = feature.column(false);
            (feature, column)
        });
        let mut replay = Replay {
            features: features.to_vec(),
            ids: items.keys().cloned().collect(),
            items,
            within: 100.0,
            drawn,
            off_policy,
            placed: HashMap::new(),
            random: StdRng::seed_from_u64(1),
            met: HashMap::new(),
            shown: VecDeque::new(),
            waiting: HashMap::new(),
            report: Report::default(),
            file: File::create(&path).unwrap(),
        };
        for happened in all {
            replay.take(happened).unwrap();
        }
        let report = replay.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        (text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect(), report)
    }

    #[test]
    fn what_comes_of_an_impression_is_its_label_and_only_what_was_before_it_is_known() {
        use EventType::{Click, Impression, Purchase};
        let (lines, report) = replay(
            0,
            false,
            &[
                happened("u", "a", Impression, 0.0),
                happened("u", "b", Impression, 0.0),
                happened("u", "a", Click, 5.0),
                happened("v", "b", Click, 6.0),
                happened("u", "c", Impression, 10.0),
                happened("u", "gone", Impression, 10.0),
                // Too late to have come of that.
                happened("u", "c", Purchase, 200.0),
                happened("u", "b", Impression, 300.0),
            ],
        );
        let lines: Vec<Vec<&str>> = lines.iter().map(|line| line.iter().map(String::as_str).collect()).collect();
        assert_eq!(
            lines,
            [
                vec!["1", "0", "a", "acme", ""],
                vec!["0", "0", "b", "best", ""],
                vec!["0", "10", "c", "", "a"],
                vec!["0", "300", "b", "best", "c a"],
            ]
        );
        assert_eq!((report.examples, report.clicked, report.of_unknown_items), (4, 1, 1));
    }

    #[test]
    fn where_nothing_says_what_was_shown_others_are_drawn() {
        let (lines, report) = replay(4, false, &[happened("u", "a", EventType::Purchase, 5.0)]);
        assert_eq!((lines[0][0].as_str(), lines[0][2].as_str(), report.clicked), ("1", "a", 1));
        assert!(report.examples > 1 && lines[1..].iter().all(|line| line[0] == "0" && line[2] != "a"), "{lines:?}");
    }

    #[test]
    fn with_what_an_exploring_answer_showed_comes_what_it_could_have_shown() {
        use EventType::{Click, Impression};
        let explored = |item: &str, kind: EventType, propensity: f64| Happened {
            explored: Some(Explored { answer: 9, propensity }),
            ..happened("u", item, kind, 1.0)
        };
        let again = Happened {
            explored: Some(Explored { answer: 10, propensity: 0.1 }),
            ..happened("u", "a", Impression, 3.0)
        };
        let all = [
            happened("u", "a", Impression, 0.0),
            explored("b", Impression, 0.5),
            explored("a", Impression, 0.25),
            again,
            // Of the first answer, which it names.
            Happened { time: 4.0, ..explored("a", Click, 0.25) },
        ];
        let (lines, report) = replay(0, true, &all);
        let lines: Vec<Vec<&str>> = lines.iter().map(|line| line.iter().map(String::as_str).collect()).collect();
        assert_eq!(
            lines,
            [
                vec!["0", "1", "0", "1", "0.5", "b", "best", ""],
                vec!["0", "1", "0", "0", "0.5", "a", "acme", ""],
                vec!["0", "1", "0", "0", "0.5", "c", "", ""],
                vec!["1", "1", "3", "1", "0.25", "a", "acme", ""],
                vec!["0", "1", "3", "0", "0.25", "c", "", ""],
                vec!["0", "3", "5", "1", "0.1", "a", "acme", ""],
                vec!["0", "3", "5", "0", "0.1", "b", "best", ""],
                vec!["0", "3", "5", "0", "0.1", "c", "", ""],
            ]
        );
        assert_eq!((report.explored, report.examples, report.clicked), (3, 8, 1));
    }
}
