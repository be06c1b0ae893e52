//! Uploading a file of lines: reading it beside the network, telling of broken lines, progress and the summary.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use ::parquet::file::reader::SerializedFileReader;
use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vitrine::v1::ImportError;
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
    pub file: PathBuf,
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

/// A line with something wrong.
#[derive(Debug)]
struct BadLine {
    number: i64,
    problem: String,
    fate: Fate,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Rejected,
    /// Its item is imported, without the picture.
    WithoutPicture,
}

/// Where other parts of an import tell what is wrong with a line, and learn how far it is.
#[derive(Debug, Clone)]
pub struct Reporter {
    bad_lines: Sender<BadLine>,
    durable_position: Arc<AtomicI64>,
}

impl Reporter {
    /// Whether nothing more is done for a line: it is imported already.
    pub fn imported_before(&self, number: i64) -> bool {
        number <= self.durable_position.load(Ordering::Relaxed)
    }

    /// Tells why the picture of a line cannot be had.
    pub fn without_picture(&self, number: i64, problem: &str) {
        let line = BadLine { number, problem: format!("picture: {problem}"), fate: Fate::WithoutPicture };
        // When nobody listens any more the import has failed, for another reason.
        let _ = self.bad_lines.send(line);
    }
}

/// A file that a thread of its own reads and parses.
struct Reading {
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
        let (bad_lines, bad) = std::sync::mpsc::channel();
        let (rows, reading) = read(source, parse, bad_lines.clone())?;
        let reporter = Reporter { bad_lines, durable_position: Arc::default() };
        let mut telling = Telling::new(self, noun, reading, bad, reporter);
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
    bad_lines: Sender<BadLine>,
) -> Result<(ReceiverStream<(i64, T)>, Reading)> {
    let (rows, receiver) = mpsc::channel(1024);
    let bytes = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&bytes);
    let read = move || {
        for line in source.lines() {
            let line = line?;
            counter.fetch_add(line.bytes, Ordering::Relaxed);
            let taken = match line.text.and_then(|text| parse(&text).map_err(|error| error.to_string())) {
                Ok(row) => rows.blocking_send((line.number, row)).is_ok(),
                Err(problem) => bad_lines.send(BadLine { number: line.number, problem, fate: Fate::Rejected }).is_ok(),
            };
            if !taken {
                break;
            }
        }
        Ok(())
    };
    let thread = std::thread::Builder::new().name("import-reader".to_owned()).spawn(read)?;
    Ok((ReceiverStream::new(receiver), Reading { bytes, thread: Some(thread) }))
}

/// What the user sees of an upload.
pub struct Telling {
    name: String,
    /// `item` or `event`.
    noun: &'static str,
    reading: Reading,
    bad: Receiver<BadLine>,
    reporter: Reporter,
    bar: ProgressBar,
    started: Instant,
    reached: ImportSummary,
    rejected: u64,
    without_picture: u64,
}

impl Telling {
    fn new(import: &Import, noun: &'static str, reading: Reading, bad: Receiver<BadLine>, reporter: Reporter) -> Self {
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
            bad,
            reporter,
            bar,
            started: Instant::now(),
            reached: ImportSummary::default(),
            rejected: 0,
            without_picture: 0,
        }
    }

    /// For what else is to be told of lines.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Tells one step of the upload.
    pub fn update(&mut self, update: &ImportUpdate<'_>) {
        self.bad_lines();
        match update {
            ImportUpdate::Progress(summary) => {
                self.reached = **summary;
                self.reporter.durable_position.store(summary.durable_position, Ordering::Relaxed);
                self.bar.set_position(self.reading.bytes.load(Ordering::Relaxed));
                self.bar.set_message(format!("{} on disk", counted(summary.accepted + summary.duplicates, self.noun)));
            }
            ImportUpdate::Rejected(error) => self.bad_line(&refused(error, Fate::Rejected)),
            ImportUpdate::WithoutPicture(error) => self.bad_line(&refused(error, Fate::WithoutPicture)),
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
        self.bad_lines();
        read.unwrap_or(Ok(()))
    }

    fn bad_lines(&mut self) {
        let bad: Vec<BadLine> = self.bad.try_iter().collect();
        for line in bad {
            self.bad_line(&line);
        }
    }

    fn bad_line(&mut self, line: &BadLine) {
        match line.fate {
            Fate::Rejected => self.rejected += 1,
            Fate::WithoutPicture => self.without_picture += 1,
        }
        let told = self.rejected + self.without_picture;
        if told <= TOLD_ERRORS {
            self.bar.suspend(|| eprintln!("{}:{}: {}", self.name, line.number, printable(&line.problem)));
        } else if told == TOLD_ERRORS + 1 {
            self.bar.suspend(|| eprintln!("… the next lines of this kind are only counted"));
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
                "without_picture": self.without_picture,
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
        also(self.without_picture as i64, "without their picture");
        also(summary.resumed_after, "lines passed over: imported before");
        Ok(line(text)?)
    }
}

/// What the server said of a line.
fn refused(error: &ImportError, fate: Fate) -> BadLine {
    let problems = error.violations.iter().map(|v| format!("{}: {}", v.field, v.description));
    BadLine { number: error.position, problem: problems.collect::<Vec<_>>().join("; "), fate }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;
    use vitrine_client::json::parse_item;

    use super::*;

    #[tokio::test]
    async fn a_broken_line_is_told_with_its_number_and_the_rest_goes_up() {
        let text = "{\"id\": \"a\"}\n{\"id\": \n\n{\"id\": \"c\"}\n";
        let (bad_lines, bad) = std::sync::mpsc::channel();
        let (rows, _) = read(Source::Lines(Box::new(text.as_bytes())), parse_item, bad_lines).unwrap();
        let rows: Vec<(i64, String)> = rows.map(|(number, item)| (number, item.id)).collect().await;
        assert_eq!(rows, [(1, "a".to_owned()), (4, "c".to_owned())]);
        let bad: Vec<(i64, Fate)> = bad.iter().map(|line| (line.number, line.fate)).collect();
        assert_eq!(bad, [(2, Fate::Rejected)]);
    }
}
