//! `cargo xtask bench`: figures, measured. One file or folder a bench.

mod batcher;
mod encoder;
mod events;
mod films;
mod pictures;
mod plot;
mod process;
mod queries;
mod search;
mod serve;
mod shop;
mod spread;
mod storefront;
mod swap;
mod vectors;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;

use crate::programs::Interrupted;

#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Time the text encoder's forward pass, by rows × tokens.
    Encoder(encoder::Encoder),
    /// Compare the batcher with the forward passes that it runs.
    Batcher(batcher::Batcher),
    /// Search by meaning in a whole server: one caller, many, and any load in between; and start it again.
    Serve(serve::Serve),
    /// Tell how soon an event changes what its user is recommended, while others' events arrive.
    Events(events::Events),
    /// Search by pictures: how many are of the right class, and how long it takes.
    Pictures(pictures::Pictures),
    /// Search with several callers at once.
    Search(search::Search),
    /// Search, recommend and make pictures: each alone, and all together.
    Storefront(storefront::Storefront),
    /// Move a label between two versions of the encoder, again and again, while searches go on.
    Swap(swap::Swap),
    /// Time vector search, with a graph and without, and count what it finds.
    Vectors(vectors::Vectors),
}

pub fn run(bench: &Bench) -> Result<()> {
    match &bench.what {
        What::Encoder(encoder) => encoder::run(encoder),
        What::Batcher(batcher) => batcher::run(batcher),
        What::Serve(serve) => serve::run(serve),
        What::Events(events) => events::run(events),
        What::Pictures(pictures) => pictures::run(pictures),
        What::Search(search) => search::run(search),
        What::Storefront(storefront) => storefront::run(storefront),
        What::Swap(swap) => swap::run(swap),
        What::Vectors(vectors) => vectors::run(vectors),
    }
}

/// Measures in a runtime of its own, until a signal asks us to end.
fn measure<T>(interrupted: &Interrupted, measuring: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(async {
        tokio::select! {
            measured = measuring => measured,
            () = until(interrupted) => bail!("interrupted"),
        }
    });
    // Calls that nobody waits for any more.
    runtime.shutdown_background();
    measured
}

async fn until(interrupted: &Interrupted) {
    while !interrupted.is_set() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn spinner() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Reads `90s` or `1m 30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let unreadable = || format!("`{text}` is no time span; write it as 500ms, 90s or 5m");
    let duration: SignedDuration = text.parse().map_err(|_| unreadable())?;
    Duration::try_from(duration).map_err(|_| unreadable())
}

/// In milliseconds, to three figures.
fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

/// To a thousandth: more is noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_in_the_usual_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(duration("soon").unwrap_err().contains("write it as"));
        assert!(duration("-5s").is_err());
    }

    #[test]
    fn short_times_have_a_decimal() {
        assert_eq!(millis(Duration::from_micros(4_240)), "4.2 ms");
        assert_eq!(millis(Duration::from_micros(42_400)), "42 ms");
    }
}
