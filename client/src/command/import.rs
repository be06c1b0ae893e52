//! Uploading a file of lines: reading it beside the network, telling of broken lines, progress and the summary.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::parquet::file::reader::SerializedFileReader;
use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vitrine_client::{
    Client, Error,
    import::{ImportOptions, ImportSummary, ImportUpdate},
    json::{JsonError, Line, LineReader},
    parquet::{self, is_parquet},
};

use crate::{
    arguments::Global,
    exit,
    output::{Output, counted, grouped, line, printable},
};

/// How many broken lines are told one by one.
const TOLD_ERRORS: u64 = 50;

/// What is imported, and how.
#[derive(Debug, Args)]
pub struct Import {
    /// One JSON object a line, or Parquet if the name ends in .parquet; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Make the catalog if there is none
    #[arg(long)]
    create: bool,
    /// A name for this source: an import of that name that broke off goes on where it was
    #[arg(long = "import-id", default_value = "", value_name = "NAME", hide_default_value = true)]
    name: String,
    /// Exit with 0 even if some lines were rejected
    #[arg(long)]
    skip_bad: bool,
}

/// A file (or stdin, for `-`) to be read by lines.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, io::stdin())));
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
}

/// What is read.
enum Source {
    Lines(Box<dyn BufRead + Send>),
    Rows(SerializedFileReader<File>, u64),
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        if !is_parquet(path) {
            return open(path).map(Self::Lines);
        }
        let place = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(place)?;
        let bytes = file.metadata().with_context(place)?.len();
        Ok(Self::Rows(SerializedFileReader::new(file).with_context(place)?, bytes))
    }

    fn lines(self) -> Box<dyn Iterator<Item = io::Result<Line>>> {
        match self {
            Self::Lines(file) => Box::new(LineReader::new(file)),
            Self::Rows(file, bytes) => Box::new(parquet::lines(file, bytes)),
        }
    }
}

/// A line that was not imported.
#[derive(Debug)]
struct BadLine {
    number: i64,
    problem: String,
}

/// A file that a thread of its own reads and parses.
struct Reading {
    bad: std::sync::mpsc::Receiver<BadLine>,
    bytes: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl Import {
    /// Uploads the file through `send` and tells of it; the exit code.
    pub async fn run<T: Send + 'static>(
        &self,
        global: &Global,
        noun: &'static str,
        parse: fn(&str) -> Result<T, JsonError>,
        send: impl AsyncFnOnce(
            &Client,
            ImportOptions,
            ReceiverStream<(i64, T)>,
            &mut Telling,
        ) -> Result<ImportSummary, Error>,
    ) -> Result<u8> {
        let options = ImportOptions {
            import_id: self.name.clone(),
            create_catalog: self.create,
            patience: global.timeout.max(Duration::from_mins(1)),
            ..ImportOptions::into_catalog(global.catalog()?)
        };
        let source = Source::open(&self.file)?;
        let client = global.connect().await?;
        let (rows, reading) = read(source, parse)?;
        let mut telling = Telling::new(self, noun, reading);
        let sent = send(&client, options, rows, &mut telling).await;
        let read = telling.finish(&sent);
        match sent {
            Ok(summary) => {
                read.with_context(|| format!("cannot read {}", self.file.display()))?;
                telling.summary(global.output(), &summary)?;
                Ok(if telling.rejected > 0 && !self.skip_bad { exit::SOME_REJECTED } else { exit::OK })
            }
            Err(error) => {
                eprintln!("{}", telling.reached(&self.name));
                Err(error.into())
            }
        }
    }
}

/// Starts to read the lines of a file.
fn read<T: Send + 'static>(
    source: Source,
    parse: fn(&str) -> Result<T, JsonError>,
) -> Result<(ReceiverStream<(i64, T)>, Reading)> {
    let (rows, receiver) = mpsc::channel(1024);
    let (bad_lines, bad) = std::sync::mpsc::channel();
    let bytes = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&bytes);
    let read = move || {
        for line in source.lines() {
            let line = line?;
            counter.fetch_add(line.bytes, Ordering::Relaxed);
            let taken = match line.text.and_then(|text| parse(&text).map_err(|error| error.to_string())) {
                Ok(row) => rows.blocking_send((line.number, row)).is_ok(),
                Err(problem) => bad_lines.send(BadLine { number: line.number, problem }).is_ok(),
            };
            if !taken {
                break;
            }
        }
        Ok(())
    };
    let thread = std::thread::Builder::new().name("import-reader".to_owned()).spawn(read)?;
    Ok((ReceiverStream::new(receiver), Reading { bad, bytes, thread: Some(thread) }))
}

/// What the user sees of an upload.
pub struct Telling {
    name: String,
    /// `item` or `event`.
    noun: &'static str,
    reading: Reading,
    bar: ProgressBar,
    started: Instant,
    reached: ImportSummary,
    rejected: u64,
}

impl Telling {
    fn new(import: &Import, noun: &'static str, reading: Reading) -> Self {
        let bar = ProgressBar::no_length();
        let style = if let Ok(metadata) = std::fs::metadata(&import.file) {
            bar.set_length(metadata.len());
            "{bar:30.cyan} {bytes}/{total_bytes} · {msg} · {eta} left"
        } else {
            "{spinner} {bytes} · {msg}"
        };
        // The templates are constants; a default style shows less, but harms nothing.
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let hidden = !io::stderr().is_terminal();
        bar.set_draw_target(if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) });
        Self {
            name: import.file.display().to_string(),
            noun,
            reading,
            bar,
            started: Instant::now(),
            reached: ImportSummary::default(),
            rejected: 0,
        }
    }

    /// Tells one step of the upload.
    pub fn update(&mut self, update: &ImportUpdate<'_>) {
        let bad: Vec<BadLine> = self.reading.bad.try_iter().collect();
        for line in bad {
            self.bad_line(line.number, &line.problem);
        }
        match update {
            ImportUpdate::Progress(summary) => {
                self.reached = **summary;
                self.bar.set_position(self.reading.bytes.load(Ordering::Relaxed));
                self.bar.set_message(format!("{} on disk", counted(summary.accepted + summary.duplicates, self.noun)));
            }
            ImportUpdate::Rejected(error) => {
                let problems = error.violations.iter().map(|v| format!("{}: {}", v.field, v.description));
                self.bad_line(error.position, &problems.collect::<Vec<_>>().join("; "));
            }
            ImportUpdate::Reconnecting { error, wait } => {
                self.bar.suspend(|| eprintln!("warning: {error}; going on in {wait:.1?}"));
            }
        }
    }

    /// Tells the last broken lines; how the reading ended.
    fn finish<E>(&mut self, sent: &Result<ImportSummary, E>) -> io::Result<()> {
        self.bar.finish_and_clear();
        // After a failed upload the reader may wait for input that never comes (a terminal): leave it.
        let thread = self.reading.thread.take().filter(|_| sent.is_ok());
        let read = thread.map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("the reader panicked"))));
        let bad: Vec<BadLine> = self.reading.bad.try_iter().collect();
        for line in bad {
            self.bad_line(line.number, &line.problem);
        }
        read.unwrap_or(Ok(()))
    }

    fn bad_line(&mut self, number: i64, problem: &str) {
        self.rejected += 1;
        if self.rejected <= TOLD_ERRORS {
            self.bar.suspend(|| eprintln!("{}:{number}: {}", self.name, printable(problem)));
        } else if self.rejected == TOLD_ERRORS + 1 {
            self.bar.suspend(|| eprintln!("… the next rejected lines are only counted"));
        }
    }

    fn reached(&self, import_id: &str) -> String {
        let position = self.reached.durable_position;
        let again = match import_id {
            "" => "importing the file again changes nothing that is there".to_owned(),
            name => format!("run the same command again to go on there (--import-id {name})"),
        };
        format!("everything up to line {} is on disk; {again}", grouped(position))
    }

    fn summary(&self, output: Output, summary: &ImportSummary) -> Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = (summary.accepted + summary.duplicates) as f64 / seconds.max(1e-3);
        if output.json {
            return output.value(&serde_json::json!({
                "accepted": summary.accepted,
                "duplicates": summary.duplicates,
                "unknown_items": summary.unknown_items,
                "rejected": self.rejected,
                "resumed_after": summary.resumed_after,
                "durable_position": summary.durable_position,
                "reconnects": summary.reconnects,
                "seconds": seconds,
                "per_second": rate,
            }));
        }
        let mut text =
            format!("imported {} in {seconds:.1} s ({}/s)", counted(summary.accepted, self.noun), grouped(rate as i64));
        let mut also = |count: i64, what: &str| {
            if count > 0 {
                text = format!("{text}, {} {what}", grouped(count));
            }
        };
        also(summary.duplicates, "were there already");
        also(summary.unknown_items, "about items that the catalog lacks");
        also(self.rejected as i64, "rejected");
        also(summary.resumed_after, "lines passed over: imported before");
        Ok(line(text)?)
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;
    use vitrine_client::json::parse_item;

    use super::*;

    #[tokio::test]
    async fn a_broken_line_is_told_with_its_number_and_the_rest_goes_up() {
        let text = "{\"id\": \"a\"}\n{\"id\": \n\n{\"id\": \"c\"}\n";
        let (rows, reading) = read(Source::Lines(Box::new(text.as_bytes())), parse_item).unwrap();
        let rows: Vec<(i64, String)> = rows.map(|(number, item)| (number, item.id)).collect().await;
        assert_eq!(rows, [(1, "a".to_owned()), (4, "c".to_owned())]);
        let bad: Vec<i64> = reading.bad.iter().map(|line| line.number).collect();
        assert_eq!(bad, [2]);
    }
}
