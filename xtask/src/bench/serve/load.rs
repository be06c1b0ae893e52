//! Searches by meaning, and embeddings by themselves, at some pace, and what came of them.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use vitrine::{
    inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{RequestContext, SearchMode, SearchRequest, search_request::Query},
};
use vitrine_client::{
    Client, Error,
    load::{self, Load, Pace},
};

use super::place::{CATALOG, ENCODER};
use crate::bench::{process, queries::Queries, spread::Spread};

/// Sends searches.
pub struct Searcher {
    client: Client,
    /// The server's process.
    server: u32,
}

/// What came of a load.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Of the answered searches.
    pub latency: Spread,
    pub answered: usize,
    pub failed: usize,
    /// From the first search to the last answer.
    pub elapsed: Duration,
    /// The processor time that it took the server, and us.
    pub processor: [Duration; 2],
}

impl Loaded {
    /// Searches answered a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The processor time of a search: the server's, and ours.
    pub fn processor_each(&self) -> [Duration; 2] {
        self.processor.map(|time| time.div_f64(self.answered.max(1) as f64))
    }
}

impl Searcher {
    /// For a server that runs as this process.
    pub fn new(client: Client, server: u32) -> Self {
        Self { client, server }
    }

    /// Searches for what nobody has searched for before.
    pub async fn new_queries(&self, queries: &Arc<Queries>, pace: Pace, duration: Duration) -> Result<Loaded> {
        let queries = Arc::clone(queries);
        self.load(Load { pace, duration }, move |_| queries.next(), search).await
    }

    /// Searches for what was searched for before, in turn.
    pub async fn seen_queries(&self, queries: &Arc<Queries>, pace: Pace, duration: Duration) -> Result<Loaded> {
        let queries = Arc::clone(queries);
        self.load(Load { pace, duration }, move |turn| queries.sent(turn), search).await
    }

    /// Asks for the embeddings of what was searched for before, in turn: they are not kept, as those of queries are.
    pub async fn embeddings(&self, queries: &Arc<Queries>, pace: Pace, duration: Duration) -> Result<Loaded> {
        let queries = Arc::clone(queries);
        self.load(Load { pace, duration }, move |turn| queries.sent(turn), embed).await
    }

    async fn load<F>(
        &self,
        load: Load,
        text: impl Fn(u64) -> String + Send + Sync + 'static,
        ask: fn(Client, String) -> F,
    ) -> Result<Loaded>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let client = self.client.clone();
        let call = move |turn| ask(client.clone(), text(turn));
        let before = self.processor()?;
        let started = Instant::now();
        let mut calls = load::start(load, call)?;
        let (mut times, mut failed) = (Vec::new(), 0);
        while let Some(call) = calls.next().await {
            match call.outcome {
                Ok(()) => times.push(call.latency),
                // A server that gets all it can do may refuse some: no other load may fail.
                Err(_) if matches!(load.pace, Pace::Rate(_)) => failed += 1,
                Err(error) => return Err(error.into()),
            }
        }
        let (elapsed, after) = (started.elapsed(), self.processor()?);
        let processor = [after[0].saturating_sub(before[0]), after[1].saturating_sub(before[1])];
        Ok(Loaded { answered: times.len(), latency: Spread::of(times), failed, elapsed, processor })
    }

    fn processor(&self) -> io::Result<[Duration; 2]> {
        Ok([process::processor_time(self.server)?, process::processor_time(std::process::id())?])
    }
}

/// Searches by meaning.
pub async fn search(client: Client, text: String) -> Result<(), Error> {
    let context = RequestContext { catalog: CATALOG.to_owned(), ..RequestContext::default() };
    let request = SearchRequest {
        context: Some(context),
        query: Some(Query::Text(text)),
        mode: SearchMode::Semantic.into(),
        ..SearchRequest::default()
    };
    client.search(request).await.map(drop)
}

/// Asks the encoder for a text's embedding.
async fn embed(client: Client, text: String) -> Result<(), Error> {
    let contents = InferTensorContents { bytes_contents: vec![text.into()], ..InferTensorContents::default() };
    let input = InferInputTensor {
        name: "text".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![1],
        contents: Some(contents),
        ..InferInputTensor::default()
    };
    let request =
        ModelInferRequest { model_name: ENCODER.to_owned(), inputs: vec![input], ..ModelInferRequest::default() };
    client.model_infer(request).await.map(drop)
}
