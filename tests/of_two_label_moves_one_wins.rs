//! Two move a label at once: one wins, and the other is told, whichever way each of them came.

#![cfg(test)]

mod harness;

use std::{path::Path, process::Output};

use harness::{
    Start,
    encoders::{publish, registry_command, tiny, version_folder},
    models::{Searching, answers, model, served, set_label, watch},
    refused,
};
use vitrine::v1::VersionState;
use vitrine_client::{Client, Code};

/// Large enough that the version is being checked for a moment.
fn slow(seed: u64) -> tempfile::TempDir {
    let files = tiny(seed);
    std::fs::write(files.path().join("words.txt"), vec![b'.'; 64 << 20]).unwrap();
    files
}

async fn wins(client: &Client, from: u32, to: u32) -> bool {
    match set_label(client, from, to).await {
        Ok(_) => true,
        lost => {
            let error = refused(lost);
            assert_eq!((error.code, error.reason.as_str()), (Code::Aborted, "LABEL_CHANGED"), "{error:?}");
            assert!(error.message.contains("stable"), "{error:?}");
            false
        }
    }
}

fn command(registry: &Path, from: u32, to: u32) -> Output {
    registry_command(registry, &["label", "minilm", "stable", &to.to_string(), "--expect", &from.to_string()])
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_callers_of_the_server_one_wins() {
    let (server, client) = served(Start::default()).await;
    let registry = &server.start.registry;
    let (two, three) = (publish(registry, tiny(2).path()), publish(registry, tiny(3).path()));
    let searching = Searching::begin(&client);
    let mut serving = 1;
    for _ in 0..10 {
        let others: Vec<u32> = [1, two, three].into_iter().filter(|version| *version != serving).collect();
        let (one, other) = tokio::join!(wins(&client, serving, others[0]), wins(&client, serving, others[1]));
        assert!(one ^ other, "{one} and {other}");
        serving = if one { others[0] } else { others[1] };
        let model = model(&client).await;
        assert_eq!((model.labels["stable"], model.serving_labels["stable"]), (serving, serving));
    }
    searching.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_server_and_the_registry_command_one_wins() {
    let (server, client) = served(Start::default()).await;
    let registry = &server.start.registry;
    let (two, three) = (publish(registry, tiny(2).path()), publish(registry, tiny(3).path()));
    let mut serving = 1;
    for _ in 0..10 {
        let others: Vec<u32> = [1, two, three].into_iter().filter(|version| *version != serving).collect();
        let (path, from, to) = (registry.clone(), serving, others[1]);
        let by_command = tokio::task::spawn_blocking(move || command(&path, from, to));
        let (by_server, by_command) = tokio::join!(wins(&client, serving, others[0]), by_command);
        let by_command = by_command.unwrap();
        assert!(by_server ^ by_command.status.success(), "{by_server} and {by_command:?}");
        if by_server {
            let told = String::from_utf8_lossy(&by_command.stderr).into_owned();
            assert!(told.contains(&format!("names version {}", others[0])), "{told}");
        }
        serving = if by_server { others[0] } else { others[1] };
        answers(&client, serving).await;
        assert_eq!(model(&client).await.labels["stable"], serving);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_version_is_told_when_somebody_else_moves_the_label_on() {
    let (server, client) = served(Start::default()).await;
    let registry = server.start.registry.clone();
    let (two, three) = (publish(&registry, slow(2).path()), publish(&registry, tiny(3).path()));
    let searching = Searching::begin(&client);
    let mut told = watch(&client).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { wins(&client, 1, two).await }
    });
    told.until(two, VersionState::Loading).await;
    // Whether it was quick enough to win all the same.
    let moved = set_label(&client, two, three).await.unwrap();
    assert_eq!(moved.serving_labels["stable"], three);
    let two_won = waiting.await.unwrap();
    answers(&client, three).await;
    let answered = searching.end().await;
    assert!(two_won || !answered.contains_key(&two), "{answered:?}");
    assert!(version_folder(&registry, two).exists());
}
