//! What happened, replayed in order of time: each item that was shown becomes an example, with what was known at that moment and what came of
//! it.

use std::collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry};
use std::io::Write;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use vitrine::v1::{EventType, Item};
use vitrine_models::{Column, Feature, MOST_MET, Moment, Value, is_met};

use super::store::{Explored, Happened};

/// How it becomes examples.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is done with an item so many seconds after it was shown came of that.
    pub within: f64,
    /// Each item that somebody met is an example, and so many others.
    pub drawn: u32,
    /// Only what answers that explored showed, and with each item what could have come to its place.
    pub off_policy: bool,
    /// Of what is drawn.
    pub seed: u64,
}

/// What was read and written.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub items: usize,
    /// What was done or shown, item by item.
    pub events: usize,
    /// Of these, with items that are not there.
    pub of_unknown_items: usize,
    /// Shown by an answer that explored.
    pub explored: usize,
    pub examples: usize,
    pub clicked: usize,
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

/// What happened, in order of time, as it becomes examples.
pub struct Replay<W> {
    features: Vec<(Feature, Column)>,
    items: BTreeMap<String, Item>,
    /// To draw from, or all that could be shown.
    ids: Vec<String>,
    options: Options,
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
    /// Writes the names of the columns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(
        items: BTreeMap<String, Item>,
        features: Vec<(Feature, Column)>,
        options: Options,
        file: W,
    ) -> Result<Self> {
        let ids = if options.drawn > 0 || options.off_policy { items.keys().cloned().collect() } else { Vec::new() };
        let mut replay = Self {
            features,
            ids,
            placed: HashMap::new(),
            random: StdRng::seed_from_u64(options.seed),
            met: HashMap::new(),
            shown: VecDeque::new(),
            waiting: HashMap::new(),
            report: Report { items: items.len(), ..Report::default() },
            items,
            options,
            file,
        };
        replay.header()?;
        Ok(replay)
    }

    fn header(&mut self) -> Result<()> {
        write!(self.file, "label:float\ttimestamp:float")?;
        if self.options.off_policy {
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

    /// Takes what happened next.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn take(&mut self, happened: &Happened) -> Result<()> {
        self.report.events += 1;
        if !self.items.contains_key(&happened.item) {
            self.report.of_unknown_items += 1;
            return Ok(());
        }
        self.settle(happened.time - self.options.within)?;
        let Happened { user, item, kind, time, explored } = happened;
        let shown = matches!(kind, EventType::Impression | EventType::AdImpression);
        if shown && (explored.is_some() || !self.options.off_policy) {
            let mut cells = vec![self.cells(user, item, *time)];
            if let Some(explored) = explored.filter(|_| self.options.off_policy) {
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
                match explored.filter(|_| self.options.off_policy) {
                    Some(explored) => waiting.of_answers.push(explored.answer),
                    None => waiting.met = Some(*time),
                }
            }
            if self.options.drawn > 0 {
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
        for _ in 0..self.options.drawn {
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
                let of_policy =
                    shown.explored.filter(|_| self.options.off_policy).map(|Explored { propensity, .. }| {
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

    /// Writes what is left.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<Report> {
        self.settle(f64::INFINITY)?;
        self.file.flush()?;
        Ok(self.report)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

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
        let options = Options { within: 100.0, drawn, off_policy, seed: 1 };
        let mut replay = Replay::begin(items, features.to_vec(), options, File::create(&path).unwrap()).unwrap();
        for happened in all {
            replay.take(happened).unwrap();
        }
        let report = replay.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        (text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect(), report)
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
