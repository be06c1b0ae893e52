//! What a control does and when, in words.

use prost_types::Timestamp;
use vitrine::v1::{Advertise, CampaignState, Control, Money, QueryMatch, control::Action};

use crate::{command::place, output::moment};

/// What it does, as `pin milk-1 at 1`.
pub fn action(control: &Control) -> String {
    match &control.action {
        Some(Action::Pin(pin)) => format!("pin {} at {}", pin.item_id, pin.position.max(1)),
        Some(Action::Boost(boost)) => format!("boost {}: {}", boost.strength, boost.filter),
        Some(Action::Bury(bury)) => format!("bury {}", bury.filter),
        Some(Action::Hide(hide)) => format!("hide {}", hide.filter),
        Some(Action::Synonyms(words)) if words.queries.is_empty() => words.terms.join(" = "),
        Some(Action::Synonyms(words)) => format!("{} → {}", words.queries.join(", "), words.terms.join(", ")),
        Some(Action::Redirect(redirect)) => format!("redirect to {}", redirect.uri),
        Some(Action::Advertise(advertise)) => campaign(advertise),
        None => "something that this version of the command does not know".to_owned(),
    }
}

/// A campaign, as `advertise brand = "ACME" for 0.40 EUR a click, at most 50 EUR a day, in home`.
fn campaign(advertise: &Advertise) -> String {
    let mut parts = vec![format!("advertise {} for {} a click", advertise.filter, money(advertise.bid.as_ref()))];
    parts.extend(advertise.budget.as_ref().map(|budget| format!("at most {}", money(Some(budget)))));
    parts.extend(advertise.daily_budget.as_ref().map(|budget| format!("at most {} a day", money(Some(budget)))));
    parts.extend(
        advertise.frequency_cap.as_ref().map(|cap| format!("{} times in {} s", cap.impressions, cap.window_seconds)),
    );
    if !advertise.slots.is_empty() {
        parts.push(format!("in {}", advertise.slots.join(" or ")));
    }
    parts.join(", ")
}

/// An amount, as `0.40 EUR`.
pub fn money(money: Option<&Money>) -> String {
    money.map(|money| format!("{} {}", money.amount, money.currency)).unwrap_or_default()
}

/// How a campaign stands.
pub fn state(state: CampaignState) -> &'static str {
    match state {
        CampaignState::Running => "running",
        CampaignState::Scheduled => "its time has not come",
        CampaignState::Ended => "its time is over",
        CampaignState::Waiting => "waits: it spent what it may by now",
        CampaignState::OutOfBudget => "its budget is spent",
        CampaignState::Unspecified => "unknown",
    }
}

/// When it applies, as `query "milk", in search, until 2026-06-01`.
pub fn condition(control: &Control) -> String {
    let condition = control.condition.clone().unwrap_or_default();
    let mut parts = Vec::new();
    if !condition.queries.is_empty() {
        parts.push(condition.queries.iter().map(query).collect::<Vec<_>>().join(" or "));
    }
    if !condition.placements.is_empty() {
        let places: Vec<String> = condition.placements.iter().map(|number| place::name(*number)).collect();
        parts.push(format!("in {}", places.join(" or ")));
    }
    parts.extend(condition.start_time.as_ref().map(|time| format!("from {}", moment(time))));
    parts.extend(condition.end_time.as_ref().map(|time| format!("until {}", moment(time))));
    if parts.is_empty() { "always".to_owned() } else { parts.join(", ") }
}

/// Whether its times let it apply at this moment.
pub fn standing(control: &Control, now: jiff::Timestamp) -> &'static str {
    let condition = control.condition.as_ref();
    let reached = |time: &Timestamp| (time.seconds, time.nanos) <= (now.as_second(), now.subsec_nanosecond());
    if condition.and_then(|condition| condition.end_time.as_ref()).is_some_and(reached) {
        "over"
    } else if condition.and_then(|condition| condition.start_time.as_ref()).is_none_or(reached) {
        "yes"
    } else {
        "not yet"
    }
}

fn query(query: &QueryMatch) -> String {
    format!("query {}\"{}\"", if query.partial { "with " } else { "" }, query.text)
}

#[cfg(test)]
mod tests {
    use vitrine::v1::{Boost, Bury, Condition, Hide, Pin, Placement, Redirect, Synonyms};

    use super::*;
    use crate::arguments::time;

    fn doing(action: Action) -> String {
        super::action(&Control { action: Some(action), ..Default::default() })
    }

    fn when(condition: Condition) -> String {
        super::condition(&Control { condition: Some(condition), ..Default::default() })
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn each_action_reads_as_a_phrase() {
        assert_eq!(doing(Action::Pin(Pin { item_id: "milk-1".into(), position: 0 })), "pin milk-1 at 1");
        assert_eq!(doing(Action::Boost(Boost { filter: "price < 5".into(), strength: -0.5 })), "boost -0.5: price < 5");
        assert_eq!(doing(Action::Bury(Bury { filter: "price > 5".into() })), "bury price > 5");
        assert_eq!(doing(Action::Hide(Hide { filter: "price > 5".into() })), "hide price > 5");
        assert_eq!(doing(Action::Redirect(Redirect { uri: "/sale".into() })), "redirect to /sale");
        let euros = |amount: &str| Some(Money { amount: amount.into(), currency: "EUR".into() });
        let advertise = Advertise {
            filter: "price < 5".into(),
            bid: euros("0.40"),
            daily_budget: euros("50"),
            slots: strings(&["home", "basket"]),
            ..Advertise::default()
        };
        let said = "advertise price < 5 for 0.40 EUR a click, at most 50 EUR a day, in home or basket";
        assert_eq!(doing(Action::Advertise(advertise)), said);
    }

    #[test]
    fn synonyms_show_which_way_they_go() {
        let both = Synonyms { terms: strings(&["sofa", "couch", "settee"]), queries: Vec::new() };
        assert_eq!(doing(Action::Synonyms(both)), "sofa = couch = settee");
        let one_way = Synonyms { terms: strings(&["notebook", "ultrabook"]), queries: strings(&["laptop"]) };
        assert_eq!(doing(Action::Synonyms(one_way)), "laptop → notebook, ultrabook");
    }

    #[test]
    fn without_a_condition_it_is_always() {
        assert_eq!(super::condition(&Control::default()), "always");
        assert_eq!(when(Condition::default()), "always");
    }

    #[test]
    fn a_condition_names_queries_placements_and_times() {
        let query = |text: &str, partial| QueryMatch { text: text.into(), partial };
        let condition = Condition {
            queries: vec![query("milk", false), query("oat", true)],
            placements: vec![Placement::Search.into(), Placement::SimilarToItems.into()],
            start_time: Some(time("2026-02-01").unwrap()),
            end_time: Some(time("2026-03-01T10:30:00Z").unwrap()),
        };
        let words =
            r#"query "milk" or query with "oat", in search or similar, from 2026-02-01, until 2026-03-01T10:30:00Z"#;
        assert_eq!(when(condition), words);
    }

    #[test]
    fn a_control_stands_from_its_start_until_before_its_end() {
        let condition = Condition {
            start_time: Some(time("2026-02-01").unwrap()),
            end_time: Some(time("2026-03-01").unwrap()),
            ..Default::default()
        };
        let control = Control { condition: Some(condition), ..Default::default() };
        let standing = |control: &Control, now: &str| super::standing(control, now.parse().unwrap());
        assert_eq!(standing(&control, "2026-01-31T23:59:59.9Z"), "not yet");
        assert_eq!(standing(&control, "2026-02-01T00:00:00Z"), "yes");
        assert_eq!(standing(&control, "2026-02-28T23:59:59.9Z"), "yes");
        assert_eq!(standing(&control, "2026-03-01T00:00:00Z"), "over");
        assert_eq!(standing(&Control::default(), "2026-03-01T00:00:00Z"), "yes");
    }

    #[test]
    fn a_placement_of_a_newer_server_is_shown_by_its_number() {
        assert_eq!(when(Condition { placements: vec![99], ..Default::default() }), "in 99");
    }
}
