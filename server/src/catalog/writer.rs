//! The one thread of a catalog that writes: it takes whatever waits, records it with one sync, shows it, and answers.
//!
//! No timer: while one group is being synced the next one gathers, so a single caller waits for one sync, and many
//! share one.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::checkpoint::Checkpoint;
use super::plan::{self, Answer, Plan};
use super::{CatalogId, CatalogOptions, EVERYTHING, State};
use crate::log::{Appended, Change, Entry, Group, ImportPosition, LogError, Patch, Record, Records, Seq, Who};

/// What a waiting change costs beside its encoded bytes, so that bounded bytes also mean bounded changes.
const CHANGE_COST: usize = 256;
/// Entries applied while readers of the table wait.
const APPLIED_AT_ONCE: usize = 256;

/// The handle of a catalog's writer thread.
pub(super) struct Writer {
    jobs: Mutex<Option<UnboundedSender<Job>>>,
    room: Arc<Semaphore>,
    capacity: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread is asked to do.
enum Job {
    Record(Request),
    Erase(Erase, oneshot::Sender<Result<u64, LogError>>),
}

/// The events of one person, to be erased.
pub(super) struct Erase {
    pub who: Who,
    /// Those up to `until`.
    pub found: Vec<Record>,
    pub until: Seq,
}

/// What one caller wants recorded, all or nothing.
struct Request {
    changes: Vec<Change>,
    import: Option<ImportPosition>,
    cost: usize,
    answer: oneshot::Sender<Result<Vec<Appended>, LogError>>,
    /// Its place in the queue, given back when it is answered.
    _room: OwnedSemaphorePermit,
}

impl Writer {
    /// Starts the thread. `unsaved` is how many events the checkpoint lacks.
    pub fn start(
        id: &CatalogId,
        state: Arc<State>,
        checkpoint: Checkpoint,
        unsaved: u64,
        options: &CatalogOptions,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let capacity = options.queue_bytes.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        let mut thread =
            Thread { state, checkpoint, unsaved, recorded_ms: 0, options: options.clone(), failing: false };
        let thread = thread::Builder::new().name(format!("log-{id}")).spawn(move || thread.run(waiting))?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            room: Arc::new(Semaphore::new(capacity)),
            capacity,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Waits for room in the queue, then for the changes to be durable and to show. Once it is queued, a request whose
    /// caller goes away is recorded or not, but never in part.
    pub async fn append(
        &self,
        changes: Vec<Change>,
        import: Option<ImportPosition>,
    ) -> Result<Vec<Appended>, LogError> {
        let cost = changes.iter().map(|change| CHANGE_COST + encoded_len(change)).sum::<usize>() + CHANGE_COST;
        let permits = cost.min(self.capacity) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| LogError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { changes, import, cost, answer, _room: room };
        self.send(Job::Record(request))?;
        answered.await.map_err(|_| LogError::Closed)?
    }

    /// Erases what was found, and what was recorded since. Answers how many events that were.
    pub async fn erase(&self, erase: Erase) -> Result<u64, LogError> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Erase(erase, answer))?;
        answered.await.map_err(|_| LogError::Closed)?
    }

    fn send(&self, job: Job) -> Result<(), LogError> {
        let jobs = self.jobs.lock();
        jobs.as_ref().ok_or(LogError::Closed)?.send(job).map_err(|_| LogError::Closed)
    }

    /// Refuses new requests, finishes those that are queued, saves a checkpoint.
    pub fn close(&self) {
        self.room.close();
        self.jobs.lock().take();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("a catalog's writer thread panicked");
        }
    }
}

fn encoded_len(change: &Change) -> usize {
    match change {
        Change::UpsertItem(item) | Change::PatchItem(Patch { item, .. }) => item.encoded_len(),
        Change::DeleteItem(id) | Change::DeletePicture(id) => id.len(),
        Change::PutPicture(id, data) => id.len() + data.len(),
        Change::Event(event) => event.encoded_len(),
        Change::PutControl(id, control) => id.len() + control.encoded_len(),
        Change::DeleteControl(id) => id.len(),
    }
}

/// What the thread owns.
struct Thread {
    state: Arc<State>,
    checkpoint: Checkpoint,
    /// Events since the checkpoint.
    unsaved: u64,
    /// The last group's time: the log's times never go back.
    recorded_ms: i64,
    options: CatalogOptions,
    /// Whether the last group could not be written: said once, not for each.
    failing: bool,
}

impl Thread {
    fn run(&mut self, mut waiting: UnboundedReceiver<Job>) {
        let mut next = None;
        while let Some(job) = next.take().or_else(|| waiting.blocking_recv()) {
            match job {
                Job::Record(first) => {
                    let requests;
                    (requests, next) = self.gather(first, &mut waiting);
                    self.record(requests);
                    self.save_if_due(waiting.is_empty());
                }
                // The caller may have gone.
                Job::Erase(erase, answer) => drop(answer.send(self.erase(&erase))),
            }
        }
        if self.unsaved > 0 {
            self.save();
        }
    }

    /// What waits now to be recorded, up to a group's size, and a job of another kind that came up. A request whose
    /// caller has gone is left out.
    fn gather(&self, first: Request, waiting: &mut UnboundedReceiver<Job>) -> (Vec<Request>, Option<Job>) {
        let mut cost = first.cost;
        let mut requests = vec![first];
        let mut other = None;
        while cost < self.options.group_bytes
            && let Ok(job) = waiting.try_recv()
        {
            match job {
                Job::Record(request) => {
                    cost += request.cost;
                    requests.push(request);
                }
                job @ Job::Erase(..) => {
                    other = Some(job);
                    break;
                }
            }
        }
        requests.retain(|request| !request.answer.is_closed());
        (requests, other)
    }

    fn erase(&mut self, erase: &Erase) -> Result<u64, LogError> {
        let State { log, behaviour, event_count, .. } = &*self.state;
        let since = log.read(erase.until, EVERYTHING, &Records::Of(erase.who.clone()))?;
        let up_to = erase.found.iter().take_while(|record| record.seq <= erase.until);
        let records: Vec<&Record> = up_to.chain(&since).collect();
        let erased = log.erase_events(&records.iter().map(|record| record.seq).collect::<Vec<_>>())?;
        let orders = records.iter().filter_map(|record| match &record.change {
            Change::Event(event) => Some(event.order_id.as_str()),
            _ => None,
        });
        behaviour.write().forget(&erase.who, erased, orders);
        event_count.fetch_sub(erased, Ordering::Relaxed);
        // The checkpoint holds what they did.
        self.save();
        Ok(erased)
    }

    fn record(&mut self, mut requests: Vec<Request>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        self.recorded_ms = self.recorded_ms.max(now);
        let counts: Vec<usize> = requests.iter().map(|request| request.changes.len()).collect();
        let (group, answers, controls) = {
            let table = self.state.items.read();
            // Nobody else writes to it.
            let behaviour = self.state.behaviour.read();
            let mut plan = Plan::new(&table, self.state.controls.load_full(), behaviour.ads(), self.recorded_ms);
            for request in &mut requests {
                for change in mem::take(&mut request.changes) {
                    plan.add(change);
                }
                if let Some(import) = request.import.take() {
                    plan.import(import);
                }
            }
            plan.finish()
        };
        match self.state.log.append(&group) {
            Ok(seqs) => {
                self.failing = false;
                let before = *self.state.head.borrow();
                self.state.controls.store(controls);
                self.show(&group, &answers, &seqs);
                let mut resolved = plan::resolve(answers, &seqs, before).into_iter();
                for (request, count) in requests.into_iter().zip(counts) {
                    // The caller may have gone.
                    let _ = request.answer.send(Ok(resolved.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                if !mem::replace(&mut self.failing, true) {
                    tracing::error!(error = &error as &dyn std::error::Error, "changes could not be recorded");
                }
                for request in requests {
                    let _ = request.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Makes a recorded group visible. Table and behaviour are never locked together: readers take them in any order.
    fn show(&mut self, group: &Group, answers: &[Answer], seqs: &[Option<Seq>]) {
        let State { items, behaviour, head, event_count, .. } = &*self.state;
        if !group.docs.is_empty() {
            items.change(|table| {
                for (doc, id) in &group.docs {
                    let given = table.intern(id);
                    debug_assert_eq!(given, *doc);
                }
            });
        }
        let recorded = answers.iter().filter(|answer| answer.recorded).map(|answer| answer.docs.as_slice());
        let shown: Vec<_> =
            group.entries.iter().zip(recorded).zip(seqs).filter(|(_, seq)| seq.is_some()).map(|(e, _)| e).collect();
        let mut events = 0;
        for some in shown.chunks(APPLIED_AT_ONCE) {
            let of_items =
                |entry: &Entry| !matches!(entry, Entry::Event(_) | Entry::PutControl(..) | Entry::DeleteControl(_));
            if some.iter().any(|(entry, _)| of_items(entry)) {
                items.change(|table| {
                    for (entry, _) in some {
                        match entry {
                            Entry::Upsert(_, item) => drop(table.upsert(Arc::clone(item))),
                            Entry::Delete(doc, _) => drop(table.remove(*doc)),
                            Entry::PutPicture(doc, _, picture) => table.put_picture(*doc, picture.hash),
                            Entry::DeletePicture(doc, _) => table.remove_picture(*doc),
                            Entry::Event(_) | Entry::PutControl(..) | Entry::DeleteControl(_) => {}
                        }
                    }
                });
            }
            if some.iter().any(|(entry, _)| matches!(entry, Entry::Event(_))) {
                let mut behaviour = behaviour.write();
                for (entry, docs) in some {
                    if let Entry::Event(event) = entry {
                        behaviour.apply(event, docs, group.recorded_ms);
                        events += 1;
                    }
                }
            }
        }
        self.unsaved += events;
        event_count.fetch_add(events, Ordering::Relaxed);
        if let Some(last) = seqs.iter().rev().find_map(|seq| *seq) {
            head.send_replace(last);
        }
    }

    /// A checkpoint is due when a share of all events is not in it: what all checkpoints cost stays in proportion to
    /// the events, and so does the replay at a start. Better while nobody waits; at double the share even then.
    fn save_if_due(&mut self, idle: bool) {
        let events = self.state.event_count.load(Ordering::Relaxed);
        let due = (events / 8).max(self.options.checkpoint_events);
        if self.unsaved >= due && (idle || self.unsaved >= 2 * due) {
            self.save();
        }
    }

    /// A checkpoint that cannot be written is tried again when as many events have come again.
    fn save(&mut self) {
        let seq = *self.state.head.borrow();
        if let Err(error) = self.checkpoint.save(&self.state.behaviour.read(), seq) {
            tracing::warn!(error = &*error, "checkpoint not written: the next start takes longer");
        }
        self.unsaved = 0;
    }
}
