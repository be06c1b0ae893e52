//! A port in use, a registry that is missing, read-only or half copied, a data directory in use: the operator is told
//! what is wrong, and what can be served is served.

#![cfg(test)]

mod harness;

use std::{fs, process::Command};

use harness::{Start, encoder_registry, eventually, item, stock, text_search};
use vitrine::v1::{DegradedReason, GetModelRequest, VersionState};

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Start::default().command().args(["--set", &format!("listen={address}")]).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("listen") && error.contains(&address), "{error}");
}

#[tokio::test]
async fn a_bad_setting_is_named() {
    for (setting, name) in [("limits.max_page_size=0", "limits.max_page_size"), ("limits.nonsense=1", "nonsense")] {
        let output = Start::default().set(setting).command().output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused() {
    let server = Start::default().run();
    let second = Start { data_dir: server.start.dir.path().join("data"), ..Start::default() };
    let output = second.command().output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("data") && error.contains("in use"), "{error}");
}

#[tokio::test]
async fn without_a_registry_words_are_searched_and_the_answer_says_so() {
    let server = Start::default().run();
    let client = server.client().await;
    stock(&client, vec![item("1", "Whole milk")]).await;
    let answer = eventually("the item is found", || async {
        let answer = client.search(text_search("milk")).await.unwrap();
        (!answer.results.is_empty()).then_some(answer)
    })
    .await;
    assert_eq!(answer.degraded.len(), 1);
    assert_eq!(answer.degraded[0].reason(), DegradedReason::EncoderUnavailable);
}

#[tokio::test]
async fn a_half_copied_version_is_not_loaded_and_does_not_stop_the_server() {
    let mut start = Start::default();
    let half = start.registry.join("models/minilm/1");
    fs::create_dir_all(&half).unwrap();
    // As an interrupted copy leaves it: a manifest, and a weights file that ends too early.
    let source = encoder_registry().join("models/minilm/1");
    for name in ["manifest.json", "config.json", "tokenizer.json"] {
        fs::copy(source.join(name), half.join(name)).unwrap();
    }
    let weights = fs::read(source.join("model.safetensors")).unwrap();
    fs::write(half.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    fs::write(start.registry.join("models/minilm/labels.json"), r#"{"stable": 1}"#).unwrap();
    start.settings.push("shutdown.grace=0s".into());
    let server = start.run();
    let client = server.client().await;
    let model = client.get_model(GetModelRequest { name: "models/minilm".into() }).await.unwrap();
    assert_eq!(model.versions[0].state(), VersionState::Failed);
    assert!(!model.versions[0].failure.is_empty());
    stock(&client, vec![item("1", "Whole milk")]).await;
    let answer = client.search(text_search("milk")).await.unwrap();
    assert_eq!(answer.degraded[0].reason(), DegradedReason::EncoderUnavailable);
}

#[tokio::test]
async fn a_read_only_registry_is_served_from() {
    let start = Start::default();
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        assert!(Command::new(program).args(arguments).status().unwrap().success());
    };
    run("cp", &["-r".as_ref(), encoder_registry().as_os_str(), start.registry.as_os_str()]);
    run("chmod", &["-R".as_ref(), "a-w".as_ref(), start.registry.as_os_str()]);
    let registry = start.registry.clone();
    let server = start.run();
    let client = server.client().await;
    let model = eventually("the encoder is available", || async {
        let model = client.get_model(GetModelRequest { name: "models/minilm".into() }).await.unwrap();
        (model.versions[0].state() == VersionState::Available).then_some(model)
    })
    .await;
    assert_eq!(model.labels["stable"], 1);
    run("chmod", &["-R".as_ref(), "u+w".as_ref(), registry.as_os_str()]);
}
