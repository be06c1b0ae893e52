//! `vitrine models`.

use anyhow::Result;
use clap::Subcommand;
use vitrine::v1::{GetModelRequest, ListModelsRequest, Model, SetLabelRequest, VersionState};

use crate::{
    arguments::{Global, resource},
    exit,
    output::{Column, Output, json_line, line, size},
};

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum Models {
    /// List the models, their versions and what this server does with them
    List,
    /// Show one model
    Get {
        /// The model, as `minilm`
        name: String,
    },
    /// Make a label name another version
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
    },
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
            Self::Get { name } => {
                let model = client.get_model(GetModelRequest { name: resource("models", &name) }).await?;
                if output.json {
                    output.object(&model)?;
                } else {
                    print(output, &[model])?;
                }
            }
            Self::Label { name, label, version, expect } => {
                let name = resource("models", &name);
                let expected_version = if let Some(version) = expect {
                    version
                } else {
                    let model = client.get_model(GetModelRequest { name: name.clone() }).await?;
                    model.labels.get(&label).copied().unwrap_or(0)
                };
                let request = SetLabelRequest { name, label, version, expected_version };
                let model = client.set_label(request).await?;
                if output.json {
                    output.object(&model)?;
                } else {
                    print(output, &[model])?;
                }
            }
        }
        Ok(exit::OK)
    }
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
        Column::Text("task"),
        Column::Text("kind"),
        Column::Number("size"),
        Column::Text("device"),
        Column::Text("metrics"),
    ];
    let rows = models.iter().flat_map(|model| {
        model.versions.iter().map(|version| {
            let mut labels: Vec<&str> =
                model.labels.iter().filter(|(_, v)| **v == version.version).map(|(label, _)| label.as_str()).collect();
            labels.sort_unstable();
            let mut metrics: Vec<String> = version.metrics.iter().map(|(name, v)| format!("{name} {v:.4}")).collect();
            metrics.sort_unstable();
            vec![
                model.name.trim_start_matches("models/").to_owned(),
                version.version.to_string(),
                labels.join(", "),
                state(version.state(), &version.failure),
                version.task.clone(),
                version.kind.clone(),
                size(version.size_bytes),
                version.device.clone(),
                metrics.join(", "),
            ]
        })
    });
    Ok(output.table(&columns, rows)?)
}

fn state(state: VersionState, failure: &str) -> String {
    match state {
        VersionState::Unspecified => "on disk".to_owned(),
        VersionState::Failed => format!("failed: {failure}"),
        state => state.as_str_name().trim_start_matches("VERSION_STATE_").to_ascii_lowercase(),
    }
}
