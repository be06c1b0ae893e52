//! What is made from a catalog's items elsewhere (full-text index, vectors), and the thread that keeps it up to date.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::sync::watch;
use tokio::time::timeout;
use vitrine::v1::Item;

use super::Catalog;
use crate::Doc;
use crate::log::Seq;

/// The state of one item after a change.
#[derive(Clone, Debug)]
pub struct ItemChange {
    /// The position of the change in the log.
    pub seq: u64,
    /// The item.
    pub doc: Doc,
    /// The item as it is now: this change, or already a later one, which then follows too. `None`: removed.
    pub item: Option<Arc<Item>>,
}

/// Something made from the items of a catalog, that can be made again from the log.
pub trait Projection: Send + Sync {
    /// What can go wrong while writing it.
    type Error: Error + Send + Sync + 'static;

    /// The position in the log up to which it is committed. 0: it is new.
    fn watermark(&self) -> u64;

    /// Takes changes in, in their order. They may come again after an error or a restart.
    fn apply(&self, changes: &[ItemChange]) -> Result<(), Self::Error>;

    /// Makes all that was applied durable and visible, and remembers that the log is done up to `watermark`.
    fn commit(&self, watermark: u64) -> Result<(), Self::Error>;
}

/// How a projection follows its catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailOptions {
    /// The least time from one commit to the next.
    pub interval: Duration,
    /// How many changes are read and applied at once.
    pub chunk: usize,
    /// After how many changes it commits even if more wait, so that a long import shows as it goes.
    pub commit_after: usize,
}

impl Default for TailOptions {
    fn default() -> Self {
        Self { interval: Duration::from_millis(200), chunk: 1_000, commit_after: 10_000 }
    }
}

/// The longest a slow commit stretches the interval, and a failing projection waits between attempts.
const LONGEST_INTERVAL: Duration = Duration::from_millis(600);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// A projection that is kept up to date while this lives.
pub struct Tail {
    done: Arc<AtomicU64>,
    head: watch::Receiver<Seq>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    /// How many records of the log the projection has not shown yet.
    pub fn lag(&self) -> u64 {
        self.head.borrow().0.saturating_sub(self.done.load(Ordering::Relaxed))
    }

    /// Ends the thread after what it is doing. What is not committed by then is taken in again at the next start.
    pub fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a projection's thread panicked");
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the thread that takes the changes of `catalog` into `projection`. A projection that fails is tried again from
/// its watermark, for as long as it takes.
pub fn tail<P: Projection + 'static>(
    name: &str,
    catalog: Arc<Catalog>,
    projection: Arc<P>,
    options: TailOptions,
) -> io::Result<Tail> {
    let runtime = runtime::Builder::new_current_thread().enable_time().build()?;
    let (stop, stopped) = watch::channel(false);
    let head = catalog.head();
    let watermark = projection.watermark();
    let ahead = watermark > head.borrow().0;
    if ahead {
        tracing::warn!(name, watermark, "a projection is of another log: made again from this one");
    }
    let done = Arc::new(AtomicU64::new(if ahead { 0 } else { watermark }));
    let follower = Follower { catalog, projection, options, done: Arc::clone(&done), head: head.clone(), stopped };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(follower.run()))?;
    Ok(Tail { done, head, stop, thread: Some(thread) })
}

/// What the thread owns.
struct Follower<P> {
    catalog: Arc<Catalog>,
    projection: Arc<P>,
    options: TailOptions,
    done: Arc<AtomicU64>,
    head: watch::Receiver<Seq>,
    stopped: watch::Receiver<bool>,
}

impl<P: Projection> Follower<P> {
    async fn run(mut self) {
        let mut retry = self.options.interval;
        while !*self.stopped.borrow() {
            let pause = match self.catch_up() {
                Ok(pause) => {
                    retry = self.options.interval;
                    pause
                }
                Err(error) => {
                    tracing::warn!(error = &*error, retry_in = ?retry, "projection not written");
                    let pause = retry;
                    retry = (2 * retry).min(LONGEST_RETRY);
                    pause
                }
            };
            // Both waits end at once when told to stop.
            let stopping = timeout(pause, self.stopped.wait_for(|stopped| *stopped)).await.is_ok();
            if stopping || !self.news().await {
                return;
            }
        }
    }

    /// Applies what the projection lacks, and commits it if there was anything. Answers how long to wait before the next
    /// commit: for `interval`, or longer where commits are slow, so that most of the time is left to others.
    fn catch_up(&mut self) -> Result<Duration, Box<dyn Error + Send + Sync>> {
        // From what is committed: what was only applied when something failed may be lost.
        let mut at = self.done.load(Ordering::Relaxed);
        let mut applied = 0;
        let head = loop {
            let head = self.head.borrow_and_update().0;
            let changes = self.catalog.read_items(Seq(at), self.options.chunk)?;
            if let Some(last) = changes.last() {
                at = last.seq;
                applied += changes.len();
                self.projection.apply(&changes)?;
            }
            if changes.len() < self.options.chunk {
                break head.max(at);
            }
            if applied >= self.options.commit_after || *self.stopped.borrow() {
                break at;
            }
        };
        let begun = Instant::now();
        if applied > 0 {
            self.projection.commit(head)?;
        }
        self.done.store(head, Ordering::Relaxed);
        Ok(begun.elapsed().saturating_mul(2).clamp(self.options.interval, LONGEST_INTERVAL.max(self.options.interval)))
    }

    /// Waits until the log is ahead. False: it is over.
    async fn news(&mut self) -> bool {
        let done = self.done.load(Ordering::Relaxed);
        tokio::select! {
            ahead = self.head.wait_for(|head| head.0 > done) => ahead.is_ok(),
            _ = self.stopped.wait_for(|stopped| *stopped) => false,
        }
    }
}
