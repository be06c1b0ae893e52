//! Starts the real server as a process of its own, on a free port and a temporary directory, and talks to it with the
//! real client.

#![allow(dead_code, reason = "each scenario uses a part of it")]
#![allow(clippy::unnecessary_wraps, reason = "the fields that these fill are optional")]

pub mod encoders;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

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
    process: Child,
    pub address: String,
    pub dir: TempDir,
}

/// How a server is started.
pub struct Start {
    pub dir: TempDir,
    pub registry: PathBuf,
    pub data_dir: PathBuf,
    pub settings: Vec<String>,
}

impl Default for Start {
    /// Without any model: words only.
    fn default() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (registry, data_dir) = (dir.path().join("registry"), dir.path().join("data"));
        Self { dir, registry, data_dir, settings: Vec::new() }
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
        let mut command = Command::new(program("vitrine-server"));
        command.env_clear().args(["--listen", "127.0.0.1:0", "--set", "log.format=json", "--set", "shutdown.grace=0s"]);
        command.arg("--registry").arg(&self.registry).arg("--data-dir").arg(&self.data_dir);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// Starts it, and waits until it listens.
    pub fn run(self) -> TestServer {
        let mut process = self.command().stderr(Stdio::piped()).spawn().unwrap();
        let address = listening(&mut process).expect("the server ended before it listened");
        TestServer { process, address, dir: self.dir }
    }
}

/// Reads the log until the line that names the address, and keeps the pipe from filling after it.
fn listening(process: &mut Child) -> Option<String> {
    let log = BufReader::new(process.stderr.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("server log".into())
        .spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let ("serving", Some(address)) = (entry["message"].as_str().unwrap_or(""), entry["address"].as_str())
                {
                    _ = sender.send(address.to_owned());
                }
                // Shown by the test runner when the scenario fails.
                eprintln!("{line}");
            }
        })
        .unwrap();
    receiver.recv_timeout(Duration::from_secs(60)).ok()
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
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.into_start()
    }

    /// As an operator would: SIGTERM, and wait.
    pub fn stop(mut self) -> Start {
        assert!(Command::new("kill").arg(self.process.id().to_string()).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
        self.into_start()
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn into_start(mut self) -> Start {
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        let (registry, data_dir) = (dir.path().join("registry"), dir.path().join("data"));
        Start { dir, registry, data_dir, settings: Vec::new() }
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

impl Drop for TestServer {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
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
