//! The thread that keeps a generation up to date with its catalogue.
//!
//! It follows the log: reads which items changed, the newest first, embeds those whose content is new, and writes what it made
//! together with how far it is. While there is nothing to embed it makes later searches quicker ([`VectorIndex::tend`]).

use std::error::Error;
use std::fmt::Display;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;

use super::worker::Worker;
use super::{VectorError, VectorIndex};
use crate::Doc;
use crate::priority;

/// Where an indexer learns what changed, and what vectors are made of.
pub trait Changes: Send + Sync + 'static {
    /// What a vector is made of.
    type Content: Send;

    /// The positions of the last changes after `after`, and the documents that changed, in order, at most `limit`.
    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Doc)>, Box<dyn Error + Send + Sync>>;

    /// What a document's vector is to be made of as things are now, and the hash that tells it from anything else. None: it is
    /// to have no vector.
    fn content(&self, doc: Doc) -> Option<(u64, Self::Content)>;

    /// The last position of the log.
    fn head(&self) -> u64;

    /// Waits until the head is beyond `position`, or for ever.
    fn beyond(&self, position: u64) -> impl Future<Output = ()> + Send;
}

/// How an indexer works.
#[derive(Clone, Copy, Debug)]
pub struct IndexerOptions {
    /// How many contents are embedded at once: the most that a change waits for before its turn.
    pub chunk: usize,
    /// How many changes are read at once.
    pub page: usize,
    /// How long changes are gathered before they are looked at.
    pub gather: Duration,
    /// How long to wait after the first error in a row; doubled with every further one.
    pub back_off: Duration,
    /// The longest wait after an error.
    pub back_off_most: Duration,
}

impl Default for IndexerOptions {
    fn default() -> Self {
        Self {
            chunk: 64,
            page: 1024,
            gather: Duration::from_millis(50),
            back_off: Duration::from_millis(100),
            back_off_most: Duration::from_secs(30),
        }
    }
}

/// How far an indexer is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Vectors made since it began.
    pub embedded: u64,
    /// Positions of the log not looked at yet; not all of them are items.
    pub left: u64,
    /// The position of the log up to which all is looked at.
    pub done: u64,
    /// Vectors made a second, lately. 0: idle.
    pub items_per_second: f64,
    /// Why it is waiting to try again, if it is.
    pub trouble: Option<String>,
}

/// The running thread. Dropping it stops the thread and waits for it: not long, as it gives up on what is being embedded.
#[derive(Debug)]
pub struct Indexer {
    progress: watch::Receiver<Progress>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    /// Starts filling `index` from `changes`, with vectors made by `embed`: as many as there are contents, in their order.
    /// The thread is named `index-…` after `name`; what `embed` awaits is driven by a runtime of its own.
    pub fn start<C, E, F, X>(
        name: &str,
        index: Arc<VectorIndex>,
        changes: C,
        embed: E,
        options: IndexerOptions,
    ) -> Result<Self, VectorError>
    where
        C: Changes,
        E: Fn(Vec<C::Content>) -> F + Send + 'static,
        F: Future<Output = Result<Vec<Vec<f32>>, X>>,
        X: Display,
    {
        let runtime = runtime::Builder::new_current_thread().enable_time().build().map_err(VectorError::Thread)?;
        let (stop, mut stopped) = watch::channel(false);
        let mut worker = Worker::new(index, changes, embed, options);
        let progress = worker.progress.subscribe();
        let work = move || {
            priority::lower();
            runtime.block_on(async move {
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => {}
                    () = worker.run() => {}
                }
                worker.finish();
            });
        };
        let thread =
            std::thread::Builder::new().name(format!("index-{name}")).spawn(work).map_err(VectorError::Thread)?;
        Ok(Self { progress, stop, thread: Some(thread) })
    }

    /// How far it is, and every change.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the indexer panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::fakes::{Log, open, options, vector_of};
    use std::convert::Infallible;
    use std::future::pending;
    use tempfile::TempDir;

    #[tokio::test]
    async fn the_thread_follows_the_log_and_writes_what_it_has_when_it_is_stopped() {
        let dir = TempDir::new().unwrap();
        let (log, index) = (Log::new(), open(&dir));
        let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
        let embed = move |texts: Vec<String>| {
            let last = texts == ["desk"];
            let vectors = texts.iter().map(|text| vector_of(text)).collect::<Vec<_>>();
            let called = called.clone();
            async move {
                called.send(texts).unwrap();
                if last { pending().await } else { Ok::<_, Infallible>(vectors) }
            }
        };
        let indexer = Indexer::start("test", Arc::clone(&index), log.clone(), embed, options()).unwrap();
        log.change(0, Some("lamp"));
        assert_eq!(calls.recv().await.unwrap(), ["lamp"]);
        log.change(1, Some("desk")); // its encoder never answers
        assert_eq!(calls.recv().await.unwrap(), ["desk"]);
        drop(indexer);
        drop(index);
        let index = open(&dir);
        assert_eq!((index.len(), index.watermark()), (1, 1));
    }
}
