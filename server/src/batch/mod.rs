//! Batching: queues of rows, and the device workers that run them.
//!
//! A [`Batcher`] is one device: a named thread that owns it and everything loaded on it. Each loaded version has a
//! [`Lane`] there; [`Lane::run`] queues rows and answers with their outputs. The worker *pulls*: whenever it is free it
//! forms a batch from what waits at that instant, so an idle device answers at the speed of one run, and a busy one
//! fills its batches by itself. No batch waits for a timer.
//!
//! - [`scheduler`]: who is admitted and what runs next. No threads, no clock, no tokio: time is passed in.
//!   [`request`]: what goes into it and comes out.
//! - [`device`]: the handles, and the lock between callers and the worker. `worker`: the thread.
//! - [`runner`]: what a loaded model has to offer. [`options`]: the bounds. [`metrics`]: the names of the figures.

pub mod device;
pub mod devices;
mod job;
pub mod metrics;
pub mod options;
mod queue;
pub mod request;
pub mod runner;
pub mod scheduler;
mod worker;

use std::time::Duration;

pub use device::{Batcher, Lane, ShutdownTimedOut};
pub use devices::Devices;
pub use options::{DeviceOptions, LaneOptions, RowCost};
pub use runner::{RunError, Runner};

/// One unit of model input: token ids.
pub type Row = Vec<u32>;

/// What a model makes of one row.
pub type Output = Vec<f32>;

/// How soon rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Someone waits for the answer.
    Interactive,
    /// Indexing and imports: takes the device time that interactive rows leave.
    Bulk,
}

impl Class {
    /// Both classes, the more urgent first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];

    /// The name used in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

/// Why rows have no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The lane's queue has no room for this request now.
    #[error("the queue is full; try again in {} ms", retry_after.as_millis())]
    QueueFull {
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// The deadline passed, or would have passed before the rows could start. They were not computed.
    #[error("the deadline passed before the rows could run")]
    DeadlineExceeded,
    /// The request can never be admitted: it is larger than a queue, or one of its rows is larger than a batch.
    #[error("the request is too large: {what} is {size}, the most is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The lane or its device is closing.
    #[error("the model is no longer loaded")]
    Unavailable,
    /// The device had not the memory that the run takes; other batches are not affected.
    #[error("the device has not the memory for it: {0}")]
    OutOfMemory(String),
    /// The run failed; other batches are not affected.
    #[error("the run failed: {0}")]
    Failed(String),
}
