//! A server on films, in a folder that is removed at the end; it is started again and again on the same data.
#![allow(clippy::disallowed_methods, reason = "nothing else runs while a server starts or stops")]

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{JoinHandle, block_in_place},
};
use vitrine_client::{Client, Options};

use super::{Serve, load::search};
use crate::{
    bench::{films::Films, process::Ticks, shop},
    programs::{self, Interrupted, say},
    server::{Server, Start},
};

/// The catalog's resource name.
pub const CATALOG: &str = "catalogs/films";
/// The encoder's name, as [`programs::pull_encoder`] has it.
pub const ENCODER: &str = "minilm";
/// How often a server that starts is asked.
const ASK: Duration = Duration::from_millis(2);
/// Counted by the batcher: how long batches ran.
const RUN_SECONDS: &str = "vitrine_batch_run_seconds";

/// A folder with everything, and the server in it, if one runs.
pub struct Place {
    // The folder goes last: the server writes into it to its end.
    server: Option<(Server, Ticks)>,
    settings: Vec<String>,
    metrics: String,
    starts: Vec<ColdStart>,
    /// The parts of the machine that others used while each of the servers ran.
    others: Vec<f64>,
    interrupted: Interrupted,
    folder: TempDir,
}

/// How long after its start a server did what for the first time.
#[derive(Debug, Clone, Copy)]
pub struct ColdStart {
    /// Said that it is ready.
    pub ready: Duration,
    /// Answered a search by meaning.
    pub meaning: Duration,
}

/// Batches of queries that ran, and how long all of them took.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    seconds: f64,
    count: f64,
}

impl Place {
    /// Makes the folder, with films to import and an encoder.
    pub fn make(films: &Films, serve: &Serve, interrupted: &Interrupted) -> Result<Self> {
        std::fs::create_dir_all(shop::KEPT).with_context(|| format!("cannot make {}", shop::KEPT))?;
        let folder =
            tempfile::Builder::new().prefix("serve-").tempdir_in(shop::KEPT).context("cannot make a folder")?;
        let metrics = shop::free_port()?.to_string();
        let mut settings = vec![format!("metrics_listen={metrics}"), "shutdown.grace=0s".to_owned()];
        settings.extend_from_slice(&serve.settings);
        let place = Self {
            server: None,
            settings,
            metrics,
            starts: Vec::new(),
            others: Vec::new(),
            interrupted: interrupted.clone(),
            folder,
        };
        say("Getting the text encoder all-MiniLM-L6-v2");
        programs::run(programs::pull_encoder(&place.path("registry"))?, Some(interrupted))?;
        films.write_items(serve.items, &place.path("films.jsonl"))?;
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the server, for the first time or again, and waits until it answers.
    pub async fn start(&mut self) -> Result<()> {
        let again = self.server.is_some();
        self.end()?;
        let listen = shop::free_port()?;
        let asking = again.then(|| ask(format!("http://{listen}")));
        let (registry, data, log) = (self.path("registry"), self.path("data"), self.path("server.log"));
        let start = Start { listen, registry: &registry, data: &data, log: &log, settings: &self.settings };
        let server = block_in_place(|| Server::start(start, &self.interrupted))?;
        let ticks = Ticks::now(server.id())?;
        self.server = Some((server, ticks));
        if let Some(asking) = asking {
            self.starts.push(asking.await.context("the start could not be timed")??);
        }
        Ok(())
    }

    /// Puts the films into the catalog.
    pub async fn import(&self, client: &Client) -> Result<()> {
        say("Importing the films");
        let films = self.path("films.jsonl");
        block_in_place(|| shop::import(self.server()?, CATALOG, &films, &self.interrupted))?;
        client.health("").await.context("the server is gone")?;
        Ok(())
    }

    /// A connection to the server.
    pub async fn connect(&self) -> Result<Client> {
        shop::connect(self.server()?).await
    }

    /// The server's process.
    pub fn process(&self) -> Result<u32> {
        Ok(self.server()?.id())
    }

    /// Forward passes for queries so far.
    pub async fn forward(&self) -> Result<Forward> {
        let mut page = String::new();
        let mut stream = TcpStream::connect(&self.metrics).await.context("the metrics are not served")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        stream.read_to_string(&mut page).await?;
        Ok(Forward { seconds: sum(&page, "_sum"), count: sum(&page, "_count") })
    }

    /// Stops the server, and tells of the starts, and which part of the machine others used.
    pub fn stop(&mut self) -> Result<(Vec<ColdStart>, f64)> {
        self.end()?;
        let others = self.others.iter().sum::<f64>() / self.others.len().max(1) as f64;
        Ok((std::mem::take(&mut self.starts), others))
    }

    /// The end of the server's log.
    pub fn last_words(&self) -> String {
        self.server.as_ref().map(|(server, _)| server.last_words()).unwrap_or_default()
    }

    fn end(&mut self) -> Result<()> {
        let Some((server, ticks)) = self.server.take() else { return Ok(()) };
        self.others.push(ticks.others(Ticks::now(server.id())?));
        block_in_place(|| server.stop())
    }

    fn server(&self) -> Result<&Server> {
        Ok(&self.server.as_ref().context("the server does not run")?.0)
    }
}

impl Forward {
    /// Those since then.
    pub fn since(self, before: Self) -> Self {
        Self { seconds: self.seconds - before.seconds, count: self.count - before.count }
    }

    /// How long one took, on average.
    pub fn mean(self) -> Duration {
        Duration::try_from_secs_f64(self.seconds / self.count.max(1.0)).unwrap_or_default()
    }
}

/// The number of the interactive class on a page of metrics.
fn sum(page: &str, what: &str) -> f64 {
    let name = format!("{RUN_SECONDS}{what}");
    let lines = page.lines().filter(|line| line.starts_with(&name) && line.contains("class=\"interactive\""));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Asks a server that starts now, from the first moment on, until it has answered a search by meaning.
fn ask(url: String) -> JoinHandle<Result<ColdStart>> {
    let started = Instant::now();
    tokio::spawn(async move {
        let client = Client::connect_lazy(Options { server: url, retries: 0, ..Options::default() })?;
        while !client.health("").await.is_ok_and(|health| health.serving) {
            tokio::time::sleep(ASK).await;
        }
        let ready = started.elapsed();
        while search(client.clone(), "a film about the sea".to_owned()).await.is_err() {
            tokio::time::sleep(ASK).await;
        }
        Ok(ColdStart { ready, meaning: started.elapsed() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batches_of_queries_are_read_from_a_page_of_metrics() {
        let page = "# TYPE vitrine_batch_run_seconds histogram\n\
            vitrine_batch_run_seconds_bucket{class=\"interactive\",le=\"0.1\"} 9\n\
            vitrine_batch_run_seconds_sum{class=\"interactive\",lane=\"minilm/1\"} 1.5\n\
            vitrine_batch_run_seconds_count{class=\"interactive\",lane=\"minilm/1\"} 3\n\
            vitrine_batch_run_seconds_sum{class=\"bulk\",lane=\"minilm/1\"} 70\n";
        assert!((sum(page, "_sum") - 1.5).abs() < 1e-9 && (sum(page, "_count") - 3.0).abs() < 1e-9);
        let forward = Forward { seconds: 1.5, count: 3.0 };
        assert_eq!(forward.mean(), Duration::from_millis(500));
        assert_eq!(forward.since(forward).mean(), Duration::ZERO, "none ran");
    }
}
