//! Load for measuring: calls sent at a rate or from a number of callers, each timed.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use vitrine::v1::SearchRequest;
//! use vitrine_client::{Client, Options, load::{self, Load, Pace}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // A retry would hide what is measured.
//! let client = Client::connect(Options { retries: 0, ..Options::default() }).await?;
//! let search = move |_turn| {
//!     let client = client.clone();
//!     async move { client.search(SearchRequest::default()).await }
//! };
//! let mut calls = load::start(Load { pace: Pace::Rate(100.0), duration: Duration::from_secs(10) }, search)?;
//! while let Some(call) = calls.next().await {
//!     println!("{:?}, failed: {}", call.latency, call.outcome.is_err());
//! }
//! # Ok(())
//! # }
//! ```

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
};

use crate::Error;

/// How many calls may be on their way in an open loop; more would measure this machine's memory. Calls that had to
/// wait for a place still count from the moment they were due.
const MAX_IN_FLIGHT: usize = 10_000;

/// When calls are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Open loop: so many a second, evenly, whatever the server does.
    Rate(f64),
    /// Closed loop: so many callers, each with one call at a time.
    Callers(usize),
}

/// What to send and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// When calls are sent.
    pub pace: Pace,
    /// After this no more calls are sent; those on their way are waited for.
    pub duration: Duration,
}

/// A call that ended.
#[derive(Debug)]
pub struct Call<T> {
    /// When it was to be sent.
    pub due: Instant,
    /// From then to its end.
    pub latency: Duration,
    /// What came of it.
    pub outcome: Result<T, Error>,
}

/// The calls of a load, as they end. Dropped, it sends no more.
#[derive(Debug)]
pub struct Calls<T> {
    ended: mpsc::UnboundedReceiver<Call<T>>,
    stopped: Arc<AtomicBool>,
}

impl<T> Calls<T> {
    /// The next call that ended, in the order of their ends. `None` after the last.
    pub async fn next(&mut self) -> Option<Call<T>> {
        self.ended.recv().await
    }

    /// Sends no more calls. Those on their way still end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl<T> Drop for Calls<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes calls, numbered from 0, as `load` says.
///
/// # Errors
///
/// When the system gives no thread.
pub fn start<T, C, F>(load: Load, call: C) -> io::Result<Calls<T>>
where
    T: Send + 'static,
    C: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (sender, ended) = mpsc::unbounded_channel();
    let stopped = Arc::new(AtomicBool::new(false));
    let sending = Sending { until: load.duration, stopped: Arc::clone(&stopped), ended: sender };
    match load.pace {
        Pace::Rate(rate) => {
            let handle = Handle::current();
            // A thread of its own keeps time to tens of microseconds; the runtime's timer only to a millisecond.
            let pace = std::thread::Builder::new().name("load-pace".to_owned());
            pace.spawn(move || open_loop(&handle, rate, &sending, &call))?;
        }
        Pace::Callers(callers) => closed_loop(callers, &sending, &Arc::new(call)),
    }
    Ok(Calls { ended, stopped })
}

/// What those who send have to know.
struct Sending<T> {
    until: Duration,
    stopped: Arc<AtomicBool>,
    ended: mpsc::UnboundedSender<Call<T>>,
}

impl<T> Clone for Sending<T> {
    fn clone(&self) -> Self {
        Self { until: self.until, stopped: Arc::clone(&self.stopped), ended: self.ended.clone() }
    }
}

impl<T> Sending<T> {
    fn is_over(&self, after: Duration) -> bool {
        after >= self.until || self.stopped.load(Ordering::Relaxed)
    }

    fn end(&self, due: Instant, outcome: Result<T, Error>) {
        // Fails only when nobody wants to know any more.
        let _ = self.ended.send(Call { due, latency: due.elapsed(), outcome });
    }
}

/// Sends calls when they are due, however slow the answers are. Latency counts from the moment a call was due, so
/// that a stalled server is charged for the calls that had to wait (no coordinated omission).
fn open_loop<T, C, F>(handle: &Handle, rate: f64, sending: &Sending<T>, call: &C)
where
    T: Send + 'static,
    C: Fn(u64) -> F,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let started = Instant::now();
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    for turn in 0.. {
        let after = due(turn, rate);
        let due = started + after;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if sending.is_over(after) {
            return;
        }
        let Ok(place) = handle.block_on(Arc::clone(&places).acquire_owned()) else { return };
        let (answer, sending) = (call(turn), sending.clone());
        handle.spawn(async move {
            let outcome = answer.await;
            drop(place);
            sending.end(due, outcome);
        });
    }
}

/// When a call is due, from the beginning.
fn due(turn: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(turn as f64 / rate)
}

/// Each caller sends its next call when its last one is answered.
fn closed_loop<T, C, F>(callers: usize, sending: &Sending<T>, call: &Arc<C>)
where
    T: Send + 'static,
    C: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let started = Instant::now();
    for caller in 0..callers as u64 {
        let (call, sending) = (Arc::clone(call), sending.clone());
        tokio::spawn(async move {
            for round in 0.. {
                let due = Instant::now();
                if sending.is_over(due - started) {
                    return;
                }
                let outcome = call(round * callers as u64 + caller).await;
                sending.end(due, outcome);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicUsize};

    use proptest::prelude::*;
    use tokio::sync::{Barrier, Notify};

    use super::*;

    async fn all<T>(mut calls: Calls<T>) -> Vec<Call<T>> {
        let mut ended = Vec::new();
        while let Some(call) = calls.next().await {
            ended.push(call);
        }
        ended
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stalled_server_is_charged_for_the_calls_that_were_due() {
        // The first call is answered together with the last one: all that were due in between waited for it.
        let load = Load { pace: Pace::Rate(1000.0), duration: Duration::from_millis(50) };
        let gate = Arc::new(Notify::new());
        let call = move |turn| {
            let gate = Arc::clone(&gate);
            async move {
                if turn == 49 {
                    gate.notify_one();
                } else if turn == 0 {
                    gate.notified().await;
                }
                Ok(())
            }
        };
        let ended = all(start(load, call).unwrap()).await;
        assert_eq!(ended.len(), 50);
        assert!(ended.iter().any(|call| call.latency >= Duration::from_millis(48)), "{ended:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_load_that_is_stopped_still_tells_of_the_calls_on_their_way() {
        let load = Load { pace: Pace::Rate(1000.0), duration: Duration::from_hours(1) };
        let (sent, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
        let (counted, first) = (Arc::clone(&sent), Arc::clone(&gate));
        let call = move |turn| {
            counted.fetch_add(1, Ordering::SeqCst);
            let first = Arc::clone(&first);
            async move {
                if turn == 0 {
                    first.wait().await;
                }
                Ok(turn)
            }
        };
        let mut calls = start(load, call).unwrap();
        assert!(calls.next().await.is_some_and(|call| call.outcome.is_ok_and(|turn| turn > 0)));
        calls.stop();
        gate.wait().await;
        let ended = all(calls).await;
        assert_eq!(ended.len() + 1, sent.load(Ordering::SeqCst));
        assert!(ended.iter().any(|call| matches!(call.outcome, Ok(0))));
    }

    #[tokio::test]
    async fn a_closed_loop_numbers_its_calls_without_gaps_for_each_caller() {
        let load = Load { pace: Pace::Callers(4), duration: Duration::from_millis(5) };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let turns = Arc::clone(&seen);
        let call = move |turn| {
            turns.lock().unwrap().push(turn);
            async {
                tokio::task::yield_now().await;
                Ok(())
            }
        };
        let ended = all(start(load, call).unwrap()).await;
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), ended.len());
    }

    proptest! {
        #[test]
        fn calls_are_due_evenly(turn in 0_u64..1_000_000, rate in 0.1_f64..100_000.0) {
            let step = due(turn + 1, rate).as_secs_f64() - due(turn, rate).as_secs_f64();
            prop_assert!((step * rate - 1.0).abs() < 1e-2);
        }
    }
}
