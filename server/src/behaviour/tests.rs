//! What the projection must hold to, whatever comes in and however late.

use proptest::prelude::*;
use vitrine::v1::{Event, EventType};

use super::*;

fn event(kind: EventType, user: &str, order: &str) -> Event {
    Event { r#type: kind as i32, user_id: user.into(), order_id: order.into(), ..Event::default() }
}

/// What readers see of a person and of all items, without the numbers given in the order of arrival.
#[derive(Debug, PartialEq)]
struct Seen {
    entries: Vec<(u32, Doc, EventType)>,
    baskets: Vec<Vec<Doc>>,
    visits: Vec<Vec<u32>>,
}

fn seen(behaviour: &Behaviour, user: &str) -> Seen {
    let history = behaviour.person(user, "").map(|person| behaviour.history(person)).unwrap_or_default();
    let entries = history.actions.iter().chain(history.shown).chain(history.refused);
    let baskets =
        history.actions.iter().filter_map(Entry::order).map(|order| behaviour.baskets().items(order).to_vec());
    let visits = (0..10).map(|doc| behaviour.visits(doc).iter().map(|visit| visit.seconds).collect());
    Seen {
        entries: entries.map(|entry| (entry.seconds(), entry.doc, entry.kind())).collect(),
        baskets: baskets.collect(),
        visits: visits.collect(),
    }
}

#[test]
fn users_and_visitors_of_one_id_are_different_people() {
    let mut behaviour = Behaviour::default();
    behaviour.apply(&event(EventType::View, "7", ""), &[1], 1_000);
    behaviour.apply(
        &Event { user_id: String::new(), visitor_id: "7".into(), ..event(EventType::View, "", "") },
        &[2],
        2_000,
    );
    assert_ne!(behaviour.person("7", ""), behaviour.person("", "7"));
    assert_eq!(behaviour.person("7", "7"), behaviour.person("7", ""), "the user goes first");
    assert_eq!(behaviour.person("new", "7"), behaviour.person("", "7"), "an unknown user falls back");
    assert_eq!(behaviour.person("", ""), None);
}

#[test]
fn the_lines_of_an_order_make_one_basket_in_one_event_or_in_many() {
    let mut behaviour = Behaviour::default();
    for doc in [1, 2] {
        behaviour.apply(&event(EventType::Purchase, "u", "o"), &[doc], 1_000);
    }
    behaviour.apply(&event(EventType::Purchase, "u", ""), &[3, 4], 2_000);
    behaviour.apply(&event(EventType::Purchase, "u", ""), &[5], 3_000);
    behaviour.apply(&event(EventType::View, "u", "o"), &[6], 3_000);
    assert_eq!(behaviour.baskets().len(), 2);
    assert_eq!(behaviour.baskets().items(OrderId(0)), [1, 2]);
    assert_eq!(behaviour.baskets().items(OrderId(1)), [3, 4]);
}

#[test]
fn what_says_nothing_changes_nothing() {
    let mut behaviour = Behaviour::default();
    behaviour.apply(&Event { r#type: 99, ..event(EventType::View, "u", "") }, &[1], 0);
    behaviour.apply(&event(EventType::View, "", ""), &[1], 0);
    behaviour.apply(&event(EventType::View, "u", ""), &[], 0);
    assert_eq!(behaviour.events(), 0);
    assert!(behaviour.visits(1).is_empty());
}

#[test]
fn a_damaged_checkpoint_is_an_error() {
    let mut behaviour = Behaviour::default();
    for n in 0..20 {
        behaviour.apply(&event(EventType::Purchase, "u", "o"), &[n], i64::from(n) * 1_000);
    }
    let mut file = Vec::new();
    behaviour.save(&mut file, 9).unwrap();
    assert_eq!(Behaviour::load(file.as_slice()).unwrap().1, 9);
    for at in 0..file.len() {
        let mut altered = file.clone();
        altered[at] ^= 1;
        assert!(Behaviour::load(altered.as_slice()).is_err(), "byte {at} altered");
        assert!(Behaviour::load(&file[..at]).is_err(), "cut off at {at}");
    }
    file.push(0);
    assert!(matches!(Behaviour::load(file.as_slice()), Err(CheckpointError::Damaged)));
}

proptest! {
    #[test]
    fn late_events_give_the_same_state(
        mut events in prop::collection::vec((1_i32..=14, 0_u8..3, 0_u8..4, 0_u32..10, 0_i64..1_000), 0..60),
        limit in 1_usize..30,
    ) {
        let options = BehaviourOptions {
            actions_per_person: limit,
            impressions_per_person: limit,
            refusals_per_person: limit,
            visits_per_item: limit,
            ..BehaviourOptions::default()
        };
        let build = |events: &[(i32, u8, u8, Doc, i64)]| {
            let mut behaviour = Behaviour::new(options);
            for &(kind, user, order, doc, seconds) in events {
                let kind = EventType::try_from(kind).unwrap_or_default();
                behaviour.apply(&event(kind, &user.to_string(), &order.to_string()), &[doc], seconds * 1_000);
            }
            behaviour
        };
        let late = build(&events);
        events.sort_by_key(|event| event.4);
        let ordered = build(&events);
        for user in ["0", "1", "2"] {
            prop_assert_eq!(seen(&late, user), seen(&ordered, user));
        }
    }
}
