//! The plan by example: a version each line, as a story would tell it.

use super::*;

const ENOUGH: u64 = 1_000;

fn v(number: u32) -> Version {
    Version::new(number).unwrap()
}

fn labels(pairs: &[(&str, u32)]) -> BTreeMap<Label, Version> {
    pairs.iter().map(|(label, number)| (label.parse().unwrap(), v(*number))).collect()
}

fn seen(versions: &[(u32, Phase)]) -> BTreeMap<Version, Seen> {
    versions.iter().map(|&(number, phase)| (v(number), Seen { phase, memory: 10 })).collect()
}

fn wanted(pairs: &[(&str, u32)]) -> Wanted {
    Wanted { labels: labels(pairs), ..Wanted::default() }
}

fn observed(versions: &[(u32, Phase)], pairs: &[(&str, u32)]) -> Observed {
    Observed { versions: seen(versions), labels: labels(pairs), memory: ENOUGH }
}

fn point(label: &str, number: u32) -> Action {
    Action::Point(label.parse().unwrap(), v(number))
}

fn unpoint(label: &str) -> Action {
    Action::Unpoint(label.parse().unwrap())
}

use Phase::{Available, Draining, Ended, Failed, Indexing, Loading, Start, Warming};

#[test]
fn what_a_label_names_is_loaded_and_answers_when_it_can() {
    let wanted = wanted(&[("stable", 2)]);
    let next = |phase| plan(&wanted, &observed(&[(1, Available), (2, phase)], &[("stable", 1)]));
    assert_eq!(next(Start), [Action::Load(v(2))]);
    assert_eq!(next(Loading), []);
    assert_eq!(next(Warming), []);
    assert_eq!(next(Indexing), []);
    assert_eq!(next(Available), [point("stable", 2)]);
    assert_eq!(next(Draining), []);
    assert_eq!(next(Ended), [Action::Load(v(2))]);
    assert_eq!(next(Failed), []);
}

#[test]
fn the_former_version_is_kept_as_long_as_asked() {
    let now = observed(&[(1, Available), (2, Available)], &[("stable", 2)]);
    let keeping = Wanted { kept: [v(1)].into(), ..wanted(&[("stable", 2)]) };
    assert_eq!(plan(&keeping, &now), []);
    assert_eq!(plan(&wanted(&[("stable", 2)]), &now), [Action::Unload(v(1))]);
    assert_eq!(plan(&wanted(&[("stable", 1)]), &now), [point("stable", 1)], "the former one is left first");
}

#[test]
fn the_first_version_answers_before_its_vectors_are_made() {
    let wanted = wanted(&[("canary", 2), ("stable", 1)]);
    assert_eq!(plan(&wanted, &observed(&[(1, Indexing)], &[])), [Action::Admit(v(1)), Action::Load(v(2))]);
    assert_eq!(plan(&wanted, &observed(&[(1, Available), (2, Indexing)], &[("stable", 1)])), []);
}

#[test]
fn after_a_restart_a_label_answers_with_what_it_answered_before_until_its_new_version_can() {
    let wanted = Wanted { restored: labels(&[("stable", 1)]), ..wanted(&[("stable", 2)]) };
    assert_eq!(plan(&wanted, &observed(&[(2, Start)], &[])), [Action::Load(v(1))]);
    assert_eq!(plan(&wanted, &observed(&[(1, Loading), (2, Indexing)], &[])), []);
    assert_eq!(plan(&wanted, &observed(&[(1, Indexing)], &[])), [Action::Admit(v(1)), Action::Load(v(2))]);
    assert_eq!(plan(&wanted, &observed(&[(1, Available), (2, Indexing)], &[])), [point("stable", 1)]);
    assert_eq!(plan(&wanted, &observed(&[(1, Failed), (2, Indexing)], &[])), [Action::Admit(v(2))]);
}

#[test]
fn the_newest_is_loaded_and_what_came_between_is_skipped() {
    let latest = |number| Wanted { versions: [v(number)].into(), ..Wanted::default() };
    let now = observed(&[(1, Available), (2, Loading)], &[]);
    assert_eq!(plan(&latest(4), &now), [Action::Cancel(v(2))]);
    assert_eq!(plan(&latest(4), &observed(&[(1, Available), (2, Ended)], &[])), [Action::Load(v(4))]);
    assert_eq!(plan(&latest(4), &observed(&[(1, Available), (4, Failed)], &[])), [], "the good one stays");
    assert_eq!(plan(&latest(4), &observed(&[(1, Available), (4, Available)], &[])), [Action::Unload(v(1))]);
}

#[test]
fn what_does_not_fit_is_refused_and_holds_up_nobody() {
    let mut now = observed(&[(1, Available), (2, Start), (3, Start)], &[("stable", 1)]);
    now.memory = 25;
    now.versions.get_mut(&v(2)).unwrap().memory = 16;
    let wanted = wanted(&[("canary", 3), ("stable", 2)]);
    assert_eq!(plan(&wanted, &now), [Action::Load(v(3))]);
    now.versions.get_mut(&v(3)).unwrap().phase = Failed;
    assert_eq!(plan(&wanted, &now), [Action::Refuse { version: v(2), needed: 16, free: 15 }]);
}

#[test]
fn what_is_only_kept_makes_room() {
    let mut now = observed(&[(1, Available), (2, Available), (3, Start)], &[("stable", 2)]);
    now.memory = 25;
    let mut wanted = Wanted { kept: [v(1)].into(), ..wanted(&[("stable", 3)]) };
    assert_eq!(plan(&wanted, &now), [Action::Unload(v(1))]);
    now.versions.get_mut(&v(1)).unwrap().phase = Draining;
    assert_eq!(plan(&wanted, &now), [], "until it has left");
    now.versions.remove(&v(1));
    wanted.kept.clear();
    assert_eq!(plan(&wanted, &now), [Action::Load(v(3))]);
}

#[test]
fn what_answers_makes_room_only_where_that_was_asked_for() {
    let mut now = observed(&[(1, Available), (2, Start)], &[("stable", 1)]);
    now.memory = 15;
    let refused = wanted(&[("stable", 2)]);
    assert_eq!(plan(&refused, &now), [Action::Refuse { version: v(2), needed: 10, free: 5 }]);
    let asked = Wanted { unload_first: [v(2)].into(), ..refused };
    assert_eq!(plan(&asked, &now), [unpoint("stable"), Action::Unload(v(1))]);
    // Another label needs it.
    let shared = Wanted { labels: labels(&[("canary", 1), ("stable", 2)]), ..asked };
    now.labels = labels(&[("canary", 1), ("stable", 1)]);
    assert_eq!(plan(&shared, &now), [Action::Refuse { version: v(2), needed: 10, free: 5 }]);
}

#[test]
fn a_version_that_was_asked_to_leave_leaves_unless_a_label_answers_with_it() {
    let asked = Wanted { dismissed: [v(1), v(2)].into(), kept: [v(1)].into(), ..wanted(&[("stable", 2)]) };
    let now = observed(&[(1, Available), (2, Available)], &[("stable", 2)]);
    assert_eq!(plan(&asked, &now), [Action::Unload(v(1))]);
}

#[test]
fn a_label_that_is_removed_answers_no_more() {
    let now = observed(&[(1, Available)], &[("stable", 1)]);
    assert_eq!(plan(&Wanted::default(), &now), [unpoint("stable")]);
    assert_eq!(plan(&Wanted::default(), &observed(&[(1, Available)], &[])), [Action::Unload(v(1))]);
}
