//! Checks of everything a client sends, before it gets any further. Each names the field, and says what is right.

mod item;

use prost_types::Timestamp;
use tonic::Status;
use vitrine::v1::{Event, EventType, Money, RequestContext};

use crate::{
    DAY_MS, catalog::CatalogId, encoder::TEXT_EMBEDDING, error::Violations, filter::Filter,
    generator::IMAGE_GENERATION, image_encoder::IMAGE_EMBEDDING, log::ControlId, ranker::CTR_RANKING,
    sequence::SEQUENCE_RECOMMENDATION,
};

pub use item::{attributes, item};

/// The tasks whose versions a request may select.
const TASKS: [&str; 5] = [TEXT_EMBEDDING, IMAGE_EMBEDDING, SEQUENCE_RECOMMENDATION, CTR_RANKING, IMAGE_GENERATION];

const MAX_ID_CHARS: usize = 128;
const MAX_TEXT_CHARS: usize = 10_000;
/// A hundred advertisements fit, with the longest names.
pub const MAX_TOKEN_CHARS: usize = 32_000;
const MAX_EVENT_ITEMS: usize = 1_000;

/// Parses `catalogs/{catalog}`; its absence is an error of `field`.
pub fn catalog_name(field: &str, name: &str) -> Result<CatalogId, Status> {
    let mut violations = Violations::default();
    match name.strip_prefix("catalogs/").map(str::parse::<CatalogId>) {
        Some(Ok(id)) => return Ok(id),
        Some(Err(error)) => violations.add(field, error.to_string()),
        None if name.is_empty() => violations.add(field, "is required, as `catalogs/NAME`"),
        None => violations.add(field, format!("is {}; it must look like `catalogs/NAME`", quoted(name))),
    }
    Err(violations.into_status())
}

/// Parses `catalogs/{catalog}/items/{item}`.
pub fn item_name(field: &str, name: &str) -> Result<(CatalogId, String), Status> {
    let mut violations = Violations::default();
    if let Some((catalog, item)) = name.split_once("/items/") {
        let catalog = catalog_name(field, catalog)?;
        id(&mut violations, field, item);
        violations.into_result()?;
        return Ok((catalog, item.to_owned()));
    }
    violations.add(field, format!("is {}; it must look like `catalogs/NAME/items/ID`", quoted(name)));
    Err(violations.into_status())
}

/// Parses `catalogs/{catalog}/controls/{control}`.
pub fn control_name(field: &str, name: &str) -> Result<(CatalogId, ControlId), Status> {
    let mut violations = Violations::default();
    match name.split_once("/controls/") {
        // The rules for the ids are the same.
        Some((catalog, control)) => match control.parse::<CatalogId>() {
            Ok(_) => return Ok((catalog_name(field, catalog)?, control.into())),
            Err(_) => {
                violations.add(field, "must end with 1 to 63 characters of a-z, 0-9 and -, starting with a letter");
            }
        },
        None => violations.add(field, format!("is {}; it must look like `catalogs/NAME/controls/ID`", quoted(name))),
    }
    Err(violations.into_status())
}

/// A place where a shop shows advertisements.
pub fn slot(violations: &mut Violations, field: &str, slot: &str) {
    // The rules for the ids are the same.
    if slot.parse::<CatalogId>().is_err() {
        violations.add(field, "is required: 1 to 63 characters of a-z, 0-9 and -, starting with a letter");
    }
}

/// An id of an item, event, user or order.
pub fn id(violations: &mut Violations, field: &str, id: &str) {
    if id.is_empty() {
        violations.add(field, "is required");
    } else if id.chars().count() > MAX_ID_CHARS {
        violations.add(field, format!("has {} characters; at most {MAX_ID_CHARS} are allowed", id.chars().count()));
    } else if id.contains('/') || id.chars().any(char::is_control) {
        violations.add(field, "must have no `/` and no control characters");
    }
}

fn optional_id(violations: &mut Violations, field: &str, value: &str) {
    if !value.is_empty() {
        id(violations, field, value);
    }
}

/// Who asks.
pub fn request_context(violations: &mut Violations, context: &RequestContext) {
    for (field, value) in [
        ("context.visitor_id", &context.visitor_id),
        ("context.user_id", &context.user_id),
        ("context.session_id", &context.session_id),
    ] {
        optional_id(violations, field, value);
    }
    for name in context.model_selector.keys() {
        task(violations, "context.model_selector", name);
    }
}

/// A task whose versions can be selected.
pub fn task(violations: &mut Violations, field: &str, task: &str) {
    if !TASKS.contains(&task) {
        violations.add(field, format!("names the task {}; this server knows {}", quoted(task), TASKS.join(", ")));
    }
}

/// A text of at most `limit` characters.
pub fn text(violations: &mut Violations, field: &str, text: &str, limit: usize) {
    // Counting is only needed when the bytes could be too many.
    if text.len() > limit && text.chars().count() > limit {
        violations.add(field, format!("has {} characters; at most {limit} are allowed", text.chars().count()));
    }
}

/// A filter of at most `limit` characters, if nothing is wrong with it. An empty one matches everything.
pub fn filter(violations: &mut Violations, field: &str, filter: &str, limit: usize) -> Option<Filter> {
    let before = violations.len();
    text(violations, field, filter, limit);
    if violations.len() > before {
        return None;
    }
    Filter::parse(filter).map_err(|error| violations.add(field, error.to_string())).ok()
}

/// An amount, not negative, and its currency.
pub fn money(violations: &mut Violations, field: &str, money: &Money) {
    decimal(violations, &join(field, "amount"), &money.amount);
    if money.currency.len() != 3 || !money.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let description = format!("is {}; it must be three capital letters, as `EUR`", quoted(&money.currency));
        violations.add(join(field, "currency"), description);
    }
}

fn decimal(violations: &mut Violations, field: &str, amount: &str) {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() > 18 {
        let description =
            format!("is {}; it must be a decimal number of at most 18 digits, as `89.90`", quoted(amount));
        violations.add(field, description);
    }
}

/// What an event must have depends on whether it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventUse {
    /// It goes into the log: it needs an id and somebody who did it.
    Recorded,
    /// It is only looked at, as part of a session sent along.
    Inline,
}

/// An event as the shop sends it.
pub fn event(violations: &mut Violations, path: &str, event: &Event, usage: EventUse, now_ms: i64) {
    let field = |name: &str| join(path, name);
    if usage == EventUse::Recorded {
        id(violations, &field("event_id"), &event.event_id);
        if event.user_id.is_empty() && event.visitor_id.is_empty() {
            violations.add(field("user_id"), "is required, or `visitor_id` is");
        }
    }
    enumeration::<EventType>(violations, &field("type"), event.r#type, "an event type, as EVENT_TYPE_PURCHASE");
    if event.r#type == EventType::Unspecified as i32 {
        violations.add(field("type"), "is required, as EVENT_TYPE_PURCHASE");
    }
    if let Some(at) = &event.time {
        time(violations, &field("time"), at, now_ms);
    }
    for (name, value) in [
        ("user_id", &event.user_id),
        ("visitor_id", &event.visitor_id),
        ("session_id", &event.session_id),
        ("order_id", &event.order_id),
    ] {
        optional_id(violations, &field(name), value);
    }
    if event.items.is_empty() {
        violations.add(field("items"), "is required: at least one item");
    } else if event.items.len() > MAX_EVENT_ITEMS {
        let count = event.items.len();
        violations.add(field("items"), format!("has {count} entries; at most {MAX_EVENT_ITEMS} are allowed"));
    }
    for (index, item) in event.items.iter().enumerate().take(MAX_EVENT_ITEMS) {
        id(violations, &field(&format!("items[{index}].id")), &item.id);
        if !item.price.is_empty() {
            decimal(violations, &field(&format!("items[{index}].price")), &item.price);
        }
    }
    if let Some(value) = &event.value {
        money(violations, &field("value"), value);
    }
    if event.weight.is_some_and(|weight| !weight.is_finite()) {
        violations.add(field("weight"), "must be a finite number");
    }
    text(violations, &field("query"), &event.query, MAX_TEXT_CHARS);
    text(violations, &field("attribution_token"), &event.attribution_token, MAX_TOKEN_CHARS);
}

/// A time between 1970 and a day from now.
fn time(violations: &mut Violations, field: &str, time: &Timestamp, now_ms: i64) {
    if !(0..1_000_000_000).contains(&time.nanos) {
        violations.add(field, "has nanoseconds outside 0 to 999,999,999");
    } else if time.seconds < 0 {
        violations.add(field, "is before 1970");
    } else if time.seconds.saturating_mul(1_000) > now_ms + DAY_MS {
        violations.add(field, "is more than a day in the future; times are UTC");
    }
}

/// A number that must name a value of an enum.
pub fn enumeration<E: TryFrom<i32>>(violations: &mut Violations, field: &str, number: i32, expected: &str) {
    if E::try_from(number).is_err() {
        violations.add(field, format!("is {number}, which this server does not know; it must be {expected}"));
    }
}

/// A page size: absent, the default; above the maximum, the maximum; negative, an error.
pub fn page_size(violations: &mut Violations, field: &str, size: i32, default: usize, maximum: usize) -> usize {
    match usize::try_from(size) {
        Ok(0) => default.min(maximum),
        Ok(size) => size.min(maximum),
        Err(_) => {
            violations.add(field, format!("is {size}; it must not be negative"));
            default
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What a client sent, short and printable, for a message.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use prost_types::{ListValue, Struct, Value, value::Kind};
    use vitrine::v1::Item;

    use super::{item::attribute, *};

    const NOW: i64 = 1_700_000_000_000;

    fn fields(check: impl FnOnce(&mut Violations)) -> Vec<String> {
        let mut violations = Violations::default();
        check(&mut violations);
        violations.into_messages().into_iter().map(|violation| violation.field).collect()
    }

    fn shoe() -> Item {
        Item { id: "B07".into(), title: "Trail shoe".into(), ..Default::default() }
    }

    fn purchase() -> Event {
        Event {
            event_id: "e-1".into(),
            r#type: EventType::Purchase as i32,
            user_id: "u1".into(),
            items: vec![vitrine::v1::EventItem { id: "B07".into(), ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn an_item_needs_only_an_id_and_a_title() {
        assert!(fields(|v| item(v, "", &shoe(), NOW)).is_empty());
        assert_eq!(fields(|v| item(v, "items[3]", &Item::default(), NOW)), ["items[3].id", "items[3].title"]);
    }

    #[test]
    fn wrong_fields_of_an_item_are_named() {
        let far = Some(Timestamp { seconds: NOW / 1_000 + 90_000, nanos: 0 });
        let price = Some(Money { amount: "1e3".into(), currency: "eur".into() });
        let cases: [(Item, &[&str]); 5] = [
            (Item { id: "x".repeat(300), ..shoe() }, &["id"]),
            (Item { id: "a/b".into(), ..shoe() }, &["id"]),
            (Item { created: far, ..shoe() }, &["created"]),
            (Item { price, ..shoe() }, &["price.amount", "price.currency"]),
            (Item { categories: vec![" ".into()], ..shoe() }, &["categories[0]"]),
        ];
        for (wrong, expected) in cases {
            assert_eq!(fields(|v| item(v, "", &wrong, NOW)), expected);
        }
    }

    #[test]
    fn attributes_are_texts_numbers_booleans_or_lists() {
        let value = |kind| Value { kind: Some(kind) };
        let good = [
            Kind::StringValue("blue".into()),
            Kind::NumberValue(3.5),
            Kind::BoolValue(true),
            Kind::ListValue(ListValue { values: vec![value(Kind::StringValue("x".into()))] }),
        ];
        for kind in good {
            assert!(fields(|v| attribute(v, "a", &value(kind))).is_empty());
        }
        let nested = ListValue { values: vec![value(Kind::BoolValue(true))] };
        for (kind, field) in [
            (Kind::NumberValue(f64::NAN), "a"),
            (Kind::NullValue(0), "a"),
            (Kind::StructValue(Struct::default()), "a"),
            (Kind::ListValue(nested), "a[0]"),
        ] {
            assert_eq!(fields(|v| attribute(v, "a", &value(kind))), [field]);
        }
    }

    #[test]
    fn a_recorded_event_needs_an_id_and_somebody() {
        assert!(fields(|v| event(v, "", &purchase(), EventUse::Recorded, NOW)).is_empty());
        let nobody = Event { event_id: String::new(), user_id: String::new(), ..purchase() };
        assert_eq!(fields(|v| event(v, "", &nobody, EventUse::Recorded, NOW)), ["event_id", "user_id"]);
        assert!(fields(|v| event(v, "", &nobody, EventUse::Inline, NOW)).is_empty());
    }

    #[test]
    fn an_unknown_event_type_is_an_error() {
        for number in [0, 99, -1, i32::MAX] {
            let wrong = Event { r#type: number, ..purchase() };
            assert_eq!(fields(|v| event(v, "", &wrong, EventUse::Recorded, NOW)), ["type"], "{number}");
        }
    }

    #[test]
    fn a_page_size_is_coerced_but_never_negative() {
        let mut violations = Violations::default();
        assert_eq!(page_size(&mut violations, "page_size", 0, 10, 100), 10);
        assert_eq!(page_size(&mut violations, "page_size", 1_000, 10, 100), 100);
        assert!(violations.is_empty());
        assert_eq!(fields(|v| _ = page_size(v, "page_size", -1, 10, 100)), ["page_size"]);
    }

    #[test]
    fn names_of_resources_are_parsed() {
        assert!(catalog_name("name", "catalogs/grocery").is_ok());
        for wrong in ["", "grocery", "catalogs/", "catalogs/Ä", "catalogs/../x"] {
            assert_eq!(catalog_name("name", wrong).unwrap_err().code(), tonic::Code::InvalidArgument, "{wrong}");
        }
        assert_eq!(item_name("name", "catalogs/grocery/items/B07").unwrap().1, "B07");
        assert!(item_name("name", "catalogs/grocery/items/").is_err());
    }
}
