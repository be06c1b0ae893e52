//! What an indexer's thread does, step by step.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use roaring::RoaringBitmap;
use tokio::sync::watch;
use tokio::time::sleep;

use super::backlog::Backlog;
use super::{Changes, IndexerOptions, Progress, VectorIndex};
use crate::Doc;

/// The log may grow by this much, with no item in it, before that is written down.
const UNWRITTEN: u64 = 10_000;

/// The state of an indexer's thread.
pub struct Worker<C, E> {
    index: Arc<VectorIndex>,
    changes: C,
    embed: E,
    options: IndexerOptions,
    backlog: Backlog,
    /// Vectors that were there before the log is read from its beginning: those that no change confirms belong to
    /// items removed while the generation's watermark was lost.
    unconfirmed: RoaringBitmap,
    /// How far it is, for others to read.
    pub progress: watch::Sender<Progress>,
}

impl<C, E> Worker<C, E> {
    /// Goes on from the generation's watermark.
    pub fn new(index: Arc<VectorIndex>, changes: C, embed: E, options: IndexerOptions) -> Self {
        Self {
            backlog: Backlog::after(index.watermark()),
            unconfirmed: if index.watermark() == 0 { index.docs() } else { RoaringBitmap::new() },
            index,
            changes,
            embed,
            options,
            progress: watch::Sender::default(),
        }
    }
}

impl<C, E, F, X> Worker<C, E>
where
    C: Changes,
    E: Fn(Vec<C::Content>) -> F,
    F: Future<Output = Result<Vec<Vec<f32>>, X>>,
    X: Display,
{
    /// Keeps the generation up to date, for ever; may be dropped whenever it awaits.
    pub async fn run(&mut self) {
        let mut wait = self.options.back_off;
        loop {
            match self.step().await {
                Ok(()) => {
                    wait = self.options.back_off;
                    self.progress.send_if_modified(|progress| progress.trouble.take().is_some());
                }
                Err(trouble) => {
                    tracing::warn!(%trouble, retry_ms = wait.as_millis(), "vectors are not being made");
                    self.stuck(trouble);
                    sleep(wait).await;
                    wait = (wait * 2).min(self.options.back_off_most);
                }
            }
            // Everything in a step that is not awaited is short; here is where a stop is seen.
            tokio::task::yield_now().await;
        }
    }

    fn stuck(&self, trouble: String) {
        self.progress.send_modify(|progress| {
            progress.items_per_second = 0.0;
            progress.trouble = Some(trouble);
        });
    }

    /// Does one chunk of what is to be done, or waits until there is something.
    async fn step(&mut self) -> Result<(), String> {
        self.backlog.extend(self.changes.head());
        self.progress.send_modify(|progress| {
            progress.left = self.backlog.len();
            progress.done = self.backlog.watermark();
        });
        if let Some((after, upto)) = self.backlog.next() {
            return self.advance(after, upto).await;
        }
        self.progress.send_modify(|progress| progress.items_per_second = 0.0);
        self.confirm();
        if self.index.has_changes() || self.backlog.watermark() > self.index.watermark() + UNWRITTEN {
            self.flush()?;
        }
        if self.tend() {
            return Ok(());
        }
        self.changes.beyond(self.backlog.watermark()).await;
        sleep(self.options.gather).await;
        Ok(())
    }

    /// Looks at the changes after `after`, up to the first that make a chunk of contents to embed.
    async fn advance(&mut self, after: u64, upto: u64) -> Result<(), String> {
        let page = self.changes.read(after, self.options.page).map_err(|error| error.to_string())?;
        let mut position =
            if page.len() < self.options.page { upto } else { upto.min(page.last().map_or(upto, |last| last.0)) };
        let mut wanted = Vec::new();
        for &(seq, doc) in &page {
            if seq > upto {
                break;
            }
            self.unconfirmed.remove(doc);
            match self.changes.content(doc) {
                None => self.index.remove(doc),
                Some((hash, content)) => {
                    if self.index.content_hash(doc) != Some(hash) && !self.index.share(doc, hash) {
                        wanted.push((doc, hash, content));
                    }
                }
            }
            if wanted.len() == self.options.chunk {
                position = seq;
                break;
            }
        }
        if !wanted.is_empty() {
            self.embed(wanted).await?;
            self.backlog.done(position);
            return self.flush();
        }
        self.backlog.done(position);
        Ok(())
    }

    /// Makes the vectors of `wanted`, of equal contents once.
    async fn embed(&mut self, wanted: Vec<(Doc, u64, C::Content)>) -> Result<(), String> {
        let began = Instant::now();
        let mut contents = Vec::new();
        let mut places: HashMap<u64, usize> = HashMap::new();
        let wanted: Vec<(Doc, u64)> = wanted
            .into_iter()
            .map(|(doc, hash, content)| {
                places.entry(hash).or_insert_with(|| {
                    contents.push(content);
                    contents.len() - 1
                });
                (doc, hash)
            })
            .collect();
        let count = contents.len();
        // The encoder works on threads of its own: meanwhile this one has time for the graph.
        let (vectors, _) = tokio::join!(biased; (self.embed)(contents), async { self.tend() });
        let vectors = vectors.map_err(|error| error.to_string())?;
        if vectors.len() != count {
            return Err(format!("the encoder made {} vectors of {count} contents", vectors.len()));
        }
        for &(doc, hash) in &wanted {
            if let Err(error) = self.index.upsert(doc, hash, &vectors[places[&hash]]) {
                // Trying again would give the same: better an item that only its words find than none after it.
                tracing::warn!(doc, %error, "item has no usable vector");
                self.index.remove(doc);
            }
        }
        let rate = wanted.len() as f64 / began.elapsed().as_secs_f64().max(1e-6);
        self.progress.send_modify(|progress| {
            progress.embedded += wanted.len() as u64;
            let before = progress.items_per_second;
            progress.items_per_second = if before > 0.0 { 0.8 * before + 0.2 * rate } else { rate };
        });
        Ok(())
    }

    /// Makes later searches quicker for a moment; says whether there is more to do.
    fn tend(&self) -> bool {
        self.index.tend(self.options.chunk).unwrap_or_else(|error| {
            tracing::warn!(%error, "the graph is not saved: the next start will make it again");
            false
        })
    }

    /// Once all is looked at, drops what no change spoke of.
    fn confirm(&mut self) {
        for doc in std::mem::take(&mut self.unconfirmed) {
            self.index.remove(doc);
        }
    }

    fn flush(&self) -> Result<(), String> {
        // Before all is confirmed a restart has to begin anew.
        let watermark = if self.unconfirmed.is_empty() { self.backlog.watermark() } else { 0 };
        self.index.flush(watermark).map_err(|error| error.to_string())
    }

    /// Writes what was made, on the way out.
    pub fn finish(&self) {
        let saved = self.flush().and_then(|()| self.index.save_graph().map_err(|error| error.to_string()));
        if let Err(trouble) = saved {
            tracing::warn!(%trouble, "vectors not written at the end will be made again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::content_hash;
    use crate::vector::fakes::{Log, WIDTH, open, options, vector_of};
    use parking_lot::Mutex;
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tempfile::TempDir;

    fn worker<E>(index: &Arc<VectorIndex>, log: &Log, embed: E) -> Worker<Log, E> {
        Worker::new(Arc::clone(index), log.clone(), embed, options())
    }

    /// What was embedded, call by call.
    type Calls = Arc<Mutex<Vec<Vec<String>>>>;
    type Answer = Ready<Result<Vec<Vec<f32>>, Infallible>>;

    fn noting() -> (Calls, impl Fn(Vec<String>) -> Answer) {
        let calls = Calls::default();
        let noted = Arc::clone(&calls);
        let embed = move |texts: Vec<String>| {
            let vectors = texts.iter().map(|text| vector_of(text)).collect();
            noted.lock().push(texts);
            ready(Ok(vectors))
        };
        (calls, embed)
    }

    /// Steps until there is nothing left to look at.
    async fn catch_up<E, F, X: Display>(worker: &mut Worker<Log, E>)
    where
        E: Fn(Vec<String>) -> F,
        F: Future<Output = Result<Vec<Vec<f32>>, X>>,
    {
        loop {
            worker.step().await.unwrap();
            worker.backlog.extend(worker.changes.head());
            if worker.backlog.next().is_none() {
                worker.confirm();
                return worker.flush().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn every_item_gets_its_vector_and_what_did_not_change_is_not_embedded_again() {
        let dir = TempDir::new().unwrap();
        let (log, index) = (Log::new(), open(&dir));
        let (calls, embed) = noting();
        for doc in 0..25 {
            log.change(doc, Some(&format!("item {doc}")));
        }
        let mut indexer = worker(&index, &log, embed);
        catch_up(&mut indexer).await;
        assert_eq!((index.len(), index.watermark()), (25, 25));
        assert_eq!(index.search(&vector_of("item 9"), 1, None).unwrap()[0].0, 9);
        assert_eq!(calls.lock().iter().flatten().count(), 25);

        log.change(3, Some("item 3"));
        log.change(4, Some("another"));
        log.change(5, None);
        catch_up(&mut indexer).await;
        assert_eq!(calls.lock().last().unwrap(), &["another"]);
        assert_eq!((index.len(), index.watermark()), (24, 28));
        assert_eq!(index.search(&vector_of("another"), 1, None).unwrap()[0].0, 4);
        assert_eq!(indexer.progress.borrow().embedded, 26);
    }

    #[tokio::test]
    async fn equal_texts_are_embedded_once() {
        let dir = TempDir::new().unwrap();
        let (log, index) = (Log::new(), open(&dir));
        let (calls, embed) = noting();
        for doc in 0..30 {
            log.change(doc, Some(if doc % 2 == 0 { "even" } else { "odd" }));
        }
        catch_up(&mut worker(&index, &log, embed)).await;
        assert_eq!(index.len(), 30);
        assert_eq!(*calls.lock(), [["even", "odd"]]);
    }

    #[tokio::test]
    async fn an_encoder_that_fails_loses_no_change() {
        let dir = TempDir::new().unwrap();
        let (log, index) = (Log::new(), open(&dir));
        let up = AtomicBool::new(false);
        let embed = |texts: Vec<String>| {
            let up = up.load(Ordering::Relaxed);
            ready(if up { Ok(texts.iter().map(|text| vector_of(text)).collect()) } else { Err("no version is loaded") })
        };
        log.change(0, Some("lamp"));
        log.change(1, Some("desk"));
        let mut indexer = worker(&index, &log, embed);
        for _ in 0..3 {
            assert_eq!(indexer.step().await, Err("no version is loaded".to_owned()));
        }
        log.change(1, None);
        log.change(2, Some("chair"));
        assert!(indexer.step().await.is_err());
        up.store(true, Ordering::Relaxed);
        catch_up(&mut indexer).await;
        assert_eq!(index.docs().iter().collect::<Vec<_>>(), [0, 2]);
    }

    #[tokio::test]
    async fn an_answer_of_the_wrong_number_of_vectors_is_an_error_and_a_bad_vector_leaves_one_item_out() {
        let dir = TempDir::new().unwrap();
        let (log, index) = (Log::new(), open(&dir));
        log.change(0, Some("lamp"));
        log.change(1, Some("desk"));
        let none = |_: Vec<String>| ready(Ok::<_, Infallible>(Vec::new()));
        assert!(worker(&index, &log, none).step().await.is_err());
        let bad = |_: Vec<String>| ready(Ok::<_, Infallible>(vec![vec![f32::NAN; WIDTH], vec![1.0; WIDTH]]));
        catch_up(&mut worker(&index, &log, bad)).await;
        assert_eq!((index.docs().iter().collect::<Vec<_>>(), index.watermark()), (vec![1], 2));
    }

    #[tokio::test]
    async fn a_change_does_not_wait_behind_the_backlog() {
        let dir = TempDir::new().unwrap();
        let (log, index) = (Log::new(), open(&dir));
        let (calls, embed) = noting();
        for doc in 0..100 {
            log.change(doc, Some(&format!("item {doc}")));
        }
        let mut indexer = worker(&index, &log, embed);
        indexer.step().await.unwrap();
        log.change(500, Some("just in"));
        indexer.step().await.unwrap();
        assert_eq!(calls.lock()[1], ["just in"]);
        assert_eq!(index.watermark(), 4, "the backlog is not done");
        catch_up(&mut indexer).await;
        assert_eq!((index.len(), index.watermark()), (101, 101));
        assert_eq!(calls.lock().iter().flatten().count(), 101);
    }

    #[tokio::test]
    async fn vectors_of_items_removed_while_the_watermark_was_lost_go() {
        let dir = TempDir::new().unwrap();
        let (log, index) = (Log::new(), open(&dir));
        let (calls, embed) = noting();
        log.change(0, Some("lamp"));
        index.upsert(0, content_hash("lamp"), &vector_of("lamp")).unwrap();
        index.upsert(9, 9, &vector_of("sold out long ago")).unwrap();
        catch_up(&mut worker(&index, &log, embed)).await;
        assert_eq!((index.docs().iter().collect::<Vec<_>>(), index.watermark()), (vec![0], 1));
        assert!(calls.lock().is_empty());
    }
}
