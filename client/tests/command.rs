//! The command `vitrine` as its users run it: output, files, exit codes. Controls are in `controls.rs`.

#![cfg(test)]

mod fake;

use std::fs;

use tempfile::tempdir;
use tonic::Status;

use crate::fake::terminal::{Terminal, scenario};

scenario!(a_search_is_printed_as_plain_columns_into_a_pipe, terminal => {
    let ran = terminal.run(&["search", "milk", "--explain", "--facet", "brand"]).await.is(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    let header: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(header, ["#", "score", "id", "title", "brand", "price", "lexical", "semantic", "fused"]);
    assert!(lines[1].contains("a1") && lines[1].contains("Oat milk") && lines[1].contains("12.3456 #1"), "{ran:?}");
    assert!(ran.out.contains("2 results · text-embedding by minilm 1 (stable)"), "{ran:?}");
    assert!(ran.out.contains("degraded: index_incomplete"), "{ran:?}");
    assert!(ran.out.contains("1,204"), "{ran:?}");
    assert!(!ran.out.contains('\u{1b}'), "{ran:?}");
});

scenario!(json_has_the_field_names_of_the_api, terminal => {
    let answer = terminal.run(&["search", "milk", "--json"]).await.is(0).json();
    assert_eq!(answer["results"][0]["item"]["title"], "Oat milk");
    assert_eq!(answer["total_size"], "2");
    assert_eq!(answer["served_by"][0]["model"], "minilm");
});

scenario!(color_always_colours_a_pipe, terminal => {
    let ran = terminal.run(&["search", "milk", "--color", "always"]).await.is(0);
    assert!(ran.out.contains("\u{1b}["), "{ran:?}");
});

scenario!(nothing_found_is_no_failure, terminal => {
    assert!(terminal.run(&["search", "caviar"]).await.is(0).out.starts_with("nothing found"));
});

scenario!(a_recommendation_says_why, terminal => {
    let ran = terminal.run(&["recommend", "--bought-together", "a1,b1"]).await.is(0);
    assert!(ran.out.contains("bought with a1, b1") && ran.out.contains("Whole milk"), "{ran:?}");
});

scenario!(a_recommendation_needs_a_target, terminal => {
    let ran = terminal.run(&["recommend"]).await.is(2);
    assert!(ran.err.contains("--similar-to"), "{ran:?}");
    terminal.run(&["recommend", "--popular", "--similar-to", "a1"]).await.is(2);
    for of_popular in [["--window", "7d"], ["--category", "Dairy"]] {
        terminal.run(&[&["recommend", "--similar-to", "a1"], of_popular.as_slice()].concat()).await.is(2);
        terminal.run(&[&["recommend", "--popular"], of_popular.as_slice()].concat()).await.is(0);
    }
});

scenario!(feedback_is_recorded_once_for_each_event_id, terminal => {
    let purchase = ["feedback", "-u", "u1", "--type", "purchase", "--item", "a1:2:1.99", "--item", "zz", "--event-id", "e1"];
    let ran = terminal.run(&purchase).await.is(0);
    assert!(ran.out.contains("accepted") && ran.out.contains("not in the catalog: zz"), "{ran:?}");
    assert!(terminal.run(&purchase).await.is(0).out.contains("duplicate"));
    let state = terminal.shop.state();
    assert_eq!((state.events.len(), state.events[0].items[0].quantity), (1, 2));
});

scenario!(rejected_feedback_has_its_own_exit_code, terminal => {
    let ran = terminal.run(&["feedback", "--type", "view", "--item", "a1"]).await.is(3);
    assert!(ran.out.contains("user_id: this or `visitor_id` is required"), "{ran:?}");
    let ran = terminal.run(&["feedback", "-u", "u", "--type", "buy", "--item", "a1"]).await.is(2);
    assert!(ran.err.contains("--type: \"buy\" is no event type"), "{ran:?}");
});

scenario!(a_file_of_feedback_names_its_broken_line, terminal => {
    let folder = tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let good = r#"{"event_id": "e1", "type": "view", "user_id": "u", "item_id": "a1"}"#;
    fs::write(&file, format!("{good}\n{{\"type\": \n")).unwrap();
    let ran = terminal.run(&["feedback", "--file", file.to_str().unwrap()]).await.is(3);
    assert!(ran.out.contains("1 accepted") && ran.err.contains("events.jsonl:2: "), "{ran:?}");
});

/// 6,000 items, the 5,000th line broken.
fn items_with_a_broken_line() -> String {
    (1..=6000)
        .map(|n| {
            if n == 5000 {
                "{\"id\": \"x\", \"titel\": \"y\"}\n".to_owned()
            } else {
                format!("{{\"id\": \"n{n}\", \"title\": \"T\"}}\n")
            }
        })
        .collect()
}

scenario!(a_broken_line_is_told_and_the_rest_is_imported, terminal => {
    let ran = terminal.feed(&["items", "import", "-"], items_with_a_broken_line()).await.is(3);
    assert!(ran.err.contains("-:5000: ") && ran.err.contains("titel"), "{ran:?}");
    assert!(ran.out.contains("imported 5,999 items") && ran.out.contains("1 rejected"), "{ran:?}");
    assert_eq!(terminal.shop.state().items.len(), 3 + 5999);
});

scenario!(skip_bad_makes_broken_lines_no_failure, terminal => {
    let ran = terminal.feed(&["items", "import", "-", "--skip-bad", "--json"], items_with_a_broken_line()).await.is(0);
    let summary = ran.json();
    assert_eq!((&summary["accepted"], &summary["rejected"]), (&5999.into(), &1.into()));
});

scenario!(an_import_survives_a_cut_connection, terminal => {
    terminal.shop.fail_next(Status::unavailable("restarting"));
    let ran = terminal.feed(&["items", "import", "-"], items_with_a_broken_line()).await.is(3);
    assert!(ran.err.contains("restarting; going on in"), "{ran:?}");
    assert_eq!(terminal.shop.state().items.len(), 3 + 5999);
});

scenario!(exported_events_can_be_imported_again, terminal => {
    let folder = tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let path = file.to_str().unwrap();
    let line = |n| format!("{{\"event_id\":\"e{n}\",\"type\":\"add_to_cart\",\"time\":\"2026-02-01T10:00:00Z\",\"user_id\":\"u\",\"items\":[{{\"id\":\"a1\",\"quantity\":2}}]}}\n");
    let lines: String = (1..=100).map(line).collect();
    terminal.feed(&["events", "import", "-"], lines.clone()).await.is(0);
    terminal.run(&["events", "export", "--out", path]).await.is(0);
    let sorted = |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>();
    assert_eq!(sorted(&fs::read_to_string(&file).unwrap()), sorted(&lines));
    let ran = terminal.run(&["events", "import", path]).await.is(0);
    assert!(ran.out.contains("100 were there already"), "{ran:?}");
});

scenario!(items_are_shown_listed_and_deleted, terminal => {
    assert!(terminal.run(&["items", "get", "a1"]).await.is(0).out.contains("Oat milk"));
    let list = terminal.run(&["items", "list", "--limit", "2", "--json"]).await.is(0);
    assert_eq!(list.out.lines().count(), 2);
    terminal.run(&["items", "delete", "a1"]).await.is(0);
    let ran = terminal.run(&["items", "delete", "a1"]).await.is(4);
    assert!(ran.err.starts_with("error: DeleteItem: NOT_FOUND: there is no item `a1`"), "{ran:?}");
    terminal.run(&["items", "delete", "a1", "--allow-missing"]).await.is(0);
});

scenario!(a_label_moves_from_what_it_names_now, terminal => {
    terminal.run(&["models", "label", "minilm", "stable", "1"]).await.is(0);
    assert_eq!(terminal.shop.state().labels["stable"], 1);
    let ran = terminal.run(&["models", "label", "minilm", "stable", "2", "--expect", "7"]).await.is(1);
    assert!(ran.err.contains("ABORTED") && ran.err.contains("hint: "), "{ran:?}");
    let ran = terminal.run(&["models", "list"]).await.is(0);
    assert!(ran.out.contains("failed: golden rows differ") && ran.out.contains("stable"), "{ran:?}");
});

scenario!(catalogs_are_shown_with_their_indexes, terminal => {
    let ran = terminal.run(&["catalogs", "list"]).await.is(0);
    assert!(ran.out.contains("text-embedding by minilm 1: 40,000 of 92,353, 310/s (hnsw)"), "{ran:?}");
    terminal.run(&["catalogs", "get", "shop"]).await.is(0);
    let ran = terminal.run(&["catalogs", "get", "nope"]).await.is(4);
    assert!(ran.err.contains("hint: see which ones there are"), "{ran:?}");
    terminal.run(&["catalogs", "create", "new"]).await.is(0);
});

scenario!(pictures_are_written_to_files, terminal => {
    let folder = tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let ran = terminal.run(&["generate-image", "--category", "shoes", "--count", "2", "--out", out]).await.is(0);
    assert!(ran.out.contains("image-1.png") && ran.out.contains("8 × 8"), "{ran:?}");
    let size = |name: &str| image::image_dimensions(folder.path().join(name)).unwrap();
    assert_eq!((size("image-0.png"), size("sheet.png")), ((8, 8), (22, 12)), "side by side, two pixels apart");
});

scenario!(health_is_said_by_the_exit_code_too, terminal => {
    assert!(terminal.run(&["health"]).await.is(0).out.contains("is serving"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ran = terminal.run(&["health", "--server", &format!("http://{closed}")]).await.is(5);
    assert!(ran.err.contains("no server answers at") && ran.err.contains("hint: start vitrine-server"), "{ran:?}");
});

scenario!(every_failure_has_its_exit_code, terminal => {
    terminal.run(&["search"]).await.is(2);
    terminal.run(&["--version"]).await.is(0);
    terminal.run(&["search", "x", "--catalog", "nope"]).await.is(4);
    terminal.run(&["search", "x", "--server", "ftp://x"]).await.is(2);
    terminal.run(&["search", "x", "--page-size", "-1"]).await.is(1);
    terminal.run(&["items", "import", "/no/such/file"]).await.is(1);
    terminal.shop.state().silent = true;
    terminal.run(&["search", "x", "--timeout", "50ms"]).await.is(6);
});

scenario!(completions_are_made_for_every_shell, terminal => {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(terminal.run(&["completions", shell]).await.is(0).out.contains("recommend"), "{shell}");
    }
});

scenario!(the_help_lists_the_exit_codes, terminal => {
    let ran = terminal.run(&["--help"]).await.is(0);
    assert!(ran.out.contains("3  some lines or events were rejected"), "{ran:?}");
});

scenario!(a_benchmark_reports_its_percentiles, terminal => {
    for kind in ["search", "recommend", "feedback"] {
        let report = terminal.run(&["bench", kind, "--duration", "100ms", "--concurrency", "2", "--json"]).await.is(0).json();
        assert!(report["answered"].as_u64().unwrap() > 0, "{report}");
        assert!(report["latency_ms"]["p99.9"].as_f64().unwrap() >= report["latency_ms"]["p50"].as_f64().unwrap());
    }
    let report = terminal.run(&["bench", "search", "--duration", "100ms", "--rate", "200", "--json"]).await.is(0).json();
    assert_eq!((&report["completed"], &report["intended_rate"]), (&20.into(), &200.0.into()));
});

scenario!(a_benchmark_counts_errors_by_status, terminal => {
    (0..5).for_each(|_| _ = terminal.shop.fail_next(Status::internal("broken")));
    let folder = tempdir().unwrap();
    let queries = folder.path().join("queries.txt");
    fs::write(&queries, "milk\nbread\n").unwrap();
    let arguments = ["bench", "search", "--queries", queries.to_str().unwrap(), "--rate", "100", "--duration", "100ms"];
    let ran = terminal.run(&arguments).await.is(1);
    assert!(ran.out.contains("5 calls answered") && ran.out.contains("INTERNAL"), "{ran:?}");
});
