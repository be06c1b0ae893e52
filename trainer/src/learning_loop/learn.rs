//! Learning a candidate: what happened is exported and cleaned, a network learns from it beginning with the version that answers, both foretell what came
//! last, and the better one is published. Each part leaves a file, and is not done again when that is there.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;
use tokio_stream::StreamExt as _;
use vitrine::v1::ExportEventsRequest;
use vitrine_client::Client;
use vitrine_client::json::event_line;
use vitrine_models::is_met;
use vitrine_registry::{FilePath, Registry, Sha256, Version};

use super::config::{GateConfig, LoopConfig};
use super::state::{Figures, replace};
use crate::evaluate::scores;
use crate::interactions;
use crate::prepare::Prepare;
use crate::publish::Learnt;
use crate::sequences::Sequences;
use crate::train::fit::WEIGHTS;
use crate::train::{Parent, train_sequence};

/// What was exported.
const EVENTS: &str = "events.jsonl";
/// What was prepared of it.
const SHOP: &str = "shop";

/// What came of it.
#[derive(Clone, Debug)]
pub struct Came {
    /// What it was compared with. None: there was too little to learn from.
    pub figures: Option<Figures>,
    /// The version; or why there is none.
    pub version: Result<Version, String>,
}

/// A network that is learnt.
pub struct Lesson {
    pub config: Arc<LoopConfig>,
    pub client: Client,
    pub registry: Registry,
    /// Its own folder.
    pub folder: PathBuf,
    /// From what had happened by then.
    pub until: Timestamp,
    /// The version that answered then.
    pub parent: Option<Version>,
}

/// Work that takes its time, on a thread that may.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("the work was not ended")?
}

/// Counts events that say something of what is wanted, since a time; more than `enough` are not counted.
pub async fn count(client: &Client, catalog: String, since: Option<Timestamp>, enough: usize) -> Result<usize> {
    let request = ExportEventsRequest { catalog, start_time: since.map(wire), end_time: None };
    let mut events = client.export_events(request).await?;
    let mut count = 0;
    while count < enough
        && let Some(event) = events.next().await
    {
        count += usize::from(is_met(event?.r#type()));
    }
    Ok(count)
}

/// Removes what a round exported and prepared, and leaves what it learnt.
pub fn forget(folder: &Path) -> std::io::Result<()> {
    let gone = |done: std::io::Result<()>| match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    gone(fs::remove_file(folder.join(EVENTS)))?;
    gone(fs::remove_dir_all(folder.join(SHOP)))
}

impl Lesson {
    /// Learns, and publishes.
    ///
    /// # Errors
    /// The server or the registry does not answer, or there is too little to learn from.
    pub async fn learn(self: Arc<Self>) -> Result<Came> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let inter = self.folder.join(SHOP).join("shop.inter");
        if !inter.exists() && !self.prepare(&inter).await? {
            return Ok(Came::nothing());
        }
        blocking(move || self.train(&inter)).await
    }

    /// Exports and cleans. False: nothing is left.
    async fn prepare(&self, inter: &Path) -> Result<bool> {
        let events = self.folder.join(EVENTS);
        let exported = self.export(&events).await?;
        let (core, most) = (self.config.data.core, self.config.data.most_per_minute);
        let unfinished = self.folder.join("unfinished");
        let prepare = Prepare::of(events.clone(), &unfinished, core, most);
        let (path, report) = blocking(move || prepare.prepare()).await?;
        let Some(path) = path else { return Ok(false) };
        let shop = inter.parent().unwrap_or(&self.folder);
        fs::rename(&path, unfinished.join("shop.inter")).context("cannot rename what was prepared")?;
        fs::rename(&unfinished, shop).with_context(|| format!("cannot make {}", shop.display()))?;
        fs::remove_file(&events).with_context(|| format!("cannot remove {}", events.display()))?;
        let (interactions, users, items) = (report.interactions, report.users, report.items);
        tracing::info!(events = exported, interactions, users, items, "prepared");
        Ok(true)
    }

    async fn export(&self, path: &Path) -> Result<usize> {
        let window = i64::from(self.config.data.window_days) * 24;
        let start = (window > 0).then(|| self.until - jiff::SignedDuration::from_hours(window));
        let request = ExportEventsRequest {
            catalog: self.config.catalog(),
            start_time: start.map(wire),
            end_time: Some(wire(self.until)),
        };
        let mut events = self.client.export_events(request).await?;
        let place = || format!("cannot write {}", path.display());
        let mut file = BufWriter::new(File::create(path).with_context(place)?);
        let mut count = 0;
        while let Some(event) = events.next().await {
            writeln!(file, "{}", event_line(&event?)?).with_context(place)?;
            count += 1;
        }
        file.flush().with_context(place)?;
        Ok(count)
    }

    fn train(&self, inter: &Path) -> Result<Came> {
        let (kind, config) = self.config.network()?;
        let interactions = interactions::read(inter)?;
        let sequences = Sequences::new(&self.config.catalog, config.split, interactions.clone());
        if sequences.validation().is_empty() || sequences.learning().next().is_none() {
            return Ok(Came::nothing());
        }
        let parent = self.parent.map(|parent| self.registry.version(&self.config.model, parent)).transpose()?;
        let live = parent.as_ref().map(|parent| parent.path.as_path());
        let begin = live.map(Parent::in_folder).filter(|parent| {
            let same = config.continues(kind, parent);
            if !same {
                tracing::warn!("the version that answers is another network: nothing of it is kept");
            }
            same
        });
        let learnt = self.folder.join("learnt");
        let report = train_sequence(&config, kind, &sequences, begin.as_ref(), &learnt)?;
        tracing::info!(epochs = report.epochs, seconds = report.seconds, warm = begin.is_some(), "learnt");

        let folders: Vec<&Path> = [learnt.as_path()].into_iter().chain(live).collect();
        let (popular, networks) = scores(&folders, interactions)?;
        let (candidate, live) = (networks.first().copied().unwrap_or(f64::NAN), networks.get(1).copied());
        let figures = Figures { candidate, live, popular };
        tracing::info!(candidate, live, popular, "foretold what came last");
        write(&self.folder.join("figures.json"), &figures)?;
        let version = match figures.pass(&self.config.gate) {
            Ok(()) => Ok(self.publish(&learnt)?),
            Err(why) => Err(why),
        };
        Ok(Came { figures: Some(figures), version })
    }

    /// Publishes, unless that was done before.
    fn publish(&self, learnt: &Path) -> Result<Version> {
        let weights = Sha256::of_bytes(&fs::read(learnt.join(WEIGHTS)).context("cannot read the weights")?);
        let file: FilePath = WEIGHTS.parse()?;
        if self.registry.models()?.contains(&self.config.model) {
            let versions = self.registry.versions(&self.config.model)?.usable;
            let same = versions.iter().find(|version| {
                let manifest = &version.manifest;
                manifest.parent == self.parent && manifest.files.get(&file).is_some_and(|entry| entry.sha256 == weights)
            });
            if let Some(same) = same {
                return Ok(same.version);
            }
        }
        let (model, watermark) = (&self.config.model, u64::try_from(self.until.as_microsecond()).ok());
        let published = Learnt::read(learnt)?.publish(&self.registry, model, self.parent, watermark)?;
        tracing::info!(version = published.version.get(), "published");
        Ok(published.version)
    }
}

impl Came {
    fn nothing() -> Self {
        Self { figures: None, version: Err("there is too little to learn from".to_owned()) }
    }
}

impl Figures {
    /// Whether the candidate may be published, or why not.
    fn pass(&self, gate: &GateConfig) -> Result<(), String> {
        let Self { candidate, live, popular } = *self;
        for (what, figure, margin) in
            [("the live version's", live, gate.over_live), ("that of popular items", Some(popular), gate.over_popular)]
        {
            let Some(figure) = figure else { continue };
            // What is no number passes nothing.
            if candidate.partial_cmp(&(figure + margin)) != Some(Ordering::Greater) {
                return Err(format!("NDCG@10 is {candidate:.4}, {what} {figure:.4}; the gate asks for {margin} more"));
            }
        }
        Ok(())
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    replace(path, &serde_json::to_vec_pretty(value)?)
}

/// A time as the API has it.
fn wire(time: Timestamp) -> prost_types::Timestamp {
    // Both count nanoseconds from the second; before 1970 jiff's are negative.
    let nanos = time.subsec_nanosecond();
    prost_types::Timestamp { seconds: time.as_second() - i64::from(nanos < 0), nanos: nanos.rem_euclid(1_000_000_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_better_by_the_margin_passes_the_gate() {
        let gate = GateConfig { over_live: 0.01, over_popular: 0.1 };
        let pass = |candidate, live, popular| Figures { candidate, live, popular }.pass(&gate);
        assert_eq!(pass(0.3, Some(0.28), 0.1), Ok(()));
        assert_eq!(pass(0.3, None, 0.1), Ok(()));
        assert!(pass(0.3, Some(0.295), 0.1).unwrap_err().contains("live version"));
        assert!(pass(0.3, Some(0.1), 0.25).unwrap_err().contains("popular"));
        assert!(pass(f64::NAN, None, 0.0).is_err());
    }

    #[test]
    fn times_before_1970_are_times_too() {
        let early = Timestamp::new(-2, -500_000_000).unwrap();
        assert_eq!(wire(early), prost_types::Timestamp { seconds: -3, nanos: 500_000_000 });
        assert_eq!(wire(Timestamp::new(7, 5).unwrap()), prost_types::Timestamp { seconds: 7, nanos: 5 });
    }
}
