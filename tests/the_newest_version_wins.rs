//! Versions are published faster than they can be loaded, to a server that follows the newest: it skips what is overtaken,
//! ends on the newest, answers all the while, and keeps nothing of the others in memory.

#![cfg(test)]

mod harness;

use std::{fs, path::Path};

use harness::{
    Start, TestServer,
    encoders::{publish, tiny, version_folder},
    eventually, item,
    models::{Searching, answers, model, watch},
    stock,
};
use vitrine::v1::VersionState;
use vitrine_client::Client;

/// A server that follows the newest, with version 1.
async fn following() -> (TestServer, Client) {
    let start = Start::default().set("text_encoder.policy=latest = 1").set("text_encoder.keep_previous=0s");
    publish(&start.registry, tiny(1).path());
    let server = start.run();
    let client = server.client().await;
    stock(&client, vec![item("milk", "Whole milk"), item("bread", "Rye bread")]).await;
    answers(&client, 1).await;
    (server, client)
}

/// Waits until this version is the only one in memory.
async fn is_alone(client: &Client, version: u32) {
    eventually("the others have left memory", async || {
        let versions = model(client).await.versions;
        let loaded = versions.into_iter().filter(|found| !found.device.is_empty()).map(|found| found.version);
        (loaded.collect::<Vec<_>>() == [version]).then_some(())
    })
    .await;
}

/// Everything that was done with versions.
async fn loaded(client: &Client) -> Vec<u32> {
    let versions = model(client).await.versions;
    let begun = |state| !matches!(state, VersionState::Unspecified | VersionState::Start);
    versions.iter().filter(|found| begun(found.state())).map(|found| found.version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_overtaken_while_it_loads_gives_way_to_the_newest() {
    let (server, client) = following().await;
    let registry = &server.start.registry;
    let searching = Searching::begin(&client);
    let mut told = watch(&client).await;
    let large = tiny(2);
    fs::write(large.path().join("words.txt"), vec![b'.'; 128 << 20]).unwrap();
    assert_eq!(publish(registry, large.path()), 2);
    told.until(2, VersionState::Loading).await;
    for version in 3..=5 {
        assert_eq!(publish(registry, tiny(version).path()), version as u32);
    }
    answers(&client, 5).await;
    is_alone(&client, 5).await;
    let answered = searching.end().await;
    assert!(answered.contains_key(&1) && answered.contains_key(&5), "{answered:?}");
}

/// Publishes a folder of versions made elsewhere, all at once.
fn move_in(registry: &Path, from: &Path, versions: std::ops::RangeInclusive<u32>) {
    for version in versions {
        fs::rename(version_folder(from, version), version_folder(registry, version)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_versions_at_once_the_newest_answers_and_the_others_leave_nothing() {
    let (server, client) = following().await;
    let registry = &server.start.registry;
    // On the same file system, so that each is published by one rename.
    let elsewhere = server.start.dir.path().join("elsewhere");
    for version in 1..=51 {
        assert_eq!(publish(&elsewhere, tiny(version).path()), version as u32);
    }
    let searching = Searching::begin(&client);
    move_in(registry, &elsewhere, 2..=51);
    answers(&client, 51).await;
    is_alone(&client, 51).await;
    let answered = searching.end().await;
    assert!(answered.contains_key(&51), "{answered:?}");
    let loaded = loaded(&client).await;
    eprintln!("of 51 versions these were begun: {loaded:?}");
}
