//! What a ranker may look at when an item is proposed to somebody: the one definition by which examples are made to learn from, and by which
//! items are ranked.
//!
//! A feature goes by its name wherever it appears: as a column of examples, as a field of a network ([`Field`](crate::Field)), in a server.
//! Its words have no blanks, so that a column of several may have them between its words.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use prost_types::value::Kind;
use vitrine::v1::{EventType, Item};

use crate::Value;

/// So many of the items that a person met last are looked at.
pub const MOST_MET: usize = 20;

/// Something that is known when an item is proposed to somebody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// `user_id`: who it is proposed to.
    User,
    /// `item_id`
    Item,
    /// `brand`
    Brand,
    /// `categories`: every path, and every path above it.
    Categories,
    /// `tags`
    Tags,
    /// `price`: ln(1 + the amount).
    Price,
    /// `age`: ln(1 + the days since the item was added).
    Age,
    /// `attributes.NAME`: its words, or its number.
    Attribute(String),
    /// `hour`: of the day, UTC.
    Hour,
    /// `weekday`: from 1, Monday, UTC.
    Weekday,
    /// `met_items`: the items that the person met last, newest first.
    MetItems,
    /// `met_brands`: their brands.
    MetBrands,
    /// `met_categories`: the first category of each.
    MetCategories,
    /// `met_before`: whether the item is one of them, `yes` or `no`.
    MetBefore,
}

/// How the values of a feature are written in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// One word.
    Word,
    /// Words with blanks between them.
    Words,
    /// A number.
    Number,
}

/// Somebody to whom items are proposed, and when.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// As [`person`] names them.
    pub person: &'a str,
    /// The items that they met last, newest first; at most [`MOST_MET`] count.
    pub met: &'a [&'a Item],
    /// Unix time in seconds.
    pub seconds: i64,
}

/// A user's id, or, where there is none, a visitor's behind `visitor:`, since a visitor may have the id of a user who is another. Of nobody,
/// nothing.
#[must_use]
pub fn person<'a>(user_id: &'a str, visitor_id: &str) -> Cow<'a, str> {
    if user_id.is_empty() && !visitor_id.is_empty() { format!("visitor:{visitor_id}").into() } else { user_id.into() }
}

/// Whether an event of that type says that the person met the item: everything but being shown it, taking it back, and refusing it.
#[must_use]
pub fn is_met(kind: EventType) -> bool {
    use EventType::{AdImpression, Dislike, Hide, Impression, RemoveFromCart, Return, Unspecified};
    !matches!(kind, Unspecified | Impression | AdImpression | RemoveFromCart | Return | Dislike | Hide)
}

impl Feature {
    /// All but attributes.
    pub const PLAIN: [Self; 13] = [
        Self::User,
        Self::Item,
        Self::Brand,
        Self::Categories,
        Self::Tags,
        Self::Price,
        Self::Age,
        Self::Hour,
        Self::Weekday,
        Self::MetItems,
        Self::MetBrands,
        Self::MetCategories,
        Self::MetBefore,
    ];

    /// How a column of it is written; `numbers` of an attribute whose values are all numbers.
    #[must_use]
    pub fn column(&self, numbers: bool) -> Column {
        use Feature::{Age, Attribute, Brand, Hour, Item, MetBefore, Price, User, Weekday};
        match self {
            Price | Age => Column::Number,
            Attribute(_) if numbers => Column::Number,
            User | Item | Brand | Hour | Weekday | MetBefore => Column::Word,
            _ => Column::Words,
        }
    }

    /// Whether it is the same for all items that are proposed at one moment.
    #[must_use]
    pub fn is_of_moment(&self) -> bool {
        use Feature::{Hour, MetBrands, MetCategories, MetItems, User, Weekday};
        matches!(self, User | Hour | Weekday | MetItems | MetBrands | MetCategories)
    }

    /// Its value for an item that is proposed at a moment. Numbers are words where a column of words is wanted; words are no number.
    #[must_use]
    pub fn value(&self, item: &Item, moment: &Moment<'_>, column: Column) -> Value {
        let met = || moment.met.iter().take(MOST_MET);
        match self {
            Self::User => words([blankless(moment.person)]),
            Self::Item => words([blankless(&item.id)]),
            Self::Brand => words([word(&item.brand)]),
            Self::Categories => words(item.categories.iter().flat_map(|path| paths(path))),
            Self::Tags => words(item.tags.iter().map(|tag| word(tag))),
            Self::Price => {
                let amount = item.price.as_ref().and_then(|price| price.amount.parse::<f64>().ok());
                number(amount.filter(|amount| *amount >= 0.0).map(f64::ln_1p))
            }
            Self::Age => {
                let days = item.created.as_ref().map(|created| (moment.seconds - created.seconds) as f64 / 86_400.0);
                number(days.map(|days| days.max(0.0).ln_1p()))
            }
            Self::Attribute(name) => attribute(item, name, column),
            Self::Hour => words([(moment.seconds.div_euclid(3_600).rem_euclid(24)).to_string()]),
            // The first day of 1970 was a Thursday.
            Self::Weekday => words([((moment.seconds.div_euclid(86_400) + 3).rem_euclid(7) + 1).to_string()]),
            Self::MetItems => words(met().map(|item| blankless(&item.id))),
            Self::MetBrands => words(met().map(|item| word(&item.brand))),
            Self::MetCategories => words(met().filter_map(|item| Some(word(item.categories.first()?)))),
            Self::MetBefore => {
                let before = met().any(|other| other.id == item.id);
                words([if before { "yes" } else { "no" }.to_owned()])
            }
        }
    }
}

/// Words that are any; none: it is not known.
fn words(words: impl IntoIterator<Item = String>) -> Value {
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    if words.is_empty() { Value::Unknown } else { Value::Words(words) }
}

fn number(number: Option<f64>) -> Value {
    number.map_or(Value::Unknown, |number| Value::Number(number as f32))
}

fn attribute(item: &Item, name: &str, column: Column) -> Value {
    let value = item.attributes.as_ref().and_then(|attributes| attributes.fields.get(name)?.kind.as_ref());
    let of = |kind: &Kind| match kind {
        Kind::StringValue(text) => word(text),
        Kind::NumberValue(number) => number.to_string(),
        Kind::BoolValue(yes) => yes.to_string(),
        Kind::NullValue(_) | Kind::ListValue(_) | Kind::StructValue(_) => String::new(),
    };
    match (value, column) {
        (Some(Kind::NumberValue(value)), Column::Number) => number(Some(*value)),
        (None, _) | (_, Column::Number) => Value::Unknown,
        (Some(Kind::ListValue(list)), _) => words(list.values.iter().filter_map(|value| value.kind.as_ref()).map(of)),
        (Some(kind), _) => words([of(kind)]),
    }
}

/// A path such as `Shoes > Running`, and those above it.
fn paths(path: &str) -> impl Iterator<Item = String> {
    let steps: Vec<String> = path.split('>').map(word).collect();
    (1..=steps.len()).map(move |length| steps[..length].join(">"))
}

/// In small letters, and without blanks.
fn word(text: &str) -> String {
    blankless(&text.to_lowercase())
}

fn blankless(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join("_")
}

impl fmt::Display for Feature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::User => "user_id",
            Self::Item => "item_id",
            Self::Brand => "brand",
            Self::Categories => "categories",
            Self::Tags => "tags",
            Self::Price => "price",
            Self::Age => "age",
            Self::Attribute(name) => return write!(formatter, "attributes.{name}"),
            Self::Hour => "hour",
            Self::Weekday => "weekday",
            Self::MetItems => "met_items",
            Self::MetBrands => "met_brands",
            Self::MetCategories => "met_categories",
            Self::MetBefore => "met_before",
        })
    }
}

/// A name that is no feature's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no feature that is known when an item is proposed")]
pub struct UnknownFeature(pub String);

impl FromStr for Feature {
    type Err = UnknownFeature;

    fn from_str(name: &str) -> Result<Self, UnknownFeature> {
        if let Some(attribute) = name.strip_prefix("attributes.").filter(|name| !name.is_empty()) {
            return Ok(Self::Attribute(attribute.to_owned()));
        }
        let plain = Self::PLAIN.into_iter().find(|feature| feature.to_string() == name);
        plain.ok_or_else(|| UnknownFeature(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{ListValue, Struct, Timestamp, Value as Attribute};
    use vitrine::v1::Money;

    use super::*;

    const NOW: i64 = 1_700_000_000; // a Tuesday, 22:13:20

    fn text(text: &str) -> Attribute {
        Attribute { kind: Some(Kind::StringValue(text.to_owned())) }
    }

    fn shoe() -> Item {
        let numbers = Attribute { kind: Some(Kind::NumberValue(310.5)) };
        let list = ListValue { values: vec![text("Sky Blue"), text("white")] };
        let list = Attribute { kind: Some(Kind::ListValue(list)) };
        let fields = [("weight_g", numbers), ("colour", list), ("fit", text("Wide"))];
        Item {
            id: "B 07".into(),
            brand: "North Wind".into(),
            categories: vec!["Shoes > Trail Running".into()],
            price: Some(Money { amount: "89.90".into(), currency: "EUR".into() }),
            created: Some(Timestamp { seconds: NOW - 86_400, nanos: 0 }),
            attributes: Some(Struct { fields: fields.map(|(name, value)| (name.to_owned(), value)).into() }),
            ..Item::default()
        }
    }

    fn of(name: &str, column: Column) -> Value {
        let (shoe, plain) = (shoe(), Item { id: "plain".into(), ..Item::default() });
        let moment = Moment { person: "visitor:v 1", met: &[&plain, &shoe], seconds: NOW };
        name.parse::<Feature>().unwrap().value(&shoe, &moment, column)
    }

    #[track_caller]
    fn has(name: &str, wanted: &[&str]) {
        let wanted = wanted.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(of(name, Column::Words), Value::Words(wanted), "{name}");
    }

    #[test]
    fn words_have_no_blanks_and_paths_have_those_above_them() {
        has("user_id", &["visitor:v_1"]);
        has("item_id", &["B_07"]);
        has("brand", &["north_wind"]);
        has("categories", &["shoes", "shoes>trail_running"]);
        has("attributes.colour", &["sky_blue", "white"]);
        has("attributes.fit", &["wide"]);
        has("hour", &["22"]);
        has("weekday", &["2"]);
        has("met_items", &["plain", "B_07"]);
        has("met_brands", &["north_wind"]);
        has("met_before", &["yes"]);
        assert_eq!(of("tags", Column::Words), Value::Unknown);
    }

    #[test]
    fn numbers_are_numbers_or_words_as_they_are_wanted() {
        assert_eq!(of("attributes.weight_g", Column::Number), Value::Number(310.5));
        has("attributes.weight_g", &["310.5"]);
        assert_eq!(of("attributes.fit", Column::Number), Value::Unknown);
        assert_eq!(of("price", Column::Number), Value::Number(90.9_f64.ln() as f32));
        assert_eq!(of("age", Column::Number), Value::Number(2.0_f64.ln() as f32));
    }

    #[test]
    fn every_feature_goes_by_its_name_and_other_names_are_none() {
        for feature in Feature::PLAIN.into_iter().chain([Feature::Attribute("shoe size".into())]) {
            assert_eq!(feature.to_string().parse(), Ok(feature));
        }
        for name in ["rating", "", "attributes.", "User_id"] {
            assert_eq!(name.parse::<Feature>(), Err(UnknownFeature(name.to_owned())));
        }
    }
}
