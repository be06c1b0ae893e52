//! Searches by meaning, at some pace, and what came of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use vitrine::v1::{RequestContext, SearchMode, SearchRequest, search_request::Query};
use vitrine_client::{
    Client, Error,
    load::{self, Load, Pace},
};

use super::place::CATALOG;
use crate::bench::{queries::Queries, spread::Spread};

/// Sends searches.
pub struct Searcher {
    client: Client,
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
}

impl Loaded {
    /// Searches answered a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl Searcher {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Searches for what nobody has searched for before.
    pub async fn new_queries(&self, queries: &Arc<Queries>, pace: Pace, duration: Duration) -> Result<Loaded> {
        let queries = Arc::clone(queries);
        self.load(Load { pace, duration }, move |_| queries.next()).await
    }

    /// Searches for what was searched for before, in turn.
    pub async fn seen_queries(&self, queries: &Arc<Queries>, pace: Pace, duration: Duration) -> Result<Loaded> {
        let queries = Arc::clone(queries);
        self.load(Load { pace, duration }, move |turn| queries.sent(turn)).await
    }

    async fn load(&self, load: Load, text: impl Fn(u64) -> String + Send + Sync + 'static) -> Result<Loaded> {
        let client = self.client.clone();
        let call = move |turn| {
            let (client, text) = (client.clone(), text(turn));
            async move { search(&client, text).await }
        };
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
        let elapsed = started.elapsed();
        Ok(Loaded { answered: times.len(), latency: Spread::of(times), failed, elapsed })
    }
}

/// Searches by meaning.
pub async fn search(client: &Client, text: String) -> Result<(), Error> {
    let context = RequestContext { catalog: CATALOG.to_owned(), ..RequestContext::default() };
    let request = SearchRequest {
        context: Some(context),
        query: Some(Query::Text(text)),
        mode: SearchMode::Semantic.into(),
        ..SearchRequest::default()
    };
    client.search(request).await.map(drop)
}
