//! The folder of a version is deleted, or made unreadable, while it serves: it serves on, the way back to it is refused
//! with the reason, and a server that starts without it says what is missing.

#![cfg(test)]

mod harness;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use harness::{
    Start,
    encoders::{TINY_WIDTH, publish, tiny, version_folder, write_golden},
    eventually,
    models::{Searching, answers, model, roll_back, served, served_by, set_label, version},
    recommend, refused, text_search,
};
use vitrine::v1::{DegradedReason, ItemList, VersionState, recommend_request::Target};
use vitrine_client::{Client, Code};

/// What it is to search by meaning and recommend by vectors.
async fn assert_answers_with(client: &Client, version: u32) {
    let answer = client.search(text_search("milk")).await.unwrap();
    assert_eq!((served_by(&answer), answer.degraded), (Some(version), Vec::new()));
    let like_milk = Target::SimilarToItems(ItemList { ids: vec!["milk".into()] });
    let answer = client.recommend(recommend(like_milk)).await.unwrap();
    assert_eq!(answer.results.len(), 1, "the other item, by its vector");
}

/// Why the answers are by words only.
async fn missing(client: &Client) -> String {
    let degraded = client.search(text_search("milk")).await.unwrap().degraded;
    let encoder = degraded.into_iter().find(|why| why.reason() == DegradedReason::EncoderUnavailable);
    encoder.map(|why| why.detail).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_version_serves_on_and_is_missed_on_the_way_back_and_after_a_restart() {
    let (server, client) = served(Start::default()).await;
    let registry = server.start.registry.clone();
    let two = publish(&registry, tiny(2).path());
    set_label(&client, 1, two).await.unwrap();

    let searching = Searching::begin(&client);
    for version in [1, two] {
        fs::remove_dir_all(version_folder(&registry, version)).unwrap();
    }
    let error = refused(roll_back(&client).await);
    assert_eq!(error.code, Code::NotFound);
    assert!(error.message.contains("there is no model version `models/minilm/versions/1`"), "{error:?}");
    assert_answers_with(&client, two).await;
    let told = version(&client, two).await;
    assert_eq!(told.state(), VersionState::Available, "what serves is listed, wherever its files are");

    // A move that fails is taken back, to where there is nothing but memory.
    let bad = tiny(3);
    write_golden(bad.path(), &[0.5; TINY_WIDTH]);
    let bad = publish(&registry, bad.path());
    let error = refused(set_label(&client, two, bad).await);
    assert_eq!(error.code, Code::FailedPrecondition, "{error:?}");
    assert_eq!(model(&client).await.labels["stable"], two);
    assert_answers_with(&client, two).await;
    assert_eq!(searching.end().await.into_keys().collect::<Vec<_>>(), [two]);

    let server = server.stop().run();
    let client = server.client().await;
    let told = eventually("the server says what is missing", async || {
        let told = missing(&client).await;
        told.contains("failed").then_some(told)
    })
    .await;
    assert!(told.contains("model \"minilm\" has no version 2"), "{told}");
    let lost = version(&client, two).await;
    assert_eq!(lost.state(), VersionState::Failed);
    assert!(lost.failure.contains("has no version 2"), "{}", lost.failure);
    let listed = String::from_utf8(server.cli(&["models", "list"]).stdout).unwrap();
    assert!(listed.contains("failed: model \"minilm\" has no version 2"), "{listed}");
    let good = publish(&registry, tiny(4).path());
    set_label(&client, two, good).await.unwrap();
    // Nothing else answers: it does so at once, and by words only until its vectors are there.
    answers(&client, good).await;
    harness::vectors_done(&client).await;
    assert_answers_with(&client, good).await;
}

/// A server that may not read what its mode forbids, as one that is not root.
fn without_power() -> Option<Start> {
    let bounded = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"];
    let locked = tempfile::tempdir().unwrap();
    fs::set_permissions(locked.path(), Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(locked.path()).is_err() {
        return Some(Start::default());
    }
    let listed = Command::new(bounded[0]).args(&bounded[1..]).arg("ls").arg(locked.path()).output();
    if listed.as_ref().is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("Permission denied")) {
        return Some(Start { through: bounded.map(str::to_owned).into(), ..Start::default() });
    }
    eprintln!("SKIPPED: nothing can be made unreadable here, as root's power cannot be laid down: {listed:?}");
    None
}

fn lock(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o000)).unwrap();
}

fn unlock(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_version_serves_on_and_comes_back_when_it_can_be_read_again() {
    let Some(start) = without_power() else { return };
    let (server, client) = served(start.set("text_encoder.keep_previous=0s")).await;
    let registry = server.start.registry.clone();
    let one = version_folder(&registry, 1);
    let two = publish(&registry, tiny(2).path());
    lock(&one);
    let searching = Searching::begin(&client);
    assert_answers_with(&client, 1).await;
    assert_eq!(version(&client, 1).await.state(), VersionState::Available);
    set_label(&client, 1, two).await.unwrap();
    for error in [refused(roll_back(&client).await), refused(set_label(&client, two, 1).await)] {
        assert_eq!((error.code, error.reason.as_str()), (Code::FailedPrecondition, "VERSION_UNUSABLE"));
        assert!(error.message.contains("Permission denied"), "{error:?}");
    }
    assert_answers_with(&client, two).await;
    searching.end().await;

    lock(&version_folder(&registry, two));
    let server = server.stop().run();
    let client = server.client().await;
    eventually("the server says what is the matter", async || {
        missing(&client).await.contains("Permission denied").then_some(())
    })
    .await;
    unlock(&version_folder(&registry, two));
    answers(&client, two).await;
    unlock(&one);
    eventually("the way back is open", async || roll_back(&client).await.ok()).await;
    assert_answers_with(&client, 1).await;
}
