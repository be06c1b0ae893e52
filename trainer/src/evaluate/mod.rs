//! `vitrine-trainer evaluate`.

mod clicks;
mod generator;
mod off_policy;
mod pictures;
mod recommend;
mod search;
mod sequences;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use tokio::time::Instant;
use vitrine::v1::{Degraded, EventType, GetCatalogRequest};
use vitrine_client::{Client, Options};

pub(crate) use clicks::print_scores;
pub(crate) use generator::{made, print_made, score_made};
pub(crate) use pictures::compare_with_pixels;
pub(crate) use sequences::{compare, scores};

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Evaluate {
    /// Judged queries against the whole catalog: lexical, semantic and hybrid search side by side
    Search(search::Search),
    /// Each user's last interaction, predicted from the ones before: the server beside Pop, Markov and item-kNN
    Recommend(recommend::Recommend),
    /// A ranker, by clicks on what another policy showed, each with how likely it was to show it: what would have come of it
    OffPolicy(off_policy::OffPolicy),
    /// A network that was learnt from histories: each user's next item among all, beside Pop, Markov and item-kNN
    Sequences(sequences::EvaluateSequences),
    /// A network that was learnt from clicks: the newest examples, or all of a file that it has not learnt from
    Clicks(clicks::EvaluateClicks),
    /// A network that was learnt from pictures of classes, beside the nearest in pixels
    Pictures(pictures::EvaluatePictures),
    /// A generator: its pictures beside real ones, as a network sees them that knows the classes
    Generator(generator::EvaluateGenerator),
}

/// Where the server is.
#[derive(Debug, Clone, Args)]
struct Target {
    /// Where the server listens
    #[arg(long, env = "VITRINE_SERVER", default_value = "http://127.0.0.1:7700", value_name = "URL")]
    server: String,
    /// The catalog, as `movies`
    #[arg(long, short, env = "VITRINE_CATALOG", value_name = "NAME")]
    catalog: String,
    /// How many calls at a time
    #[arg(long, default_value_t = 8, value_name = "N")]
    concurrency: usize,
    /// Wait so many seconds at most until every item is in every index; 0: measure at once
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    settle: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Evaluate {
    /// Measures, and prints what it found.
    ///
    /// # Errors
    /// A file is not as it should be, or the server does not answer.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Search(search) => search.run().await,
            Self::Recommend(recommend) => recommend.run().await,
            Self::OffPolicy(off_policy) => off_policy.run(),
            Self::Sequences(sequences) => sequences.run(),
            Self::Clicks(clicks) => clicks.run(),
            Self::Pictures(pictures) => pictures.run(),
            Self::Generator(generator) => generator.run(),
        }
    }
}

impl Target {
    fn catalog(&self) -> String {
        format!("catalogs/{}", self.catalog.trim_start_matches("catalogs/"))
    }

    async fn connect(&self) -> Result<Client> {
        // An evaluation wants every answer, and has time.
        let options =
            Options { server: self.server.clone(), timeout: Duration::from_mins(1), retries: 10, ..Options::default() };
        Ok(Client::connect(options).await?)
    }

    /// Waits until the indexes hold everything: what is not indexed cannot be found, and that is not what is measured.
    async fn settle(&self, client: &Client) -> Result<()> {
        let begun = Instant::now();
        loop {
            let catalog = client.get_catalog(GetCatalogRequest { name: self.catalog() }).await?;
            let lexical = catalog.lexical_index.map_or(0, |index| index.lag);
            let vectors: i64 = catalog.vector_indexes.iter().map(|index| index.pending_items).sum();
            if lexical == 0 && vectors == 0 || self.settle == 0 {
                return Ok(());
            }
            let waited = begun.elapsed() >= Duration::from_secs(self.settle);
            anyhow::ensure!(
                !waited,
                "after {} s, {lexical} changes and {vectors} vectors are not indexed",
                self.settle
            );
            eprintln!("waiting for the indexes: {lexical} changes and {vectors} vectors to go");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}

/// Says why some answers were less than they could be: their figures are not to be trusted.
fn warn_of_degraded<'a>(what: &str, degraded: impl Iterator<Item = &'a Vec<Degraded>>) {
    let degraded: Vec<&Vec<Degraded>> = degraded.filter(|parts| !parts.is_empty()).collect();
    if let Some(part) = degraded.first().and_then(|parts| parts.first()) {
        eprintln!("warning: {what}: {} answers were degraded, as: {}", degraded.len(), part.detail);
    }
}

/// An event's type as it is written on the command line, as `purchase`.
pub(crate) fn event_type(name: &str) -> Result<EventType, String> {
    let full = format!("EVENT_TYPE_{}", name.to_ascii_uppercase());
    EventType::from_str_name(&full).ok_or_else(|| format!("`{name}` is no event type; try view or purchase"))
}
