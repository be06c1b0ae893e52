//! From events as shops have them to interactions that are fit to learn from, by the command.

#![cfg(test)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

fn event(id: &str, kind: &str, user: &str, item: &str, second: u32) -> Value {
    let time = format!("2026-01-01T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
    json!({"event_id": id, "type": kind, "user_id": user, "item_id": item, "time": time})
}

/// Six users who each buy six items, an hour apart.
fn sound() -> Vec<Value> {
    let of = |user: u32, item: u32| {
        event(&format!("{user}-{item}"), "purchase", &format!("u{user}"), &format!("i{item}"), item * 3600 + user)
    };
    (0..6).flat_map(|user| (0..6).map(move |item| of(user, item))).collect()
}

fn write(dir: &Path, events: &[Value]) {
    let text = events.iter().fold(String::new(), |mut text, event| {
        writeln!(text, "{event}").unwrap();
        text
    });
    fs::write(dir.join("events.jsonl"), text).unwrap();
}

fn prepare(dir: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine-trainer"));
    command.args(["prepare", "--events", "events.jsonl", "--out", "shop", "--json"]).args(more).current_dir(dir);
    command.output().unwrap()
}

#[track_caller]
fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(String::from_utf8_lossy(&output.stdout).lines().last().unwrap()).unwrap()
}

#[test]
fn what_is_unfit_is_left_out_and_counted_by_reason() {
    let dir = TempDir::new().unwrap();
    let mut events = sound();
    let good = events.len();
    events.push(events[0].clone());
    let mut twice = events[1].clone();
    twice["event_id"] = json!("another id");
    events.push(twice);
    let mut no_time = event("no-time", "view", "u1", "i1", 0);
    no_time.as_object_mut().unwrap().remove("time");
    events.push(no_time);
    let mut old = event("old", "view", "u1", "i1", 0);
    old["time"] = json!("1970-01-01T00:00:00Z");
    events.push(old);
    events.push(event("shown", "impression", "u1", "i1", 5));
    events.push(event("rare", "view", "u1", "seen-once", 7));
    events.push(event("passer-by", "view", "once", "i1", 8));
    events.push(json!({"event_id": "free", "type": "purchase", "user_id": "u1", "time": "2026-01-02T00:00:00Z",
        "items": [{"id": "i1", "price": "-5"}, {"id": "i2", "price": "3.50"}]}));
    events.extend((0..100).map(|at| event(&format!("bot-{at}"), "view", "bot", &format!("i{}", at % 6), 100 + at / 4)));
    write(dir.path(), &events);
    fs::write(dir.path().join("more.jsonl"), "{\"event_id\": \n").unwrap();

    let output = prepare(dir.path(), &["--events", "more.jsonl"]);
    let report = report(&output);
    let left_out = json!({
        "of an impossible price": 1, "of an impossible time, or none": 2, "of machines": 100,
        "of other types": 1, "of rare users or items": 2, "that cannot be read": 1, "that were there already": 2,
    });
    for (why, times) in left_out.as_object().unwrap() {
        assert_eq!(&report["left_out"][why], times, "{why}: {report}");
    }
    assert_eq!((report["machines"].clone(), report["interactions"].clone()), (json!(1), json!(good + 1)));
    assert_eq!((report["users"].clone(), report["items"].clone()), (json!(6), json!(6)));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("more.jsonl:1:") && said.contains("impossible price `-5`"), "{said}");

    let text = fs::read_to_string(dir.path().join("shop/shop.inter")).unwrap();
    let times: Vec<f64> = text.lines().skip(1).map(|line| line.rsplit('\t').next().unwrap().parse().unwrap()).collect();
    assert_eq!(times.len(), good + 1);
    assert!(times.is_sorted());
}

#[test]
fn what_is_prepared_can_be_learnt_from() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), &sound());
    report(&prepare(dir.path(), &["--type", "purchase,view"]));
    let config = "hidden = 8\nstate = 8\n[learning]\nepochs = 2\n";
    fs::write(dir.path().join("small.toml"), config).unwrap();
    for split in ["leave-one-out", "time"] {
        fs::write(dir.path().join("small.toml"), format!("split = \"{split}\"\n{config}")).unwrap();
        let mut train = Command::new(env!("CARGO_BIN_EXE_vitrine-trainer"));
        train.args(["train", "gru4rec", "--interactions", "shop/shop.inter", "--config", "small.toml", "--out", split]);
        let output = train.current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{split}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(dir.path().join(split).join("golden.safetensors").exists());
    }
}

#[test]
fn when_nothing_is_left_it_is_said_and_nothing_is_written() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), &sound());
    for (more, wanted) in [
        (&["--core", "7"][..], "nothing is left"),
        (&["--type", "rate"], "nothing is left"),
        (&["--type", "buy"], "`buy` is no event type"),
        (&["--events", "none.jsonl"], "none.jsonl"),
    ] {
        let output = prepare(dir.path(), more);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(wanted), "{wanted}: {said}");
        assert!(!dir.path().join("shop").exists());
    }
}
