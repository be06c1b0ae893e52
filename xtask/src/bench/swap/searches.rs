//! The searches that go on all the time: an open loop, every one of them recorded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::{sync::oneshot, task::JoinHandle};
use vitrine::v1::{RequestContext, SearchRequest, VectorQuery, search_request::Query};
use vitrine_client::{
    Client, Code, Error,
    load::{self, Load, Pace},
};

use super::{
    super::{
        queries::Queries,
        shop::{CATALOG, MODEL},
    },
    Span,
};

/// Callers of the closed loop: enough that the server always has something to do.
pub const CALLERS: usize = 16;
/// Of the encoder's vectors.
const DIMENSIONS: usize = 384;

/// A search that ended.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// When it was to be sent.
    pub due: Instant,
    /// From then to its answer.
    pub latency: Duration,
    pub outcome: Result<Answer, Code>,
    /// Sent to see whether a label has moved, and not by the load.
    pub probe: bool,
}

/// An answer to a search.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub sent: Instant,
    pub received: Instant,
    /// The encoder version that took part. None: it was found by words only.
    pub version: Option<u32>,
}

/// Searches on their way, and what came of those before.
pub struct Searches {
    record: Record,
    stop: oneshot::Sender<()>,
    recording: JoinHandle<()>,
}

/// What came of searches so far. Clones are the same.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Vec<Search>>>);

impl Searches {
    /// Begins to search by text, so often a second.
    pub fn start(client: &Client, queries: Arc<Queries>, rate: f64) -> Result<Self> {
        let client = client.clone();
        let search = move |_| by_text(client.clone(), queries.next());
        let mut calls = load::start(Load { pace: Pace::Rate(rate), duration: Duration::MAX }, search)?;
        let record = Record::default();
        let (stop, mut stopped) = oneshot::channel();
        let recorded = record.clone();
        let recording = tokio::spawn(async move {
            loop {
                tokio::select! {
                    call = calls.next() => match call {
                        Some(call) => recorded.add(Search {
                            due: call.due,
                            latency: call.latency,
                            outcome: call.outcome.map_err(|error| error.code()),
                            probe: false,
                        }),
                        None => return,
                    },
                    _ = &mut stopped, if !stopped.is_terminated() => calls.stop(),
                }
            }
        });
        Ok(Self { record, stop, recording })
    }

    /// What came of them so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Sends no more, waits for those on their way, and answers with all of them.
    pub async fn stop(self) -> Result<Vec<Search>> {
        // Fails when it has ended already.
        let _ = self.stop.send(());
        self.recording.await.context("the searches could not be recorded")?;
        Ok(std::mem::take(&mut *self.record.0.lock()))
    }
}

impl Record {
    pub fn add(&self, search: Search) {
        self.0.lock().push(search);
    }

    /// Those of the load that were due within this time until now.
    pub fn since(&self, within: Duration) -> Vec<Search> {
        let until = Instant::now();
        self.of(Span { from: until.checked_sub(within).unwrap_or(until), until })
    }

    /// Those of the load that were due at this time.
    pub fn of(&self, span: Span) -> Vec<Search> {
        self.0.lock().iter().filter(|search| span.contains(search.due) && !search.probe).copied().collect()
    }
}

/// Searches by words and by meaning.
pub async fn by_text(client: Client, text: String) -> Result<Answer, Error> {
    search(&client, Query::Text(text)).await
}

/// Searches by a vector, which needs no run of the encoder.
pub async fn by_vector(client: &Client) -> Result<Answer, Error> {
    let mut values = vec![0.0; DIMENSIONS];
    values[0] = 1.0;
    search(client, Query::Vector(VectorQuery { values })).await
}

async fn search(client: &Client, query: Query) -> Result<Answer, Error> {
    let context = RequestContext { catalog: CATALOG.to_owned(), ..RequestContext::default() };
    let request = SearchRequest { context: Some(context), query: Some(query), ..SearchRequest::default() };
    let sent = Instant::now();
    let answer = client.search(request).await?;
    let received = Instant::now();
    let version = answer.served_by.iter().find(|by| by.model == MODEL).map(|by| by.version);
    Ok(Answer { sent, received, version })
}

/// How many searches a second are answered to callers who wait for each answer.
pub async fn capacity(client: &Client, queries: &Arc<Queries>, duration: Duration) -> Result<f64> {
    let (client, queries) = (client.clone(), Arc::clone(queries));
    let search = move |_| by_text(client.clone(), queries.next());
    let started = Instant::now();
    let mut calls = load::start(Load { pace: Pace::Callers(CALLERS), duration }, search)?;
    let mut answered = 0_u32;
    while let Some(call) = calls.next().await {
        call.outcome?;
        answered += 1;
    }
    Ok(f64::from(answered) / started.elapsed().as_secs_f64())
}
