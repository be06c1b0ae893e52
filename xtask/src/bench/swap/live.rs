//! What a person sees while it runs.

use std::{sync::Arc, time::Duration};

use indicatif::ProgressBar;
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::interval};

use super::{
    Span,
    figures::Searched,
    searches::{Record, Search},
    steps::Seen,
};
use crate::{
    bench::{millis, process::mebibytes},
    programs::bold,
};

/// What the line at the bottom tells of.
const LATELY: Duration = Duration::from_secs(10);
const REFRESH: Duration = Duration::from_millis(500);

/// A line at the bottom that changes, and lines above it that stay.
pub struct Live {
    bar: ProgressBar,
    record: Record,
    refreshing: JoinHandle<()>,
}

impl Live {
    pub fn start(bar: ProgressBar, record: &Record, seen: &Arc<Mutex<Seen>>) -> Self {
        let (line, latest, seen) = (bar.clone(), record.clone(), Arc::clone(seen));
        let refreshing = tokio::spawn(async move {
            let mut ticks = interval(REFRESH);
            loop {
                ticks.tick().await;
                let mut text = told(&latest.since(LATELY));
                let seen = seen.lock();
                if let Some(sample) = seen.memory.last() {
                    text = format!("{text}; {}", mebibytes(sample.bytes));
                }
                if let Some((done, all)) = seen.indexing {
                    text = format!("{text}; {done} of {all} vectors");
                }
                line.set_message(text);
            }
        });
        Self { bar, record: record.clone(), refreshing }
    }

    /// Says what is done next.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| println!("{}", bold(text)));
    }

    /// Tells of the searches of some time.
    pub fn tell(&self, span: Span, more: &str) {
        let text = told(&self.record.of(span));
        self.bar.suspend(|| println!("{text}{more}"));
    }

    pub fn end(&self) {
        self.refreshing.abort();
        self.bar.finish_and_clear();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

fn told(searches: &[Search]) -> String {
    let searched = Searched::of(searches);
    let [p50, p99] = [0.5, 0.99].map(|quantile| millis(searched.latency.at(quantile)));
    format!("{} searches, {} failed, p50 {p50}, p99 {p99}", searched.count, searched.failures())
}
