//! The shop's own rules from a terminal: how they are put and shown, and what answers say of them.

#![cfg(test)]

mod fake;

use std::fs;

use tempfile::tempdir;
use tonic::Status;
use vitrine::v1::{
    Advertise, Boost, Bury, Control, FrequencyCap, Hide, Money, Pin, Placement, Redirect, Synonyms, control::Action,
};

use crate::fake::terminal::{Terminal, scenario};

/// The control that the command puts, as the server has it.
async fn put(terminal: &Terminal, id: &str, arguments: &[&str]) -> Control {
    terminal.run(&[&["controls", "put", id], arguments].concat()).await.is(0);
    terminal.shop.state().controls[&format!("catalogs/shop/controls/{id}")].clone()
}

/// A control without a condition or note.
fn plain(id: &str, action: Action) -> Control {
    Control { name: format!("catalogs/shop/controls/{id}"), action: Some(action), ..Default::default() }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

scenario!(every_action_of_a_control_has_its_subcommand, terminal => {
    let pin = |position| Action::Pin(Pin { item_id: "a1".into(), position });
    assert_eq!(put(&terminal, "first", &["pin", "a1"]).await, plain("first", pin(1)));
    assert_eq!(put(&terminal, "third", &["pin", "a1", "--position", "3"]).await, plain("third", pin(3)));
    let filter = r#"brand = "Acme""#;
    let boost = Action::Boost(Boost { filter: filter.into(), strength: -0.5 });
    assert_eq!(put(&terminal, "less", &["boost", filter, "-0.5"]).await, plain("less", boost));
    let bury = Action::Bury(Bury { filter: filter.into() });
    assert_eq!(put(&terminal, "last", &["bury", filter]).await, plain("last", bury));
    let hide = Action::Hide(Hide { filter: filter.into() });
    assert_eq!(put(&terminal, "never", &["hide", filter]).await, plain("never", hide));
    let redirect = Action::Redirect(Redirect { uri: "/sale".into() });
    assert_eq!(put(&terminal, "sale", &["redirect", "/sale"]).await, plain("sale", redirect));
    let both_ways = Action::Synonyms(Synonyms { terms: strings(&["sofa", "couch"]), queries: Vec::new() });
    assert_eq!(put(&terminal, "sofas", &["synonyms", "sofa", "couch"]).await, plain("sofas", both_ways));
    let one_way = Action::Synonyms(Synonyms { terms: strings(&["notebook"]), queries: strings(&["laptop", "pc"]) });
    let arguments = ["synonyms", "notebook", "--for", "laptop", "--for", "pc"];
    assert_eq!(put(&terminal, "laptops", &arguments).await, plain("laptops", one_way));
});

scenario!(a_control_says_when_it_applies, terminal => {
    let control = put(&terminal, "milk-first", &[
        "pin", "a1", "--query", "milk", "--query", "oat milk", "--query-part", "oat", "--placement", "search",
        "--placement", "bought-together", "--from", "1970-01-02", "--until", "1970-01-02T01:00:00Z", "--note", "until it is gone",
    ]).await;
    let condition = control.condition.unwrap();
    let queries: Vec<_> = condition.queries.iter().map(|query| (query.text.as_str(), query.partial)).collect();
    assert_eq!(queries, [("milk", false), ("oat milk", false), ("oat", true)]);
    assert_eq!(condition.placements, [Placement::Search as i32, Placement::BoughtTogether as i32]);
    assert_eq!(condition.start_time.unwrap().seconds, 86_400);
    assert_eq!(condition.end_time.unwrap().seconds, 86_400 + 3_600);
    assert_eq!(control.note, "until it is gone");
});

scenario!(a_control_that_is_only_checked_is_not_recorded, terminal => {
    let ran = terminal.run(&["controls", "put", "sale", "redirect", "/sale", "--check"]).await.is(0);
    assert!(ran.out.contains("redirect to /sale") && ran.out.contains("nothing is recorded"), "{ran:?}");
    assert!(terminal.shop.state().controls.is_empty());
});

scenario!(controls_are_listed_in_words, terminal => {
    assert_eq!(terminal.run(&["controls", "list"]).await.is(0).out, "no controls\n");
    put(&terminal, "milk-first", &["pin", "a1", "--query", "milk"]).await;
    put(&terminal, "sofas", &["synonyms", "sofa", "couch", "settee"]).await;
    put(&terminal, "spring", &["boost", r#"brand = "Acme""#, "0.5", "--placement", "for-user", "--until", "1970-06-01"]).await;
    let ran = terminal.run(&["controls", "list"]).await.is(0);
    assert_eq!(ran.lines(), [
        "control action when now",
        "milk-first pin a1 at 1 query \"milk\" yes",
        "sofas sofa = couch = settee always yes",
        "spring boost 0.5: brand = \"Acme\" in for-user, until 1970-06-01 over",
        "3 controls",
    ]);
    let ran = terminal.run(&["controls", "list", "--limit", "2"]).await.is(0);
    assert!(ran.out.contains("2 controls, and there are more") && !ran.out.contains("spring"), "{ran:?}");
    assert_eq!(terminal.run(&["controls", "list", "--json"]).await.is(0).out.lines().count(), 3);
});

scenario!(a_long_list_of_controls_is_fetched_page_by_page, terminal => {
    for n in 0..1500 {
        let control = plain(&format!("c{n}"), Action::Hide(Hide { filter: "price < 1".into() }));
        terminal.shop.state().controls.insert(control.name.clone(), control);
    }
    assert!(terminal.run(&["controls", "list", "--limit", "0"]).await.is(0).out.contains("\n1,500 controls\n"));
    assert_eq!(terminal.shop.calls("ListControls"), 2);
});

scenario!(controls_are_shown_and_deleted, terminal => {
    put(&terminal, "milk-first", &["pin", "a1", "--query", "milk", "--note", "own brand"]).await;
    put(&terminal, "sale", &["redirect", "/sale"]).await;
    let ran = terminal.run(&["controls", "get", "milk-first"]).await.is(0);
    assert!(ran.out.contains("query \"milk\"") && ran.out.contains("own brand"), "{ran:?}");
    assert_eq!(terminal.run(&["controls", "get", "milk-first", "--json"]).await.is(0).json()["pin"]["item_id"], "a1");
    terminal.run(&["controls", "delete", "milk-first", "sale"]).await.is(0);
    assert!(terminal.shop.state().controls.is_empty());
    terminal.run(&["controls", "get", "sale"]).await.is(4);
    terminal.run(&["controls", "delete", "sale"]).await.is(4);
    terminal.run(&["controls", "delete", "sale", "--allow-missing"]).await.is(0);
});

scenario!(exported_controls_can_be_imported_again, terminal => {
    put(&terminal, "milk-first", &["pin", "a1", "--query", "milk", "--until", "2026-06-01"]).await;
    put(&terminal, "sale", &["redirect", "/sale", "--placement", "search"]).await;
    let before = terminal.shop.state().controls.clone();
    let folder = tempdir().unwrap();
    let file = folder.path().join("controls.jsonl");
    let path = file.to_str().unwrap();
    let ran = terminal.run(&["controls", "export", "--out", path]).await.is(0);
    assert!(ran.err.contains("wrote 2 controls to ") && ran.out.is_empty(), "{ran:?}");
    assert_eq!(terminal.run(&["controls", "export"]).await.is(0).out, fs::read_to_string(&file).unwrap());
    terminal.shop.state().controls.clear();
    assert_eq!(terminal.run(&["controls", "import", path]).await.is(0).out, "imported 2 controls\n");
    assert_eq!(terminal.shop.state().controls, before);
});

scenario!(controls_are_imported_into_the_catalog_that_is_named, terminal => {
    let line = r#"{"name": "catalogs/other/controls/sale", "redirect": {"uri": "/sale"}}"#.to_owned();
    terminal.feed(&["controls", "import", "-"], line).await.is(0);
    let names: Vec<String> = terminal.shop.state().controls.keys().cloned().collect();
    assert_eq!(names, ["catalogs/shop/controls/sale"]);
});

scenario!(a_broken_line_is_told_and_the_other_controls_are_imported, terminal => {
    let lines = r#"{"name": "a", "pin": {"item_id": "a1"}}
        {"name": "b", "pin": {"item": "a1"}}
        {"name": "c"}

        {"name": "d", "hide": {"filter": "price < 1"}}"#;
    let ran = terminal.feed(&["controls", "import", "-"], lines.to_owned()).await.is(3);
    let told: Vec<&str> = ran.err.lines().collect();
    assert!(told.len() == 2 && told[0].starts_with("-:2: pin") && told[0].contains("item"), "{ran:?}");
    assert_eq!(told[1], "-:3: control.action: is required");
    assert_eq!(ran.out, "imported 2 controls, 2 rejected\n");
    assert_eq!(terminal.shop.state().controls.len(), 2);
    let summary = terminal.feed(&["controls", "import", "-", "--json"], lines.to_owned()).await.is(3).json();
    assert_eq!(summary, serde_json::json!({ "accepted": 2, "rejected": 2 }));
});

scenario!(an_import_of_controls_that_breaks_off_says_where, terminal => {
    terminal.shop.fail_next(Status::not_found("there is no catalog `shop`"));
    let lines = r#"{"name": "a", "pin": {"item_id": "a1"}}"#.to_owned();
    let ran = terminal.feed(&["controls", "import", "-"], lines).await.is(4);
    assert!(ran.err.contains("error: -:1: PutControl: NOT_FOUND") && ran.err.contains("hint: "), "{ran:?}");
});

scenario!(a_wrong_control_is_refused_before_anything_is_sent, terminal => {
    let refused: [&[&str]; 5] =
        [&["pin"], &["boost", "price < 5", "much"], &["synonyms", "--for", "x"], &["pin", "a1", "--placement", "moon"], &["hide", "x", "--from", "soon"]];
    for arguments in refused {
        terminal.run(&[&["controls", "put", "x"], arguments].concat()).await.is(2);
    }
    terminal.run(&["controls", "put", "x"]).await.is(2);
    terminal.run(&["controls", "delete"]).await.is(2);
    assert_eq!(terminal.shop.calls("PutControl"), 0);
});

scenario!(answers_name_the_controls_that_applied, terminal => {
    put(&terminal, "milk-first", &["pin", "a1"]).await;
    put(&terminal, "sale", &["redirect", "/sale"]).await;
    let ran = terminal.run(&["search", "milk"]).await.is(0);
    assert!(ran.out.contains("\nredirect to /sale\ncontrols: milk-first, sale\n2 results"), "{ran:?}");
    let ran = terminal.run(&["recommend", "--popular"]).await.is(0);
    assert!(ran.out.contains("\ncontrols: milk-first, sale\n3 results"), "{ran:?}");
});

scenario!(a_search_boosts_what_it_is_told_to, terminal => {
    let arguments = ["search", "milk", "--boost", r#"0.5:brand = "Acme""#, "--boost", r#"-1: categories: "Oat""#];
    terminal.run(&arguments).await.is(0);
    let boost = |filter: &str, strength| Boost { filter: filter.into(), strength };
    let boosts = [boost(r#"brand = "Acme""#, 0.5), boost(r#"categories: "Oat""#, -1.0)];
    assert_eq!(terminal.shop.state().searched.boosts, boosts);
    let ran = terminal.run(&["search", "milk", "--boost", "brand"]).await.is(2);
    assert!(ran.err.contains("is not STRENGTH:FILTER"), "{ran:?}");
});

scenario!(variants_stand_below_the_result_of_their_group, terminal => {
    let ran = terminal.run(&["search", "milk", "--group-by", "attributes.kind", "--group-size", "2"]).await.is(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].contains("group"), "{ran:?}");
    assert!(lines[1].trim_start().starts_with("1 ") && lines[1].contains("Oat milk"), "{ran:?}");
    assert!(lines[2].trim_start().starts_with("0.0161") && lines[2].contains("  Whole milk"), "{ran:?}");
    assert_eq!(lines[2].find("Whole milk"), lines[1].find("Oat milk").map(|column| column + 2), "{ran:?}");
    let searched = terminal.shop.state().searched.clone();
    assert_eq!((searched.group_by.as_str(), searched.group_size), ("attributes.kind", 2));
    terminal.run(&["search", "milk", "--group-size", "2"]).await.is(2);
});

scenario!(a_campaign_is_put_told_of_and_shown, terminal => {
    let euros = |amount: &str| Some(Money { amount: amount.into(), currency: "EUR".into() });
    let filter = r#"brand = "Acme""#;
    let advertise = Action::Advertise(Advertise {
        filter: filter.into(),
        bid: euros("0.40"),
        slots: strings(&["home", "basket"]),
        budget: None,
        daily_budget: euros("50"),
        frequency_cap: Some(FrequencyCap { impressions: 3, window_seconds: 7 * 86_400 }),
    });
    let arguments = [
        "advertise", filter, "0.40EUR", "--slot", "home", "--slot", "basket", "--daily-budget", "50 eur", "--cap", "3", "--cap-window", "7d",
    ];
    assert_eq!(put(&terminal, "spring", &arguments).await, plain("spring", advertise));
    let ran = terminal.run(&["controls", "put", "bad", "advertise", filter, "0.40"]).await.is(2);
    assert!(ran.err.contains("write it as 0.40EUR"), "{ran:?}");
    let ran = terminal.run(&["controls", "campaign", "spring"]).await.is(0);
    assert!(["12.40 EUR", "1,234", "waits"].iter().all(|part| ran.out.contains(part)), "{ran:?}");
    let told = terminal.run(&["controls", "campaign", "spring", "--json"]).await.is(0).json();
    assert_eq!((told["state"].as_str(), told["clicks"].as_str()), (Some("CAMPAIGN_STATE_WAITING"), Some("31")));
    let ran = terminal.run(&["recommend", "--ads", "home", "--floor", "0.05EUR"]).await.is(0);
    assert!(ran.out.contains("spring: 0.23 EUR a click, of at most 0.40; clicked by 2.1 %"), "{ran:?}");
});
