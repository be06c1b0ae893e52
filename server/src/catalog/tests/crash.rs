//! `kill -9` while writing: what was acknowledged is there, once, and what belongs together came together.
//!
//! The test runs its own binary again as the process that is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::catalog::catalogs::Catalogs;

const DIR: &str = "VITRINE_TEST_CRASH_DIR";
const RUN: &str = "VITRINE_TEST_CRASH_RUN";
const KILLS: u32 = 16;

/// What runs in the killed process: writers that say on standard output what was acknowledged to them.
#[test]
#[ignore = "run by acknowledged_writes_survive_kill_9"]
fn writes_until_it_is_killed() {
    let (Ok(dir), Ok(run)) = (env::var(DIR), env::var(RUN)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let catalogs =
        Catalogs::open(dir.as_ref(), CatalogOptions { checkpoint_events: 50, ..Default::default() }).unwrap();
    let id = "shop".parse().unwrap();
    let catalog = catalogs.get(&id).unwrap_or_else(|| catalogs.create(&id).unwrap());
    runtime.block_on(async {
        tokio::join!(
            events(&catalog, &run, "x", 1),
            events(&catalog, &run, "y", 30),
            import(&catalog),
            items(&catalog, run.parse().unwrap()),
        );
    });
}

fn say(line: &str) {
    // One write, so that lines of several threads don't mix, and none is left in a buffer.
    std::io::stdout().write_all(format!("\nack {line}\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

/// Sends each call twice, as a client does that lost the answer.
async fn events(catalog: &Catalog, run: &str, who: &str, batch: usize) {
    for n in 0.. {
        let ids: Vec<_> = (0..batch).map(|k| format!("{who}-{run}-{n}-{k}")).collect();
        for _ in 0..2 {
            catalog.append(ids.iter().map(|id| event(id, &["i0", "i9"])).collect()).await.unwrap();
        }
        say(&format!("events {}", ids.join(" ")));
    }
}

async fn import(catalog: &Catalog) {
    let mut position = catalog.import_position("lines").unwrap();
    loop {
        let changes = (position + 1..=position + 7).map(|line| event(&format!("line-{line}"), &["i1"])).collect();
        position += 7;
        catalog.append_import(changes, Some(ImportPosition { id: "lines".into(), position })).await.unwrap();
        say(&format!("import {position}"));
    }
}

/// Both items always change together.
async fn items(catalog: &Catalog, run: u64) {
    for n in 0.. {
        let version = format!("{}", run * 1_000_000 + n);
        catalog.append(vec![item("i0", &version), item("i1", &version)]).await.unwrap();
        say(&format!("items {version}"));
    }
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(9);
    let (mut events, mut position, mut version) = (BTreeSet::new(), 0, 0);
    for run in 1..=KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "catalog::tests::crash::writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .env(RUN, run.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = random.random_range(0..120);
        let mut said: Vec<String> = Vec::new();
        while said.len() < wanted {
            said.extend(lines.next().expect("the child writes on").ok().filter(|line| line.starts_with("ack ")));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        said.extend(lines.map_while(Result::ok).filter(|line| line.starts_with("ack ")));
        for line in &said {
            let mut words = line.split(' ').skip(1);
            match (words.next().unwrap(), words) {
                ("events", ids) => events.extend(ids.map(str::to_owned)),
                ("import", mut at) => position = at.next().unwrap().parse().unwrap(),
                (_, mut at) => version = at.next().unwrap().parse().unwrap(),
            }
        }
        if let Some(catalog) = Catalogs::open(dir.path(), CatalogOptions::default()).unwrap().list().first() {
            position = check(catalog, &events, position, version);
        }
    }
    assert!(!events.is_empty() && position > 0 && version > 0);
}

/// Answers the position of the import.
fn check(catalog: &Catalog, acknowledged: &BTreeSet<String>, position: u64, version: u64) -> u64 {
    let mut found = BTreeMap::new();
    for record in catalog.read(Seq(0), usize::MAX >> 1).unwrap() {
        if let Change::Event(event) = record.change {
            *found.entry(event.event_id).or_insert(0) += 1;
        }
    }
    assert!(found.values().all(|&times| times == 1), "no event is doubled");
    assert_eq!((found.len() as u64, found.len() as u64), (catalog.event_count(), catalog.behaviour.read().events()));
    for id in acknowledged {
        assert!(found.contains_key(id), "{id} was acknowledged and is lost");
    }
    let imported = catalog.import_position("lines").unwrap();
    assert!(imported >= position);
    assert_eq!(found.keys().filter(|id| id.starts_with("line-")).count() as u64, imported);
    assert!((1..=imported).all(|line| found.contains_key(&format!("line-{line}"))));
    let table = catalog.items.read();
    let versions: Vec<u64> = table.list(None).map(|doc| table.item(doc).unwrap().title.parse().unwrap()).collect();
    assert!(versions.iter().all(|&found| found >= version && found == versions[0]), "{versions:?} after {version}");
    imported
}
