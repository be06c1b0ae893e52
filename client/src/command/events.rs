//! `vitrine events`.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use anyhow::Result;
use clap::{Args, Subcommand};
use prost_types::Timestamp;
use tokio_stream::StreamExt as _;
use vitrine::v1::{Event, ExportEventsRequest};
use vitrine_client::{Answers, Client, json, parquet::is_parquet};

use super::{
    event_file::EventFile,
    export::write_file,
    import::{Import, Telling},
};
use crate::{
    arguments::{Global, time},
    exit,
};

/// How an event is written.
const EVENT_LINE: &str = r#"An event, on one line:
  {"event_id": "e-1", "type": "purchase", "user_id": "u1", "items": [{"id": "B07", "quantity": 2}],
   "time": "2026-02-01T10:00:00Z", "order_id": "o4"}
`event_id`, `type`, a `user_id` or `visitor_id`, and `items` (or `item_id` for one) are required."#;

/// What to do with events.
#[derive(Debug, Subcommand)]
pub enum Events {
    /// Record events from a file: one JSON object a line, or Parquet
    #[command(after_help = EVENT_LINE)]
    Import(Import),
    /// Write the events out, oldest first, one JSON object a line
    Export(Export),
}

/// Which events, and where to.
#[derive(Debug, Args)]
pub struct Export {
    /// The file; it appears when it is complete. Parquet if its name ends in .parquet [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only events at or after this time, as 2026-02-01 or 2026-02-01T10:00:00Z
    #[arg(long, value_parser = time, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only events before this time
    #[arg(long, value_parser = time, value_name = "TIME")]
    until: Option<Timestamp>,
}

impl Events {
    pub async fn run(self, global: &Global) -> Result<u8> {
        match self {
            Self::Import(import) => {
                let send = async |client: &Client, options, rows, telling: &mut Telling| {
                    client.import_events(options, rows, |update| telling.update(&update)).await
                };
                import.run(global, "event", json::parse_event, send).await
            }
            Self::Export(export) => export.run(global).await,
        }
    }
}

impl Export {
    async fn run(self, global: &Global) -> Result<u8> {
        let request = ExportEventsRequest { catalog: global.catalog()?, start_time: self.since, end_time: self.until };
        let events = global.connect().await?.export_events(request).await?;
        save(events, self.out).await?;
        Ok(exit::OK)
    }
}

/// Writes events to a file, which appears when it is complete and is Parquet by its name, or to standard output.
pub(super) async fn save(events: Answers<Event>, out: Option<PathBuf>) -> Result<()> {
    let Some(path) = out else {
        write(events, BufWriter::new(io::stdout().lock())).await?;
        return Ok(());
    };
    let fill = async |file| {
        if is_parquet(&path) { write_parquet(events, file).await } else { write(events, file).await }
    };
    write_file(&path, "event", fill).await
}

async fn write_parquet(mut events: Answers<Event>, file: impl Write + Send) -> Result<i64> {
    let mut file = EventFile::new(file)?;
    let mut count = 0;
    while let Some(event) = events.next().await {
        file.push(event?)?;
        count += 1;
    }
    file.finish()?;
    Ok(count)
}

async fn write(mut events: Answers<Event>, mut file: impl Write) -> Result<i64> {
    let mut count = 0;
    while let Some(event) = events.next().await {
        writeln!(file, "{}", json::event_line(&event?)?)?;
        count += 1;
    }
    file.flush()?;
    Ok(count)
}
