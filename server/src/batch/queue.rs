//! What waits in one class of a lane, what it costs, and cutting a batch off its front.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    Class,
    options::{LaneOptions, RowCost},
    request::{End, Ended, LaneId, Part, Request, Ticket},
};

/// How much waits, runs or is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub rows: usize,
    pub tokens: usize,
    /// Nanoseconds of device time as guessed at first, before the lane's correction: so sums stay exact when that
    /// changes.
    pub cost: u64,
}

impl Load {
    pub fn row(tokens: usize, cost: &RowCost) -> Self {
        Self { rows: 1, tokens, cost: nanos(cost.of(tokens)) }
    }

    pub fn of(rows: &[Self]) -> Self {
        let mut total = Self::default();
        for row in rows {
            total.add(*row);
        }
        total
    }

    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.tokens += other.tokens;
        self.cost += other.cost;
    }

    fn remove(&mut self, other: Self) {
        self.rows -= other.rows;
        self.tokens -= other.tokens;
        self.cost -= other.cost;
    }
}

/// Nanoseconds, small enough that thousands of such times can be added.
pub(super) fn nanos(duration: Duration) -> u64 {
    const MOST: u64 = 1 << 48;
    u64::try_from(duration.as_nanos()).unwrap_or(MOST).min(MOST)
}

/// A request of which rows wait.
struct Pending<T> {
    ticket: T,
    rows: Vec<Load>,
    /// Rows before this one have been put into batches.
    next: usize,
    deadline: Option<Instant>,
    admitted: Instant,
}

impl<T: Ticket> Pending<T> {
    /// Why no more of it is to run, if so.
    fn end(&self, now: Instant) -> Option<End> {
        if self.ticket.is_cancelled() {
            Some(End::Cancelled)
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            Some(End::Expired)
        } else {
            None
        }
    }

    fn waiting(&self) -> Load {
        Load::of(&self.rows[self.next..])
    }

    fn part(&self, rows: Range<usize>) -> Part<T> {
        Part { ticket: self.ticket.clone(), rows, deadline: self.deadline, admitted: self.admitted }
    }
}

/// What waits in one class of a lane.
pub(super) struct ClassQueue<T> {
    lane: LaneId,
    class: Class,
    pending: VecDeque<Pending<T>>,
    waiting: Load,
    /// Device time, in nanoseconds, that this queue may still use in its turn. Below zero: it has used more, which the
    /// next rounds repay.
    pub deficit: i64,
    /// Device time measured over device time guessed: a moving average. Absent before the first run. Each class has its
    /// own, as batches of different sizes use a device differently well.
    pub correction: Option<f64>,
}

impl<T: Ticket> ClassQueue<T> {
    pub fn new(lane: LaneId, class: Class) -> Self {
        Self { lane, class, pending: VecDeque::new(), waiting: Load::default(), deficit: 0, correction: None }
    }

    /// How much waits.
    pub fn waiting(&self) -> Load {
        self.waiting
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.rows == 0
    }

    /// Takes a request in, unchecked.
    pub fn push(&mut self, request: Request<T>, rows: Vec<Load>, now: Instant) {
        self.waiting.add(Load::of(&rows));
        let Request { ticket, deadline, tokens: _, class: _ } = request;
        self.pending.push_back(Pending { ticket, rows, next: 0, deadline, admitted: now });
    }

    /// Drops requests off the front until one is to run: afterwards the queue is empty or its first row is live.
    pub fn trim(&mut self, now: Instant, ended: &mut Vec<Ended<T>>) {
        while let Some(end) = self.pending.front().and_then(|first| first.end(now)) {
            if let Some(first) = self.pending.pop_front() {
                ended.push(self.end(first, end));
            }
        }
    }

    /// Drops every request that is not to run, wherever it stands.
    pub fn sweep(&mut self, now: Instant, ended: &mut Vec<Ended<T>>) {
        for pending in std::mem::take(&mut self.pending) {
            match pending.end(now) {
                Some(end) => ended.push(self.end(pending, end)),
                None => self.pending.push_back(pending),
            }
        }
    }

    /// Drops all that waits.
    pub fn clear(&mut self, ended: &mut Vec<Ended<T>>) {
        for pending in std::mem::take(&mut self.pending) {
            ended.push(self.end(pending, End::Closed));
        }
    }

    fn end(&mut self, pending: Pending<T>, end: End) -> Ended<T> {
        self.waiting.remove(pending.waiting());
        let rows = pending.next..pending.rows.len();
        Ended { lane: self.lane, class: self.class, ticket: pending.ticket, rows, end }
    }

    /// Cuts a batch off the front: as many rows as fit the lane's bounds and, after the first row, `max_cost`.
    ///
    /// Rows keep their order: the first that does not fit closes the batch. A request may be split between its rows, so
    /// a large one delays its neighbours by a batch and not by itself.
    pub fn cut(
        &mut self,
        options: &LaneOptions,
        max_cost: u64,
        now: Instant,
        ended: &mut Vec<Ended<T>>,
    ) -> (Vec<Part<T>>, Load) {
        let mut parts = Vec::new();
        let mut load = Load::default();
        loop {
            self.trim(now, ended);
            let Some(first) = self.pending.front_mut() else { break };
            let start = first.next;
            for &row in &first.rows[start..] {
                let fits = load.rows < options.max_batch_rows
                    && load.tokens + row.tokens <= options.max_batch_tokens
                    && load.cost + row.cost <= max_cost;
                if !fits && load.rows > 0 {
                    break;
                }
                load.add(row);
                first.next += 1;
            }
            if first.next > start {
                parts.push(first.part(start..first.next));
            }
            if first.next < first.rows.len() {
                break;
            }
            self.pending.pop_front();
        }
        self.waiting.remove(load);
        (parts, load)
    }
}
