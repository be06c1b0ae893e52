//! The server is killed with SIGKILL while a version is in each state of its life. After the restart the version that
//! answered before answers, the move goes on to its end, and vectors that were made are not made again.

#![cfg(test)]

mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{
    CATALOG, Start, TestServer,
    encoders::{MILK, Size, label, publish, random, safetensors, version_folder},
    eventually, item,
    models::{PATIENCE, answers, embed, first_answer, infer, model, set_label, version, version_name, watch},
    stock, upsert,
};
use tokio::task::JoinHandle;
use vitrine::v1::{GetCatalogRequest, LoadVersionRequest, VersionState};
use vitrine_client::{Client, Error};

/// An encoder that takes some milliseconds for an item.
const SIZE: Size = Size { width: 128, layers: 4 };
const ITEMS: usize = 400;
/// Items that are embedded, and written down, together.
const CHUNK: i64 = 64;
/// Recorded rows of the versions that are moved to.
const RECORDED: usize = 1_000;
/// Bytes of a file that is checked before a version is read.
const WORDS: usize = 128 << 20;

/// A registry in which every version of one encoder is slow to check, to warm up and to index.
struct Scene {
    server: TestServer,
    client: Client,
    serving: u32,
}

impl Scene {
    async fn new() -> Self {
        let files = random(1, SIZE);
        let start = Start::default().set("text_encoder.keep_previous=0s").set("text_encoder.max_queue_rows=100000");
        let start = start.set("metrics_listen=127.0.0.1:0");
        let registry = start.registry.clone();
        publish(&registry, files.path());
        label(&registry, 1);
        let server = start.run();
        let client = server.client().await;
        stock(&client, Vec::new()).await;
        for some in (0..ITEMS).collect::<Vec<_>>().chunks(500) {
            upsert(&client, some.iter().map(|n| item(&format!("i{n}"), &title(*n))).collect()).await;
        }
        answers(&client, 1).await;
        let vector = embed(&server, 1, "milk").await;
        write_recorded(files.path(), &vector);
        fs::write(files.path().join("words.txt"), vec![b'.'; WORDS]).unwrap();
        publish(&registry, files.path());
        Self { server, client, serving: 1 }
    }

    fn registry(&self) -> PathBuf {
        self.server.start.registry.clone()
    }

    /// The version to move to. All but the first are the same files.
    fn next(&self) -> u32 {
        let next = self.serving + 1;
        let folder = version_folder(&self.registry(), next);
        if !folder.exists() {
            let hidden = self.registry().join("models/minilm/.next");
            let copied = Command::new("cp").arg("-rl").arg(version_folder(&self.registry(), 2)).arg(&hidden).status();
            assert!(copied.unwrap().success());
            fs::rename(hidden, folder).unwrap();
        }
        next
    }

    fn begin_to_move(&self, to: u32) -> JoinHandle<Result<(), Error>> {
        let (client, from) = (self.client.clone(), self.serving);
        tokio::spawn(async move { set_label(&client, from, to).await.map(drop) })
    }

    /// Kills the server in its move to `next`, and starts it again.
    fn killed(mut self, next: u32) -> Restarted {
        self.server.cut_off();
        let moved = answering_versions(&self.server).contains(&next);
        Restarted { server: self.server.start.run(), answered: self.serving, next, moved }
    }
}

/// A server that was started again after it had been killed in a move.
struct Restarted {
    server: TestServer,
    /// What answered before.
    answered: u32,
    next: u32,
    /// The label moved before the server was killed: whether that was written down is not known.
    moved: bool,
}

impl Restarted {
    /// Checks that what answered before does so first, and waits until the move is done.
    async fn ends_the_move(self) -> Scene {
        let Self { server, answered, next, moved } = self;
        let client = server.client().await;
        let first = first_answer(&client).await;
        assert!([answered, next].contains(&first), "version {first} answers, of {answered} and {next}");
        if !moved {
            assert_eq!(answering_versions(&server).first(), Some(&answered));
        }
        answers(&client, next).await;
        let model = model(&client).await;
        assert_eq!((model.labels["stable"], model.serving_labels["stable"]), (next, next));
        if answered != next && !moved {
            assert_eq!(answering_versions(&server), [answered, next]);
        }
        let complete = eventually("every item has its vector", async || {
            (embedded_items(&client, next).await == ITEMS as i64).then_some(())
        });
        complete.await;
        Scene { server, client, serving: next }
    }
}

/// The versions that the label answered with, in order, as the log says.
fn answering_versions(server: &TestServer) -> Vec<u32> {
    let logged = server.logged("the label answers");
    logged.iter().map(|entry| entry["version"].as_str().unwrap().parse().unwrap()).collect()
}

fn title(number: usize) -> String {
    format!("{} {number}", "oat milk bread butter ".repeat(6))
}

/// Records many rows, all of them of the text `milk`.
fn write_recorded(folder: &Path, milk: &[f32]) {
    let ids = MILK.map(|id| id as f32).repeat(RECORDED);
    let offsets = (0..=RECORDED).map(|row| (row * MILK.len()) as f32).collect();
    let golden = [
        ("ids".to_owned(), vec![ids.len()], ids),
        ("offsets".to_owned(), vec![RECORDED + 1], offsets),
        ("embeddings".to_owned(), vec![RECORDED, milk.len()], milk.repeat(RECORDED)),
    ];
    fs::write(folder.join("golden.safetensors"), safetensors(&golden)).unwrap();
}

async fn embedded_items(client: &Client, version: u32) -> i64 {
    let catalog = client.get_catalog(GetCatalogRequest { name: CATALOG.into() }).await.unwrap();
    catalog.vector_indexes.iter().find(|index| index.version == version).map_or(0, |index| index.indexed_items)
}

/// Tries until the server was caught at it.
async fn until_caught<F: Future<Output = (Scene, bool)>>(mut scene: Scene, kill: impl Fn(Scene) -> F) -> Scene {
    for _ in 0..5 {
        let (after, caught) = kill(scene).await;
        if caught {
            return after;
        }
        eprintln!("the server was quicker: again");
        scene = after;
    }
    panic!("the server was quicker every time");
}

async fn kill_while_loading_or_warming(scene: Scene, state: VersionState) -> (Scene, bool) {
    let next = scene.next();
    let mut told = watch(&scene.client).await;
    let moving = scene.begin_to_move(next);
    told.until(next, state).await;
    let restarted = scene.killed(next);
    assert!(moving.await.unwrap().is_err() || restarted.moved, "the caller is told that nobody answers");
    let caught = !restarted.moved && told.last().await.get(&next).is_none_or(|last| *last == state);
    (restarted.ends_the_move().await, caught)
}

async fn kill_while_indexing(scene: Scene) -> (Scene, bool) {
    let (next, client) = (scene.next(), scene.client.clone());
    let moving = scene.begin_to_move(next);
    let made = eventually("some of the vectors are made", async || {
        let told = version(&client, next).await;
        let made = told.indexing.unwrap_or_default().done_items;
        (told.state() == VersionState::Available || made >= 2 * CHUNK).then_some(made)
    })
    .await;
    let restarted = scene.killed(next);
    let caught = moving.await.unwrap().is_err() && made > 0 && !restarted.moved;
    let scene = restarted.ends_the_move().await;
    let lane = format!("lane=\"minilm/{next}\"");
    let again = scene.server.metric("vitrine_batch_rows_sum", &[&lane, "class=\"bulk\""]).await.unwrap_or(0.0) as i64;
    // What was made last may not have been written down.
    assert!(!caught || (1..=ITEMS as i64 - made + CHUNK).contains(&again), "{made} were made, and then {again}");
    (scene, caught)
}

async fn kill_once_available(scene: Scene) -> Scene {
    let next = scene.next();
    scene.begin_to_move(next).await.unwrap().unwrap();
    let scene = Restarted { answered: next, moved: false, ..scene.killed(next) }.ends_the_move().await;
    let versions = model(&scene.client).await.versions;
    let loaded = versions.iter().filter(|found| !found.device.is_empty()).map(|found| found.version);
    assert_eq!(loaded.collect::<Vec<_>>(), [next]);
    scene
}

fn load(version: u32) -> LoadVersionRequest {
    LoadVersionRequest { name: version_name(version), unload_first: false }
}

async fn kill_while_draining(scene: Scene) -> (Scene, bool) {
    let (next, old, client) = (scene.next(), scene.serving, scene.client.clone());
    let mut told = watch(&client).await;
    client.with_timeout(PATIENCE).load_version(load(next)).await.unwrap();
    // It holds the old version.
    let texts = (0..5_000).map(title).collect();
    let before = version(&client, old).await.requests;
    let under_way = tokio::spawn(infer(&scene.server, old, texts));
    eventually("the texts are admitted", async || (version(&client, old).await.requests > before).then_some(())).await;
    scene.begin_to_move(next).await.unwrap().unwrap();
    told.until(old, VersionState::Draining).await;
    let restarted = scene.killed(next);
    let caught = under_way.await.unwrap().is_err();
    assert!(!caught || told.last().await.get(&old).is_none_or(|last| *last == VersionState::Draining));
    (Restarted { answered: next, moved: false, ..restarted }.ends_the_move().await, caught)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_version_was_doing_the_move_is_brought_to_its_end() {
    let mut scene = Scene::new().await;
    for state in [VersionState::Loading, VersionState::Warming] {
        scene = until_caught(scene, |scene| kill_while_loading_or_warming(scene, state)).await;
    }
    scene = until_caught(scene, kill_while_indexing).await;
    scene = kill_once_available(scene).await;
    until_caught(scene, kill_while_draining).await;
}
