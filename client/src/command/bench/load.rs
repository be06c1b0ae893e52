//! Sending calls at a rate or from a number of callers, and what came of it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
};
use vitrine_client::{Error, code_name};

/// How many calls may be on their way in an open loop; more would measure this machine's memory. Calls that had to
/// wait for a place still count from the moment they were due.
const MAX_IN_FLIGHT: usize = 10_000;

/// When calls are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Open loop: so many a second.
    Rate(f64),
    /// Closed loop: so many callers.
    Callers(usize),
}

/// What to send and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub pace: Pace,
    pub duration: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Of the answered calls, in microseconds.
    histogram: Histogram<u64>,
    /// Failed calls by status code.
    pub errors: BTreeMap<&'static str, u64>,
    /// From the first call to the last answer.
    pub elapsed: Duration,
    /// For an open loop.
    pub intended_rate: Option<f64>,
}

type Outcome = (Duration, Result<(), Error>);

/// Makes calls, numbered from 0, as `load` says.
pub async fn run<C, F>(load: Load, call: C) -> Result<Report>
where
    C: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let started = Instant::now();
    let (outcomes, mut received) = mpsc::unbounded_channel();
    let intended_rate = match load.pace {
        Pace::Rate(rate) => {
            let handle = Handle::current();
            let send = move || open_loop(&handle, rate, load.duration, &call, &outcomes);
            // A thread of its own keeps time to tens of microseconds; the runtime's timer only to a millisecond.
            std::thread::Builder::new().name("bench-pace".to_owned()).spawn(send)?;
            Some(rate)
        }
        Pace::Callers(callers) => {
            closed_loop(callers, load.duration, &Arc::new(call), &outcomes);
            drop(outcomes);
            None
        }
    };
    let mut report = Report::new(intended_rate)?;
    while let Some((latency, outcome)) = received.recv().await {
        report.record(latency, &outcome);
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Sends calls when they are due, however slow the answers are. Latency counts from the moment a call was due, so
/// that a stalled server is charged for the calls that had to wait (no coordinated omission).
fn open_loop<C, F>(handle: &Handle, rate: f64, duration: Duration, call: &C, outcomes: &mpsc::UnboundedSender<Outcome>)
where
    C: Fn(u64) -> F,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let started = Instant::now();
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    for turn in 0.. {
        let due = due(turn, rate);
        if due >= duration {
            return;
        }
        std::thread::sleep((started + due).saturating_duration_since(Instant::now()));
        let Ok(place) = handle.block_on(Arc::clone(&places).acquire_owned()) else { return };
        let (answer, outcomes) = (call(turn), outcomes.clone());
        handle.spawn(async move {
            let outcome = answer.await;
            drop(place);
            // Fails only when nobody wants the report any more.
            let _ = outcomes.send(((started + due).elapsed(), outcome));
        });
    }
}

/// When a call is due, from the beginning.
fn due(turn: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(turn as f64 / rate)
}

/// Each caller sends its next call when its last one is answered.
fn closed_loop<C, F>(callers: usize, duration: Duration, call: &Arc<C>, outcomes: &mpsc::UnboundedSender<Outcome>)
where
    C: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let started = Instant::now();
    for caller in 0..callers as u64 {
        let (call, outcomes) = (Arc::clone(call), outcomes.clone());
        tokio::spawn(async move {
            for round in 0.. {
                let sent = Instant::now();
                if started.elapsed() >= duration {
                    return;
                }
                let outcome = call(round * callers as u64 + caller).await;
                if outcomes.send((sent.elapsed(), outcome)).is_err() {
                    return;
                }
            }
        });
    }
}

impl Report {
    fn new(intended_rate: Option<f64>) -> Result<Self> {
        // From a microsecond to an hour, to three figures.
        let histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3)?;
        Ok(Self { histogram, errors: BTreeMap::new(), elapsed: Duration::ZERO, intended_rate })
    }

    fn record(&mut self, latency: Duration, outcome: &Result<(), Error>) {
        match outcome {
            Ok(()) => self.histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
            Err(error) => *self.errors.entry(code_name(error.code())).or_default() += 1,
        }
    }

    /// How many calls were answered well.
    pub fn answered(&self) -> u64 {
        self.histogram.len()
    }

    /// How many calls ended, well or not.
    pub fn completed(&self) -> u64 {
        self.answered() + self.errors.values().sum::<u64>()
    }

    /// Calls answered well a second.
    pub fn achieved_rate(&self) -> f64 {
        self.answered() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// How long the answered calls took.
    pub fn latency(&self) -> [(&'static str, Duration); 6] {
        let at = |quantile| Duration::from_micros(self.histogram.value_at_quantile(quantile));
        [
            ("mean", Duration::from_secs_f64(self.histogram.mean() / 1e6)),
            ("p50", at(0.5)),
            ("p90", at(0.9)),
            ("p99", at(0.99)),
            ("p99.9", at(0.999)),
            ("max", Duration::from_micros(self.histogram.max())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_percentiles_of_a_thousand_even_steps_are_what_they_must_be() {
        let mut report = Report::new(None).unwrap();
        for millis in 1..=1000 {
            report.record(Duration::from_millis(millis), &Ok(()));
        }
        report.elapsed = Duration::from_secs(2);
        let near = |name: &str, millis: f64| {
            let (_, value) = report.latency().into_iter().find(|(n, _)| *n == name).unwrap();
            assert!((value.as_secs_f64() * 1e3 / millis - 1.0).abs() < 2e-3, "{name}: {value:?}");
        };
        near("p50", 500.0);
        near("p90", 900.0);
        near("p99", 990.0);
        near("p99.9", 999.0);
        near("max", 1000.0);
        near("mean", 500.5);
        assert!((report.achieved_rate() - 500.0).abs() < 1e-9);
    }

    #[test]
    fn failed_calls_are_counted_by_code_and_not_timed() {
        let mut report = Report::new(None).unwrap();
        let busy = || Err(Error::Unreachable { server: String::new(), reason: String::new() });
        report.record(Duration::from_secs(9), &busy());
        report.record(Duration::from_secs(9), &busy());
        report.record(Duration::from_millis(1), &Ok(()));
        assert_eq!(report.errors, BTreeMap::from([("UNAVAILABLE", 2)]));
        assert_eq!((report.answered(), report.completed()), (1, 3));
        assert!(report.latency().into_iter().all(|(_, value)| value <= Duration::from_millis(2)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stalled_server_is_charged_for_the_calls_that_were_due() {
        // The first call is answered together with the last one: all that were due in between waited for it.
        let load = Load { pace: Pace::Rate(1000.0), duration: Duration::from_millis(50) };
        let gate = Arc::new(tokio::sync::Notify::new());
        let sent = Arc::new(AtomicU64::new(0));
        let call = move |turn| {
            let gate = Arc::clone(&gate);
            sent.fetch_add(1, Ordering::SeqCst);
            async move {
                if turn == 49 {
                    gate.notify_one();
                } else if turn == 0 {
                    gate.notified().await;
                }
                Ok(())
            }
        };
        let report = run(load, call).await.unwrap();
        assert_eq!(report.answered(), 50);
        assert!(report.latency()[5].1 >= Duration::from_millis(48), "{:?}", report.latency());
    }

    #[tokio::test]
    async fn a_closed_loop_numbers_its_calls_without_gaps_for_each_caller() {
        let load = Load { pace: Pace::Callers(4), duration: Duration::from_millis(5) };
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let turns = Arc::clone(&seen);
        let report = run(load, move |turn| {
            turns.lock().unwrap().push(turn);
            async {
                tokio::task::yield_now().await;
                Ok(())
            }
        });
        let answered = report.await.unwrap().answered();
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len() as u64, answered);
    }

    proptest! {
        #[test]
        fn calls_are_due_evenly(turn in 0_u64..1_000_000, rate in 0.1_f64..100_000.0) {
            let step = due(turn + 1, rate).as_secs_f64() - due(turn, rate).as_secs_f64();
            prop_assert!((step * rate - 1.0).abs() < 1e-2);
        }
    }
}
