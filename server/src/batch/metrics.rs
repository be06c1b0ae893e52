//! The names of the batcher's figures, all in one place, and the handles that record them.
//!
//! Every stage is measured by its own reading of the clock: queueing from admission to the batch's forming, the run from
//! launch to return. Nothing is computed by subtraction.

use std::sync::Arc;

use metrics::{
    Counter, Gauge, Histogram, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use super::Class;

/// Seconds from a request's admission to the forming of the batch with its first row. By device, lane and class.
pub const QUEUE_SECONDS: &str = "vitrine_batch_queue_seconds";
/// Seconds that a batch ran. By device, lane and class.
pub const RUN_SECONDS: &str = "vitrine_batch_run_seconds";
/// Rows in a batch. By device, lane and class.
pub const BATCH_ROWS: &str = "vitrine_batch_rows";
/// Tokens in a batch. By device, lane and class.
pub const BATCH_TOKENS: &str = "vitrine_batch_tokens";
/// Rows that wait. By device, lane and class.
pub const QUEUED_ROWS: &str = "vitrine_batch_queued_rows";
/// Requests refused at admission. By device, lane, class and reason.
pub const REFUSED: &str = "vitrine_batch_refused_total";
/// Admitted requests that ended without having run to the end. By device, lane, class and reason.
pub const ENDED: &str = "vitrine_batch_ended_total";
/// Batches that failed. By device, lane, class and reason (`error`, `panic`, `out_of_memory`).
pub const FAILED: &str = "vitrine_batch_failed_total";

/// Tells the metrics recorder what the figures mean. Call it once, after installing the recorder.
pub fn describe() {
    describe_histogram!(QUEUE_SECONDS, Unit::Seconds, "time from admission to the forming of the first batch");
    describe_histogram!(RUN_SECONDS, Unit::Seconds, "time a batch ran");
    describe_histogram!(BATCH_ROWS, Unit::Count, "rows in a batch");
    describe_histogram!(BATCH_TOKENS, Unit::Count, "tokens in a batch");
    describe_gauge!(QUEUED_ROWS, Unit::Count, "rows that wait");
    describe_counter!(REFUSED, Unit::Count, "requests refused at admission");
    describe_counter!(ENDED, Unit::Count, "admitted requests that expired, were cancelled or were closed");
    describe_counter!(FAILED, Unit::Count, "batches that failed");
}

/// The figures of one lane.
pub(super) struct LaneMetrics {
    interactive: ClassMetrics,
    bulk: ClassMetrics,
}

impl LaneMetrics {
    pub fn new(device: &Arc<str>, lane: &Arc<str>) -> Self {
        let of = |class| ClassMetrics::new(device, lane, class);
        Self { interactive: of(Class::Interactive), bulk: of(Class::Bulk) }
    }

    pub fn class(&self, class: Class) -> &ClassMetrics {
        match class {
            Class::Interactive => &self.interactive,
            Class::Bulk => &self.bulk,
        }
    }
}

/// The figures of one class of a lane.
pub(super) struct ClassMetrics {
    pub queue_seconds: Histogram,
    pub run_seconds: Histogram,
    pub rows: Histogram,
    pub tokens: Histogram,
    pub queued_rows: Gauge,
    labels: [(&'static str, SharedString); 3],
}

impl ClassMetrics {
    fn new(device: &Arc<str>, lane: &Arc<str>, class: Class) -> Self {
        let labels = [
            ("device", SharedString::from_shared(Arc::clone(device))),
            ("lane", SharedString::from_shared(Arc::clone(lane))),
            ("class", SharedString::const_str(class.name())),
        ];
        Self {
            queue_seconds: histogram!(QUEUE_SECONDS, &labels),
            run_seconds: histogram!(RUN_SECONDS, &labels),
            rows: histogram!(BATCH_ROWS, &labels),
            tokens: histogram!(BATCH_TOKENS, &labels),
            queued_rows: gauge!(QUEUED_ROWS, &labels),
            labels,
        }
    }

    pub fn refused(&self, reason: &'static str) -> Counter {
        counter!(REFUSED, &self.with_reason(reason))
    }

    pub fn ended(&self, reason: &'static str) -> Counter {
        counter!(ENDED, &self.with_reason(reason))
    }

    pub fn failed(&self, reason: &'static str) -> Counter {
        counter!(FAILED, &self.with_reason(reason))
    }

    fn with_reason(&self, reason: &'static str) -> [(&'static str, SharedString); 4] {
        let [device, lane, class] = self.labels.clone();
        [device, lane, class, ("reason", SharedString::const_str(reason))]
    }
}
