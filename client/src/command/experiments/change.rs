//! Changing an experiment that others may be changing, too.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use vitrine::v1::{Experiment, GetExperimentRequest, GuardRail, UpdateExperimentRequest};
use vitrine_client::{Client, Code, Error};

use super::plan::{guard_rail, read, weight};
use crate::{
    exit::Usage,
    output::{last_part, printable},
};

/// What is to be otherwise.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Change {
    /// The shares of arms, as control:0.2,canary:0.8; those of all arms are 1 together
    #[arg(long, value_delimiter = ',', value_name = "ARM:WEIGHT,…", value_parser = weight)]
    weights: Vec<(String, f64)>,
    /// The share of shoppers that take part, 0 to 1
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    coverage: Option<f64>,
    /// What must not become worse, in the place of what was said before (repeatable), as ctr:0.05
    #[arg(long = "guard", value_name = "METRIC:TOLERANCE", value_parser = guard_rail)]
    guard_rails: Vec<GuardRail>,
    /// Whether somebody who was once shown an arm keeps it when weights change
    #[arg(long, value_name = "BOOL")]
    sticky: Option<bool>,
    /// Begin anew: shoppers are mixed anew, nobody keeps an arm, and what was logged until now counts no more
    #[arg(long)]
    reassign: bool,
    /// Anything the shop wants to remember about it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// All of it from a file, as JSON of the message Experiment, as `get --json` prints it; `-` is stdin. If the file has a
    /// `revision`, the change is refused unless it is still the latest
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["weights", "coverage", "guard_rails", "sticky", "reassign", "note"]
    )]
    file: Option<PathBuf>,
}

impl Change {
    /// Reads the experiment, changes it, and sends it with the revision that was read.
    pub async fn make(self, client: &Client, name: String, author: String) -> Result<Experiment> {
        let before = client.get_experiment(GetExperimentRequest { name: name.clone() }).await?;
        let experiment = self.of(before)?;
        let seen = experiment.revision;
        let request = UpdateExperimentRequest { experiment: Some(experiment), author };
        let error = match client.update_experiment(request).await {
            Ok(experiment) => return Ok(experiment),
            Err(error) => error,
        };
        let meanwhile =
            if error.code() == Code::Aborted { changes_since(client, name, seen).await } else { Vec::new() };
        let error = anyhow::Error::from(error);
        Err(if meanwhile.is_empty() { error } else { error.context(meanwhile.join("; ")) })
    }

    /// The experiment as it is to be.
    fn of(self, before: Experiment) -> Result<Experiment> {
        if let Some(path) = self.file {
            let wanted = read(&path)?;
            let revision = if wanted.revision == 0 { before.revision } else { wanted.revision };
            let catalog = if wanted.catalog.is_empty() { before.catalog } else { wanted.catalog };
            return Ok(Experiment { name: before.name, catalog, revision, ..wanted });
        }
        let mut experiment = before;
        for (name, weight) in self.weights {
            let arm = experiment.arms.iter_mut().find(|arm| arm.name == name);
            arm.ok_or_else(|| Usage(format!("there is no arm `{name}` in it")))?.weight = weight;
        }
        experiment.coverage = self.coverage.or(experiment.coverage);
        if !self.guard_rails.is_empty() {
            experiment.guard_rails = self.guard_rails;
        }
        experiment.sticky = self.sticky.unwrap_or(experiment.sticky);
        if self.reassign {
            experiment.bucket_version = experiment.bucket_version.saturating_add(1);
            experiment.seed = format!("{}-{}", last_part(&experiment.name), experiment.bucket_version);
        }
        experiment.note = self.note.unwrap_or(experiment.note);
        Ok(experiment)
    }
}

/// What others did after that revision, in words. Nothing if it cannot be learnt: the refusal itself says more then.
async fn changes_since(client: &Client, name: String, revision: u64) -> Vec<String> {
    let now: Result<Experiment, Error> = client.get_experiment(GetExperimentRequest { name }).await;
    let changes = now.map(|experiment| experiment.changes).unwrap_or_default();
    let others = changes.iter().filter(|change| change.revision > revision).map(|change| {
        let author = if change.author.is_empty() { "somebody" } else { &change.author };
        printable(&format!("{author} changed it meanwhile (revision {}): {}", change.revision, change.summary))
    });
    others.collect()
}
