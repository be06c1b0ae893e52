//! The bounds of a device and of its lanes.

use std::{sync::Arc, time::Duration};

/// What an operator sets for one device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceOptions {
    /// The longest batch of bulk rows, in estimated device time: the most that an interactive row, arriving at the
    /// worst moment, waits because of indexing. A single row may take longer.
    pub bulk_batch_time: Duration,
    /// The same when there has been no interactive row for a second. Longer batches use the device better.
    pub quiet_bulk_batch_time: Duration,
    /// The part of the device's time that bulk rows get while interactive rows would take all of it. From 0 (none) up
    /// to, but not including, 1.
    pub bulk_share: f64,
    /// The most that bulk rows get of the time that interactive rows leave while they come one after the other: a row that comes while a bulk batch
    /// runs waits for its end, and what that evicts from caches must be read again. Above 0, up to 1.
    pub bulk_pace: f64,
    /// The device time that a lane may use in its turn before the next lane's turn comes.
    pub quantum: Duration,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            bulk_batch_time: Duration::from_millis(2),
            quiet_bulk_batch_time: Duration::from_millis(250),
            bulk_share: 0.1,
            bulk_pace: 0.25,
            quantum: Duration::from_millis(10),
        }
    }
}

/// The bounds of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// The most rows in a batch.
    pub max_batch_rows: usize,
    /// The most tokens in a batch, and so in a row.
    pub max_batch_tokens: usize,
    /// The most rows that may wait, in each class. A request of n rows counts n.
    pub max_queue_rows: usize,
    /// The most tokens that may wait, in each class: bounds the queue's memory at 4 bytes a token.
    pub max_queue_tokens: usize,
    /// A first guess of what a row costs; runs correct it.
    pub cost: RowCost,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            max_batch_rows: 256,
            max_batch_tokens: 16_384,
            max_queue_rows: 4_096,
            max_queue_tokens: 1 << 20,
            cost: RowCost::default(),
        }
    }
}

/// Estimated device time of a row, by its number of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowCost {
    /// For 0, 1, 2 … tokens.
    by_tokens: Arc<[Duration]>,
    /// For each token more.
    beyond: Duration,
}

impl RowCost {
    /// Tabulates `cost` for rows of up to `max_tokens` tokens; longer rows cost as much as that.
    pub fn from_fn(max_tokens: usize, cost: impl FnMut(usize) -> Duration) -> Self {
        Self { by_tokens: (0..=max_tokens).map(cost).collect(), beyond: Duration::ZERO }
    }

    /// Rows cost as much as they have tokens, of which one costs this.
    #[must_use]
    pub fn of_each_token(cost: Duration) -> Self {
        Self { by_tokens: Arc::default(), beyond: cost }
    }

    /// The estimate for a row of `tokens` tokens; never zero.
    #[must_use]
    pub fn of(&self, tokens: usize) -> Duration {
        let cost = self.by_tokens.get(tokens).copied().unwrap_or_else(|| {
            let more = (tokens + 1).saturating_sub(self.by_tokens.len()) as f64;
            self.by_tokens.last().copied().unwrap_or_default() + self.beyond.mul_f64(more)
        });
        cost.max(Duration::from_nanos(1))
    }
}

impl Default for RowCost {
    /// About what a six-layer encoder takes on a few CPU cores.
    fn default() -> Self {
        Self::from_fn(512, |tokens| Duration::from_micros(100 * tokens as u64 + 500))
    }
}
