//! The thread that owns a device: it pulls batches, runs them, and drops models when their lanes have drained.

use std::{
    any::Any,
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    BatchError, Output,
    device::{Arrival, Shared},
    job::Job,
    metrics::{ClassMetrics, LaneMetrics},
    request::{Batch, End, LaneId, Part, Ticket},
    runner::{RunError, Runner},
};

/// Starts the thread. The receiver is closed when it ends.
pub(super) fn start(shared: Arc<Shared>) -> io::Result<watch::Receiver<()>> {
    let (alive, ended) = watch::channel(());
    let name = format!("device {}", shared.device);
    std::thread::Builder::new().name(name).spawn(move || {
        // Dropped last: whoever waits for the thread's end finds the models gone.
        let _alive = alive;
        let _end = EndOfWorker(&shared);
        Worker { shared: &shared, loaded: HashMap::new() }.work();
    })?;
    Ok(ended)
}

/// However the thread ends, nobody is left waiting for it.
struct EndOfWorker<'a>(&'a Shared);

impl Drop for EndOfWorker<'_> {
    fn drop(&mut self) {
        let arriving = {
            let mut state = self.0.state.lock();
            state.ended = true;
            state.scheduler.abandon();
            state.settle();
            std::mem::take(&mut state.arriving)
        };
        drop(arriving);
    }
}

/// A model on the device. Fields are dropped in order: the model first, then those who wait for that are told.
struct Loaded {
    runner: Box<dyn Runner>,
    name: Arc<str>,
    metrics: Arc<LaneMetrics>,
    _gone: watch::Sender<()>,
}

struct Worker<'a> {
    shared: &'a Shared,
    loaded: HashMap<LaneId, Loaded>,
}

enum Step {
    Run(Batch<Arc<Job>>, Instant),
    Unload(Vec<LaneId>),
    End,
}

impl Worker<'_> {
    fn work(&mut self) {
        loop {
            match self.next_step() {
                Step::Run(batch, formed) => self.run(&batch, formed),
                Step::Unload(lanes) => self.unload(lanes),
                Step::End => break,
            }
        }
        self.unload(self.loaded.keys().copied().collect());
    }

    /// Waits until there is something to do.
    fn next_step(&mut self) -> Step {
        let mut state = self.shared.state.lock();
        loop {
            for Arrival { id, name, runner, gone } in std::mem::take(&mut state.arriving) {
                if let Some(metrics) = state.metrics.get(&id) {
                    let metrics = Arc::clone(metrics);
                    self.loaded.insert(id, Loaded { runner, name, metrics, _gone: gone });
                }
            }
            let now = Instant::now();
            if state.stop.is_some_and(|stop| stop <= now) {
                state.scheduler.abandon();
            }
            // Before the next batch: where the device is never idle, there always is one.
            let drained = state.scheduler.remove_drained(now);
            state.settle();
            if !drained.is_empty() {
                state.metrics.retain(|lane, _| !drained.contains(lane));
                return Step::Unload(drained);
            }
            let batch = state.scheduler.next_batch(now);
            state.settle();
            if let Some(batch) = batch {
                state.record_waiting(batch.lane, batch.class);
                return Step::Run(batch, now);
            }
            if state.stop.is_some() {
                return Step::End;
            }
            match state.scheduler.bulk_from().filter(|from| *from > now) {
                Some(from) => drop(self.shared.work.wait_until(&mut state, from)),
                None => self.shared.work.wait(&mut state),
            }
        }
    }

    /// Drops models. Their memory may take a while to free, so the lock is not held.
    fn unload(&mut self, lanes: Vec<LaneId>) {
        for loaded in lanes.into_iter().filter_map(|lane| self.loaded.remove(&lane)).collect::<Vec<_>>() {
            let name = Arc::clone(&loaded.name);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(loaded))) {
                tracing::error!(lane = &*name, panic = panic_text(&*panic), "unloading a model panicked");
            }
        }
    }

    fn run(&mut self, batch: &Batch<Arc<Job>>, formed: Instant) {
        let Some(loaded) = self.loaded.get_mut(&batch.lane) else {
            for part in &batch.parts {
                part.ticket.fail(BatchError::Unavailable);
            }
            self.shared.state.lock().scheduler.finished(batch, None);
            return;
        };
        let metrics = loaded.metrics.class(batch.class);
        for part in batch.parts.iter().filter(|part| part.rows.start == 0) {
            metrics.queue_seconds.record(formed.saturating_duration_since(part.admitted));
        }
        let took = launch(loaded.runner.as_mut(), &loaded.name, metrics, batch);
        self.shared.state.lock().scheduler.finished(batch, took);
    }
}

/// Runs what is still wanted of a batch, and answers. The time it took, if all of it ran.
fn launch(runner: &mut dyn Runner, lane: &str, metrics: &ClassMetrics, batch: &Batch<Arc<Job>>) -> Option<Duration> {
    let now = Instant::now();
    let wanted: Vec<&Part<Arc<Job>>> = batch.parts.iter().filter(|part| is_wanted(part, now, metrics)).collect();
    let rows: Vec<&[u32]> = wanted.iter().flat_map(|part| part.ticket.part(part.rows.clone())).collect();
    if rows.is_empty() {
        return None;
    }
    metrics.rows.record(rows.len() as f64);
    metrics.tokens.record(rows.iter().map(|row| row.len()).sum::<usize>() as f64);

    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| runner.run(&rows)));
    let took = started.elapsed();
    metrics.run_seconds.record(took);

    match outcome {
        Ok(Ok(outputs)) if outputs.len() == rows.len() => {
            answer(&wanted, outputs);
            (rows.len() == batch.rows).then_some(took)
        }
        Ok(Ok(outputs)) => {
            let text = format!("{} outputs for {} rows", outputs.len(), rows.len());
            fail_batch(&wanted, lane, metrics, "error", text);
            None
        }
        Ok(Err(error)) => {
            fail_batch(&wanted, lane, metrics, "error", error.to_string());
            None
        }
        Err(panic) => {
            let text = format!("the model panicked: {}", panic_text(&*panic));
            fail_batch(&wanted, lane, metrics, "panic", text);
            None
        }
    }
}

/// The last look before the launch: is there someone who waits, and is there time?
fn is_wanted(part: &Part<Arc<Job>>, now: Instant, metrics: &ClassMetrics) -> bool {
    if part.ticket.is_cancelled() {
        metrics.ended(End::Cancelled.name()).increment(1);
        return false;
    }
    if part.deadline.is_some_and(|deadline| deadline <= now) {
        metrics.ended(End::Expired.name()).increment(1);
        part.ticket.fail(BatchError::DeadlineExceeded);
        return false;
    }
    true
}

fn answer(parts: &[&Part<Arc<Job>>], outputs: Vec<Output>) {
    let mut outputs = outputs.into_iter();
    for part in parts {
        part.ticket.add(outputs.by_ref().take(part.rows.len()));
    }
}

fn fail_batch(parts: &[&Part<Arc<Job>>], lane: &str, metrics: &ClassMetrics, reason: &'static str, text: String) {
    tracing::error!(lane, error = text, "a batch failed");
    let (reason, error) = if RunError::is_out_of_memory(&text) {
        ("out_of_memory", BatchError::OutOfMemory(text))
    } else {
        (reason, BatchError::Failed(text))
    };
    metrics.failed(reason).increment(1);
    for part in parts {
        part.ticket.fail(error.clone());
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
