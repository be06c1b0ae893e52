//! Starts the real server as a process of its own, on a free port and a temporary directory, and talks to it with the
//! real client.

#![allow(dead_code, reason = "each scenario uses a part of it")]
#![allow(clippy::unnecessary_wraps, reason = "the fields that these fill are optional")]

pub mod disk;
pub mod encoders;
pub mod models;
pub mod shoppers;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use vitrine::v1::{
    Event, EventItem, EventType, GetCatalogRequest, Item, Money, RecommendRequest, RequestContext, SearchRequest,
    UpsertItemsRequest, VectorIndexStatus, recommend_request, search_request::Query,
};
use vitrine_client::{CallError, Client, Error, Options};

/// The catalog of the scenarios.
pub const CATALOG: &str = "catalogs/shop";

/// A running server. Dropped, it is killed.
pub struct TestServer {
    process: Process,
    pub address: String,
    /// How it was started.
    pub start: Start,
    log: Log,
    /// Reads the log to its end.
    reader: Option<JoinHandle<()>>,
}

/// How a server is started.
pub struct Start {
    pub dir: TempDir,
    pub registry: PathBuf,
    pub data_dir: PathBuf,
    pub settings: Vec<String>,
    /// The server's environment, which has nothing else.
    pub environment: Vec<(String, String)>,
    /// A program with its arguments that becomes the server, with other rights than the test's.
    pub through: Vec<String>,
}

/// What a server has logged so far, an object a line.
type Log = Arc<Mutex<Vec<Value>>>;

/// Dropped, it is killed.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Default for Start {
    /// Without any model: words only.
    fn default() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (registry, data_dir) = (dir.path().join("registry"), dir.path().join("data"));
        Self { dir, registry, data_dir, settings: Vec::new(), environment: Vec::new(), through: Vec::new() }
    }
}

impl Start {
    /// With the real text encoder.
    pub fn with_encoder() -> Self {
        Self { registry: encoder_registry(), ..Self::default() }
    }

    pub fn set(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    pub fn command(&self) -> Command {
        let server = program("vitrine-server");
        let mut command = match self.through.split_first() {
            None => Command::new(server),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(server);
                command
            }
        };
        command.env_clear().envs(self.environment.iter().cloned());
        command.args(["--listen", "127.0.0.1:0", "--set", "log.format=json", "--set", "shutdown.grace=0s"]);
        command.arg("--registry").arg(&self.registry).arg("--data-dir").arg(&self.data_dir);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// Starts it, and waits until it listens.
    pub fn run(self) -> TestServer {
        let mut process = Process(self.command().stderr(Stdio::piped()).spawn().unwrap());
        let log = Log::default();
        let (address, reader) = listening(&mut process.0, &log);
        let address = address.expect("the server ended before it listened");
        TestServer { process, address, start: self, log, reader: Some(reader) }
    }
}

/// Reads the log until the line that names the address, and keeps the pipe from filling after it.
fn listening(process: &mut Child, kept: &Log) -> (Option<String>, JoinHandle<()>) {
    let lines = BufReader::new(process.stderr.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    let kept = Arc::clone(kept);
    let reader = std::thread::Builder::new()
        .name("server log".into())
        .spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                if let ("serving", Some(address)) = (entry["message"].as_str().unwrap_or(""), entry["address"].as_str())
                {
                    _ = sender.send(address.to_owned());
                }
                kept.lock().unwrap().push(entry);
                // Shown by the test runner when the scenario fails.
                eprintln!("{line}");
            }
        })
        .unwrap();
    (receiver.recv_timeout(Duration::from_secs(60)).ok(), reader)
}

impl TestServer {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn client(&self) -> Client {
        Client::connect(Options { server: self.url(), ..Options::default() }).await.unwrap()
    }

    /// As a power cut would: SIGKILL. Answers what is needed to start again on the same directories.
    pub fn kill(mut self) -> Start {
        self.cut_off();
        self.start
    }

    /// The same, of one that is still asked for its log: all of it is there.
    pub fn cut_off(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// As an operator would: SIGTERM, and wait. In a test with several threads, as clients have to hang up meanwhile.
    pub fn stop(mut self) -> Start {
        assert!(Command::new("kill").arg(self.id().to_string()).status().unwrap().success());
        assert!(self.process.0.wait().unwrap().success());
        self.start
    }

    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// What it has logged with this message, in order.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        self.log.lock().unwrap().iter().filter(|entry| entry["message"] == message).cloned().collect()
    }

    /// Its metrics, of a server that was started with `metrics_listen=127.0.0.1:0`.
    pub async fn metrics(&self) -> String {
        let address = eventually("the metrics' address is logged", async || {
            let logged = self.logged("metrics are served");
            logged.first().map(|entry| entry["address"].as_str().unwrap().to_owned())
        })
        .await;
        let mut page = TcpStream::connect(address).unwrap();
        page.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        page.read_to_string(&mut text).unwrap();
        text
    }

    /// The sum of a metric over all lines of its name that have these parts in their labels; none if there are none.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let page = self.metrics().await;
        let lines = page.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, inside) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.iter().all(|label| inside.contains(label))).then(|| value.parse::<f64>().unwrap())
        });
        lines.reduce(|sum, value| sum + value)
    }

    /// Runs the command `vitrine` against this server.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(program("vitrine"))
            .env("VITRINE_SERVER", self.url())
            .env("VITRINE_CATALOG", "shop")
            .args(arguments)
            .output()
            .unwrap()
    }
}

/// A program of this workspace, beside the test that runs.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let path = profile.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --workspace --bins` first, as `cargo ci` does",
        path.display()
    );
    path
}

/// Runs a program of this workspace in a folder, with arguments that have blanks between them; answers what it printed.
pub fn run(name: &str, dir: &Path, line: &str) -> String {
    let output = Command::new(program(name)).args(line.split(' ')).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{name} {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A registry with all-MiniLM-L6-v2, fetched once for all scenarios.
pub fn encoder_registry() -> PathBuf {
    let path = program("vitrine-server").parent().unwrap().join("test-registry");
    let mut command = Command::new(program("vitrine-registry"));
    let output = command.args(["pull", "all-MiniLM-L6-v2", "--registry"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "cannot fetch the encoder: {}", String::from_utf8_lossy(&output.stderr));
    path
}

pub fn context() -> Option<RequestContext> {
    Some(RequestContext { catalog: CATALOG.into(), user_id: "u1".into(), ..Default::default() })
}

pub fn text_search(text: &str) -> SearchRequest {
    SearchRequest { context: context(), query: Some(Query::Text(text.into())), ..Default::default() }
}

pub fn recommend(target: recommend_request::Target) -> RecommendRequest {
    RecommendRequest { context: context(), target: Some(target), ..Default::default() }
}

pub fn item(id: &str, title: &str) -> Item {
    Item { id: id.into(), title: title.into(), ..Default::default() }
}

pub fn price(amount: &str) -> Option<Money> {
    Some(Money { amount: amount.into(), currency: "EUR".into() })
}

pub fn purchase(event_id: &str, user: &str, item: &str) -> Event {
    Event {
        event_id: event_id.into(),
        r#type: EventType::Purchase as i32,
        user_id: user.into(),
        items: vec![EventItem { id: item.into(), ..Default::default() }],
        ..Default::default()
    }
}

/// Makes the catalog, with these items.
pub async fn stock(client: &Client, items: Vec<Item>) {
    client.create_catalog(vitrine::v1::CreateCatalogRequest { name: CATALOG.into() }).await.unwrap();
    if !items.is_empty() {
        upsert(client, items).await;
    }
}

pub async fn upsert(client: &Client, items: Vec<Item>) {
    let request = UpsertItemsRequest { parent: CATALOG.into(), items, update_mask: None };
    client.upsert_items(request).await.unwrap();
}

/// Waits until every item has its vector, of every version that is loaded.
pub async fn vectors_done(client: &Client) {
    eventually("every item has its vector", async || {
        let catalog = client.get_catalog(GetCatalogRequest { name: CATALOG.into() }).await.unwrap();
        let done = |index: &VectorIndexStatus| index.pending_items == 0 && index.indexed_items > 0;
        (!catalog.vector_indexes.is_empty() && catalog.vector_indexes.iter().all(done)).then_some(())
    })
    .await;
}

/// The status of a call that must fail.
pub fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> CallError {
    match answer.unwrap_err() {
        Error::Call(error) => *error,
        other => panic!("not refused by the server: {other}"),
    }
}

/// Asks again and again until the answer is as wanted: for what becomes visible a little later.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    for _ in 0..600 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never happened: {what}");
}

pub fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}
