//! `vitrine models` against a real server: list, get, watch, label, rollback, load, unload, and memory that is not enough.

#![cfg(test)]

mod harness;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use harness::{
    Start, TestServer,
    encoders::{publish, tiny},
    models::{answers, served},
    program,
};
use serde_json::Value;

/// What a command says when it works.
fn says(server: &TestServer, arguments: &[&str]) -> String {
    let output = server.cli(&[&["models"], arguments].concat());
    let (told, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {told}{error}");
    told.into_owned()
}

/// What it says when it does not.
fn refuses(server: &TestServer, arguments: &[&str]) -> String {
    let output = server.cli(&[&["models"], arguments].concat());
    assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// The line of a table that tells of a version.
#[track_caller]
fn line(table: &str, version: u32) -> String {
    let version = version.to_string();
    let found = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&version));
    found.unwrap_or_else(|| panic!("no version {version}: {table}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `vitrine models watch` into a pipe.
struct Watch {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Watch {
    fn begin(server: &TestServer) -> Self {
        let mut command = Command::new(program("vitrine"));
        command.env("VITRINE_SERVER", server.url()).args(["models", "watch", "minilm"]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let told = BufReader::new(process.stdout.take().unwrap());
        let pass_on = move || told.lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
        std::thread::Builder::new().name("watch".into()).spawn(pass_on).unwrap();
        Self { process, lines }
    }

    /// Waits for a line with this in it. The test's runner ends one that never comes.
    fn until(&self, part: &str) -> String {
        self.lines.iter().find(|line| line.contains(part)).unwrap_or_else(|| panic!("it ended before {part:?}"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_watched_moved_loaded_and_unloaded() {
    let (server, client) = served(Start::default()).await;
    let registry = &server.start.registry;
    let watch = Watch::begin(&server);
    watch.until("minilm/1 available");
    assert_eq!((publish(registry, tiny(2).path()), publish(registry, tiny(3).path())), (2, 3));

    let listed = says(&server, &["list"]);
    assert!(line(&listed, 1).contains("stable available text-embedding bert"), "{listed}");
    assert!(line(&listed, 2).contains("on disk text-embedding bert"), "{listed}");

    let moved = says(&server, &["label", "minilm", "stable", "2"]);
    assert!(line(&moved, 2).contains("stable available"), "{moved}");
    assert!(line(&moved, 1).starts_with("minilm 1 available"), "{moved}");
    for change in ["start", "start → loading", "loading → warming", "warming → indexing", "indexing → available"]
    {
        let told = watch.until("minilm/2 ");
        assert!(told.contains(change), "{change}: {told}");
    }
    answers(&client, 2).await;

    let back = says(&server, &["rollback", "minilm", "stable"]);
    assert!(line(&back, 1).contains("stable available"), "{back}");
    answers(&client, 1).await;

    let got = says(&server, &["get", "minilm", "2"]);
    assert!(line(&got, 2).contains("available") && !got.contains("minilm 1"), "{got}");
    let json: Value = serde_json::from_str(&says(&server, &["get", "minilm", "--json"])).unwrap();
    assert_eq!((&json["labels"]["stable"], &json["serving_labels"]["stable"]), (&1.into(), &1.into()));

    assert!(line(&says(&server, &["load", "minilm", "3"]), 3).contains("available"));
    watch.until("minilm/3 indexing → available");
    assert!(line(&says(&server, &["unload", "minilm", "3"]), 3).contains("ended"));
    watch.until("minilm/3 draining → ended");

    let needed = refuses(&server, &["unload", "minilm", "1"]);
    assert!(needed.contains("label \"stable\" needs version 1; move it first"), "{needed}");
    let unexpected = refuses(&server, &["label", "minilm", "stable", "3", "--expect", "2"]);
    assert!(unexpected.contains("names version 1, not version 2"), "{unexpected}");
    let unknown = refuses(&server, &["label", "minilm", "stable", "9"]);
    assert!(unknown.contains("there is no model version `models/minilm/versions/9`"), "{unknown}");
}

/// Says that serving it takes so much.
fn weighs(version: &Path, mebibytes: u64) {
    let path = version.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["memory_bytes"] = (mebibytes << 20).into();
    std::fs::write(path, manifest.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_for_both_a_move_is_refused_unless_the_old_one_may_go_first() {
    let (server, client) = served(Start::default().set("text_encoder.memory_budget_bytes=104857600")).await;
    let registry = &server.start.registry;
    let two = publish(registry, tiny(2).path());
    weighs(&registry.join("models/minilm/2"), 100);
    assert_eq!(two, 2);
    for refused in [
        refuses(&server, &["label", "minilm", "stable", "2"]),
        refuses(&server, &["load", "minilm", "2"]),
        refuses(&server, &["load", "minilm", "2", "--unload-first"]),
    ] {
        assert!(
            refused.contains("it needs 100 MiB of memory, and 99 MiB of a budget of 100 MiB are free"),
            "{refused}"
        );
    }
    let listed = says(&server, &["list"]);
    assert!(line(&listed, 2).contains("failed: it needs 100 MiB"), "{listed}");
    assert!(line(&listed, 1).contains("stable available"), "{listed}");
    answers(&client, 1).await;
    let moved = says(&server, &["label", "minilm", "stable", "2", "--unload-first"]);
    assert!(line(&moved, 2).contains("stable available"), "{moved}");
    answers(&client, 2).await;
}
