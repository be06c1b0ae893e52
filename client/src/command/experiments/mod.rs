//! `vitrine experiments`.

mod change;
mod exposures;
mod plan;
mod report;
mod words;

use anyhow::Result;
use clap::{Args, Subcommand};
use vitrine::v1::{
    CreateExperimentRequest, DeleteExperimentRequest, Experiment, ExperimentState, GetExperimentRequest,
    ListExperimentsRequest, StartExperimentRequest, StopExperimentRequest,
};

use crate::{
    arguments::{Global, resource},
    exit,
    output::{Column, Output, counted, json_line, last_part, line},
};

/// What to do with experiments.
#[derive(Debug, Subcommand)]
pub enum Experiments {
    /// Plan an experiment: it is a draft until it is started
    ///
    /// Examples:
    ///   vitrine experiments create encoder --arm control:0.5 --arm canary:0.5,text-embedding=canary --guard ctr:0.05
    ///   vitrine experiments create encoder --arm control:1 --shadow canary,text-embedding=canary --placement search
    ///   vitrine experiments create cart --arm a:0.5 --arm b:0.5 --coverage 0.2 --namespace checkout:0-0.5 --sticky
    ///   vitrine experiments create fusion --file plan.json
    #[command(verbatim_doc_comment)]
    Create {
        /// Its name: 1 to 63 characters of a-z, 0-9 and `-`, starting with a letter
        id: String,
        #[command(flatten)]
        plan: plan::Plan,
        #[command(flatten)]
        author: Author,
        /// Only have it checked; nothing is recorded
        #[arg(long)]
        check: bool,
    },
    /// List the experiments by name: those of --catalog, if one is named
    List,
    /// Show one experiment, and what was done to it
    Get {
        /// The experiment, as `encoder`
        id: String,
    },
    /// Change an experiment; refused if somebody else changed it meanwhile
    ///
    /// Examples:
    ///   vitrine experiments update encoder --weights control:0.2,canary:0.8
    ///   vitrine experiments update encoder --coverage 1
    ///   vitrine experiments get encoder --json > plan.json; vitrine experiments update encoder --file plan.json
    #[command(verbatim_doc_comment)]
    Update {
        /// The experiment, as `encoder`
        id: String,
        #[command(flatten)]
        change: change::Change,
        #[command(flatten)]
        author: Author,
    },
    /// Begin an experiment, or go on with one that was stopped
    Start {
        /// The experiment, as `encoder`
        id: String,
        #[command(flatten)]
        author: Author,
    },
    /// End an experiment: everybody is answered as outside of it
    Stop {
        /// The experiment, as `encoder`
        id: String,
        /// Why, for the history
        #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        author: Author,
    },
    /// Remove experiments that do not run; what was logged of them stays
    Delete {
        /// The experiments, as `encoder`
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Tell what an experiment has led to so far
    Report(report::Report),
    /// Write out what was logged: who was shown which answer of which arm, one JSON object a line
    ExportExposures(exposures::ExportExposures),
}

/// Who changes an experiment.
#[derive(Debug, Args)]
pub struct Author {
    /// Who does it, for the history [default: $USER]
    #[arg(long, env = "USER", default_value = "", value_name = "NAME", hide_default_value = true, hide_env = true)]
    author: String,
}

impl Experiments {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let output = global.output();
        match self {
            Self::Create { id, plan, author, check } => {
                let experiment = plan.experiment(name(&id), global.catalog()?)?;
                let request = CreateExperimentRequest {
                    experiment: Some(experiment),
                    author: author.author,
                    validate_only: check,
                };
                let experiment = global.connect().await?.create_experiment(request).await?;
                show(output, &experiment)?;
                if check && !output.json {
                    output.note("checked only: nothing is recorded")?;
                }
            }
            Self::List => list(global).await?,
            Self::Get { id } => {
                let request = GetExperimentRequest { name: name(&id) };
                show(output, &global.connect().await?.get_experiment(request).await?)?;
            }
            Self::Update { id, change, author } => {
                let client = global.connect().await?;
                show(output, &change.make(&client, name(&id), author.author).await?)?;
            }
            Self::Start { id, author } => {
                let request = StartExperimentRequest { name: name(&id), author: author.author };
                show(output, &global.connect().await?.start_experiment(request).await?)?;
            }
            Self::Stop { id, reason, author } => {
                let request = StopExperimentRequest { name: name(&id), author: author.author, reason };
                show(output, &global.connect().await?.stop_experiment(request).await?)?;
            }
            Self::Delete { ids } => {
                let client = global.connect().await?;
                for id in ids {
                    client.delete_experiment(DeleteExperimentRequest { name: name(&id) }).await?;
                }
            }
            Self::Report(report) => return report.run(global).await,
            Self::ExportExposures(export) => export.run(global).await?,
        }
        Ok(exit::OK)
    }
}

fn name(id: &str) -> String {
    resource("experiments", id)
}

fn show(output: Output, experiment: &Experiment) -> Result<()> {
    if output.json {
        return output.object(experiment);
    }
    output.fields(words::fields(experiment)?)?;
    if experiment.changes.is_empty() {
        return Ok(());
    }
    line("")?;
    let columns = [Column::Number("revision"), Column::Text("when"), Column::Text("who"), Column::Text("what")];
    let rows = experiment.changes.iter().map(|change| {
        let when = change.time.as_ref().map(words::when).unwrap_or_default();
        vec![change.revision.to_string(), when, change.author.clone(), change.summary.clone()]
    });
    Ok(output.table(&columns, rows)?)
}

async fn list(global: &Global) -> Result<()> {
    let client = global.connect().await?;
    let catalog = if global.catalog.is_some() { global.catalog()? } else { String::new() };
    let mut request = ListExperimentsRequest { catalog, page_size: 1000, ..Default::default() };
    let mut experiments = Vec::new();
    loop {
        let page = client.list_experiments(request.clone()).await?;
        experiments.extend(page.experiments);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let output = global.output();
    if output.json { experiments.iter().try_for_each(json_line) } else { print_list(output, &experiments) }
}

fn print_list(output: Output, experiments: &[Experiment]) -> Result<()> {
    if experiments.is_empty() {
        line("no experiments")?;
        return Ok(());
    }
    let columns = [
        Column::Id("experiment"),
        Column::Text("catalog"),
        Column::Text("state"),
        Column::Text("since"),
        Column::Text("arms"),
        Column::Number("coverage"),
    ];
    let rows = experiments.iter().map(|experiment| {
        let since = match experiment.state() {
            ExperimentState::Stopped => experiment.stop_time.as_ref(),
            _ => experiment.start_time.as_ref(),
        };
        vec![
            last_part(&experiment.name).to_owned(),
            last_part(&experiment.catalog).to_owned(),
            words::state(experiment.state()).to_owned(),
            since.map(words::when).unwrap_or_default(),
            experiment.arms.iter().map(words::share).collect::<Vec<_>>().join(", "),
            words::percent(experiment.coverage.unwrap_or(1.0)),
        ]
    });
    output.table(&columns, rows)?;
    Ok(output.note(counted(experiments.len() as i64, "experiment"))?)
}
