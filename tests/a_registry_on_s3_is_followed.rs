//! A registry on S3, to a real S3 server: versions published elsewhere are followed, labels move in the store by
//! conditional write, and while the store is away, or the disk for its versions full, the server serves what it has.

#![cfg(test)]

mod harness;
#[path = "../model-registry/tests/s3_server/mod.rs"]
mod s3_server;

use std::{fs, path::Path, process::Command, time::SystemTime};

use harness::{
    Start, TestServer,
    disk::SmallDisk,
    encoders::tiny,
    eventually, item,
    models::{Searching, answers, model, set_label, version_name},
    program, refused, stock,
};
use s3_server::{BUCKET, S3};
use serde_json::{Value, json};
use vitrine::v1::{LoadVersionRequest, VersionState};
use vitrine_client::{Client, Code};

/// A store, and another machine that publishes to it.
struct Scene {
    s3: S3,
    publisher: tempfile::TempDir,
}

impl Scene {
    /// A store with a first version, which `stable` names.
    fn new() -> Self {
        let scene = Self { s3: S3::start(), publisher: tempfile::tempdir().unwrap() };
        assert_eq!(scene.publish(tiny(1).path()), 1);
        scene.label(1);
        scene
    }

    /// Runs `vitrine-registry` on the other machine.
    fn command(&self, words: &[&str]) -> Value {
        let mut command = Command::new(program("vitrine-registry"));
        command.env_clear().envs(self.s3.settings()).args(words).arg("--json");
        command.args(["--registry", &url(), "--registry-cache"]).arg(self.publisher.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn publish(&self, files: &Path) -> u64 {
        let files = files.to_str().unwrap();
        let told = self.command(&["publish", "minilm", files, "--kind", "bert", "--task", "text-embedding"]);
        told["version"].as_u64().unwrap()
    }

    fn label(&self, version: u32) {
        self.command(&["label", "minilm", "stable", &version.to_string()]);
    }

    /// What the store says of labels.
    fn labels(&self) -> Value {
        serde_json::from_slice(&self.s3.get("prod/models/minilm/labels.json")).unwrap()
    }

    fn start(&self, poll: &str) -> Start {
        let start = Start { registry: url().into(), environment: self.s3.settings(), ..Start::default() };
        let cache = format!("registry_cache={}", start.dir.path().join("cache").display());
        start.set(&cache).set(&format!("registry_poll={poll}")).set("metrics_listen=127.0.0.1:0")
    }
}

fn url() -> String {
    format!("s3://{BUCKET}/prod")
}

async fn served(start: Start) -> (TestServer, Client) {
    let server = start.run();
    let client = server.client().await;
    stock(&client, vec![item("milk", "Whole milk")]).await;
    answers(&client, 1).await;
    (server, client)
}

/// When the registry was last read, in seconds since 1970.
async fn last_read(server: &TestServer) -> Option<f64> {
    server.metric("vitrine_registry_last_read_timestamp_seconds", &[]).await
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_and_labelled_in_the_store_is_followed_and_the_server_labels_there() {
    let scene = Scene::new();
    let (_server, client) = served(scene.start("50ms")).await;
    assert_eq!(scene.publish(tiny(2).path()), 2);
    eventually("the new version is seen", async || (model(&client).await.versions.len() == 2).then_some(())).await;
    let moved = set_label(&client, 1, 2).await.unwrap();
    assert_eq!((moved.labels["stable"], moved.serving_labels["stable"]), (2, 2));
    assert_eq!(scene.labels(), json!({"stable": 2, "previous": {"stable": 1}}));
    answers(&client, 2).await;
    scene.label(1);
    answers(&client, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_decides_also_on_what_the_server_has_not_seen_yet() {
    let scene = Scene::new();
    let (_server, client) = served(scene.start("1d")).await;
    for seed in 2..=4 {
        scene.publish(tiny(seed).path());
    }
    scene.label(2);
    let error = refused(set_label(&client, 1, 3).await);
    assert_eq!((error.code, error.reason.as_str()), (Code::Aborted, "LABEL_CHANGED"));
    assert!(error.message.contains("names version 2, not version 1"), "{error:?}");
    assert_eq!(scene.labels()["stable"], 2);
    set_label(&client, 2, 3).await.unwrap();
    assert_eq!(scene.labels()["stable"], 3);
    answers(&client, 3).await;

    let load = |version| LoadVersionRequest { name: version_name(version), unload_first: false };
    scene.publish(tiny(5).path());
    assert_eq!(client.load_version(load(5)).await.unwrap().state(), VersionState::Available);
    let error = refused(client.load_version(load(6)).await);
    assert_eq!(error.code, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_the_server_serves_and_tells_its_age_and_then_follows_again() {
    let mut scene = Scene::new();
    let (server, client) = served(scene.start("50ms")).await;
    let before = now();
    eventually("the registry is read", async || (last_read(&server).await? > before).then_some(())).await;

    let objects = scene.s3.everything();
    scene.s3.kill();
    let away = now();
    let searching = Searching::begin(&client);
    for _ in 0..2 {
        let error = refused(set_label(&client, 1, 1).await);
        assert_eq!((error.code, error.reason.as_str()), (Code::Unavailable, "REGISTRY_UNAVAILABLE"));
        assert!(error.message.contains("cannot be reached"), "{error:?}");
    }
    assert!(last_read(&server).await.unwrap() < away);
    assert_eq!(model(&client).await.labels["stable"], 1);
    assert_eq!(searching.end().await.into_keys().collect::<Vec<_>>(), [1]);

    // Also one that starts meanwhile.
    let server = server.stop().run();
    let client = server.client().await;
    answers(&client, 1).await;
    assert!(eventually("the age is told", async || last_read(&server).await).await < away);

    scene.s3.come_back(&objects);
    scene.publish(tiny(2).path());
    scene.label(2);
    answers(&client, 2).await;
    eventually("the registry is read again", async || (last_read(&server).await? > away).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_what_is_served_and_the_new_version_comes_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let scene = Scene::new();
    let start = scene.start("50ms").set(&format!("registry_cache={}", disk.path().join("cache").display()));
    let (server, client) = served(start).await;
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![0; 2 << 20]).unwrap();
    let large = tiny(2);
    fs::write(large.path().join("words.txt"), vec![b'.'; 3 << 20]).unwrap();
    scene.publish(large.path());

    let searching = Searching::begin(&client);
    let told = eventually("the server says that the disk is full", async || {
        let told = server.logged("the registry's mirror is not in step; it stays as it is");
        told.first().map(|entry| entry["error"].as_str().unwrap().to_owned())
    })
    .await;
    assert!(told.contains("No space left"), "{told}");
    let error = refused(set_label(&client, 1, 2).await);
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains("No space left"), "{error:?}");
    assert_eq!(scene.labels(), json!({"stable": 1}));
    answers(&client, 1).await;

    fs::remove_file(filler).unwrap();
    eventually("the new version is fetched", async || (model(&client).await.versions.len() == 2).then_some(())).await;
    set_label(&client, 1, 2).await.unwrap();
    answers(&client, 2).await;
    assert_eq!(searching.end().await.into_keys().collect::<Vec<_>>(), [1, 2]);
}
