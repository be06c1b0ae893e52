//! What was logged of experiments, written out.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use anyhow::Result;
use clap::Args;
use prost_types::Timestamp;
use tokio_stream::StreamExt as _;
use vitrine::v1::{ExportExposuresRequest, Exposure, Person, person::Id};
use vitrine_client::{Answers, json};

use crate::{
    arguments::{Global, time},
    command::export::write_file,
    output::last_part,
};

/// Which exposures, and where to.
#[derive(Debug, Args)]
pub struct ExportExposures {
    /// Only of this experiment, as `encoder` [default: of all of the catalog]
    id: Option<String>,
    /// Only from this time on, as 2026-02-01 or 2026-02-01T10:00:00Z
    #[arg(long, value_parser = time, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only what this known user was shown
    #[arg(long, short, value_name = "ID", conflicts_with = "visitor")]
    user: Option<String>,
    /// Only what this anonymous visitor was shown
    #[arg(long, value_name = "ID")]
    visitor: Option<String>,
    /// The file; it appears when it is complete [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl ExportExposures {
    pub async fn run(self, global: &Global) -> Result<()> {
        let experiment = self.id.as_deref().map(last_part).unwrap_or_default().to_owned();
        let person = self.user.map(Id::UserId).or(self.visitor.map(Id::VisitorId));
        let request = ExportExposuresRequest {
            catalog: global.catalog()?,
            experiment,
            start_time: self.since,
            person: person.map(|id| Person { id: Some(id) }),
        };
        let exposures = global.connect().await?.export_exposures(request).await?;
        match self.out {
            Some(path) => write_file(&path, "exposure", async |file| write(exposures, file).await).await,
            None => write(exposures, BufWriter::new(io::stdout().lock())).await.map(|_| ()),
        }
    }
}

async fn write(mut exposures: Answers<Exposure>, mut file: impl Write) -> Result<i64> {
    let mut count = 0;
    while let Some(exposure) = exposures.next().await {
        writeln!(file, "{}", json::to_value(&exposure?)?)?;
        count += 1;
    }
    file.flush()?;
    Ok(count)
}
