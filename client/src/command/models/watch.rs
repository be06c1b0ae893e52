//! `vitrine models watch`: a table that is drawn anew with every change; into a pipe, a line for each.

use std::{collections::BTreeMap, io::Write as _, time::SystemTime};

use anyhow::Result;
use jiff::Timestamp;
use tokio_stream::StreamExt as _;
use vitrine::v1::{ModelVersion, VersionState, WatchVersionsResponse};
use vitrine_client::Answers;

use super::state;
use crate::output::{Column, Output, json_line, line, size};

/// Changes shown below the table.
const HISTORY: usize = 10;
const CLEAR: &str = "\x1b[H\x1b[2J";

pub async fn watch(mut changes: Answers<WatchVersionsResponse>, output: Output) -> Result<()> {
    let mut versions: BTreeMap<(String, u32), ModelVersion> = BTreeMap::new();
    let mut history: Vec<String> = Vec::new();
    while let Some(change) = changes.next().await {
        let change = change?;
        if output.json {
            json_line(&change)?;
            continue;
        }
        let previous = change.previous_state();
        let Some(version) = change.version else { continue };
        let told = format!("{}  {}", time(&version), sentence(&version, previous));
        let model = version.name.split('/').nth(1).unwrap_or_default().to_owned();
        if !output.terminal {
            line(told)?;
            continue;
        }
        if previous != version.state() && previous != VersionState::Unspecified {
            history.push(told);
            history.drain(..history.len().saturating_sub(HISTORY));
        }
        versions.insert((model, version.version), version);
        draw(output, &versions, &history)?;
    }
    Ok(())
}

fn sentence(version: &ModelVersion, previous: VersionState) -> String {
    let name = version.name.trim_start_matches("models/").replace("/versions/", "/");
    if previous == VersionState::Unspecified || previous == version.state() {
        return format!("{name} {}", state(version));
    }
    let previous = previous.as_str_name().trim_start_matches("VERSION_STATE_").to_ascii_lowercase();
    format!("{name} {previous} → {}", state(version))
}

fn time(version: &ModelVersion) -> String {
    let time = version.state_time.and_then(|time| SystemTime::try_from(time).ok());
    time.and_then(|time| Timestamp::try_from(time).ok())
        .map_or_else(String::new, |time| time.strftime("%T").to_string())
}

fn draw(output: Output, versions: &BTreeMap<(String, u32), ModelVersion>, history: &[String]) -> Result<()> {
    print!("{CLEAR}");
    std::io::stdout().flush()?;
    let columns = [
        Column::Id("model"),
        Column::Number("version"),
        Column::Text("since (UTC)"),
        Column::Number("memory"),
        Column::Number("requests"),
        Column::Text("state"),
    ];
    let rows = versions.iter().rev().map(|((model, number), version)| {
        let (memory, requests) = (size(version.memory_bytes), version.requests.to_string());
        vec![model.clone(), number.to_string(), time(version), memory, requests, state(version)]
    });
    output.table(&columns, rows)?;
    line("")?;
    for told in history {
        output.note(told)?;
    }
    Ok(())
}
