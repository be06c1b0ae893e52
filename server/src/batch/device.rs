//! The handles of a device and its lanes, and what they share with the worker's thread.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::{
    BatchError, Class, Output, Row,
    job::Job,
    metrics::LaneMetrics,
    options::{DeviceOptions, LaneOptions},
    request::{End, Ended, LaneId, Refusal, Request},
    runner::Runner,
    scheduler::{LULL, Scheduler},
    worker,
};

/// A device: a thread that owns it, and what is loaded on it.
///
/// Dropping it closes its lanes and ends the thread after the batch that runs; callers that wait get
/// [`BatchError::Unavailable`].
pub struct Batcher {
    shared: Arc<Shared>,
    /// Closed by the worker when its thread ends.
    ended: watch::Receiver<()>,
}

/// The device did not finish in time; its thread ends by itself after the batch that runs.
#[derive(Debug, thiserror::Error)]
#[error("device {device} was still running a batch after {} ms", within.as_millis())]
pub struct ShutdownTimedOut {
    device: Arc<str>,
    within: Duration,
}

impl Batcher {
    /// Starts the thread of a device; `device` names it in logs, metrics and the thread's name, as `cuda:0`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(device: &str, options: DeviceOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            device: device.into(),
            state: Mutex::new(State {
                scheduler: Scheduler::new(options),
                arriving: Vec::new(),
                metrics: HashMap::new(),
                stop: None,
                ended: false,
            }),
            work: Condvar::new(),
            started: Instant::now(),
            last_interactive: AtomicU64::new(0),
        });
        let ended = worker::start(Arc::clone(&shared))?;
        Ok(Self { shared, ended })
    }

    /// The name given to [`start`](Self::start).
    pub fn device(&self) -> &str {
        &self.shared.device
    }

    /// Whether interactive rows come one after the other.
    pub fn serves(&self) -> bool {
        let last = self.shared.last_interactive.load(Ordering::Relaxed);
        last > 0 && self.shared.millis().saturating_sub(last) < LULL.as_millis() as u64
    }

    /// Hands a loaded model to the device's thread, which owns it from now on. `name` names it in metrics, as `minilm/3`.
    ///
    /// # Errors
    /// [`BatchError::Unavailable`] when the device is shutting down; the runner is dropped here.
    pub fn open_lane(&self, name: &str, runner: Box<dyn Runner>, options: LaneOptions) -> Result<Lane, BatchError> {
        let name: Arc<str> = name.into();
        let metrics = Arc::new(LaneMetrics::new(&self.shared.device, &name));
        let (gone_sender, gone) = watch::channel(());
        let id = {
            let mut state = self.shared.state.lock();
            if state.stop.is_some() || state.ended {
                return Err(BatchError::Unavailable);
            }
            let id = state.scheduler.open(options);
            state.arriving.push(Arrival { id, name: Arc::clone(&name), runner, gone: gone_sender });
            state.metrics.insert(id, Arc::clone(&metrics));
            id
        };
        self.shared.work.notify_one();
        let handle = LaneHandle { shared: Arc::clone(&self.shared), id, name, metrics, gone };
        Ok(Lane { handle: Arc::new(handle) })
    }

    /// Lets nothing more in, runs what waits for at most `within`, drops the rest and every model.
    ///
    /// # Errors
    /// When a batch is still running at the end of that time.
    pub async fn shutdown(&self, within: Duration) -> Result<(), ShutdownTimedOut> {
        let until = Instant::now() + within;
        self.shared.stop(until);
        let mut ended = self.ended.clone();
        let gone = async { while ended.changed().await.is_ok() {} };
        tokio::time::timeout_at(until.into(), gone)
            .await
            .map_err(|_| ShutdownTimedOut { device: Arc::clone(&self.shared.device), within })
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.shared.stop(Instant::now());
    }
}

/// The queue of one loaded version. Clones are the same queue; dropping the last one closes it.
#[derive(Clone)]
pub struct Lane {
    handle: Arc<LaneHandle>,
}

struct LaneHandle {
    shared: Arc<Shared>,
    id: LaneId,
    name: Arc<str>,
    metrics: Arc<LaneMetrics>,
    /// Closed by the worker once the model is dropped.
    gone: watch::Receiver<()>,
}

impl Lane {
    /// Runs rows; answers with one output for each, in order. Dropping the future cancels: rows that have not been
    /// launched will not be.
    ///
    /// A request may be split over batches between its rows. If one of them fails, the request fails.
    ///
    /// # Errors
    /// See [`BatchError`]; [`BatchError::DeadlineExceeded`] comes no later than the deadline, even while a batch runs.
    pub async fn run(
        &self,
        rows: Vec<Row>,
        class: Class,
        deadline: Option<Instant>,
    ) -> Result<Vec<Output>, BatchError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let tokens = rows.iter().map(Vec::len).collect();
        let (job, answer) = Job::new(rows);
        let request = Request { ticket: job, tokens, class, deadline };
        self.handle.admit(request)?;
        let answer = match deadline {
            None => answer.await,
            Some(deadline) => {
                tokio::time::timeout_at(deadline.into(), answer).await.map_err(|_| BatchError::DeadlineExceeded)?
            }
        };
        // No answer at all: the worker is gone.
        answer.unwrap_or(Err(BatchError::Unavailable))
    }

    /// The name given to [`Batcher::open_lane`].
    pub fn name(&self) -> &str {
        &self.handle.name
    }

    /// Lets nothing more in, and resolves once all that waits has run and the model is dropped.
    pub async fn close(&self) {
        self.handle.close();
        self.gone().await;
    }

    /// Resolves once the lane has been closed, by whomever, and its model dropped. Does not keep the lane open.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut gone = self.handle.gone.clone();
        async move { while gone.changed().await.is_ok() {} }
    }
}

impl LaneHandle {
    fn admit(&self, request: Request<Arc<Job>>) -> Result<(), BatchError> {
        let class = request.class;
        if class == Class::Interactive {
            self.shared.last_interactive.store(self.shared.millis(), Ordering::Relaxed);
        }
        let refusal = {
            let mut state = self.shared.state.lock();
            let outcome = state.scheduler.admit(self.id, request, Instant::now());
            state.settle();
            state.record_waiting(self.id, class);
            outcome
        };
        let metrics = self.metrics.class(class);
        let (reason, error) = match refusal {
            Ok(()) => {
                self.shared.work.notify_one();
                return Ok(());
            }
            Err(Refusal::QueueFull { retry_after }) => ("queue_full", BatchError::QueueFull { retry_after }),
            Err(Refusal::DeadlineExceeded) => ("deadline", BatchError::DeadlineExceeded),
            Err(Refusal::TooLarge { what, size, limit }) => ("too_large", BatchError::TooLarge { what, size, limit }),
            Err(Refusal::Closed) => ("closed", BatchError::Unavailable),
        };
        metrics.refused(reason).increment(1);
        Err(error)
    }

    fn close(&self) {
        self.shared.state.lock().scheduler.close(self.id);
        self.shared.work.notify_one();
    }
}

impl Drop for LaneHandle {
    fn drop(&mut self) {
        self.close();
    }
}

/// What handles and worker share.
pub(super) struct Shared {
    pub device: Arc<str>,
    pub state: Mutex<State>,
    /// Notified when the worker has something new to look at.
    pub work: Condvar,
    started: Instant,
    /// When interactive rows came last, in milliseconds from the start; 0: never. Not behind the lock, as threads of low priority ask,
    /// which may not hold it.
    last_interactive: AtomicU64,
}

impl Shared {
    /// Since the start; never 0.
    fn millis(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    fn stop(&self, at: Instant) {
        let mut state = self.state.lock();
        state.scheduler.close_all();
        state.stop = Some(state.stop.map_or(at, |earlier| earlier.min(at)));
        drop(state);
        self.work.notify_one();
    }
}

/// Behind the lock.
pub(super) struct State {
    pub scheduler: Scheduler<Arc<Job>>,
    /// Models on their way to the worker.
    pub arriving: Vec<Arrival>,
    /// Of every lane that is not gone.
    pub metrics: HashMap<LaneId, Arc<LaneMetrics>>,
    /// Set by shutdown: what waits at this time is dropped.
    pub stop: Option<Instant>,
    /// The worker is gone.
    pub ended: bool,
}

/// A model on its way to the worker.
pub(super) struct Arrival {
    pub id: LaneId,
    pub name: Arc<str>,
    pub runner: Box<dyn Runner>,
    pub gone: watch::Sender<()>,
}

impl State {
    /// Answers the requests that ended without running.
    pub fn settle(&mut self) {
        for Ended { lane, class, ticket, end, .. } in self.scheduler.take_ended() {
            if let Some(metrics) = self.metrics.get(&lane) {
                metrics.class(class).ended(end.name()).increment(1);
            }
            match end {
                End::Expired => ticket.fail(BatchError::DeadlineExceeded),
                End::Closed => ticket.fail(BatchError::Unavailable),
                End::Cancelled => {}
            }
        }
    }

    /// Records how many rows wait.
    pub fn record_waiting(&self, lane: LaneId, class: Class) {
        if let Some(metrics) = self.metrics.get(&lane) {
            metrics.class(class).queued_rows.set(self.scheduler.waiting_rows(lane, class) as f64);
        }
    }
}

#[cfg(test)]
mod tests;
