//! From a file of what users did to a version in a registry, by the command.

#![cfg(test)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vitrine_registry::{ModelName, Registry, Version};

struct Shop {
    dir: TempDir,
}

impl Shop {
    /// Users who walk round a circle of items.
    fn new() -> Self {
        let shop = Self { dir: tempfile::tempdir().unwrap() };
        let mut text = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n".to_owned();
        for user in 0..40 {
            for step in 0..12 {
                let item = (user * 7 + step) % 20;
                writeln!(text, "u{user}\ti{item:02}\t{}\t{step}", 1 + item % 5).unwrap();
            }
        }
        shop.write("shop.inter", &text);
        let small =
            "max_length = 6\nhidden = 16\nstate = 16\ndropout = 0.1\n[learning]\nlearning_rate = 0.01\nepochs = 25\n";
        shop.write("small.toml", small);
        shop.write("gated.toml", &format!("{small}[gate]\nat_least = {{ \"ndcg@10\" = 0.99 }}\n"));
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine-trainer"));
        command.args(arguments).current_dir(self.dir.path());
        command
    }

    fn train(&self, kind: &str, config: &str, out: &str) -> Command {
        self.command(&["train", kind, "--interactions", "shop.inter", "--config", config, "--out", out, "--json"])
    }

    /// The last line of what `evaluate` prints.
    #[track_caller]
    fn evaluate(&self, what: &str, folder: &Path, more: &[&str]) -> Value {
        let mut command = self.command(&["evaluate", what, "--interactions", "shop.inter", "--json"]);
        last_line(&fine(&command.arg(folder).args(more).output().unwrap()))
    }

    fn publish(&self, folder: &str, registry: &str) -> Output {
        self.command(&["publish", folder, "--registry", registry, "--model", "next", "--label", "stable"])
            .output()
            .unwrap()
    }
}

#[track_caller]
fn fine(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output, wanted: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(wanted), "{wanted}: {error}");
}

fn last_line(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn what_is_good_enough_becomes_a_version_and_what_is_worse_does_not() {
    let shop = Shop::new();
    let learnt = last_line(&fine(&shop.train("sasrec", "small.toml", "good").output().unwrap()));
    let models = learnt["models"].as_array().unwrap();
    let names: Vec<&str> = models.iter().map(|model| model["model"].as_str().unwrap()).collect();
    assert_eq!(names, ["Pop", "Markov", "item-kNN", "sasrec"]);
    let ndcg = learnt["report"]["test"]["ndcg"]["value"].as_f64().unwrap();
    assert!(ndcg > 0.9, "{learnt}");

    fine(&shop.publish("good", "registry"));
    let registry = Registry::open(shop.path("registry")).unwrap();
    let name: ModelName = "next".parse().unwrap();
    let version = registry.version(&name, Version::FIRST).unwrap();
    assert!(version.verify().unwrap().is_empty());
    assert_eq!((version.manifest.kind.as_str(), version.manifest.task.as_str()), ("sasrec", "sequence-recommendation"));
    assert!((version.manifest.metrics["ndcg@10"] - ndcg).abs() < 1e-9);
    let data = version.manifest.training_data.unwrap();
    assert_eq!((data.name.as_str(), data.hash.map(|hash| hash.len())), ("shop", Some(64)));
    assert!(version.path.join("golden.safetensors").exists() && !version.path.join("checkpoint.safetensors").exists());
    let measured = shop.evaluate("sequences", &version.path, &[]);
    assert_eq!(measured["models"], learnt["models"], "measured by itself");
    let measured = shop.evaluate("sequences", &version.path, &["--split", "time"]);
    assert_eq!(measured["models"][3]["model"], "sasrec");
    assert_ne!(measured["models"], learnt["models"]);

    // One pass is too few for the gate, which compares with the parent as well.
    let few = fs::read_to_string(shop.path("gated.toml")).unwrap().replace("epochs = 25", "epochs = 1");
    shop.write("few.toml", &few);
    fine(&shop.train("gru4rec", "few.toml", "bad").output().unwrap());
    refused(&shop.publish("bad", "registry"), "the gate asks for 0.99");
    shop.write("few.toml", &few.replace("at_least = { \"ndcg@10\" = 0.99 }", "below_parent = { \"ndcg@10\" = 0.01 }"));
    fine(&shop.train("gru4rec", "few.toml", "worse").output().unwrap());
    refused(&shop.publish("worse", "registry"), "the parent's");
    assert_eq!(registry.versions(&name).unwrap().numbers().count(), 1);

    fine(&shop.publish("good", "registry"));
    let second = registry.version(&name, Version::FIRST.next().unwrap()).unwrap();
    assert_eq!(second.manifest.parent, Some(Version::FIRST));
    assert_eq!(registry.labels(&name).unwrap().get(&"stable".parse().unwrap()), Some(second.version));
}

#[test]
fn what_is_not_as_it_was_learnt_is_not_published() {
    let shop = Shop::new();
    fine(&shop.train("gru4rec", "small.toml", "learnt").output().unwrap());
    let other = fs::read_to_string(shop.path("learnt/config.json")).unwrap().replace("\"gru\"", "\"lstm\"");
    shop.write("a-file", "");
    refused(&shop.publish("learnt", "a-file"), "a-file");
    shop.write("learnt/config.json", &other);
    refused(&shop.publish("learnt", "registry"), "model.safetensors");
    refused(&shop.publish("nowhere", "registry"), "nowhere is no folder that was learnt into");
    assert!(!shop.path("registry").exists());
}

#[test]
fn learning_goes_on_after_a_kill_to_the_same_weights() {
    let shop = Shop::new();
    let weights = |out: &str| fs::read(shop.path(out).join("model.safetensors")).unwrap();
    let passes = |out: &Path| fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    fine(&shop.train("sasrec", "small.toml", "whole").output().unwrap());

    let mut killed =
        shop.train("sasrec", "small.toml", "parts").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while passes(&shop.path("parts")) < 3 && started.elapsed() < Duration::from_mins(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let done = passes(&shop.path("parts"));
    assert!((3..25).contains(&done), "{done} passes when it was killed");
    let resumed = shop.train("sasrec", "small.toml", "parts").output().unwrap();
    fine(&resumed);
    assert!(String::from_utf8_lossy(&resumed.stderr).contains("going on after pass"));
    assert!(weights("whole") == weights("parts"), "other weights");
}

#[test]
fn clicks_are_learnt_beside_what_must_be_beaten() {
    let shop = Shop::new();
    let small = "layers = [8]\nwidth = 4\n[learning]\nbatch = 64\nlearning_rate = 0.02\nepochs = 8\n";
    shop.write("clicks.toml", small);
    let train = |label: &[&str]| {
        let usual =
            ["train", "dcn-v2", "--interactions", "shop.inter", "--config", "clicks.toml", "--out", "clicks", "--json"];
        shop.command(&[&usual, label].concat()).output().unwrap()
    };
    let learnt = last_line(&fine(&train(&["--label", "rating", "--at-least", "4"])));
    let kinds: Vec<&str> =
        learnt["models"].as_array().unwrap().iter().map(|model| model["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["lr", "fm", "dcn-v2"]);
    assert!(learnt["models"][2]["test"]["auc"].as_f64().unwrap() > 0.9, "{learnt}");
    fine(&shop.publish("clicks", "registry"));
    let registry = Registry::open(shop.path("registry")).unwrap();
    let version = registry.version(&"next".parse().unwrap(), Version::FIRST).unwrap();
    assert_eq!((version.manifest.kind.as_str(), version.manifest.task.as_str()), ("dcn-v2", "ctr-ranking"));
    assert!(version.manifest.metrics.contains_key("auc"));
    let files = ["--label", "rating", "--at-least", "4"];
    let measured =
        shop.evaluate("clicks", &shop.path("clicks"), &[&files[..], &["--reliability", "plot.svg"]].concat());
    for (measured, learnt) in measured["models"].as_array().unwrap().iter().zip(learnt["models"].as_array().unwrap()) {
        assert_eq!((&measured["kind"], &measured["test"]), (&learnt["kind"], &learnt["test"]), "measured by itself");
    }
    let plots = ["plot.svg", "clicks/reliability.svg"].map(|name| fs::read_to_string(shop.path(name)).unwrap());
    assert_eq!(plots[0], plots[1]);
    let all = shop.evaluate("clicks", &version.path, &[&files[..], &["--all"]].concat());
    let examples = all["models"][0]["test"]["reliability"].as_array().unwrap().iter().map(|bin| &bin["examples"]);
    assert_eq!(examples.map(|count| count.as_u64().unwrap()).sum::<u64>(), 480);

    refused(&train(&["--label", "stars"]), "no column `stars`");
    refused(&train(&["--label", "rating", "--at-least", "9"]), "0 % were clicked on");
}

#[test]
fn what_cannot_be_learnt_from_is_said() {
    let shop = Shop::new();
    let header = "user_id:token\titem_id:token\ttimestamp:float\n";
    for (text, wanted) in [
        (String::new(), "is empty"),
        (header.to_owned(), "enough interactions"),
        (format!("{header}u\ta\t1\nu\tb\t2\nu\tc\t3\n"), "enough interactions"),
        (format!("{header}u\ta\tsoon\n"), "timestamp `soon`"),
        (format!("{header}u\ta\tNaN\n"), "timestamp `NaN`"),
        (header.replace("item_id", "thing"), "no column `item_id`"),
    ] {
        shop.write("shop.inter", &text);
        refused(&shop.train("sasrec", "small.toml", "out").output().unwrap(), wanted);
    }
    refused(&shop.train("sasrec", "none.toml", "out").output().unwrap(), "none.toml");
    assert!(!shop.path("out").exists());
}
