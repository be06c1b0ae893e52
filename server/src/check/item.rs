//! Items as the shop sends them.

use prost_types::{Struct, Value, value::Kind};
use vitrine::v1::Item;

use super::{MAX_ID_CHARS, MAX_TEXT_CHARS, id, join, money, text, time};
use crate::error::Violations;

const MAX_DESCRIPTION_CHARS: usize = 100_000;
const MAX_CATEGORIES: usize = 100;
const MAX_ATTRIBUTES: usize = 200;
const MAX_TITLE_CHARS: usize = 1_000;
const MAX_TAGS: usize = 1_000;

/// An item as the shop sends it.
pub fn item(violations: &mut Violations, path: &str, item: &Item, now_ms: i64) {
    let field = |name: &str| join(path, name);
    id(violations, &field("id"), &item.id);
    if item.title.trim().is_empty() {
        violations.add(field("title"), "is required");
    }
    text(violations, &field("title"), &item.title, MAX_TITLE_CHARS);
    text(violations, &field("description"), &item.description, MAX_DESCRIPTION_CHARS);
    text(violations, &field("brand"), &item.brand, MAX_TITLE_CHARS);
    text(violations, &field("image"), &item.image, MAX_TEXT_CHARS);
    texts(violations, &field("categories"), &item.categories, MAX_CATEGORIES);
    texts(violations, &field("tags"), &item.tags, MAX_TAGS);
    if let Some(price) = &item.price {
        money(violations, &field("price"), price);
    }
    if let Some(fields) = &item.attributes {
        attributes(violations, &field("attributes"), fields);
    }
    if let Some(created) = &item.created {
        time(violations, &field("created"), created, now_ms);
    }
}

fn texts(violations: &mut Violations, field: &str, values: &[String], limit: usize) {
    if values.len() > limit {
        violations.add(field, format!("has {} entries; at most {limit} are allowed", values.len()));
    }
    for (index, value) in values.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if value.trim().is_empty() {
            violations.add(&field, "must not be empty");
        }
        text(violations, &field, value, MAX_TITLE_CHARS);
    }
}

/// Attributes are what can be searched and filtered: texts, numbers, booleans, and lists of one of them.
pub fn attributes(violations: &mut Violations, field: &str, attributes: &Struct) {
    if attributes.fields.len() > MAX_ATTRIBUTES {
        let count = attributes.fields.len();
        violations.add(field, format!("has {count} keys; at most {MAX_ATTRIBUTES} are allowed"));
    }
    for (key, value) in &attributes.fields {
        let field = join(field, key);
        if key.is_empty() || key.chars().count() > MAX_ID_CHARS || key.chars().any(char::is_control) {
            violations
                .add(&field, format!("keys have 1 to {MAX_ID_CHARS} characters, none of them a control character"));
        }
        attribute(violations, &field, value);
    }
}

/// One attribute.
pub(super) fn attribute(violations: &mut Violations, field: &str, value: &Value) {
    const EXPECTED: &str = "must be a text, a number, a boolean, or a list of texts or of numbers";
    match &value.kind {
        Some(Kind::StringValue(value)) => text(violations, field, value, MAX_TEXT_CHARS),
        Some(Kind::NumberValue(value)) if value.is_finite() => {}
        Some(Kind::BoolValue(_)) => {}
        Some(Kind::NumberValue(_)) => violations.add(field, "must be a finite number"),
        Some(Kind::ListValue(list)) => {
            if list.values.len() > MAX_TAGS {
                violations.add(field, format!("has {} entries; at most {MAX_TAGS} are allowed", list.values.len()));
            }
            for (index, value) in list.values.iter().enumerate() {
                match &value.kind {
                    Some(Kind::StringValue(_) | Kind::NumberValue(_)) => {
                        attribute(violations, &format!("{field}[{index}]"), value);
                    }
                    _ => violations.add(format!("{field}[{index}]"), "must be a text or a number"),
                }
            }
        }
        Some(Kind::NullValue(_) | Kind::StructValue(_)) | None => violations.add(field, EXPECTED),
    }
}
