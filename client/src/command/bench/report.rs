//! What came of a load: how many calls were answered, how fast, and what the others failed with.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use hdrhistogram::Histogram;
use vitrine_client::{
    Error, code_name,
    load::{self, Call, Load, Pace},
};

/// The figures.
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

impl Report {
    /// Makes calls as `load` says, and reports.
    pub async fn of<C, F>(load: Load, call: C) -> Result<Self>
    where
        C: Fn(u64) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let mut report = Self::new(match load.pace {
            Pace::Rate(rate) => Some(rate),
            Pace::Callers(_) => None,
        })?;
        let started = Instant::now();
        let mut calls = load::start(load, call)?;
        while let Some(call) = calls.next().await {
            report.record(&call);
        }
        report.elapsed = started.elapsed();
        Ok(report)
    }

    fn new(intended_rate: Option<f64>) -> Result<Self> {
        // From a microsecond to an hour, to three figures.
        let histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3)?;
        Ok(Self { histogram, errors: BTreeMap::new(), elapsed: Duration::ZERO, intended_rate })
    }

    fn record(&mut self, call: &Call<()>) {
        match &call.outcome {
            Ok(()) => self.histogram.saturating_record(u64::try_from(call.latency.as_micros()).unwrap_or(u64::MAX)),
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
    use super::*;

    fn call(latency: Duration, outcome: Result<(), Error>) -> Call<()> {
        Call { due: Instant::now(), latency, outcome }
    }

    #[test]
    fn the_percentiles_of_a_thousand_even_steps_are_what_they_must_be() {
        let mut report = Report::new(None).unwrap();
        for millis in 1..=1000 {
            report.record(&call(Duration::from_millis(millis), Ok(())));
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
        report.record(&call(Duration::from_secs(9), busy()));
        report.record(&call(Duration::from_secs(9), busy()));
        report.record(&call(Duration::from_millis(1), Ok(())));
        assert_eq!(report.errors, BTreeMap::from([("UNAVAILABLE", 2)]));
        assert_eq!((report.answered(), report.completed()), (1, 3));
        assert!(report.latency().into_iter().all(|(_, value)| value <= Duration::from_millis(2)));
    }
}
