//! `vitrine-trainer evaluate recommend`.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Result, ensure};
use clap::Args;
use prost_types::Timestamp;
use vitrine::v1::{
    Event, EventItem, EventType, ExcludeInteracted, ForUser, Item, RecommendRequest, RequestContext,
    recommend_request::Target as For,
};
use vitrine_client::{
    Client,
    import::{ImportOptions, ImportSummary, ImportUpdate},
};

use super::{Target, event_type, warn_of_degraded};
use crate::{
    baselines::{self, Baselines, Exam, Line, Neighbours},
    concurrent,
    interactions::{self, Interaction, PastAndNext},
};

/// Score recommendations by what users did next.
///
/// Everything but each user's last interaction is imported into the catalog, which should be made for the purpose (and
/// is, if there is none of that name). Then each user is asked for: the held-out item counts by its place among all
/// items of the catalog, without those the user has met. Nothing is sampled. Leave-one-out lets other users' later
/// interactions be known: compare figures only with others made the same way.
#[derive(Debug, Args)]
pub struct Recommend {
    #[command(flatten)]
    target: Target,
    /// Tab-separated with the columns `user_id`, `item_id` and `timestamp`: an `.inter` file of RecBole
    #[arg(long, value_name = "FILE.inter")]
    interactions: PathBuf,
    /// The items' titles, tab-separated with `item_id` and `title` (or `movie_title`, `name`) [default: the ids]
    #[arg(long, value_name = "FILE.item")]
    items: Option<PathBuf>,
    /// What an interaction is imported as
    #[arg(long, default_value = "view", value_name = "TYPE", value_parser = event_type)]
    event_type: EventType,
    /// How many results count
    #[arg(long, default_value_t = 10, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=100))]
    k: u16,
    /// The events are in the catalog already: import nothing
    #[arg(long)]
    no_import: bool,
    /// Only Pop, Markov and item-kNN: no server is needed
    #[arg(long)]
    baselines_only: bool,
}

impl Recommend {
    pub async fn run(self) -> Result<()> {
        let k = usize::from(self.k);
        let split = interactions::leave_one_out(interactions::read(&self.interactions)?);
        ensure!(!split.held_out.is_empty(), "{}: no user has two interactions", self.interactions.display());
        let (popular, neighbours) = (Baselines::new(&split.past), Neighbours::new(&split.past));
        let exam = Exam::new(&split, k);
        let mut lines = vec![
            exam.line("Pop", |past| popular.popular(past, k)),
            exam.line("Markov", |past| popular.markov(past, k)),
            exam.line("item-kNN", |past| neighbours.rank(past, k)),
        ];
        if !self.baselines_only {
            let client = self.target.connect().await?;
            if !self.no_import {
                self.import(&client, &split).await?;
            }
            self.target.settle(&client).await?;
            let rankings = self.ask(&client, split.held_out.keys().cloned().collect()).await?;
            lines.push(exam.line_of("for_user", rankings.into_iter()));
        }
        self.print(&lines, &split);
        Ok(())
    }

    async fn import(&self, client: &Client, split: &PastAndNext) -> Result<()> {
        let titles = self.items.as_deref().map(interactions::read_titles).transpose()?.unwrap_or_default();
        let items = split.items.iter().map(|id| item(id, &titles));
        let options = ImportOptions { create_catalog: true, ..ImportOptions::into_catalog(self.target.catalog()) };
        let summary =
            client.import_items(options.clone(), tokio_stream::iter((1..).zip(items)), |update| tell(&update)).await?;
        told("items", &summary)?;
        let events = split.past.values().flatten().map(|interaction| self.event(interaction));
        let summary =
            client.import_events(options, tokio_stream::iter((1..).zip(events)), |update| tell(&update)).await?;
        told("events", &summary)
    }

    /// The id is made from the interaction: importing it again changes nothing.
    fn event(&self, interaction: &Interaction) -> Event {
        let Interaction { user, item, time } = interaction;
        Event {
            event_id: format!("{user}-{item}-{time}"),
            r#type: self.event_type.into(),
            user_id: user.clone(),
            items: vec![EventItem { id: item.clone(), ..Default::default() }],
            time: Some(Timestamp { seconds: time.floor() as i64, nanos: (time.fract().max(0.0) * 1e9) as i32 }),
            ..Default::default()
        }
    }

    async fn ask(&self, client: &Client, users: Vec<String>) -> Result<Vec<Vec<String>>> {
        let answers = concurrent::map(Arc::new(users), self.target.concurrency, |users, index| {
            let (client, request) = (client.clone(), self.request(&users[index]));
            async move { Ok(client.recommend(request).await?) }
        });
        let answers = answers.await?;
        warn_of_degraded("for_user", answers.iter().map(|answer| &answer.degraded));
        let ids = |answer: vitrine::v1::RecommendResponse| {
            answer.results.into_iter().filter_map(|result| Some(result.item?.id)).collect()
        };
        Ok(answers.into_iter().map(ids).collect())
    }

    fn request(&self, user: &str) -> RecommendRequest {
        let context = RequestContext { catalog: self.target.catalog(), user_id: user.to_owned(), ..Default::default() };
        RecommendRequest {
            context: Some(context),
            target: Some(For::ForUser(ForUser {})),
            page_size: i32::from(self.k),
            exclude_interacted: Some(ExcludeInteracted::default()),
            ..Default::default()
        }
    }

    fn print(&self, lines: &[Line], split: &PastAndNext) {
        let (k, users) = (self.k, split.held_out.len());
        let interactions = split.past.values().map(Vec::len).sum::<usize>();
        if self.target.json {
            let report = serde_json::json!({
                "catalog": self.target.catalog(), "k": k, "users": users, "items": split.items.len(),
                "interactions": interactions, "models": lines,
            });
            println!("{report:#}");
            return;
        }
        baselines::print(lines, usize::from(k));
        println!(
            "{users} users, {} items, {interactions} interactions known; ± is half a 95 % interval",
            split.items.len()
        );
    }
}

fn item(id: &str, titles: &BTreeMap<String, String>) -> Item {
    let title = titles.get(id).filter(|title| !title.is_empty());
    Item { id: id.to_owned(), title: title.cloned().unwrap_or_else(|| format!("Item {id}")), ..Default::default() }
}

fn tell(update: &ImportUpdate<'_>) {
    match update {
        ImportUpdate::Progress(_) => {}
        ImportUpdate::Rejected(error) | ImportUpdate::WithoutPicture(error) => {
            eprintln!("rejected: {:?}", error.violations);
        }
        ImportUpdate::Reconnecting { error, .. } => eprintln!("warning: {error}; going on"),
    }
}

fn told(what: &str, summary: &ImportSummary) -> Result<()> {
    eprintln!("imported {} {what}, {} were there already", summary.accepted, summary.duplicates);
    ensure!(summary.rejected == 0, "{} {what} were rejected: the figures would be of other data", summary.rejected);
    Ok(())
}
