//! What goes into the scheduler and what comes out: requests, batches, and rows that end without running.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::Class;

/// What the scheduler hands back when it is a request's turn, or its end.
pub trait Ticket: Clone {
    /// True once nobody waits for the answer: rows that have not been launched will not be.
    fn is_cancelled(&self) -> bool;
}

/// Names a lane of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub(super) u64);

/// Rows that ask to be run.
pub struct Request<T> {
    /// Handed back with each part.
    pub ticket: T,
    /// The tokens of each row.
    pub tokens: Vec<usize>,
    /// How soon they are wanted.
    pub class: Class,
    /// No row is launched at this time or later.
    pub deadline: Option<Instant>,
}

/// Rows of one request, in a batch.
pub struct Part<T> {
    /// The request's.
    pub ticket: T,
    /// Which of its rows.
    pub rows: Range<usize>,
    /// The request's.
    pub deadline: Option<Instant>,
    /// When the request was admitted.
    pub admitted: Instant,
}

/// Rows to run together.
pub struct Batch<T> {
    /// Whose rows they are.
    pub lane: LaneId,
    /// How soon they are wanted.
    pub class: Class,
    /// The rows, in the order to run them.
    pub parts: Vec<Part<T>>,
    /// Rows in all parts.
    pub rows: usize,
    /// Tokens in all rows.
    pub tokens: usize,
    /// The guessed cost in nanoseconds, before the lane's correction.
    pub(super) cost: u64,
    /// The estimated device time in nanoseconds.
    pub(super) charged: u64,
}

impl<T> Batch<T> {
    /// Estimated device time.
    #[must_use]
    pub fn estimate(&self) -> Duration {
        Duration::from_nanos(self.charged)
    }
}

/// Why admitted rows will not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Their deadline passed.
    Expired,
    /// Nobody waits for them.
    Cancelled,
    /// The device closed before their turn.
    Closed,
}

impl End {
    /// The name used in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Closed => "closed",
        }
    }
}

/// Admitted rows that will not run.
pub struct Ended<T> {
    /// Where they waited.
    pub lane: LaneId,
    /// The request's.
    pub ticket: T,
    /// Which of its rows; those before had been launched.
    pub rows: Range<usize>,
    /// The request's.
    pub class: Class,
    /// Why.
    pub end: End,
}

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No room now.
    QueueFull {
        /// Estimated time until half of the queue has run, or as much as this request needs.
        retry_after: Duration,
    },
    /// Its deadline has passed, or would before its rows could start.
    DeadlineExceeded,
    /// It could never be admitted.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The lane is closed or closing.
    Closed,
}
