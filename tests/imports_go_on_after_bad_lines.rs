//! A file with a broken line: the command names the line, imports the others, and its exit code tells.

#![cfg(test)]

mod harness;

use std::{fmt::Write as _, fs, process::Output};

use harness::{CATALOG, Start, TestServer, write};
use serde_json::Value;
use vitrine::v1::{Catalog, GetCatalogRequest};

const LINES: usize = 10_000;
const BROKEN: usize = 5_000;

fn item_line(n: usize) -> String {
    format!("{{\"id\": \"i{n}\", \"title\": \"Item {n}\"}}\n")
}

fn event_line(n: usize) -> String {
    format!("{{\"event_id\": \"e{n}\", \"type\": \"purchase\", \"user_id\": \"u1\", \"item_id\": \"i1\"}}\n")
}

fn file(line: fn(usize) -> String, broken: &str) -> String {
    (1..=LINES).fold(String::new(), |mut text, n| {
        if n == BROKEN {
            _ = writeln!(text, "{broken}");
        } else {
            text.push_str(&line(n));
        }
        text
    })
}

/// A server, and the path of a file with this text in its directory.
fn server_and_file(text: &str) -> (TestServer, String) {
    let start = Start::default();
    let path = start.dir.path().join("lines.jsonl");
    write(&path, text);
    (start.run(), path.to_str().unwrap().to_owned())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stderr: {}", said(output));
}

/// The one line is named, with the file.
#[track_caller]
fn assert_names_the_line(output: &Output, path: &str) {
    let named: Vec<String> = said(output).lines().filter(|line| line.starts_with(path)).map(str::to_owned).collect();
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].starts_with(&format!("{path}:{BROKEN}: ")), "{named:?}");
}

fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn look(server: &TestServer) -> Catalog {
    server.client().await.get_catalog(GetCatalogRequest { name: CATALOG.into() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_items_around_a_broken_line_are_imported() {
    // No JSON at all, which the command sees; and an item without title, which the server sees.
    for broken in ["{\"id\": \"i5000\", \"title\": ", "{\"id\": \"i5000\"}"] {
        let (server, path) = server_and_file(&file(item_line, broken));
        let output = server.cli(&["items", "import", "--create", "--json", &path]);
        assert_exit(&output, 3);
        assert_names_the_line(&output, &path);
        let counts = summary(&output);
        assert_eq!((&counts["accepted"], &counts["rejected"]), (&9_999.into(), &1.into()), "{counts}");
        assert_eq!(look(&server).await.item_count, 9_999);
        let output = server.cli(&["items", "import", "--skip-bad", &path]);
        assert_exit(&output, 0);
        assert_names_the_line(&output, &path);
        assert_exit(&server.cli(&["items", "get", "i10000"]), 0);
        assert_exit(&server.cli(&["items", "get", "i5000"]), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_around_a_broken_line_are_imported() {
    for broken in ["} oops", "{\"type\": \"purchase\", \"user_id\": \"u1\", \"item_id\": \"i1\"}"] {
        let (server, path) = server_and_file(&file(event_line, broken));
        let output = server.cli(&["events", "import", "--create", "--json", &path]);
        assert_exit(&output, 3);
        assert_names_the_line(&output, &path);
        let counts = summary(&output);
        assert_eq!((&counts["accepted"], &counts["rejected"]), (&9_999.into(), &1.into()), "{counts}");
        assert_eq!(counts["unknown_items"], 9_999, "{counts}");
        let output = server.cli(&["events", "import", "--skip-bad", "--json", &path]);
        assert_exit(&output, 0);
        assert_names_the_line(&output, &path);
        let counts = summary(&output);
        assert_eq!((&counts["accepted"], &counts["duplicates"]), (&0.into(), &9_999.into()), "{counts}");
        assert_eq!(look(&server).await.event_count, 9_999);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_the_same_name_goes_on_where_it_was() {
    for (noun, line) in [("items", item_line as fn(usize) -> String), ("events", event_line as _)] {
        let (server, path) = server_and_file(&file(line, "{"));
        let import = || {
            let arguments =
                [noun, "import", "--create", "--skip-bad", "--json", "--import-id", "nightly", path.as_str()];
            let output = server.cli(&arguments);
            assert_exit(&output, 0);
            summary(&output)
        };
        assert_eq!(import()["accepted"], 9_999);
        let again = import();
        assert_eq!((&again["resumed_after"], &again["accepted"]), (&LINES.into(), &0.into()), "{again}");
        assert_eq!(again["duplicates"], 0, "nothing is sent again: {again}");
        let longer = (LINES + 1..=LINES + 10).fold(fs::read_to_string(&path).unwrap(), |text, n| text + &line(n));
        write(path.as_ref(), &longer);
        let more = import();
        assert_eq!((&more["accepted"], &more["durable_position"]), (&10.into(), &(LINES + 10).into()), "{more}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (server, path) = server_and_file("");
    let directory = server.start.dir.path().to_str().unwrap().to_owned();
    let missing = format!("{path}.gone");
    assert_exit(&server.cli(&["catalogs", "create", "shop"]), 0);
    for noun in ["items", "events"] {
        for path in [&missing, &directory] {
            let output = server.cli(&[noun, "import", path.as_str()]);
            assert_exit(&output, 1);
            let said = said(&output);
            assert!(said.contains(path.as_str()), "{said}");
            assert!(said.contains("No such file") || said.contains("directory"), "{said}");
            assert!(!String::from_utf8_lossy(&output.stdout).contains("imported"), "nothing was imported");
        }
    }
    assert_exit(&server.cli(&["items", "import", &path]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_out_as_parquet_and_come_back() {
    let lines: String = (1..=1_000).map(event_line).collect();
    let (server, path) = server_and_file(&lines);
    assert_exit(&server.cli(&["events", "import", "--create", &path]), 0);
    let table = path.replace("lines.jsonl", "events.parquet");
    assert_exit(&server.cli(&["events", "export", "--out", &table]), 0);

    let again = server.cli(&["events", "import", "--json", &table]);
    assert_exit(&again, 0);
    assert_eq!(summary(&again)["duplicates"], 1_000);
    assert_exit(&server.cli(&["-c", "copy", "events", "import", "--create", &table]), 0);
    let exported = |catalog| server.cli(&["-c", catalog, "events", "export"]).stdout;
    assert_eq!(exported("copy"), exported("shop"));

    // A file that is none, and one that is cut off.
    write(path.replace("lines.jsonl", "none.parquet").as_ref(), "PAR1 is how it would begin");
    let whole = fs::read(&table).unwrap();
    fs::write(path.replace("lines.jsonl", "cut.parquet"), &whole[..whole.len() / 2]).unwrap();
    for name in ["none.parquet", "cut.parquet"] {
        let refused = server.cli(&["events", "import", &path.replace("lines.jsonl", name)]);
        assert!(!refused.status.success() && said(&refused).contains(name), "{}", said(&refused));
    }
}
