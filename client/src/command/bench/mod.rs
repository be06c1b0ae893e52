//! `vitrine bench`: what is sent, and how the figures are printed.

mod report;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use vitrine::v1::{
    Event, EventItem, EventType, FeedbackRequest, ForUser, Item, ItemList, ListItemsRequest, RecommendRequest,
    RequestContext, SearchMode, SearchRequest, recommend_request::Target, search_request::Query,
};
use vitrine_client::{
    Client,
    json::LineReader,
    load::{Load, Pace},
};

use self::report::Report;
use super::{feedback::random_id, import::open, search::Mode};
use crate::{
    arguments::{Global, duration},
    exit,
    exit::Usage,
    output::{Column, Output, counted, grouped, line},
};

/// How many items of the catalog stand in for queries when no file is given.
const SAMPLE: i32 = 1000;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Searches: queries from a file, or the titles of the catalog's first items
    Search {
        #[command(flatten)]
        options: Options,
        /// Which retrievers take part
        #[arg(long, value_enum, default_value_t = Mode::Hybrid)]
        mode: Mode,
    },
    /// Recommendations: for the users in a file, or beside the catalog's first items
    Recommend {
        #[command(flatten)]
        options: Options,
    },
    /// Feedback: views by made-up users of the items in a file, or of the catalog's first items. The events stay in
    /// the catalog: use one made for the purpose
    Feedback {
        #[command(flatten)]
        options: Options,
        /// How many events a call carries
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        batch: u32,
    },
}

/// How to measure.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// One query, user id or item id a line; they are sent in turn
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Open loop: so many calls a second, whatever the server does; latency counts from the moment a call was due
    #[arg(long, value_name = "R", conflicts_with = "concurrency")]
    rate: Option<f64>,
    /// Closed loop: so many callers, each with one call at a time [default: 1]
    #[arg(long, value_name = "C")]
    concurrency: Option<usize>,
    /// How long
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    duration: Duration,
}

impl Bench {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let catalog = global.catalog()?;
        let context = RequestContext { catalog: catalog.clone(), ..Default::default() };
        // A retry would hide what is measured.
        let options = vitrine_client::Options { retries: 0, ..global.options() };
        let client = Client::connect(options).await?;
        let report = match self {
            Self::Search { options, mode } => {
                let texts = Arc::new(options.inputs(&client, &catalog, |item| item.title).await?);
                let call = move |turn| {
                    let request = SearchRequest {
                        context: Some(context.clone()),
                        query: Some(Query::Text(pick(&texts, turn))),
                        mode: SearchMode::from(mode).into(),
                        ..Default::default()
                    };
                    let client = client.clone();
                    async move { client.search(request).await.map(drop) }
                };
                Report::of(options.load()?, call).await?
            }
            Self::Recommend { options } => {
                let users = options.queries.is_some();
                let ids = Arc::new(options.inputs(&client, &catalog, |item| item.id).await?);
                let call = move |turn| {
                    let request = recommend_request(context.clone(), pick(&ids, turn), users);
                    let client = client.clone();
                    async move { client.recommend(request).await.map(drop) }
                };
                Report::of(options.load()?, call).await?
            }
            Self::Feedback { options, batch } => {
                let ids = Arc::new(options.inputs(&client, &catalog, |item| item.id).await?);
                let batch = u64::from(batch);
                let call = move |turn: u64| {
                    let events = (turn * batch..(turn + 1) * batch).map(|n| view(pick(&ids, n), n)).collect();
                    let request = FeedbackRequest { catalog: catalog.clone(), events };
                    let client = client.clone();
                    async move { client.feedback(request).await.map(drop) }
                };
                Report::of(options.load()?, call).await?
            }
        };
        print(global.output(), &report)?;
        Ok(if report.errors.is_empty() { exit::OK } else { exit::FAILED })
    }
}

impl Options {
    fn load(&self) -> Result<Load> {
        let pace = match (self.rate, self.concurrency) {
            (Some(rate), _) if rate.is_finite() && rate > 0.0 => Pace::Rate(rate),
            (Some(rate), _) => return Err(Usage(format!("--rate {rate}: must be more than 0")).into()),
            (None, Some(0)) => return Err(Usage("--concurrency 0: must be at least 1".to_owned()).into()),
            (None, callers) => Pace::Callers(callers.unwrap_or(1)),
        };
        Ok(Load { pace, duration: self.duration })
    }

    /// The lines of the file, or something of the catalog's first items.
    async fn inputs(&self, client: &Client, catalog: &str, of: impl Fn(Item) -> String) -> Result<Vec<String>> {
        let inputs: Vec<String> = if let Some(path) = &self.queries {
            let lines = LineReader::new(open(path)?).map(|line| {
                let line = line.with_context(|| format!("cannot read {}", path.display()))?;
                line.text.map_err(|error| Usage(format!("{}:{}: {error}", path.display(), line.number)).into())
            });
            lines.collect::<Result<_>>()?
        } else {
            let request = ListItemsRequest { parent: catalog.to_owned(), page_size: SAMPLE, ..Default::default() };
            client.list_items(request).await?.items.into_iter().map(of).collect()
        };
        if inputs.is_empty() {
            return Err(Usage("there is nothing to send: the file or the catalog is empty".to_owned()).into());
        }
        Ok(inputs)
    }
}

/// The inputs in turn.
fn pick(inputs: &[String], turn: u64) -> String {
    inputs.get((turn % inputs.len().max(1) as u64) as usize).cloned().unwrap_or_default()
}

/// For a user, or beside an item.
fn recommend_request(context: RequestContext, id: String, user: bool) -> RecommendRequest {
    let (user_id, target) = if user {
        (id, Target::ForUser(ForUser {}))
    } else {
        (String::new(), Target::SimilarToItems(ItemList { ids: vec![id] }))
    };
    let context = RequestContext { user_id, ..context };
    RecommendRequest { context: Some(context), target: Some(target), ..Default::default() }
}

/// A made-up user looks at the item.
fn view(item: String, number: u64) -> Event {
    Event {
        event_id: random_id(),
        r#type: EventType::View.into(),
        user_id: format!("bench-{}", number % 10_000),
        items: vec![EventItem { id: item, ..Default::default() }],
        ..Default::default()
    }
}

fn print(output: Output, report: &Report) -> Result<()> {
    let latency = report.latency();
    if output.json {
        let milliseconds: serde_json::Map<_, _> =
            latency.iter().map(|(name, value)| ((*name).to_owned(), (value.as_secs_f64() * 1e3).into())).collect();
        return output.value(&serde_json::json!({
            "completed": report.completed(),
            "answered": report.answered(),
            "errors": report.errors,
            "seconds": report.elapsed.as_secs_f64(),
            "intended_rate": report.intended_rate,
            "achieved_rate": report.achieved_rate(),
            "latency_ms": milliseconds,
        }));
    }
    let aim = report.intended_rate.map(|rate| format!(" of {rate:.1}/s asked for")).unwrap_or_default();
    line(format!(
        "{} answered in {:.1} s: {:.1}/s{aim}",
        counted(report.answered(), "call"),
        report.elapsed.as_secs_f64(),
        report.achieved_rate()
    ))?;
    let rows =
        latency.iter().map(|(name, value)| vec![(*name).to_owned(), format!("{:.3} ms", value.as_secs_f64() * 1e3)]);
    output.table(&[Column::Id("latency"), Column::Number("time")], rows)?;
    if !report.errors.is_empty() {
        let rows = report.errors.iter().map(|(code, count)| vec![(*code).to_owned(), grouped(*count)]);
        output.table(&[Column::Id("error"), Column::Number("calls")], rows)?;
    }
    Ok(())
}
