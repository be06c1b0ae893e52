//! What it comes to.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    CALLERS,
    load::Loaded,
    place::{ColdStart, Forward},
};
use crate::bench::{millis, rounded, spread::Spread};

/// More than this part of the machine used by others is told.
const BUSY: f64 = 0.02;

/// One caller and many callers, on one server.
pub struct Round {
    pub one_new: Loaded,
    /// The forward passes of that.
    pub forward: Forward,
    /// Embeddings by themselves.
    pub one_embedding: Loaded,
    /// The forward passes of that.
    pub embedding_forward: Forward,
    pub one_seen: Loaded,
    pub many_new: Loaded,
    pub many_seen: Loaded,
}

/// A load that comes whether answers do or not.
pub struct Level {
    /// Of what many callers get.
    pub part: f64,
    /// Searches a second.
    pub offered: f64,
    pub loaded: Loaded,
}

/// All of it.
pub struct Figures {
    pub items: usize,
    pub queries: usize,
    pub rounds: Vec<Round>,
    pub new: Vec<Level>,
    pub seen: Vec<Level>,
    pub starts: Vec<ColdStart>,
    /// The part of the machine that others used.
    pub others: f64,
}

impl Round {
    /// What a search takes beside its forward pass.
    fn overhead(&self) -> Duration {
        self.one_new.latency.mean().saturating_sub(self.forward.mean())
    }

    /// What an embedding takes beside its forward pass.
    fn embedding_overhead(&self) -> Duration {
        self.one_embedding.latency.mean().saturating_sub(self.embedding_forward.mean())
    }

    pub fn tell(&self) {
        println!(
            "one caller: new {} (p99 {}; forward pass {}), embedding {} (forward pass {}), seen {} (p99 {}); {CALLERS} callers: new {:.0}/s, seen {:.0}/s",
            millis(self.one_new.latency.at(0.5)),
            millis(self.one_new.latency.at(0.99)),
            millis(self.forward.mean()),
            millis(self.one_embedding.latency.at(0.5)),
            millis(self.embedding_forward.mean()),
            millis(self.one_seen.latency.at(0.5)),
            millis(self.one_seen.latency.at(0.99)),
            self.many_new.rate(),
            self.many_seen.rate(),
        );
    }
}

/// The last level in short.
pub fn told(levels: &[Level]) -> String {
    levels.last().map_or(String::new(), |level| {
        let latency = &level.loaded.latency;
        format!("{:.0}/s, p50 {}, p99 {}", level.offered, millis(latency.at(0.5)), millis(latency.at(0.99)))
    })
}

impl Figures {
    /// For a person.
    pub fn print(&self) {
        println!(
            "\n{} films, {} queries; the median of {} rounds, and the least and most of them\n",
            self.items,
            self.queries,
            self.rounds.len()
        );
        for (name, of, what) in TIMES {
            println!("{name:<44} {}", span(what, self.rounds.iter().map(of)));
        }
        for (name, of) in RATES {
            println!("{name:<44} {}", span("/s", self.rounds.iter().map(of)));
        }
        for (name, of) in PROCESSOR {
            println!("{name:<44} {}", span(" ms", self.rounds.iter().map(of)));
        }
        println!("{:<44} {}", "started again: says that it is ready", self.started(|start| start.ready));
        println!("{:<44} {}", "   answers the first search by meaning", self.started(|start| start.meaning));
        for (name, levels) in [("new queries", &self.new), ("queries seen before", &self.seen)] {
            if !levels.is_empty() {
                println!(
                    "\n{:<24} {:>10} {:>10} {:>8} {:>10} {:>10}",
                    name, "offered", "answered", "failed", "p50", "p99"
                );
            }
            for Level { part, offered, loaded } in levels {
                println!(
                    "{:>22.0} % {:>8.0}/s {:>8.0}/s {:>8} {:>10} {:>10}",
                    part * 100.0,
                    offered,
                    loaded.rate(),
                    loaded.failed,
                    millis(loaded.latency.at(0.5)),
                    millis(loaded.latency.at(0.99)),
                );
            }
        }
        if self.others > BUSY {
            println!(
                "\nother processes used {:.0} % of this machine: measure again when it is idle",
                self.others * 100.0
            );
        }
    }

    fn started(&self, of: fn(&ColdStart) -> Duration) -> String {
        let times = Spread::of(self.starts.iter().map(of));
        let seconds = |quantile| times.at(quantile).as_secs_f64();
        format!("{:.2} s ({:.2} to {:.2}, {} starts)", seconds(0.5), seconds(0.0), seconds(1.0), self.starts.len())
    }

    /// For a program.
    pub fn line(&self) -> Value {
        let mut line = serde_json::Map::new();
        for (name, value) in [
            ("one_new", self.latency(|round| &round.one_new)),
            ("one_embedding", self.latency(|round| &round.one_embedding)),
            ("one_seen", self.latency(|round| &round.one_seen)),
            ("many_new", self.latency(|round| &round.many_new)),
            ("many_seen", self.latency(|round| &round.many_seen)),
            ("new", self.new.iter().map(Level::line).collect()),
            ("seen", self.seen.iter().map(Level::line).collect()),
        ] {
            line.insert(name.to_owned(), value);
        }
        let of = |of: fn(&Round) -> f64| rounded(median(self.rounds.iter().map(of)));
        line.insert("forward_ms".to_owned(), of(|round| ms(round.forward.mean())).into());
        line.insert("overhead_ms".to_owned(), of(|round| ms(round.overhead())).into());
        line.insert("embedding_overhead_ms".to_owned(), of(|round| ms(round.embedding_overhead())).into());
        for (name, of) in [
            ("ready_s", (|start| start.ready) as fn(&ColdStart) -> Duration),
            ("first_meaning_s", |start| start.meaning),
        ] {
            let median = median(self.starts.iter().map(|start| of(start).as_secs_f64()));
            line.insert(name.to_owned(), rounded(median).into());
        }
        line.insert("others_cpu".to_owned(), rounded(self.others).into());
        line.into()
    }

    fn latency(&self, of: fn(&Round) -> &Loaded) -> Value {
        let over = |what: &dyn Fn(&Loaded) -> f64| rounded(median(self.rounds.iter().map(|round| what(of(round)))));
        json!({
            "per_s": over(&Loaded::rate),
            "ms_p50": over(&|loaded| ms(loaded.latency.at(0.5))),
            "ms_p99": over(&|loaded| ms(loaded.latency.at(0.99))),
            "server_cpu_ms": over(&|loaded| ms(loaded.processor_each()[0])),
            "client_cpu_ms": over(&|loaded| ms(loaded.processor_each()[1])),
        })
    }
}

impl Level {
    fn line(&self) -> Value {
        let latency = &self.loaded.latency;
        json!({
            "part": self.part,
            "offered_per_s": rounded(self.offered),
            "answered_per_s": rounded(self.loaded.rate()),
            "failed": self.loaded.failed,
            "ms_p50": rounded(ms(latency.at(0.5))),
            "ms_p99": rounded(ms(latency.at(0.99))),
        })
    }
}

type Of = fn(&Round) -> f64;

/// Lines of times, in milliseconds.
const TIMES: [(&str, Of, &str); 12] = [
    ("one caller, new queries: p50", |round| ms(round.one_new.latency.at(0.5)), " ms"),
    ("   p99", |round| ms(round.one_new.latency.at(0.99)), " ms"),
    ("   mean", |round| ms(round.one_new.latency.mean()), " ms"),
    ("   the forward pass of that: mean", |round| ms(round.forward.mean()), " ms"),
    ("   all else: mean", |round| ms(round.overhead()), " ms"),
    ("one caller, embeddings (ModelInfer): p50", |round| ms(round.one_embedding.latency.at(0.5)), " ms"),
    ("   mean", |round| ms(round.one_embedding.latency.mean()), " ms"),
    ("   the forward pass of that: mean", |round| ms(round.embedding_forward.mean()), " ms"),
    ("   all else: mean", |round| ms(round.embedding_overhead()), " ms"),
    ("one caller, queries seen before: p50", |round| ms(round.one_seen.latency.at(0.5)), " ms"),
    ("   p99", |round| ms(round.one_seen.latency.at(0.99)), " ms"),
    ("32 callers, new queries: p50", |round| ms(round.many_new.latency.at(0.5)), " ms"),
];

/// Lines of rates.
const RATES: [(&str, Of); 2] = [
    ("32 callers, new queries", |round| round.many_new.rate()),
    ("32 callers, queries seen before", |round| round.many_seen.rate()),
];

/// Lines of processor time, in milliseconds.
const PROCESSOR: [(&str, Of); 3] = [
    ("processor time, new queries: server", |round| ms(round.many_new.processor_each()[0])),
    ("   queries seen before: server", |round| ms(round.many_seen.processor_each()[0])),
    ("   queries seen before: this client", |round| ms(round.many_seen.processor_each()[1])),
];

/// The median, and the least and most.
fn span(unit: &str, values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    let shown = |value: f64| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    format!("{}{unit} ({} to {})", shown(median(values.iter().copied())), shown(least), shown(most))
}

/// 0 if there is none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_shown_between_its_ends() {
        assert_eq!(span(" ms", [3.0, 1.0, 250.0].into_iter()), "3.00 ms (1.00 to 250)");
        assert!(median([].into_iter()).abs() < 1e-9);
    }

    #[test]
    fn the_lines_speak_of_as_many_callers_as_there_are() {
        let lines = TIMES.iter().map(|line| line.0).chain(RATES.iter().map(|line| line.0));
        let callers = format!("{CALLERS} callers");
        assert!(lines.filter(|line| line.contains("callers")).all(|line| line.starts_with(&callers)));
    }
}
