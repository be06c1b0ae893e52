//! `vitrine models`.

mod watch;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    GetModelRequest, GetModelVersionRequest, ListModelsRequest, LoadVersionRequest, Model, ModelVersion,
    RollbackRequest, SetLabelRequest, UnloadVersionRequest, VersionState, WatchVersionsRequest,
};
use vitrine_client::{Client, Error};

use crate::{
    arguments::{Global, duration, resource},
    exit,
    output::{Column, Output, json_line, line, size},
};

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum Models {
    /// List the models, their versions and what this server does with them
    List,
    /// Show one model, or one version of it
    Get {
        /// The model, as `minilm`
        name: String,
        /// The version
        version: Option<u32>,
    },
    /// Show what this server does with versions, as it happens
    Watch {
        /// The model, as `minilm` [default: all]
        name: Option<String>,
    },
    /// Make a label name another version, and wait until this server answers with it
    Label {
        /// The model, as `minilm`
        name: String,
        /// The label, as `stable`
        label: String,
        /// The version it shall name
        version: u32,
        /// Only if it names this version now; 0: none [default: whatever it names]
        #[arg(long, value_name = "VERSION")]
        expect: Option<u32>,
        #[command(flatten)]
        room: Room,
        #[command(flatten)]
        wait: Wait,
    },
    /// Make a label name what it named before, and wait until this server answers with it
    Rollback {
        /// The model, as `minilm`
        name: String,
        /// The label, as `stable`
        label: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Load a version on this server, and wait until it is available
    Load {
        /// The model, as `minilm`
        name: String,
        /// The version
        version: u32,
        #[command(flatten)]
        room: Room,
        #[command(flatten)]
        wait: Wait,
    },
    /// Unload a version on this server, and wait until its last request has ended
    Unload {
        /// The model, as `minilm`
        name: String,
        /// The version
        version: u32,
        #[command(flatten)]
        wait: Wait,
    },
}

/// What to do when there is no memory for both.
#[derive(Debug, Args)]
pub struct Room {
    /// If there is no memory for both, unload the old version before the new one is loaded: nothing answers meanwhile
    #[arg(long)]
    unload_first: bool,
}

/// How long to wait.
#[derive(Debug, Args)]
pub struct Wait {
    /// How long to wait; the server goes on after that
    #[arg(long, default_value = "1h", value_parser = duration, value_name = "TIME")]
    wait: Duration,
}

impl Models {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let client = global.connect().await?;
        let output = global.output();
        match self {
            Self::List => {
                let mut request = ListModelsRequest { page_size: 1000, ..Default::default() };
                let mut models = Vec::new();
                loop {
                    let page = client.list_models(request.clone()).await?;
                    models.extend(page.models);
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    request.page_token = page.next_page_token;
                }
                if output.json {
                    models.iter().try_for_each(json_line)?;
                } else {
                    print(output, &models)?;
                }
            }
            Self::Get { name, version: None } => {
                show(output, &client.get_model(GetModelRequest { name: resource("models", &name) }).await?)?;
            }
            Self::Get { name, version: Some(version) } => {
                let request = GetModelVersionRequest { name: version_name(&name, version) };
                show_version(output, &name, client.get_model_version(request).await?)?;
            }
            Self::Watch { name } => {
                let name = name.map(|name| resource("models", &name)).unwrap_or_default();
                watch::watch(client.watch_versions(WatchVersionsRequest { name }).await?, output).await?;
            }
            Self::Label { name, label, version, expect, room, wait } => {
                let name = resource("models", &name);
                let expected_version = if let Some(version) = expect {
                    version
                } else {
                    let model = client.get_model(GetModelRequest { name: name.clone() }).await?;
                    model.labels.get(&label).copied().unwrap_or(0)
                };
                let unload_first = room.unload_first;
                let request = SetLabelRequest { name: name.clone(), label, version, expected_version, unload_first };
                let patient = client.with_timeout(wait.wait);
                show(output, &narrated(&client, output, &name, patient.set_label(request)).await?)?;
            }
            Self::Rollback { name, label, wait } => {
                let name = resource("models", &name);
                let request = RollbackRequest { name: name.clone(), label };
                let patient = client.with_timeout(wait.wait);
                show(output, &narrated(&client, output, &name, patient.rollback(request)).await?)?;
            }
            Self::Load { name, version, room, wait } => {
                let request =
                    LoadVersionRequest { name: version_name(&name, version), unload_first: room.unload_first };
                let (model, patient) = (resource("models", &name), client.with_timeout(wait.wait));
                let loaded = narrated(&client, output, &model, patient.load_version(request)).await?;
                show_version(output, &name, loaded)?;
            }
            Self::Unload { name, version, wait } => {
                let request = UnloadVersionRequest { name: version_name(&name, version) };
                show_version(output, &name, client.with_timeout(wait.wait).unload_version(request).await?)?;
            }
        }
        Ok(exit::OK)
    }
}

fn version_name(model: &str, version: u32) -> String {
    format!("{}/versions/{version}", resource("models", model))
}

/// Waits for a call, and meanwhile tells a terminal what the server does with the model's versions.
async fn narrated<T>(
    client: &Client,
    output: Output,
    model: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T> {
    if !output.terminal || output.json {
        return Ok(call.await?);
    }
    tokio::pin!(call);
    let mut changes = client.watch_versions(WatchVersionsRequest { name: model.to_owned() }).await?;
    loop {
        tokio::select! {
            answer = &mut call => return Ok(answer?),
            Some(Ok(change)) = changes.next() => {
                let version = change.version.clone().unwrap_or_default();
                if change.previous_state() != VersionState::Unspecified {
                    output.note(format!("version {}: {}", version.version, state(&version)))?;
                }
            }
        }
    }
}

fn show(output: Output, model: &Model) -> Result<()> {
    if output.json { output.object(model) } else { print(output, std::slice::from_ref(model)) }
}

fn show_version(output: Output, model: &str, version: ModelVersion) -> Result<()> {
    if output.json {
        return output.object(&version);
    }
    print(output, &[Model { name: resource("models", model), versions: vec![version], ..Model::default() }])
}

fn print(output: Output, models: &[Model]) -> Result<()> {
    if models.is_empty() {
        line("no models")?;
        return Ok(());
    }
    let columns = [
        Column::Id("model"),
        Column::Number("version"),
        Column::Text("labels"),
        Column::Text("state"),
        Column::Text("rejected"),
        Column::Text("task"),
        Column::Text("kind"),
        Column::Number("size"),
        Column::Number("memory"),
        Column::Number("requests"),
        Column::Text("device"),
        Column::Text("metrics"),
    ];
    let rows = models.iter().flat_map(|model| {
        model.versions.iter().map(|version| {
            let labels = labels(model, version.version);
            let mut metrics: Vec<String> = version.metrics.iter().map(|(name, v)| format!("{name} {v:.4}")).collect();
            metrics.sort_unstable();
            vec![
                model.name.trim_start_matches("models/").to_owned(),
                version.version.to_string(),
                labels,
                state(version),
                version.rejected.clone(),
                version.task.clone(),
                version.kind.clone(),
                size(version.size_bytes),
                size(version.memory_bytes),
                version.requests.to_string(),
                version.device.clone(),
                metrics.join(", "),
            ]
        })
    });
    Ok(output.table(&columns, rows)?)
}

/// The labels that name a version; `→` before those that another version still answers for.
fn labels(model: &Model, version: u32) -> String {
    let named = model.labels.iter().filter(|(_, named)| **named == version).map(|(label, _)| {
        let answers = model.serving_labels.get(label).is_none_or(|serving| *serving == version);
        if answers { label.clone() } else { format!("→{label}") }
    });
    let mut named: Vec<String> = named.collect();
    named.sort_unstable();
    named.join(", ")
}

fn state(version: &ModelVersion) -> String {
    match version.state() {
        VersionState::Unspecified => "on disk".to_owned(),
        VersionState::Failed => format!("failed: {}", version.failure),
        VersionState::Indexing => {
            let progress = version.indexing.unwrap_or_default();
            let (done, total) = (progress.done_items, progress.total_items);
            let left = progress.remaining.map(|left| format!(", {} s left", left.seconds)).unwrap_or_default();
            format!("indexing: {done} of {total} items, {:.0}/s{left}", progress.items_per_second)
        }
        state => state.as_str_name().trim_start_matches("VERSION_STATE_").to_ascii_lowercase(),
    }
}
