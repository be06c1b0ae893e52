//! Versions that must not be served are published while a good one serves: each move to one is refused with a reason
//! that a person understands and taken back, searches go on, and the next good version takes over.

#![cfg(test)]

mod harness;

use std::{fs, path::Path};

use harness::{
    Start,
    encoders::{TINY_WIDTH, publish, publish_as, registry_command, tiny, version_folder, write_golden},
    models::{Searching, model, served, set_label, version},
    refused,
};
use serde_json::Value;
use vitrine::v1::VersionState;
use vitrine_client::Code;

/// One way in which a version is bad.
struct Fault {
    what: &'static str,
    kind: &'static str,
    task: &'static str,
    /// What is wrong with its files before they are published.
    before: fn(&Path),
    /// What happens to them afterwards.
    after: fn(&Path),
    /// Part of what the caller is told.
    reason: &'static str,
}

const NONE: Fault = Fault { what: "", kind: "bert", task: "text-embedding", before: |_| {}, after: |_| {}, reason: "" };

const FAULTS: [Fault; 11] = [
    Fault {
        what: "truncated weights",
        after: |folder| {
            let weights = fs::File::options().write(true).open(folder.join(WEIGHTS)).unwrap();
            weights.set_len(weights.metadata().unwrap().len() / 2).unwrap();
        },
        reason: "\"model.safetensors\" has",
        ..NONE
    },
    Fault {
        what: "a wrong checksum",
        after: |folder| change(&folder.join(WEIGHTS), |bytes| *bytes.last_mut().unwrap() ^= 1),
        reason: "\"model.safetensors\" is not what was published: its checksum is",
        ..NONE
    },
    Fault {
        what: "a missing file",
        after: |folder| fs::remove_file(folder.join("tokenizer.json")).unwrap(),
        reason: "\"tokenizer.json\": No such file",
        ..NONE
    },
    Fault {
        what: "weights that are no numbers",
        before: |folder| {
            change(&folder.join(WEIGHTS), |bytes| {
                let end = bytes.len() - 4;
                bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
            });
        },
        reason: "is not finite; the weights are damaged",
        ..NONE
    },
    Fault {
        what: "other weights than were recorded",
        before: |folder| write_golden(folder, &[0.5; TINY_WIDTH]),
        reason: "comes out",
        ..NONE
    },
    Fault {
        what: "a recording of another width",
        before: |folder| write_golden(folder, &[0.5; TINY_WIDTH + 1]),
        reason: "golden.safetensors is not as it should be",
        ..NONE
    },
    Fault { what: "an unknown kind", kind: "mamba", reason: "its kind is mamba; supported: bert", ..NONE },
    Fault {
        what: "an unknown network",
        before: |folder| edit(&folder.join("config.json"), "model_type", "mamba".into()),
        reason: "a network of model_type `mamba`, which is not supported; supported: bert",
        ..NONE
    },
    Fault { what: "another task", task: "image-embedding", reason: "its task is image-embedding", ..NONE },
    Fault {
        what: "a manifest of a later format",
        after: |folder| edit(&folder.join("manifest.json"), "format", 2.into()),
        reason: "\"format\": is 2; this program reads manifests up to format 1: use a later one",
        ..NONE
    },
    Fault {
        what: "weights whose shapes disagree with the configuration",
        before: |folder| edit(&folder.join("config.json"), "hidden_size", (2 * TINY_WIDTH).into()),
        reason: "the configuration asks for",
        ..NONE
    },
];

const WEIGHTS: &str = "model.safetensors";

fn change(path: &Path, change: fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn edit(path: &Path, key: &str, value: Value) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    json[key] = value;
    fs::write(path, json.to_string()).unwrap();
}

#[tokio::test]
async fn a_move_to_a_bad_version_is_refused_and_the_next_good_one_takes_over() {
    let (server, client) = served(Start::default()).await;
    let registry = server.start.registry.clone();
    let mut serving = 1;
    for fault in FAULTS {
        let what = fault.what;
        let files = tiny(2);
        (fault.before)(files.path());
        let bad = publish_as(&registry, files.path(), fault.kind, fault.task);
        (fault.after)(&version_folder(&registry, bad));

        let searching = Searching::begin(&client);
        let before = model(&client).await;
        let error = refused(set_label(&client, serving, bad).await);
        assert_eq!((error.code, error.reason.as_str()), (Code::FailedPrecondition, "VERSION_UNUSABLE"), "{what}");
        assert!(error.message.contains(fault.reason), "{what}: {error:?}");
        let after = model(&client).await;
        assert_eq!((&after.labels, &after.previous_labels), (&before.labels, &before.previous_labels), "{what}");
        assert_eq!(after.serving_labels["stable"], serving, "{what}");
        let told = version(&client, bad).await;
        assert_eq!(told.state(), VersionState::Failed, "{what}");
        assert!(told.failure.contains(fault.reason), "{what}: {}", told.failure);
        let listed = String::from_utf8(server.cli(&["models", "list"]).stdout).unwrap();
        assert!(listed.contains("failed: "), "{what}: {listed}");

        let good = publish(&registry, tiny(3).path());
        set_label(&client, serving, good).await.unwrap();
        let answered = searching.end().await;
        assert!(answered.keys().all(|version| [serving, good].contains(version)), "{what}: {answered:?}");
        assert!(answered.contains_key(&serving), "{what}: {answered:?}");
        serving = good;
    }
}

#[test]
fn what_is_damaged_before_it_is_published_is_not_published() {
    let registry = tempfile::tempdir().unwrap();
    let files = tiny(1);
    change(&files.path().join(WEIGHTS), |bytes| bytes.truncate(bytes.len() / 2));
    let folder = files.path().to_str().unwrap();
    let publish = ["publish", "minilm", folder, "--kind", "bert", "--task", "text-embedding"];
    let output = registry_command(registry.path(), &publish);
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(WEIGHTS) && error.contains("nothing was published"), "{error}");
    assert!(!version_folder(registry.path(), 1).exists());
}
