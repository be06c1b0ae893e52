//! One loaded version of a text encoder: text in, vectors out.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use metrics::{Counter, counter};
use moka::future::Cache;
use tokio::task;

use super::{EncoderError, QUERY_CACHE, TEXT_EMBEDDING, load::Tokenize};
use crate::{
    batch::{Class, Row},
    model::{Loaded, Opened},
};

/// Texts up to this long together are tokenised where they are; longer ones where blocking does no harm.
const SHORT_TEXT_BYTES: usize = 2_000;

/// About what the cache needs for an entry besides its text and its vector.
const ENTRY_BYTES: usize = 120;

/// One loaded version. It stays loaded as long as anyone holds it.
pub struct Encoder {
    opened: Opened,
    dimensions: usize,
    tokenize: Arc<dyn Tokenize>,
    queries: Cache<String, Arc<[f32]>>,
    hits: Counter,
    misses: Counter,
}

/// What an encoder is made of, beside what every version is given.
pub(super) struct EncoderParts {
    pub dimensions: usize,
    pub tokenize: Arc<dyn Tokenize>,
    pub query_cache_bytes: u64,
}

impl Loaded for Encoder {
    const TASK: &'static str = TEXT_EMBEDDING;
    const KINDS: &'static [&'static str] = &["bert"];
    const INDEXED: bool = true;

    fn opened(&self) -> &Opened {
        &self.opened
    }
}

impl Encoder {
    pub(super) fn new(opened: Opened, parts: EncoderParts) -> Self {
        let EncoderParts { dimensions, tokenize, query_cache_bytes } = parts;
        let weigh = |text: &String, vector: &Arc<[f32]>| {
            u32::try_from(text.len() + size_of_val::<[f32]>(vector) + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let queries = Cache::builder().max_capacity(query_cache_bytes).weigher(weigh).build();
        let count = |outcome: &'static str| counter!(QUERY_CACHE, "model" => opened.model.clone(), "version" => opened.version.to_string(), "outcome" => outcome);
        let (hits, misses) = (count("hit"), count("miss"));
        Self { opened, dimensions, tokenize, queries, hits, misses }
    }

    /// How many numbers its vectors have.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vector of a query. Recent ones are kept, and equal queries that come at the same time are run once.
    ///
    /// # Errors
    /// See [`EncoderError`]; none of them is kept.
    pub async fn embed_query(&self, text: &str, deadline: Option<Instant>) -> Result<Arc<[f32]>, EncoderError> {
        if let Some(vector) = self.queries.get(text).await {
            self.hits.increment(1);
            return Ok(vector);
        }
        self.misses.increment(1);
        match deadline {
            None => self.embed_once(text, None).await,
            Some(at) => tokio::time::timeout_at(at.into(), self.embed_once(text, deadline))
                .await
                .unwrap_or(Err(EncoderError::DeadlineExceeded)),
        }
    }

    async fn embed_once(&self, text: &str, deadline: Option<Instant>) -> Result<Arc<[f32]>, EncoderError> {
        loop {
            let own = AtomicBool::new(false);
            let compute = async {
                own.store(true, Ordering::Relaxed);
                self.embed_one(text, deadline).await
            };
            match self.queries.try_get_with_by_ref(text, compute).await {
                Ok(vector) => return Ok(vector),
                // Whoever ran it for both of us had less time than we have.
                Err(error) if *error == EncoderError::DeadlineExceeded && !own.load(Ordering::Relaxed) => {}
                Err(error) => return Err(EncoderError::clone(&error)),
            }
        }
    }

    async fn embed_one(&self, text: &str, deadline: Option<Instant>) -> Result<Arc<[f32]>, EncoderError> {
        let row = self.rows(vec![text.to_owned()]).await?;
        let mut outputs = self.opened.lane.run(row, Class::Interactive, deadline).await?;
        Ok(outputs.pop().unwrap_or_default().into())
    }

    /// The vectors of texts that someone waits for, in order.
    ///
    /// # Errors
    /// See [`EncoderError`].
    pub async fn embed_texts(
        &self,
        texts: Vec<String>,
        deadline: Option<Instant>,
    ) -> Result<Vec<Vec<f32>>, EncoderError> {
        let rows = self.rows(texts).await?;
        Ok(self.opened.lane.run(rows, Class::Interactive, deadline).await?)
    }

    /// The vectors of items' texts, in order. Runs when queries leave room, and waits where a query would be refused.
    ///
    /// # Errors
    /// [`EncoderError::NotLoaded`] when the version leaves, [`EncoderError::Failed`] when it cannot encode a text.
    pub async fn embed_bulk(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EncoderError> {
        let rows = self.rows(texts).await?;
        Ok(self.opened.run_bulk(rows).await?)
    }

    async fn rows(&self, texts: Vec<String>) -> Result<Vec<Row>, EncoderError> {
        let tokenize = Arc::clone(&self.tokenize);
        let short = texts.iter().map(String::len).sum::<usize>() <= SHORT_TEXT_BYTES;
        let work = move || -> Result<Vec<Row>, String> { texts.iter().map(|text| tokenize.row(text)).collect() };
        let rows = if short {
            work()
        } else {
            task::spawn_blocking(work).await.map_err(|error| EncoderError::Failed { detail: error.to_string() })?
        };
        rows.map_err(|detail| EncoderError::Failed { detail })
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Encoder({}/{})", self.opened.model, self.opened.version)
    }
}
