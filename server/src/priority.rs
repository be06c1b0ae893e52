//! Threads that work behind the serving ones: their priority, and their pace.

use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

/// The part of its time that a thread works which keeps to a [`Pace`].
const SHARE: f64 = 0.2;

/// The longest rest at once: on a machine that has no time for it at all, little work takes long.
const LONGEST: Duration = Duration::from_millis(50);

/// Lets the calling thread run only where a core has nothing else to do (`SCHED_IDLE` of Linux): a serving thread that
/// wakes up takes the core at once. With mere niceness it may have to wait for milliseconds. Where nothing is ever idle,
/// a few thousandths of a core are left to it. Systems other than Linux know nothing like it; there it stays as it is.
pub fn lower() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{NormalThreadSchedulePolicy::Idle, ThreadPriority, ThreadSchedulePolicy, unix};

        let (thread, policy) = (unix::thread_native_id(), ThreadSchedulePolicy::Normal(Idle));
        if let Err(error) = unix::set_thread_priority_and_policy(thread, ThreadPriority::Min, policy) {
            tracing::debug!(?error, "a background thread keeps its priority");
        }
    }
}

/// Keeps a thread from working all the time while others serve. Low priority leaves them the cores, but not the caches, nor the memory's
/// time: a thread that reads weights evicts those that serve.
pub struct Pace<B> {
    serving: B,
    since: Cell<Instant>,
}

impl<B: Fn() -> bool> Pace<B> {
    /// Begins. `serving`: whether others serve.
    pub fn new(serving: B) -> Self {
        Self { serving, since: Cell::new(Instant::now()) }
    }

    /// Sleeps for what the work since the last time is worth, if others serve.
    pub fn rest(&self) {
        if (self.serving)() {
            let worked = self.since.get().elapsed();
            thread::sleep(worked.mul_f64(1.0 / SHARE - 1.0).min(LONGEST));
        }
        self.since.set(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_followed_by_four_times_as_much_rest_where_others_serve() {
        let serving = Cell::new(true);
        let pace = Pace::new(|| serving.get());
        thread::sleep(Duration::from_millis(5));
        let rested = Instant::now();
        pace.rest();
        assert!(rested.elapsed() >= Duration::from_millis(20));
        serving.set(false);
        let begun = pace.since.get();
        pace.rest();
        assert!(pace.since.get() > begun, "what was done meanwhile is forgotten");
    }
}
