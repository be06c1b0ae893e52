//! Experiments from a terminal: how they are planned and run. What they led to is in `experiment_reports.rs`.

#![cfg(test)]

mod fake;

use std::fs;

use tempfile::tempdir;
use vitrine::v1::{ExperimentDesign, ExperimentMetric, ExposedArm, Exposure, Placement};

use crate::fake::{
    experiment::{TWO_ARMS, plan},
    terminal::{Terminal, scenario},
};

scenario!(an_experiment_is_planned_in_one_line, terminal => {
    let arguments = [
        "experiments", "create", "encoder", "--coverage", "0.2", "--namespace", "checkout:0-0.5", "--guard", "ctr:0.05",
        "--guard", "latency-p99:0.2", "--sticky", "--placement", "search", "--shadow", "next,text-embedding=3",
        "--attribution-window", "1h", "--covariate-days", "-1", "--note", "new encoder", "--author", "ana",
    ];
    terminal.run(&[arguments.as_slice(), TWO_ARMS.as_slice()].concat()).await.is(0);
    let experiment = terminal.shop.state().experiments["experiments/encoder"].clone();
    assert_eq!((experiment.catalog.as_str(), experiment.coverage), ("catalogs/shop", Some(0.2)));
    let arms: Vec<_> = experiment.arms.iter().map(|arm| (arm.name.as_str(), arm.weight, arm.shadow)).collect();
    assert_eq!(arms, [("control", 0.5, false), ("canary", 0.5, false), ("next", 0.0, true)]);
    assert_eq!(experiment.arms[1].models["text-embedding"], "canary");
    let namespace = experiment.namespace.unwrap();
    assert_eq!((namespace.name.as_str(), namespace.start, namespace.end), ("checkout", 0.0, 0.5));
    let rails: Vec<_> = experiment.guard_rails.iter().map(|rail| (rail.metric(), rail.tolerance)).collect();
    assert_eq!(rails, [(ExperimentMetric::Ctr, 0.05), (ExperimentMetric::LatencyP99, 0.2)]);
    assert_eq!((experiment.placements, experiment.sticky), (vec![Placement::Search as i32], true));
    assert_eq!((experiment.attribution_window_seconds, experiment.covariate_days), (3_600, -1));
    assert_eq!((experiment.changes[0].author.as_str(), experiment.note.as_str()), ("ana", "new encoder"));
});

scenario!(an_interleaved_experiment_shows_everybody_both, terminal => {
    terminal.run(&["experiments", "create", "ranking", "--interleaved", "--arm", "a:0.5", "--arm", "b:0.5"]).await.is(0);
    assert_eq!(terminal.shop.state().experiments["experiments/ranking"].design(), ExperimentDesign::Interleaved);
});

scenario!(an_experiment_that_is_only_checked_is_not_recorded, terminal => {
    let ran = terminal.run(&[&["experiments", "create", "encoder", "--check"], TWO_ARMS.as_slice()].concat()).await.is(0);
    assert!(ran.out.contains("nothing is recorded") && ran.out.contains("50 %, text-embedding by canary"), "{ran:?}");
    assert!(terminal.shop.state().experiments.is_empty());
});

scenario!(an_experiment_from_a_file_says_everything_the_api_can, terminal => {
    let json = r#"{"name": "elsewhere", "catalog": "catalogs/other",
        "arms": [{"name": "control", "weight": 0.5}, {"name": "words", "weight": 0.5, "parameters": {"mode": "LEXICAL"}}]}"#;
    let json = json.replace("LEXICAL", "SEARCH_MODE_LEXICAL");
    let ran = terminal.feed(&["experiments", "create", "words", "--file", "-"], json).await.is(0);
    assert!(ran.out.contains(r#"{"mode":"SEARCH_MODE_LEXICAL"}"#), "{ran:?}");
    let experiment = terminal.shop.state().experiments["experiments/words"].clone();
    assert_eq!(experiment.catalog, "catalogs/shop", "the command line names it");
    for (json, problem) in [("{", "EOF"), (r#"{"arms": [{"wight": 1}]}"#, "wight"), (r#"{"coverage": "much"}"#, "coverage")] {
        let ran = terminal.feed(&["experiments", "create", "x", "--file", "-"], json.to_owned()).await.is(2);
        assert!(ran.err.starts_with("error: -: ") && ran.err.contains(problem), "{ran:?}");
    }
});

scenario!(rubbish_is_refused_before_anything_is_sent, terminal => {
    let refused: [&[&str]; 11] = [
        &["create", "x"],
        &["create", "x", "--arm", "control"],
        &["create", "x", "--arm", "control:half"],
        &["create", "x", "--arm", "control:1,text-embedding"],
        &["create", "x", "--arm", "a:1", "--namespace", "checkout"],
        &["create", "x", "--arm", "a:1", "--guard", "profit:0.1"],
        &["create", "x", "--arm", "a:1", "--placement", "moon"],
        &["create", "x", "--arm", "a:1", "--file", "plan.json"],
        &["update", "x"],
        &["update", "x", "--weights", "a=1"],
        &["delete"],
    ];
    for arguments in refused {
        terminal.run(&[&["experiments"], arguments].concat()).await.is(2);
    }
    terminal.run(&["search", "milk", "--arm", "encoder"]).await.is(2);
    assert!(terminal.shop.state().calls.is_empty());
});

scenario!(what_the_server_finds_wrong_is_told, terminal => {
    let ran = terminal.run(&["experiments", "create", "x", "--arm", "a:1"]).await.is(1);
    assert!(ran.err.contains("experiment.arms: must be 2 to 20"), "{ran:?}");
    plan(&terminal, "x").await;
    let ran = terminal.run(&[&["experiments", "create", "x"], TWO_ARMS.as_slice()].concat()).await.is(1);
    assert!(ran.err.contains("ALREADY_EXISTS"), "{ran:?}");
    terminal.run(&["experiments", "get", "y"]).await.is(4);
    terminal.run(&["experiments", "report", "y"]).await.is(4);
    let catalogless = ["experiments", "create", "z", "--catalog", ""];
    terminal.run(&[catalogless.as_slice(), TWO_ARMS.as_slice()].concat()).await.is(2);
});

scenario!(an_experiment_is_started_stopped_and_deleted_and_remembers_it, terminal => {
    plan(&terminal, "encoder").await;
    terminal.run(&["experiments", "start", "encoder", "--author", "bob"]).await.is(0);
    terminal.run(&["experiments", "delete", "encoder"]).await.is(1);
    terminal.run(&["experiments", "stop", "encoder", "--reason", "holiday", "--author", "eve"]).await.is(0);
    let ran = terminal.run(&["experiments", "get", "encoder"]).await.is(0);
    ran.says(&["state stopped", "arm canary 50 %, text-embedding by canary", "1 ana created", "2 bob started", "3 eve stopped: holiday"]);
    terminal.run(&["experiments", "delete", "encoder"]).await.is(0);
    terminal.run(&["experiments", "delete", "encoder"]).await.is(4);
});

scenario!(experiments_are_listed_page_by_page, terminal => {
    assert_eq!(terminal.run(&["experiments", "list"]).await.is(0).out, "no experiments\n");
    for id in ["a", "b", "c", "d", "e"] {
        plan(&terminal, id).await;
    }
    let ran = terminal.run(&["experiments", "list"]).await.is(0);
    assert_eq!(ran.lines()[1], "a shop draft control 50 %, canary 50 % 100 %");
    assert!(ran.out.ends_with("5 experiments\n"), "{ran:?}");
    assert_eq!(terminal.run(&["experiments", "list", "--json"]).await.is(0).out.lines().count(), 5);
    assert_eq!(terminal.run(&["experiments", "list", "-c", "other"]).await.is(0).out, "no experiments\n");
});

scenario!(an_update_changes_what_it_names_and_nothing_else, terminal => {
    plan(&terminal, "encoder").await;
    let arguments = ["--weights", "control:0.2,canary:0.8", "--coverage", "0.5", "--reassign", "--guard", "empty:0.1"];
    terminal.run(&[&["experiments", "update", "encoder"], arguments.as_slice()].concat()).await.is(0);
    let experiment = terminal.shop.state().experiments["experiments/encoder"].clone();
    assert_eq!(experiment.arms.iter().map(|arm| arm.weight).collect::<Vec<_>>(), [0.2, 0.8]);
    assert_eq!((experiment.coverage, experiment.bucket_version, experiment.revision), (Some(0.5), 1, 2));
    assert_eq!(experiment.arms[1].models["text-embedding"], "canary");
    let ran = terminal.run(&["experiments", "update", "encoder", "--weights", "rabbit:1"]).await.is(2);
    assert!(ran.err.contains("no arm `rabbit`"), "{ran:?}");
});

scenario!(an_update_that_somebody_forestalled_says_who_changed_what, terminal => {
    plan(&terminal, "encoder").await;
    terminal.shop.state().rival = true;
    let ran = terminal.run(&["experiments", "update", "encoder", "--coverage", "0.5"]).await.is(1);
    assert!(ran.err.contains("mallory changed it meanwhile (revision 2): coverage: 1 → 0.1"), "{ran:?}");
    assert!(ran.err.contains("ABORTED") && ran.err.contains("hint: somebody else changed it meanwhile"), "{ran:?}");
    assert_eq!(terminal.shop.calls("UpdateExperiment"), 1);
    assert_eq!(terminal.shop.state().experiments["experiments/encoder"].coverage, None);
});

scenario!(an_experiment_is_changed_in_an_editor_but_never_over_somebody_elses_change, terminal => {
    plan(&terminal, "encoder").await;
    let text = terminal.run(&["experiments", "get", "encoder", "--json"]).await.is(0).out;
    let edited = text.replace("\"weight\":0.5", "\"weight\":0.25");
    let update = ["experiments", "update", "encoder", "--file", "-"];
    terminal.feed(&update, edited.clone()).await.is(0);
    let weights: Vec<f64> = terminal.shop.state().experiments["experiments/encoder"].arms.iter().map(|arm| arm.weight).collect();
    assert_eq!(weights, [0.25, 0.25]);
    let ran = terminal.feed(&update, edited).await.is(1);
    assert!(ran.err.contains("somebody changed it meanwhile (revision 2)"), "{ran:?}");
});

scenario!(the_author_is_the_user_of_the_shell_unless_named, terminal => {
    plan(&terminal, "encoder").await;
    terminal.run(&["experiments", "start", "encoder"]).await.is(0);
    assert_eq!(terminal.shop.state().experiments["experiments/encoder"].changes[1].author, "", "the tests have no $USER");
});

scenario!(exposures_are_exported_one_a_line, terminal => {
    let arms = vec![ExposedArm { experiment: "encoder".into(), arm: "canary".into(), bucket_version: 1, fallback: false }];
    let exposure = |answer| Exposure { answer, user_id: "u1".into(), arms: arms.clone(), ..Exposure::default() };
    terminal.shop.state().exposures = vec![exposure(u64::MAX), exposure(7)];
    let ran = terminal.run(&["experiments", "export-exposures", "experiments/encoder", "--since", "1970-01-02"]).await.is(0);
    let first: serde_json::Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert_eq!((first["answer"].as_str(), first["arms"][0]["arm"].as_str()), (Some("18446744073709551615"), Some("canary")));
    assert_eq!(ran.out.lines().count(), 2);
    let asked = terminal.shop.state().exported.clone();
    assert_eq!((asked.catalog.as_str(), asked.experiment.as_str()), ("catalogs/shop", "encoder"));
    assert_eq!(asked.start_time.unwrap().seconds, 86_400);
    assert_eq!(asked.person, None);
    let folder = tempdir().unwrap();
    let path = folder.path().join("exposures.jsonl");
    let words = ["experiments", "export-exposures", "--visitor", "v1", "--out", path.to_str().unwrap()];
    let ran = terminal.run(&words).await.is(0);
    let person = terminal.shop.state().exported.person.clone().unwrap();
    assert_eq!(person.id, Some(vitrine::v1::person::Id::VisitorId("v1".into())));
    assert!(ran.err.contains("wrote 2 exposures") && fs::read_to_string(&path).unwrap().lines().count() == 2, "{ran:?}");
});

scenario!(answers_name_the_arms_that_answered, terminal => {
    let ran = terminal.run(&["search", "milk", "--arm", "encoder=canary"]).await.is(0);
    assert!(ran.out.contains("\nexperiments: encoder by canary (forced: not logged), layout by both arms\n"), "{ran:?}");
    let forced = terminal.shop.state().searched.context.clone().unwrap().force_arms;
    assert_eq!(forced["encoder"], "canary");
    let ran = terminal.run(&["recommend", "--popular", "--arm", "encoder=canary"]).await.is(0);
    assert!(ran.out.contains("experiments: encoder by canary (forced"), "{ran:?}");
    let answer = terminal.run(&["search", "milk", "--arm", "encoder=canary", "--json"]).await.is(0).json();
    assert_eq!(answer["experiments"][0]["forced"], true);
});
