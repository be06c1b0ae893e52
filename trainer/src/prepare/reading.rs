//! Events as they are read from a shop's log: what is unfit is left out, and said.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;
use vitrine::v1::{EventItem, EventType};
use vitrine_client::json::{self, Line};
use vitrine_models::person;

use super::lines;
use super::store::{Explored, Met, Store};

/// So many problems are told with their lines.
const TOLD: usize = 5;
/// No shop has older events: what claims so has no time, or it was lost.
const EARLIEST: i64 = 631_152_000; // 1990
/// Clocks may be a day ahead.
const AHEAD: i64 = 86_400;

/// What was read, and left out.
#[derive(Debug, Default, Serialize)]
pub struct Reading {
    /// Events that were read.
    events: usize,
    /// Interactions, or whole events that had none, by why they were left out.
    left_out: BTreeMap<&'static str, usize>,
    /// The first problems, with their places.
    #[serde(skip)]
    told: Vec<String>,
}

impl Reading {
    /// Puts what a file has into the store, if it is fit and of a type that is wanted.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn take_all(&mut self, path: &Path, store: &Store, wants: impl Fn(EventType) -> bool) -> Result<()> {
        let latest = Timestamp::now().as_second() + AHEAD;
        let place = path.display().to_string();
        for line in lines(path)? {
            let line = line.with_context(|| format!("cannot read {place}"))?;
            self.take(&line, &place, latest, store, &wants)?;
        }
        Ok(())
    }

    /// Takes what a line has, if it is fit.
    fn take(
        &mut self,
        line: &Line,
        place: &str,
        latest: i64,
        store: &Store,
        wants: &impl Fn(EventType) -> bool,
    ) -> Result<()> {
        self.events += 1;
        let parsed = line.text.as_ref().map_err(Clone::clone);
        let event = match parsed.and_then(|text| json::parse_event(text).map_err(|error| error.to_string())) {
            Ok(event) => event,
            Err(problem) => {
                self.count("that cannot be read", 1);
                self.tell(format!("{place}:{}: {problem}", line.number));
                return Ok(());
            }
        };
        let kind = event.r#type();
        if !wants(kind) {
            self.count("of other types", 1);
            return Ok(());
        }
        let time = event.time.as_ref().map(|time| time.seconds as f64 + f64::from(time.nanos) / 1e9);
        let time = match time {
            Some(time) if (EARLIEST as f64..=latest as f64).contains(&time) => time,
            _ => {
                self.count("of an impossible time, or none", 1);
                self.tell(format!("{place}:{}: an impossible time, or none", line.number));
                return Ok(());
            }
        };
        let user = person(&event.user_id, &event.visitor_id);
        if user.is_empty() || event.items.is_empty() {
            self.count("without a user or an item", 1);
            return Ok(());
        }
        let Some(number) = store.begin(&event.event_id)? else {
            self.count("that were there already", 1);
            return Ok(());
        };
        for (place, item) in (0..).zip(&event.items) {
            if impossible_price(&item.price) {
                self.count("of an impossible price", 1);
                self.tell(format!("{place}:{}: an impossible price `{}`", line.number, item.price));
            } else if item.id.is_empty() {
                self.count("without a user or an item", 1);
            } else if !store.add(&Met {
                event: number,
                place,
                user: &user,
                item: &item.id,
                kind: &json::event_type(&event),
                time,
                explored: explored(item),
            })? {
                self.count("that were there already", 1);
            }
        }
        Ok(())
    }

    /// Takes note of what is left out.
    pub fn count(&mut self, why: &'static str, times: usize) {
        if times > 0 {
            *self.left_out.entry(why).or_default() += times;
        }
    }

    fn tell(&mut self, problem: String) {
        if self.told.len() < TOLD {
            self.told.push(problem);
        }
    }

    /// Says what was read and left out.
    pub fn print(&self) {
        println!("{} events read", self.events);
        for (why, times) in &self.left_out {
            println!("left out: {times} {why}");
        }
        self.told.iter().for_each(|problem| eprintln!("warning: {problem}"));
    }
}

/// How an item was shown, where the server's export says so.
fn explored(item: &EventItem) -> Option<Explored> {
    let served = item.served.as_ref()?;
    let propensity = served.propensity.filter(|propensity| *propensity > 0.0 && *propensity <= 1.0)?;
    Some(Explored { answer: served.answer, propensity })
}

/// No price at all is possible, and so is none.
fn impossible_price(price: &str) -> bool {
    !price.is_empty() && !price.parse().is_ok_and(|price: f64| price.is_finite() && price >= 0.0)
}
