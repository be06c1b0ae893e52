//! What the story comes to.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use vitrine::v1::VersionState;
use vitrine_client::code_name;

use super::{
    FIRST, Span, Story, Swapped,
    label::{History, Move},
    searches::Search,
    steps::Change,
};
use crate::bench::{millis, process::mebibytes, rounded, spread::Spread};

/// Memory is compared over so many swaps at the beginning and at the end: from one moment to the next it changes by more than
/// a version leaves behind.
const MEMORY_SWAPS: usize = 10;
/// More than this part of the machine used by others is told.
const BUSY: f64 = 0.02;

/// Searches of some time.
pub struct Searched {
    pub count: usize,
    /// By status code.
    pub failed: BTreeMap<&'static str, usize>,
    /// Of those answered.
    pub latency: Spread,
}

/// Everything worth telling.
pub struct Figures<'a> {
    story: &'a Story,
    steady: Searched,
    indexing: Searched,
    swapping: Searched,
    pairs: Pairs,
    /// While a version was in one of its states on the way to the swap, and in the second after the one before was gone.
    phases: Vec<(&'static str, Searched)>,
    all: Searched,
    wrong_version: usize,
    words_only: usize,
}

/// Each swap beside the time just before it, as long at most: a machine that others use has slow minutes, which pooled searches mix with what a
/// swap does.
struct Pairs {
    /// p99 of the median swap.
    swap: Duration,
    /// p99 of the median time before one.
    before: Duration,
    /// p99 of a swap over that of the time before it, of the median pair.
    ratio: f64,
}

impl Pairs {
    fn of(story: &Story, p99: impl Fn(Span) -> Duration) -> Self {
        let pairs = story.swaps.iter().zip(&story.steady).map(|(swapped, steady)| {
            let Span { from, until } = swapped.around;
            let as_long = steady.until.checked_sub(until - from).unwrap_or(steady.from);
            let before = Span { from: steady.from.max(as_long), ..*steady };
            (p99(swapped.around), p99(before))
        });
        let (swaps, before): (Vec<_>, Vec<_>) = pairs.unzip();
        let mut ratios: Vec<f64> = swaps.iter().zip(&before).map(|(swap, before)| ratio(*swap, *before)).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let ratio = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
        Self { swap: Spread::of(swaps).at(0.5), before: Spread::of(before).at(0.5), ratio }
    }
}

/// What a version goes through before the label moves to it.
const PHASES: [(&str, VersionState); 3] = [
    ("   the new one is loaded", VersionState::Loading),
    ("   it is warmed up", VersionState::Warming),
    ("   it catches up with the items", VersionState::Indexing),
];

/// The last line of `--json`.
#[derive(Serialize)]
struct Line {
    swaps: usize,
    requests: usize,
    failed: usize,
    p99_ratio: f64,
    median_p99_ratio: f64,
    switch_ms_p99: f64,
    rss_growth: f64,
    wrong_version: usize,
    words_only: usize,
    failed_writes: usize,
    capacity_per_s: Option<f64>,
    rate_per_s: f64,
    steady_ms_p50: f64,
    steady_ms_p99: f64,
    swaps_ms_p50: f64,
    swaps_ms_p99: f64,
    indexing_ms_p50: f64,
    indexing_ms_p99: f64,
    set_label_ms_p99: f64,
    text_switch_ms_p99: f64,
    rollback_ms_p99: f64,
    load_ms_p50: f64,
    rss_first_bytes: u64,
    rss_last_bytes: u64,
    others_cpu: f64,
}

impl Searched {
    pub fn of<'a>(searches: impl IntoIterator<Item = &'a Search>) -> Self {
        let (mut count, mut failed, mut latency) = (0, BTreeMap::new(), Vec::new());
        for search in searches {
            count += 1;
            match search.outcome {
                Ok(_) => latency.push(search.latency),
                Err(code) => *failed.entry(code_name(code)).or_default() += 1,
            }
        }
        Self { count, failed, latency: Spread::of(latency) }
    }

    pub fn failures(&self) -> usize {
        self.failed.values().sum()
    }
}

impl<'a> Figures<'a> {
    pub fn of(story: &'a Story) -> Self {
        let within =
            |spans: &[Span], search: &Search| !search.probe && spans.iter().any(|span| span.contains(search.due));
        let around: Vec<Span> = story.swaps.iter().map(|swapped| swapped.around).collect();
        let moves: Vec<Move> =
            story.swaps.iter().map(|swapped| swapped.moved).chain(story.rollbacks.iter().copied()).collect();
        let history = History::new(FIRST, &moves);
        let answers = || story.searches.iter().filter_map(|search| search.outcome.ok());
        let while_in = |spans: &[Span]| Searched::of(story.searches.iter().filter(|search| within(spans, search)));
        let unloading: Vec<Span> = story.swaps.iter().map(|swapped| swapped.unloading).collect();
        let mut phases: Vec<_> =
            PHASES.iter().map(|&(name, state)| (name, while_in(&spans_in(story, state)))).collect();
        phases.push(("   the old one is unloaded", while_in(&unloading)));
        Self {
            story,
            phases,
            steady: while_in(&story.steady),
            indexing: while_in(&[story.indexing]),
            swapping: while_in(&around),
            pairs: Pairs::of(story, |span| while_in(&[span]).latency.at(0.99)),
            all: Searched::of(&story.searches),
            wrong_version: answers().filter(|answer| answer.version.is_some() && !history.explains(answer)).count(),
            words_only: answers().filter(|answer| answer.version.is_none()).count(),
        }
    }

    /// p99 around swaps over p99 in steady state.
    fn p99_ratio(&self) -> f64 {
        ratio(self.swapping.latency.at(0.99), self.steady.latency.at(0.99))
    }

    /// From the call to the first answer of the new version, over all swaps.
    fn switches(&self) -> Spread {
        Spread::of(self.story.swaps.iter().map(|swapped| swapped.moved.switch()))
    }

    /// The same, of the first answer to a search of the load, which runs the encoder.
    fn text_switches(&self) -> Spread {
        Spread::of(self.story.swaps.iter().filter_map(|swapped| {
            let Move { to, sent, .. } = swapped.moved;
            let answers = self.story.searches.iter().filter(|search| !search.probe);
            let of_new = answers.filter_map(|search| search.outcome.ok()).filter(|answer| answer.version == Some(to));
            Some(of_new.map(|answer| answer.received).filter(|received| *received > sent).min()? - sent)
        }))
    }

    /// From the call that moves the label to its answer.
    fn calls(&self) -> Spread {
        Spread::of(self.story.swaps.iter().map(|swapped| swapped.moved.call()))
    }

    fn rollbacks(&self) -> Spread {
        // The first of them is the move that they roll back.
        Spread::of(self.story.rollbacks.iter().skip(1).map(Move::switch))
    }

    fn loads(&self) -> Spread {
        Spread::of(self.story.swaps.iter().map(|swapped| swapped.load))
    }

    /// How long versions were in a state while they were swapped.
    fn in_state(&self, state: VersionState) -> Spread {
        Spread::of(spans_in(self.story, state).into_iter().map(|span| span.until - span.from))
    }

    /// After the first swaps and after the last ones: the medians.
    fn memory(&self) -> (u64, u64) {
        let swaps = &self.story.swaps;
        let some = MEMORY_SWAPS.min(swaps.len().div_ceil(2));
        (median(&swaps[..some]), median(&swaps[swaps.len() - some..]))
    }

    fn growth(&self) -> f64 {
        let (first, last) = self.memory();
        last as f64 / first.max(1) as f64 - 1.0
    }

    /// For a person.
    pub fn print(&self) {
        let story = self.story;
        let swaps = story.swaps.len();
        let of_capacity = story.capacity.map_or(String::new(), |most| format!(" of {most:.1} that it can answer"));
        println!("\n{} items; {:.1} searches a second{of_capacity}\n", story.items, story.rate);
        println!("{:<34} {:>9} {:>7} {:>9} {:>9} {:>7}", "searches", "sent", "failed", "p50", "p99", "ratio");
        let around = format!("around {swaps} swaps");
        let rows =
            [("steady", &self.steady), ("the second version is indexed", &self.indexing), (&around, &self.swapping)];
        for (name, searched) in rows.into_iter().chain(self.phases.iter().map(|(name, searched)| (*name, searched))) {
            let [p50, p99] = [0.5, 0.99].map(|quantile| searched.latency.at(quantile));
            println!(
                "{name:<34} {:>9} {:>7} {:>9} {:>9} {:>7.2}",
                searched.count,
                searched.failures(),
                millis(p50),
                millis(p99),
                ratio(p99, self.steady.latency.at(0.99)),
            );
        }
        let Pairs { swap, before, ratio } = self.pairs;
        println!(
            "p99 of the median swap {}, of the median time before one {}, of the median pair one over the other {ratio:.2}",
            millis(swap),
            millis(before),
        );
        for (code, count) in &self.all.failed {
            println!("failed with {code}: {count}");
        }
        println!(
            "\n{:<34} {} of {} answers (by words only: {}; item changes that failed: {})",
            "answered by a wrong version",
            self.wrong_version,
            self.all.count - self.all.failures(),
            self.words_only,
            story.seen.failed_writes
        );
        println!("\n{:<34} {:>9} {:>9} {:>9}", "the label moves", "p50", "p99", "longest");
        for (name, spread) in [
            ("until the new version answers", self.switches()),
            ("until it answers a text search", self.text_switches()),
            ("until the call is answered", self.calls()),
            ("rolled back, until it answers", self.rollbacks()),
            ("before: load, warm up, catch up", self.loads()),
            ("   loading", self.in_state(VersionState::Loading)),
            ("   warming", self.in_state(VersionState::Warming)),
            ("   indexing", self.in_state(VersionState::Indexing)),
            ("after: unload", Spread::of(story.swaps.iter().map(|swapped| swapped.unload))),
        ] {
            let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|quantile| millis(spread.at(quantile)));
            println!("{name:<34} {p50:>9} {p99:>9} {longest:>9}");
        }
        let (first, last) = self.memory();
        let most = story.seen.memory.iter().map(|sample| sample.bytes).max().unwrap_or_default();
        println!(
            "\nresident memory: {} after the first swaps, {} after the last ones (medians): {:+.1} %; {} at most",
            mebibytes(first),
            mebibytes(last),
            self.growth() * 100.0,
            mebibytes(most)
        );
        if story.others > BUSY {
            println!(
                "other processes used {:.0} % of this machine: measure again when it is idle",
                story.others * 100.0
            );
        }
    }

    /// For a program.
    pub fn line(&self) -> impl Serialize {
        let ms = |spread: &Spread, quantile| rounded(spread.at(quantile).as_secs_f64() * 1e3);
        let (rss_first_bytes, rss_last_bytes) = self.memory();
        Line {
            swaps: self.story.swaps.len(),
            requests: self.all.count,
            failed: self.all.failures(),
            p99_ratio: rounded(self.p99_ratio()),
            median_p99_ratio: rounded(self.pairs.ratio),
            switch_ms_p99: ms(&self.switches(), 0.99),
            rss_growth: rounded(self.growth()),
            wrong_version: self.wrong_version,
            words_only: self.words_only,
            failed_writes: self.story.seen.failed_writes,
            capacity_per_s: self.story.capacity.map(rounded),
            rate_per_s: rounded(self.story.rate),
            steady_ms_p50: ms(&self.steady.latency, 0.5),
            steady_ms_p99: ms(&self.steady.latency, 0.99),
            swaps_ms_p50: ms(&self.swapping.latency, 0.5),
            swaps_ms_p99: ms(&self.swapping.latency, 0.99),
            indexing_ms_p50: ms(&self.indexing.latency, 0.5),
            indexing_ms_p99: ms(&self.indexing.latency, 0.99),
            set_label_ms_p99: ms(&self.calls(), 0.99),
            text_switch_ms_p99: ms(&self.text_switches(), 0.99),
            rollback_ms_p99: ms(&self.rollbacks(), 0.99),
            load_ms_p50: ms(&self.loads(), 0.5),
            rss_first_bytes,
            rss_last_bytes,
            others_cpu: rounded(self.story.others),
        }
    }
}

/// When versions were in a state while they were swapped.
fn spans_in(story: &Story, state: VersionState) -> Vec<Span> {
    let changes = &story.seen.changes;
    let swapping = |change: &&Change| story.swaps.iter().any(|swapped| swapped.around.contains(change.at));
    let begun = changes.iter().filter(swapping).filter(|change| change.state == state);
    let ended = |begun: &Change| changes.iter().find(|next| next.version == begun.version && next.at > begun.at);
    begun.filter_map(|begun| Some(Span { from: begun.at, until: ended(begun)?.at })).collect()
}

fn median(swaps: &[Swapped]) -> u64 {
    let mut bytes: Vec<u64> = swaps.iter().map(|swapped| swapped.memory.bytes).collect();
    bytes.sort_unstable();
    bytes.get(bytes.len() / 2).copied().unwrap_or_default()
}

fn ratio(time: Duration, to: Duration) -> f64 {
    time.as_secs_f64() / to.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use vitrine_client::Code;

    use super::*;

    #[test]
    fn failed_searches_are_counted_by_code_and_not_timed() {
        let search = |outcome| Search { due: Instant::now(), latency: Duration::from_secs(9), outcome, probe: false };
        let searches = [search(Err(Code::Unavailable)), search(Err(Code::Unavailable))];
        let searched = Searched::of(&searches);
        assert_eq!((searched.count, searched.failures(), searched.failed["UNAVAILABLE"]), (2, 2, 2));
        assert_eq!(searched.latency.at(1.0), Duration::ZERO);
    }
}
