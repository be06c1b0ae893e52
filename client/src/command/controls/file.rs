//! Controls from a file and into one, one JSON object a line.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use vitrine::v1::{Control, PutControlRequest};
use vitrine_client::{Client, Code, Error, json};

use super::fetch;
use crate::{
    arguments::Global,
    command::{export::write_file, import::open},
    exit,
    output::{counted, grouped, last_part, line, printable},
};

/// Puts the control of each line into the catalog. A line that is wrong is told, and the others are put.
pub async fn import(global: &Global, catalog: &str, path: &Path) -> Result<u8> {
    let lines = json::LineReader::new(open(path)?);
    let client = global.connect().await?;
    let (mut accepted, mut rejected) = (0_i64, 0_i64);
    for line in lines {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let place = || format!("{}:{}", path.display(), line.number);
        let control = line.text.and_then(|text| json::parse_control(&text).map_err(|error| error.to_string()));
        let put = match control {
            Ok(control) => put(&client, catalog, control).await.with_context(place)?,
            Err(problem) => Err(problem),
        };
        match put {
            Ok(()) => accepted += 1,
            Err(problem) => {
                rejected += 1;
                eprintln!("{}: {}", place(), printable(&problem));
            }
        }
    }
    let output = global.output();
    if output.json {
        output.value(&serde_json::json!({ "accepted": accepted, "rejected": rejected }))?;
    } else {
        let rest = if rejected > 0 { format!(", {} rejected", grouped(rejected)) } else { String::new() };
        line(format!("imported {}{rest}", counted(accepted, "control")))?;
    }
    Ok(if rejected > 0 { exit::SOME_REJECTED } else { exit::OK })
}

/// Puts one control; inside, what the server finds wrong with it.
async fn put(client: &Client, catalog: &str, control: Control) -> Result<Result<(), String>, Error> {
    let name = super::name(catalog, last_part(&control.name));
    let request = PutControlRequest { control: Some(Control { name, ..control }), validate_only: false };
    match client.put_control(request).await {
        Ok(_) => Ok(Ok(())),
        Err(Error::Call(call)) if call.code == Code::InvalidArgument => {
            let problems: Vec<String> =
                call.violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
            Ok(Err(if problems.is_empty() { call.message } else { problems.join("; ") }))
        }
        Err(error) => Err(error),
    }
}

/// Writes all controls to a file, or to standard output.
pub async fn export(global: &Global, catalog: String, out: Option<PathBuf>) -> Result<()> {
    let (controls, _) = fetch(&global.connect().await?, catalog, usize::MAX).await?;
    match out {
        Some(path) => write_file(&path, "control", async |file| write(&controls, file)).await,
        None => write(&controls, BufWriter::new(io::stdout().lock())).map(|_| ()),
    }
}

fn write(controls: &[Control], mut file: impl Write) -> Result<i64> {
    for control in controls {
        writeln!(file, "{}", json::control_line(control)?)?;
    }
    file.flush()?;
    Ok(controls.len() as i64)
}
