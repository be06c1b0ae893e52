//! `vitrine-registry` with a registry on a real S3 server, and what it says when there is none to be had.

#![cfg(test)]

mod s3_server;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use s3_server::{BUCKET, S3};
use serde_json::Value;
use tempfile::TempDir;

struct Scene {
    s3: S3,
    folder: TempDir,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("files")).unwrap();
    fs::write(folder.path().join("files/config.json"), r#"{"model_type": "bert"}"#).unwrap();
    Scene { s3: S3::start(), folder }
}

impl Scene {
    /// Runs the command on this machine, which has a cache of its own.
    fn run(&self, machine: &str, words: &[&str]) -> Output {
        let registry = format!("s3://{BUCKET}/prod");
        command(&registry, &self.folder.path().join(machine), &self.s3.settings(), words)
    }

    /// Runs it, and expects it to do what it should.
    fn json(&self, machine: &str, words: &[&str]) -> Value {
        let output = self.run(machine, &[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {}{}", text(&output.stdout), text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn files(&self) -> String {
        self.folder.path().join("files").to_str().unwrap().to_owned()
    }
}

fn command(registry: &str, cache: &Path, settings: &[(String, String)], words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine-registry"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
    // The machine's own credentials are none of a test's: nobody listens there.
    command.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9").envs(settings.iter().cloned());
    command.args(["--registry", registry, "--registry-cache"]).arg(cache).args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn one_machine_publishes_and_another_lists_labels_and_verifies() {
    let scene = scene();
    let publish =
        ["publish", "--kind", "bert", "--task", "text-embedding", "minilm", &scene.files(), "--label", "stable"];
    assert_eq!(scene.json("one", &publish)["version"], 1);
    assert_eq!(scene.json("one", &publish)["version"], 2);

    let listed = scene.json("two", &["list"]);
    assert_eq!(listed["models"][0]["labels"]["stable"], 2);
    assert_eq!(listed["models"][0]["versions"].as_array().unwrap().len(), 2);
    assert!(!scene.folder.path().join("two/models/minilm").exists(), "a list fetches nothing");

    assert_eq!(scene.json("two", &["label", "minilm", "stable", "1", "--expect", "2"])["labels"]["stable"], 1);
    let moved = scene.run("one", &["label", "minilm", "stable", "1", "--expect", "2"]);
    assert_eq!(moved.status.code(), Some(4), "{}", text(&moved.stderr));
    assert_eq!(scene.json("two", &["verify"])["versions"].as_array().unwrap().len(), 2);

    scene.s3.put("prod/models/minilm/2/config.json", b"{}");
    let damaged = scene.run("three", &["verify"]);
    assert_eq!(damaged.status.code(), Some(5), "{}", text(&damaged.stderr));
    assert!(text(&damaged.stdout).contains("\"minilm\" version 1: ok"), "{}", text(&damaged.stdout));
    assert!(text(&damaged.stdout).contains("\"minilm\" version 2: damaged"), "{}", text(&damaged.stdout));
    assert_eq!(scene.run("three", &["verify", "minilm", "2"]).status.code(), Some(5));
}

#[test]
fn a_version_that_one_machine_rejects_gets_no_label_on_another() {
    let scene = scene();
    let publish = ["publish", "--kind", "bert", "--task", "text-embedding", "minilm", &scene.files()];
    scene.json("one", &publish);
    scene.json("one", &publish);
    scene.json("two", &["verify"]);
    let reject = ["reject", "minilm", "2", "--reason", "fewer clicks"];
    assert_eq!(scene.json("one", &reject)["labels"]["rejected"]["2"], "fewer clicks");
    let refused = scene.run("two", &["label", "minilm", "stable", "2"]);
    assert!(text(&refused.stderr).contains("fewer clicks"), "{}", text(&refused.stderr));
    // The mirror knows it once it is in step.
    scene.json("two", &["verify"]);
    let mirrored = fs::read_to_string(scene.folder.path().join("two/models/minilm/labels.json")).unwrap();
    assert!(mirrored.contains("fewer clicks"), "{mirrored}");
    assert_eq!(scene.json("two", &["reject", "minilm", "2", "--undo"])["labels"]["rejected"], Value::Null);
    assert_eq!(scene.json("one", &["label", "minilm", "stable", "2"])["labels"]["stable"], 2);
}

#[test]
fn a_pull_publishes_once_whichever_machine_pulls() {
    let scene = scene();
    let source = format!("file:{}", scene.files());
    let pull = ["pull", "minilm", "--task", "text-embedding", "--from", &source, "--label", "stable", "--quiet"];
    assert_eq!(scene.json("one", &pull)["unchanged"], false);
    assert_eq!(scene.json("two", &pull)["unchanged"], true);
    assert_eq!(scene.json("three", &["label", "minilm"])["labels"]["stable"], 1);
}

#[test]
fn what_is_wrong_with_the_store_is_said_with_what_to_do() {
    let scene = scene();
    let says = |registry: &str, settings: &[(String, String)], hint: &str| {
        let cache = tempfile::tempdir().unwrap();
        for words in [["list"].as_slice(), &["verify"], &["label", "minilm", "stable", "1"]] {
            let output = command(registry, cache.path(), settings, words);
            assert_eq!(output.status.code(), Some(1), "{words:?}");
            assert!(text(&output.stderr).contains(hint), "{words:?}: {}", text(&output.stderr));
        }
    };
    let settings = scene.s3.settings();
    let without = |left_out: &str| -> Vec<(String, String)> {
        settings.iter().filter(|(name, _)| !name.contains(left_out)).cloned().collect()
    };
    says("s3://nowhere", &settings, "there is no bucket \"nowhere\"");
    says(&format!("s3://{BUCKET}"), &without("ALLOW_HTTP"), "set AWS_ALLOW_HTTP=true");
    says(&format!("s3://{BUCKET}"), &without("KEY"), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    let mut away = without("ENDPOINT");
    away.push(("AWS_ENDPOINT_URL".to_owned(), "http://127.0.0.1:9".to_owned()));
    says(&format!("s3://{BUCKET}"), &away, "check AWS_ENDPOINT_URL and the network");

    let cache = tempfile::tempdir().unwrap();
    let odd = command("s3://", cache.path(), &settings, &["list"]);
    assert_eq!(odd.status.code(), Some(2));
    assert!(text(&odd.stderr).contains("s3://BUCKET/PREFIX"), "{}", text(&odd.stderr));
}

#[test]
fn removing_versions_is_refused_on_a_store() {
    let scene = scene();
    scene.json("one", &["publish", "--kind", "bert", "--task", "text-embedding", "minilm", &scene.files()]);
    let gc = scene.run("one", &["gc"]);
    assert_eq!(gc.status.code(), Some(1));
    assert!(text(&gc.stderr).contains("works on a registry in a folder only"), "{}", text(&gc.stderr));
}
