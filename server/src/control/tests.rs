//! Which controls apply to a request, and what they do to an order.

use std::sync::Arc;

use prost_types::Timestamp;
use vitrine::v1::{Bury, Condition, Control, Hide, Item, Pin, QueryMatch, Redirect, control};

use super::*;

const NOW: i64 = 1_700_000_000_000;

fn table() -> Table {
    let mut table = Table::default();
    for (id, brand) in [("a", "Acme"), ("b", "Acme"), ("c", "Lumen"), ("d", "Lumen")] {
        table.upsert(Arc::new(Item { id: id.into(), brand: brand.into(), ..Item::default() }));
    }
    table
}

fn control(name: &str, action: control::Action) -> Control {
    Control { name: format!("catalogs/shop/controls/{name}"), action: Some(action), ..Control::default() }
}

fn pin_item(name: &str, item_id: &str, position: i32) -> Control {
    control(name, control::Action::Pin(Pin { item_id: item_id.into(), position }))
}

fn filter(brand: &str) -> String {
    format!("brand = \"{brand}\"")
}

fn boost(name: &str, brand: &str, strength: f64) -> Control {
    control(name, control::Action::Boost(Boost { filter: filter(brand), strength }))
}

fn rules(controls: impl IntoIterator<Item = Control>, query: Option<&str>) -> Rules {
    let stored = controls.into_iter().map(|control| (control.name.as_str().into(), Arc::new(control))).collect();
    let table = table();
    Controls::new(Arc::new(stored)).rules(
        &Asking { placement: Placement::Search, query, now_ms: NOW, ..Asking::default() },
        &table,
        table.servable(),
    )
}

#[test]
fn a_control_applies_when_all_its_conditions_hold() {
    let at = |seconds: i64| Some(Timestamp { seconds: NOW / 1_000 + seconds, nanos: 0 });
    let query = |text: &str, partial| QueryMatch { text: text.into(), partial };
    let milk = Condition { queries: vec![query("Oat Milks", false), query("soy", true)], ..Condition::default() };
    let placed = |placement: Placement| Condition { placements: vec![placement as i32], ..Condition::default() };
    let cases = [
        (Condition::default(), None, true),
        (milk.clone(), Some("oat milk"), true),
        (milk.clone(), Some("oat milk barista"), false),
        (milk.clone(), Some("organic soy drink"), true),
        (milk, None, false),
        (placed(Placement::Search), Some("milk"), true),
        (placed(Placement::Popular), Some("milk"), false),
        (Condition { start_time: at(0), end_time: at(1), ..Condition::default() }, None, true),
        (Condition { start_time: at(1), ..Condition::default() }, None, false),
        (Condition { end_time: at(0), ..Condition::default() }, None, false),
    ];
    for (condition, query, applies) in cases {
        let control = Control { condition: Some(condition.clone()), ..pin_item("p", "a", 1) };
        assert_eq!(rules([control], query).applied.len() == 1, applies, "{condition:?} {query:?}");
    }
}

#[test]
fn only_what_did_something_is_named() {
    let hide = |brand: &str| control("hide", control::Action::Hide(Hide { filter: filter(brand) }));
    let redirect = |name: &str, uri: &str| control(name, control::Action::Redirect(Redirect { uri: uri.into() }));
    let nothing = [hide("Nobody"), boost("boost", "Nobody", 1.0), pin_item("pin", "nothing", 1), redirect("r", "/x")];
    assert_eq!(rules(nothing, None).applied, [""; 0]);
    let rules =
        rules([redirect("r1", "/sale"), redirect("r2", "/other"), hide("Acme"), pin_item("pin", "a", 1)], Some("x"));
    let last = |name: &String| name.rsplit('/').next().unwrap_or_default().to_owned();
    assert_eq!(rules.applied.iter().map(last).collect::<Vec<_>>(), ["hide", "r1"]);
    assert_eq!(rules.redirect_uri, "/sale", "the first by name");
    assert_eq!(rules.hidden.iter().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(rules.pins, [], "what is hidden is not shown, pinned or not");
}

#[test]
fn pins_are_in_the_order_of_their_places_and_an_item_has_one() {
    let rules =
        rules([pin_item("a", "b", 3), pin_item("b", "a", 1), pin_item("c", "c", 1), pin_item("d", "b", 2)], None);
    assert_eq!(rules.pins, [(0, 0), (0, 2), (1, 1)]);
}

#[test]
fn boosts_multiply_and_what_is_buried_comes_last() {
    let bury = control("bury", control::Action::Bury(Bury { filter: filter("Acme") }));
    let rules = rules([boost("b1", "Acme", 0.5), boost("b2", "Acme", 1.0), boost("b3", "Lumen", -0.5), bury], None);
    let close = |doc, score, expected: f32| (rules.boosted(doc, score) - expected).abs() < 1e-6;
    assert!(close(0, 0.1, 0.8) && close(2, 0.1, 0.05) && close(9, 0.1, 0.1));
    assert!(close(0, -0.8, -0.1), "to raise a negative score is to bring it nearer to 0");
    let mut order = vec![(0, 0.9), (2, 0.8), (1, 0.7), (3, 0.6)];
    rules.bury(&mut order);
    assert_eq!(order, [(2, 0.8), (3, 0.6), (0, 0.9), (1, 0.7)]);
}

#[test]
fn pinned_ones_are_put_at_their_places_or_the_next_free_one() {
    let mut order = vec!["a", "b", "c"];
    pin(&mut order, [(0, "x"), (0, "y"), (3, "z"), (90, "last")]);
    assert_eq!(order, ["x", "y", "a", "z", "b", "c", "last"]);
    let mut nothing = Vec::new();
    pin(&mut nothing, [(5, "x")]);
    assert_eq!(nothing, ["x"]);
}

#[test]
fn what_is_wrong_with_a_control_is_named() {
    let fields = |control: &Control| -> Vec<String> {
        let mut violations = Violations::default();
        let rule = Rule::new(control, &mut violations);
        assert_eq!(rule.is_none(), !violations.is_empty());
        violations.into_messages().into_iter().map(|violation| violation.field).collect()
    };
    let conditioned = |condition| Control { condition: Some(condition), ..pin_item("p", "a", 1) };
    let synonyms = |terms: &[&str], queries: &[&str]| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        control("s", control::Action::Synonyms(vitrine::v1::Synonyms { terms: texts(terms), queries: texts(queries) }))
    };
    let some = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let cases = [
        (Control::default(), "control.action"),
        (pin_item("p", "", 1), "control.pin.item_id"),
        (pin_item("p", "a", -1), "control.pin.position"),
        (boost("b", "Acme", 0.0), "control.boost.strength"),
        (boost("b", "Acme", f64::NAN), "control.boost.strength"),
        (control("b", control::Action::Bury(Bury::default())), "control.bury.filter"),
        (control("h", control::Action::Hide(Hide { filter: "brand =".into() })), "control.hide.filter"),
        (synonyms(&["sofa"], &[]), "control.synonyms.terms"),
        (synonyms(&["sofa", "..."], &[]), "control.synonyms.terms[1]"),
        (synonyms(&["sofa"], &["?"]), "control.synonyms.queries[0]"),
        (control("r", control::Action::Redirect(Redirect::default())), "control.redirect.uri"),
        (conditioned(Condition { placements: vec![99], ..Condition::default() }), "control.condition.placements[0]"),
        (
            conditioned(Condition { queries: vec![QueryMatch::default()], ..Condition::default() }),
            "control.condition.queries[0].text",
        ),
        (
            conditioned(Condition { start_time: some(5), end_time: some(5), ..Condition::default() }),
            "control.condition.end_time",
        ),
        (conditioned(Condition { start_time: some(i64::MAX), ..Condition::default() }), "control.condition.start_time"),
        (Control { note: "x".repeat(1_001), ..pin_item("p", "a", 1) }, "control.note"),
    ];
    for (control, field) in cases {
        assert!(fields(&control).contains(&field.to_owned()), "{field}: {:?}", fields(&control));
    }
    assert_eq!(fields(&synonyms(&["notebook"], &["laptop"])), [""; 0]);
}
