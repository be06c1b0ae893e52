//! The scheduling core of one device: who is admitted, and what runs next.
//!
//! It has no threads, no clock and no tokio: callers pass the time in, and tests pass a made-up one.
//!
//! **Lanes** share the device by deficit round robin, charged in device time: a turn is worth
//! [`quantum`](DeviceOptions::quantum), a lane runs while it has some left, and a batch that takes longer puts the lane
//! into debt that later rounds repay. So a lane of second-long batches and one of millisecond-long ones get the same
//! time, not the same number of batches. (Shreedhar and Varghese, *Efficient fair queuing using deficit round robin*,
//! 1996; with overdraft, as a batch is formed when it is launched and not before.)
//!
//! **Classes**: a batch is of one class. Interactive rows of any lane go before bulk rows of any lane; bulk batches are
//! kept short, and shorter where an interactive row came lately: the next may come just after the launch. While they come one after the other,
//! bulk gets [`bulk_pace`](DeviceOptions::bulk_pace) of the time that they leave. It cannot starve either: while it waits, it is credited
//! [`bulk_share`](DeviceOptions::bulk_share) of the device's time. A credit worth a batch is spent as soon as no interactive row waits; where one
//! always does, bulk goes first once it is worth a few.
//!
//! **Admission** is bounded in rows and tokens for each lane and class, so bulk rows never take the room of interactive
//! ones. A request whose estimated *wait* ends after its deadline is refused at once. Its own run is not counted: an
//! idle device always tries, and so corrects an estimate that was too high.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Class,
    options::{DeviceOptions, LaneOptions},
    queue::{ClassQueue, Load, nanos},
    request::{Batch, Ended, LaneId, Refusal, Request, Ticket},
};

struct LaneQueue<T> {
    options: LaneOptions,
    interactive: ClassQueue<T>,
    bulk: ClassQueue<T>,
    closing: bool,
}

impl<T: Ticket> LaneQueue<T> {
    fn new(id: LaneId, options: LaneOptions) -> Self {
        let interactive = ClassQueue::new(id, Class::Interactive);
        let bulk = ClassQueue::new(id, Class::Bulk);
        Self { options, interactive, bulk, closing: false }
    }

    fn class(&self, class: Class) -> &ClassQueue<T> {
        match class {
            Class::Interactive => &self.interactive,
            Class::Bulk => &self.bulk,
        }
    }

    fn class_mut(&mut self, class: Class) -> &mut ClassQueue<T> {
        match class {
            Class::Interactive => &mut self.interactive,
            Class::Bulk => &mut self.bulk,
        }
    }

    fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.bulk.is_empty()
    }

    /// The class's own; before its first run the other's.
    fn correction(&self, class: Class) -> f64 {
        let own = self.class(class).correction;
        own.or(self.interactive.correction).or(self.bulk.correction).unwrap_or(1.0)
    }

    /// Nanoseconds of device time for a guessed cost.
    fn corrected(&self, class: Class, cost: u64) -> u64 {
        (cost as f64 * self.correction(class)) as u64
    }

    /// Nanoseconds of device time for all that waits in a class.
    fn backlog(&self, class: Class) -> u64 {
        self.corrected(class, self.class(class).waiting().cost)
    }
}

/// After so long without an interactive request, bulk batches may be longer.
const QUIET: Duration = Duration::from_secs(1);

/// A credit worth so many bulk batches is spent though interactive rows wait: there has been no pause for it.
const OVERDUE: u64 = 5;

/// After so long without an interactive request, the device has more time than they need.
pub(super) const LULL: Duration = Duration::from_millis(20);

/// The queues of one device.
pub struct Scheduler<T> {
    options: DeviceOptions,
    lanes: BTreeMap<LaneId, LaneQueue<T>>,
    next_lane: u64,
    /// Whose turn it is, for each class.
    turn: [LaneId; 2],
    /// Device time that waiting bulk rows have been promised, in nanoseconds.
    bulk_credit: u64,
    busy_until: Option<Instant>,
    last_interactive: Option<Instant>,
    /// When the last bulk batch was formed, and until when there is to be no other while interactive rows come.
    last_bulk: Option<Instant>,
    bulk_rests_until: Option<Instant>,
    ended: Vec<Ended<T>>,
}

impl<T: Ticket> Scheduler<T> {
    /// A device without lanes.
    #[must_use]
    pub fn new(options: DeviceOptions) -> Self {
        let first = LaneId(0);
        Self {
            options,
            lanes: BTreeMap::new(),
            next_lane: 0,
            turn: [first; 2],
            bulk_credit: 0,
            busy_until: None,
            last_interactive: None,
            last_bulk: None,
            bulk_rests_until: None,
            ended: Vec::new(),
        }
    }

    /// Adds a lane.
    pub fn open(&mut self, options: LaneOptions) -> LaneId {
        let id = LaneId(self.next_lane);
        self.next_lane += 1;
        self.lanes.insert(id, LaneQueue::new(id, options));
        id
    }

    /// Lets no more requests into a lane. What waits there still runs.
    pub fn close(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.closing = true;
        }
    }

    /// As [`close`](Self::close), for every lane.
    pub fn close_all(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.closing = true;
        }
    }

    /// Drops all that waits, everywhere.
    pub fn abandon(&mut self) {
        self.close_all();
        for lane in self.lanes.values_mut() {
            lane.interactive.clear(&mut self.ended);
            lane.bulk.clear(&mut self.ended);
        }
    }

    /// Removes the lanes that are closing and have nothing left to run, and names them.
    pub fn remove_drained(&mut self, now: Instant) -> Vec<LaneId> {
        for lane in self.lanes.values_mut().filter(|lane| lane.closing) {
            lane.interactive.trim(now, &mut self.ended);
            lane.bulk.trim(now, &mut self.ended);
        }
        let drained = |lane: &LaneQueue<T>| lane.closing && lane.is_empty();
        let ids: Vec<LaneId> = self.lanes.iter().filter(|(_, lane)| drained(lane)).map(|(&id, _)| id).collect();
        for id in &ids {
            self.lanes.remove(id);
        }
        ids
    }

    /// The requests that have ended without running since this was last asked.
    pub fn take_ended(&mut self) -> Vec<Ended<T>> {
        std::mem::take(&mut self.ended)
    }

    /// Rows that wait in a lane.
    #[must_use]
    pub fn waiting_rows(&self, lane: LaneId, class: Class) -> usize {
        self.lanes.get(&lane).map_or(0, |lane| lane.class(class).waiting().rows)
    }

    /// Lets a request into a lane's queue, or says why not.
    pub fn admit(&mut self, id: LaneId, request: Request<T>, now: Instant) -> Result<(), Refusal> {
        let class = request.class;
        let lane = self.lanes.get_mut(&id).filter(|lane| !lane.closing).ok_or(Refusal::Closed)?;
        if request.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refusal::DeadlineExceeded);
        }
        let rows: Vec<Load> = request.tokens.iter().map(|&tokens| Load::row(tokens, &lane.options.cost)).collect();
        let load = Load::of(&rows);
        check_size(&rows, load, &lane.options)?;

        let (most_rows, most_tokens) = (lane.options.max_queue_rows, lane.options.max_queue_tokens);
        let room = |waiting: Load| waiting.rows + load.rows <= most_rows && waiting.tokens + load.tokens <= most_tokens;
        let queue = lane.class_mut(class);
        if !room(queue.waiting()) {
            // Requests that have expired or been cancelled keep nobody out.
            queue.sweep(now, &mut self.ended);
            if !room(queue.waiting()) {
                return Err(Refusal::QueueFull { retry_after: self.retry_after(id, class, load, now) });
            }
        }
        if request.deadline.is_some_and(|deadline| now + self.wait(id, class, load.cost, now) >= deadline) {
            return Err(Refusal::DeadlineExceeded);
        }
        if class == Class::Interactive {
            self.last_interactive = Some(now);
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.class_mut(class).push(request, rows, now);
        }
        Ok(())
    }

    /// Estimated time until a new request's last row would start, but for the device time of the request itself.
    fn wait(&self, id: LaneId, class: Class, own: u64, now: Instant) -> Duration {
        let running = self.busy_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let mut ahead = self.ahead(id, class, own);
        match class {
            Class::Interactive => {
                if self.waits(Class::Bulk) {
                    ahead = (ahead as f64 / (1.0 - self.share())) as u64;
                }
            }
            Class::Bulk => {
                ahead += self.lanes.values().map(|lane| lane.backlog(Class::Interactive)).sum::<u64>();
            }
        }
        running + Duration::from_nanos(ahead)
    }

    /// Device time that goes before `own` more cost in a lane: its own queue, and from each other lane as much, at most.
    fn ahead(&self, id: LaneId, class: Class, own: u64) -> u64 {
        let Some(lane) = self.lanes.get(&id) else { return 0 };
        let queued = lane.backlog(class);
        let turn = queued + lane.corrected(class, own);
        let others = self.lanes.iter().filter(|(other, _)| **other != id);
        queued + others.map(|(_, other)| other.backlog(class).min(turn)).sum::<u64>()
    }

    fn retry_after(&self, id: LaneId, class: Class, load: Load, now: Instant) -> Duration {
        let Some(lane) = self.lanes.get(&id) else { return Duration::ZERO };
        let waiting = lane.class(class).waiting();
        let part = |waiting: usize, new: usize, limit: usize| {
            (waiting + new).saturating_sub(limit) as f64 / (waiting.max(1)) as f64
        };
        let needed = part(waiting.rows, load.rows, lane.options.max_queue_rows)
            .max(part(waiting.tokens, load.tokens, lane.options.max_queue_tokens))
            .clamp(0.5, 1.0);
        self.wait(id, class, 0, now).mul_f64(needed).max(Duration::from_millis(1))
    }

    fn share(&self) -> f64 {
        self.options.bulk_share.clamp(0.0, 0.9)
    }

    fn waits(&self, class: Class) -> bool {
        self.lanes.values().any(|lane| !lane.class(class).is_empty())
    }

    /// Forms the next batch from what waits now. `None`: nothing that is to run waits. Call
    /// [`finished`](Self::finished) before asking again.
    pub fn next_batch(&mut self, now: Instant) -> Option<Batch<T>> {
        for lane in self.lanes.values_mut() {
            lane.interactive.trim(now, &mut self.ended);
            lane.bulk.trim(now, &mut self.ended);
        }
        let class = self.next_class(now)?;
        let id = self.next_lane(class)?;
        let quiet = self.last_interactive.is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        let bulk_batch_time = if quiet { self.options.quiet_bulk_batch_time } else { self.options.bulk_batch_time };
        let lane = self.lanes.get_mut(&id)?;
        let max_cost = match class {
            Class::Interactive => u64::MAX,
            Class::Bulk => (nanos(bulk_batch_time) as f64 / lane.correction(class)) as u64,
        };
        let queue = match class {
            Class::Interactive => &mut lane.interactive,
            Class::Bulk => &mut lane.bulk,
        };
        let (parts, load) = queue.cut(&lane.options, max_cost, now, &mut self.ended);
        let charged = lane.corrected(class, load.cost);
        lane.class_mut(class).deficit -= charged as i64;
        self.charge_classes(class, charged);
        if class == Class::Bulk {
            self.last_bulk = Some(now);
        }
        self.busy_until = Some(now + Duration::from_nanos(charged));
        Some(Batch { lane: id, class, parts, rows: load.rows, tokens: load.tokens, cost: load.cost, charged })
    }

    /// Interactive first; bulk when nothing interactive waits and it need not rest, or when it is overdue.
    fn next_class(&self, now: Instant) -> Option<Class> {
        match (self.waits(Class::Interactive), self.waits(Class::Bulk)) {
            (true, true) if self.credited_batches() >= OVERDUE => Some(Class::Bulk),
            (true, _) => Some(Class::Interactive),
            (false, true) if self.bulk_from().is_none_or(|from| from <= now) => Some(Class::Bulk),
            (false, _) => None,
        }
    }

    /// When a bulk batch may run next if nothing interactive waits; `None`: at any time, as where a lane is to drain.
    #[must_use]
    pub fn bulk_from(&self) -> Option<Instant> {
        if self.credited_batches() > 0 || self.lanes.values().any(|lane| lane.closing) {
            return None;
        }
        let rests = self.bulk_rests_until.zip(self.last_interactive);
        rests.map(|(rested, last)| rested.min(last + LULL))
    }

    fn credited_batches(&self) -> u64 {
        self.bulk_credit / nanos(self.options.bulk_batch_time).max(1)
    }

    fn charge_classes(&mut self, class: Class, charged: u64) {
        match class {
            Class::Interactive if self.waits(Class::Bulk) => {
                let share = self.share();
                self.bulk_credit += (charged as f64 * share / (1.0 - share)) as u64;
            }
            Class::Interactive => self.bulk_credit = 0,
            Class::Bulk => self.bulk_credit = self.bulk_credit.saturating_sub(charged),
        }
    }

    /// Deficit round robin over the lanes in which rows of this class wait.
    fn next_lane(&mut self, class: Class) -> Option<LaneId> {
        let quantum = nanos(self.options.quantum).max(1) as i64;
        let rounds = |deficit: i64| if deficit > 0 { 0 } else { -deficit / quantum + 1 };
        let waiting = self.lanes.values().map(|lane| lane.class(class)).filter(|queue| !queue.is_empty());
        // So many rounds until someone may run: played at once instead of one by one.
        let rounds_needed = waiting.map(|queue| rounds(queue.deficit)).min()?;
        for lane in self.lanes.values_mut() {
            let queue = lane.class_mut(class);
            queue.deficit += rounds_needed * quantum;
            if queue.is_empty() {
                // Turns are not saved up; debts are kept.
                queue.deficit = queue.deficit.min(0);
            }
        }
        let may_run = |(_, lane): &(&LaneId, &LaneQueue<T>)| {
            let queue = lane.class(class);
            !queue.is_empty() && queue.deficit > 0
        };
        let turn = &mut self.turn[class as usize];
        let (&next, _) = self.lanes.range(*turn..).find(may_run).or_else(|| self.lanes.range(..*turn).find(may_run))?;
        *turn = next;
        Some(next)
    }

    /// Tells that a batch has run, and how long it took: the lane is charged that instead of the estimate, and
    /// estimates the next ones better. `None`: it did not run, or failed, so there is nothing to learn.
    pub fn finished(&mut self, batch: &Batch<T>, took: Option<Duration>) {
        self.busy_until = None;
        let Some(lane) = self.lanes.get_mut(&batch.lane) else { return };
        let Some(took) = took else { return };
        self.bulk_rests_until = match batch.class {
            Class::Bulk => self.last_bulk.map(|formed| formed + took.div_f64(self.options.bulk_pace.clamp(0.01, 1.0))),
            // It rests in the time that they leave.
            Class::Interactive => self.bulk_rests_until.map(|until| until + took),
        };
        let took = nanos(took);
        let queue = lane.class_mut(batch.class);
        queue.deficit += batch.charged as i64 - took as i64;
        let ratio = (took as f64 / batch.cost.max(1) as f64).clamp(1e-4, 1e4);
        queue.correction = Some(queue.correction.map_or(ratio, |average| average + 0.2 * (ratio - average)));
    }
}

fn check_size(rows: &[Load], load: Load, options: &LaneOptions) -> Result<(), Refusal> {
    let longest = rows.iter().map(|row| row.tokens).max().unwrap_or(0);
    let sizes = [
        ("the number of rows", load.rows, options.max_queue_rows),
        ("the number of tokens", load.tokens, options.max_queue_tokens),
        ("the longest row", longest, options.max_batch_tokens),
    ];
    match sizes.into_iter().find(|(_, size, limit)| size > limit) {
        Some((what, size, limit)) => Err(Refusal::TooLarge { what, size, limit }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
