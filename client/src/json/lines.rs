//! One item, event or control a line, as shops write them.

use serde_json::{Map, Value};
use vitrine::v1::{Control, Event, EventType, Item};

use super::{Json, JsonError, from_value, read, to_value};

const EVENT_TYPE_PREFIX: &str = "EVENT_TYPE_";

/// Reads the item on a line.
///
/// ```
/// let line = r#"{"id": "B07", "title": "Trail shoe", "attributes": {"weight_g": 310}}"#;
/// assert_eq!(vitrine_client::json::parse_item(line)?.title, "Trail shoe");
/// # Ok::<(), vitrine_client::json::JsonError>(())
/// ```
///
/// # Errors
///
/// Says which field is wrong, or at which column the line stops being JSON.
pub fn parse_item(line: &str) -> Result<Item, JsonError> {
    parse(line)
}

/// Reads the control on a line.
///
/// ```
/// let line = r#"{"name": "milk-first", "pin": {"item_id": "milk-1", "position": 1}}"#;
/// assert_eq!(vitrine_client::json::parse_control(line)?.name, "milk-first");
/// # Ok::<(), vitrine_client::json::JsonError>(())
/// ```
///
/// # Errors
///
/// As [`parse_item`].
pub fn parse_control(line: &str) -> Result<Control, JsonError> {
    parse(line)
}

fn parse<M: Json>(line: &str) -> Result<M, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let message = read(&mut deserializer)?;
    deserializer.end().map_err(|error| JsonError::Malformed(error.to_string()))?;
    Ok(message)
}

/// Reads the event on a line. `type` is written in lower case, as `add_to_cart`, and `item_id` stands for a list of
/// one item.
///
/// ```
/// let line = r#"{"event_id": "e-1", "type": "purchase", "user_id": "u1", "item_id": "B07"}"#;
/// assert_eq!(vitrine_client::json::parse_event(line)?.items[0].id, "B07");
/// # Ok::<(), vitrine_client::json::JsonError>(())
/// ```
///
/// # Errors
///
/// As [`parse_item`].
pub fn parse_event(line: &str) -> Result<Event, JsonError> {
    let value: Value = serde_json::from_str(line).map_err(|error| JsonError::Malformed(error.to_string()))?;
    let Value::Object(mut fields) = value else {
        return Err(JsonError::Malformed(format!("expected an object in braces, found {value}")));
    };
    if let Some(name) = fields.get_mut("type") {
        *name = Value::String(parse_type(name)?.as_str_name().to_owned());
    }
    if let Some(id) = fields.remove("item_id") {
        if fields.contains_key("items") {
            return Err(field("item_id", "stands for `items` of one item: give one of the two"));
        }
        if !id.is_string() {
            return Err(field("item_id", &format!("expected a text, found {id}")));
        }
        let item = Map::from_iter([("id".to_owned(), id)]);
        fields.insert("items".to_owned(), Value::Array(vec![Value::Object(item)]));
    }
    from_value(Value::Object(fields))
}

/// The item as a line, without the line's end.
pub fn item_line(item: &Item) -> Result<String, JsonError> {
    Ok(to_value(item)?.to_string())
}

/// The control as a line, without the line's end.
pub fn control_line(control: &Control) -> Result<String, JsonError> {
    Ok(to_value(control)?.to_string())
}

/// The type of an event as it stands on a line, as `add_to_cart`.
pub fn event_type(event: &Event) -> String {
    short_name(event.r#type())
}

/// The attributes of an event as JSON, if it has any.
///
/// # Errors
///
/// For what JSON cannot say.
pub fn event_attributes(event: &Event) -> Result<Option<String>, JsonError> {
    let attributes = to_value(event)?.get_mut("attributes").map(Value::take);
    Ok(attributes.map(|attributes| attributes.to_string()))
}

/// The event as a line, without the line's end.
pub fn event_line(event: &Event) -> Result<String, JsonError> {
    let mut value = to_value(event)?;
    if let Some(name) = value.get_mut("type") {
        let short = name.as_str().and_then(|name| name.strip_prefix(EVENT_TYPE_PREFIX)).map(str::to_ascii_lowercase);
        if let Some(short) = short {
            *name = Value::String(short);
        }
    }
    Ok(value.to_string())
}

fn parse_type(name: &Value) -> Result<EventType, JsonError> {
    let text = name.as_str().unwrap_or_default();
    let full = match text.strip_prefix(EVENT_TYPE_PREFIX) {
        Some(_) => text.to_owned(),
        None => format!("{EVENT_TYPE_PREFIX}{}", text.to_ascii_uppercase()),
    };
    EventType::from_str_name(&full).filter(|kind| *kind != EventType::Unspecified).ok_or_else(|| {
        let known: Vec<String> = (1..).map_while(|number| EventType::try_from(number).ok()).map(short_name).collect();
        field("type", &format!("{name} is no event type; there are {}", known.join(", ")))
    })
}

/// How a type is written: `add_to_cart`.
pub fn short_name(kind: EventType) -> String {
    kind.as_str_name().trim_start_matches(EVENT_TYPE_PREFIX).to_ascii_lowercase()
}

fn field(name: &str, problem: &str) -> JsonError {
    JsonError::Field { field: name.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use prost_types::{Struct, Timestamp, value::Kind};
    use vitrine::v1::{EventItem, Money, Placement};

    use super::*;

    const ITEM: &str = r#"{"id": "B07", "title": "Trail shoe", "categories": ["Shoes > Running"], "brand": "Acme",
        "price": {"amount": "89.90", "currency": "EUR"}, "tags": ["sale"], "image": "photos/B07.jpg", "available": true,
        "attributes": {"colour": ["blue", "white"], "weight_g": 310}, "created": "2026-01-31T09:00:00Z"}"#;

    #[test]
    fn an_item_is_read_as_the_format_says() {
        let item = parse_item(ITEM).unwrap();
        assert_eq!(item.price, Some(Money { amount: "89.90".into(), currency: "EUR".into() }));
        assert_eq!(item.created.unwrap().seconds, 1_769_850_000);
        assert_eq!(item.available, Some(true));
        let attributes = item.attributes.unwrap().fields;
        assert_eq!(attributes["weight_g"].kind, Some(Kind::NumberValue(310.0)));
        assert!(matches!(&attributes["colour"].kind, Some(Kind::ListValue(list)) if list.values.len() == 2));
    }

    #[test]
    fn an_event_is_read_as_the_format_says() {
        let line = r#"{"event_id": "e-1", "type": "purchase", "user_id": "u1", "items": [{"id": "B07", "quantity": 2,
            "price": "89.90"}], "time": "2026-02-01T10:00:00Z", "session_id": "s9", "order_id": "o4"}"#;
        let event = parse_event(line).unwrap();
        assert_eq!(event.r#type(), EventType::Purchase);
        assert_eq!(event.items, [EventItem { id: "B07".into(), quantity: 2, price: "89.90".into(), served: None }]);
    }

    #[test]
    fn item_id_stands_for_a_list_of_one() {
        let event =
            parse_event(r#"{"event_id": "e", "type": "add_to_cart", "user_id": "u", "item_id": "B07"}"#).unwrap();
        assert_eq!((event.r#type(), event.items[0].id.as_str()), (EventType::AddToCart, "B07"));
    }

    #[track_caller]
    fn item_error(line: &str, expected: &str) {
        let message = parse_item(line).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[track_caller]
    fn event_error(line: &str, expected: &str) {
        let message = parse_event(line).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_control_survives_its_line() {
        let line = r#"{"name": "a", "condition": {"queries": [{"text": "milk", "partial": true}],
            "placements": ["PLACEMENT_SEARCH"], "start_time": "2026-02-01T00:00:00Z"},
            "boost": {"filter": "brand = \"X\"", "strength": -0.5}}"#;
        let control = parse_control(line).unwrap();
        assert_eq!(control.condition.as_ref().unwrap().placements, [Placement::Search as i32]);
        assert_eq!(parse_control(&control_line(&control).unwrap()).unwrap(), control);
    }

    #[test]
    fn an_error_names_the_field_that_is_wrong() {
        item_error(r#"{"id": "a", "titel": "x"}"#, "titel");
        item_error(r#"{"id": 5, "title": "x"}"#, "id: ");
        item_error(r#"{"id": "a", "price": {"amount": 5}}"#, "price.amount: ");
        item_error(r#"{"id": "a", "created": "yesterday"}"#, "created: ");
        event_error(
            r#"{"event_id": "e", "type": "buy"}"#,
            "type: \"buy\" is no event type; there are impression, click",
        );
        event_error(r#"{"event_id": "e", "type": 7}"#, "type: 7 is no event type");
        event_error(r#"{"event_id": "e", "items": [{"id": "a", "amount": 2}]}"#, "amount");
        event_error(r#"{"event_id": "e", "items": [], "item_id": "a"}"#, "item_id: ");
        event_error(r#"{"event_id": "e", "item_id": 7}"#, "item_id: expected a text");
    }

    #[test]
    fn an_error_names_the_column_where_a_line_breaks_off() {
        item_error(r#"{"id": "a", "title": "#, "column");
        item_error(r#"{"id": "a"} and more"#, "trailing characters");
        event_error("[1]", "expected an object");
        event_error("", "EOF");
    }

    fn timestamp() -> impl Strategy<Value = Timestamp> {
        (0_i64..4_000_000_000, 0_i32..1000).prop_map(|(seconds, ms)| Timestamp { seconds, nanos: ms * 1_000_000 })
    }

    /// As many figures as a decimal number and a double are sure to share.
    fn number() -> impl Strategy<Value = f64> {
        (-999_999_999_999_i64..1_000_000_000_000).prop_map(|thousandths| thousandths as f64 / 1000.0)
    }

    fn attributes() -> impl Strategy<Value = Struct> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Kind::StringValue),
            any::<bool>().prop_map(Kind::BoolValue),
            number().prop_map(Kind::NumberValue),
        ];
        let value = leaf.prop_map(|kind| prost_types::Value { kind: Some(kind) });
        prop::collection::btree_map(".{1,8}", value, 0..4).prop_map(|fields| Struct { fields })
    }

    prop_compose! {
        fn item()(
            id in "[^/]{1,12}", title in ".{1,20}", description in any::<String>(), categories in vec(".{1,8}", 0..3),
            amount in option::of("[0-9]{1,6}"), available in any::<Option<bool>>(),
            attributes in option::of(attributes()), created in option::of(timestamp()),
        ) -> Item {
            let price = amount.map(|amount| Money { amount, currency: "EUR".into() });
            Item { id, title, description, categories, price, available, attributes, created, ..Default::default() }
        }
    }

    prop_compose! {
        fn event()(
            event_id in ".{1,12}", kind in 1_i32..=14, time in option::of(timestamp()), user_id in any::<String>(),
            ids in vec(".{1,8}", 1..4), quantity in any::<u32>(), weight in option::of(number()),
            attributes in option::of(attributes()),
        ) -> Event {
            let items = ids.into_iter().map(|id| EventItem { id, quantity, price: String::new(), served: None }).collect();
            Event { event_id, r#type: kind, time, user_id, items, weight, attributes, ..Default::default() }
        }
    }

    proptest! {
        #[test]
        fn an_item_survives_its_line(item in item()) {
            prop_assert_eq!(parse_item(&item_line(&item).unwrap()).unwrap(), item);
        }

        #[test]
        fn an_event_survives_its_line(event in event()) {
            prop_assert_eq!(parse_event(&event_line(&event).unwrap()).unwrap(), event);
        }

        #[test]
        fn no_line_is_too_strange_to_be_answered(line in ".{0,80}") {
            let _ = (parse_item(&line), parse_event(&line));
        }
    }
}
