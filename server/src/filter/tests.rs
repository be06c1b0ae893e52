//! Columns against items: what matches, how many there are, and in which order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Timestamp, Value};
use roaring::RoaringBitmap;
use vitrine::v1::{FacetRequest, Interval, Item, Money};

use super::{Columns, FacetError, Filter, OrderBy};
use crate::Doc;

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn texts(texts: &[&str]) -> Value {
    let values = texts.iter().map(|text| value(Kind::StringValue((*text).to_owned()))).collect();
    value(Kind::ListValue(ListValue { values }))
}

fn item(title: &str, brand: &str, category: &str, price: &str, attributes: &[(&str, Value)]) -> Item {
    let price = (!price.is_empty()).then(|| Money { amount: price.to_owned(), currency: "EUR".to_owned() });
    let fields: BTreeMap<_, _> = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Item {
        id: title.replace(' ', "-"),
        title: title.to_owned(),
        brand: brand.to_owned(),
        categories: if category.is_empty() { vec![] } else { vec![category.to_owned()] },
        price,
        tags: if price_is_low(title) { vec!["Sale".to_owned()] } else { vec![] },
        attributes: Some(Struct { fields }),
        ..Item::default()
    }
}

fn price_is_low(title: &str) -> bool {
    title.contains("milk")
}

fn shop() -> Vec<Item> {
    let mut items = vec![
        item("Whole milk", "Acme", "Grocery > Dairy > Milk", "1.20", &[("organic", value(Kind::BoolValue(false)))]),
        item("Oat milk", "Oatly", "Grocery > Drinks", "2.50", &[("organic", value(Kind::BoolValue(true)))]),
        item("Trail shoe", "ACME", "Shoes > Running", "89.90", &[("colour", texts(&["Blue", "white"]))]),
        item("Road shoe", "Peak", "Shoes > Running", "120", &[("colour", texts(&["red"]))]),
        item("Gift card", "", "", "", &[("size", value(Kind::NumberValue(42.0))), ("code", texts(&["42"]))]),
        item("Butter", "Acme", "Grocery > Dairy", "3", &[("size", value(Kind::NumberValue(250.0)))]),
    ];
    items[3].available = Some(false);
    items[5].created = Some(Timestamp { seconds: 1_767_225_600, nanos: 0 }); // 2026-01-01
    items
}

fn columns(items: &[Item]) -> Columns {
    let mut columns = Columns::default();
    for (doc, item) in (0..).zip(items) {
        columns.upsert(doc, None, item);
    }
    columns
}

fn matching(columns: &Columns, filter: &str) -> Vec<Doc> {
    columns.evaluate(&Filter::parse(filter).unwrap()).into_iter().collect()
}

#[test]
fn conditions_mean_what_the_language_says() {
    let columns = columns(&shop());
    for (filter, docs) in [
        ("", vec![0, 1, 2, 3, 4, 5]),
        ("brand = acme", vec![0, 2, 5]),
        ("brand = \"Acme\" AND price < 5 AND categories: \"Dairy\"", vec![0, 5]),
        ("brand != acme", vec![1, 3]),
        ("NOT brand = acme", vec![1, 3, 4]),
        ("-brand:*", vec![4]),
        ("categories: grocery", vec![0, 1, 5]),
        ("categories: \"Grocery>Dairy\"", vec![0, 5]),
        ("categories = \"grocery > dairy\"", vec![5]),
        ("categories: milk", vec![0]),
        ("title: MILK", vec![0, 1]),
        ("title = \"whole milk\"", vec![0]),
        ("tags: sale", vec![0, 1]),
        ("price >= 89.9", vec![2, 3]),
        ("price > 89.9", vec![3]),
        ("price <= 1.2 OR price = 120", vec![0, 3]),
        ("price != 3", vec![0, 1, 2, 3]),
        ("available = false", vec![3]),
        ("available != false", vec![0, 1, 2, 4, 5]),
        ("created >= 2026-01-01", vec![5]),
        ("created < 2026-01-01", vec![]),
        ("colour = blue", vec![2]),
        ("attributes.colour: WHITE AND NOT colour = red", vec![2]),
        ("organic = true", vec![1]),
        ("organic: *", vec![0, 1]),
        ("size = 42", vec![4]),
        ("size > 42", vec![5]),
        ("code = 42", vec![4]),
        ("size = \"42\"", vec![]),
        ("never_heard_of = 1", vec![]),
        ("NOT never_heard_of = 1", vec![0, 1, 2, 3, 4, 5]),
        ("id = \"trail-shoe\"", vec![2]),
    ] {
        assert_eq!(matching(&columns, filter), docs, "{filter}");
    }
}

#[test]
fn an_item_that_changes_or_goes_leaves_nothing_behind() {
    let items = shop();
    let mut columns = columns(&items);
    let changed = Item { brand: "Peak".to_owned(), categories: vec![], attributes: None, ..items[2].clone() };
    columns.upsert(2, Some(&items[2]), &changed);
    assert_eq!(matching(&columns, "brand = peak"), [2, 3]);
    assert_eq!(matching(&columns, "colour = blue OR categories: shoes"), [3]);
    for (doc, item) in (0..).zip(&items) {
        columns.remove(doc, if doc == 2 { &changed } else { item });
    }
    assert_eq!(matching(&columns, ""), Vec::<Doc>::new());
    let facet = FacetRequest { key: "categories".to_owned(), ..FacetRequest::default() };
    assert!(columns.facet(&facet, &(0..9).collect()).unwrap().values.is_empty());
}

fn counted(columns: &Columns, request: &FacetRequest, matching: &RoaringBitmap) -> Vec<(String, i64)> {
    let facet = columns.facet(request, matching).unwrap();
    facet.values.into_iter().map(|value| (value.value, value.count)).collect()
}

#[test]
fn facets_count_the_most_frequent_first_and_then_by_name() {
    let columns = columns(&shop());
    let all: RoaringBitmap = (0..6).collect();
    let of = |key: &str, limit| FacetRequest { key: key.to_owned(), limit, ..FacetRequest::default() };
    let expected = [("Acme", 3), ("Oatly", 1), ("Peak", 1)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counted(&columns, &of("brand", 0), &all), expected);
    assert_eq!(counted(&columns, &of("brand", 2), &all), expected[..2]);
    assert_eq!(
        counted(&columns, &of("categories", 3), &all),
        [("Grocery", 3), ("Grocery > Dairy", 2), ("Shoes", 2)].map(|(name, count)| (name.to_owned(), count))
    );
    assert_eq!(counted(&columns, &of("attributes.colour", 0), &RoaringBitmap::from_iter([2])).len(), 2);
    assert!(counted(&columns, &of("attributes.unheard", 0), &all).is_empty());
}

#[test]
fn numbers_are_counted_in_half_open_intervals() {
    let columns = columns(&shop());
    let interval = |minimum, maximum| Interval { minimum, maximum };
    let intervals = vec![interval(None, Some(3.0)), interval(Some(3.0), Some(120.0)), interval(Some(120.0), None)];
    let request = FacetRequest { key: "price".to_owned(), intervals, ..FacetRequest::default() };
    let facet = columns.facet(&request, &RoaringBitmap::from_iter([0, 2, 3, 4, 5])).unwrap();
    let counts: Vec<_> = facet.values.iter().map(|value| (value.value.as_str(), value.count)).collect();
    assert_eq!(counts, [("[-inf, 3)", 1), ("[3, 120)", 2), ("[120, inf)", 1)]);
    assert_eq!((facet.minimum, facet.maximum), (Some(1.2), Some(120.0)));
}

#[test]
fn facets_that_make_no_sense_are_refused() {
    let columns = Columns::default();
    let all = RoaringBitmap::new();
    let base = FacetRequest { key: "price".to_owned(), ..FacetRequest::default() };
    let empty = Interval { minimum: Some(2.0), maximum: Some(2.0) };
    let nan = Interval { minimum: Some(f64::NAN), maximum: None };
    for (request, error) in [
        (FacetRequest { key: "title".to_owned(), ..base.clone() }, FacetError::Key("title".to_owned())),
        (FacetRequest { key: String::new(), ..base.clone() }, FacetError::Key(String::new())),
        (FacetRequest { limit: -1, ..base.clone() }, FacetError::Limit(-1)),
        (FacetRequest { limit: 301, ..base.clone() }, FacetError::Limit(301)),
        (FacetRequest { intervals: vec![empty], ..base.clone() }, FacetError::Interval(0)),
        (FacetRequest { intervals: vec![nan], ..base.clone() }, FacetError::Interval(0)),
    ] {
        assert_eq!(columns.facet(&request, &all), Err(error));
    }
}

#[test]
fn sorting_puts_missing_values_last_in_both_directions() {
    let columns = columns(&shop());
    let sorted = |order: &str| {
        let mut docs = vec![5, 4, 3, 2, 1, 0];
        columns.sort(&OrderBy::parse(order).unwrap(), &mut docs);
        docs
    };
    assert_eq!(sorted("price"), [0, 1, 5, 2, 3, 4]);
    assert_eq!(sorted("price desc"), [3, 2, 5, 1, 0, 4]);
    assert_eq!(sorted("brand, price desc"), [2, 5, 0, 1, 3, 4]);
    assert_eq!(sorted("available, title"), [3, 5, 4, 1, 2, 0]);
    assert_eq!(sorted("colour desc"), [2, 3, 5, 4, 1, 0]);
    assert_eq!(sorted(""), [5, 4, 3, 2, 1, 0]);
}

#[test]
fn orders_that_cannot_be_read_say_where() {
    for (text, position) in [("price up", 0), ("price, ", 6), (", price", 0), ("price desc, title asc x", 11)] {
        assert_eq!(OrderBy::parse(text).unwrap_err().position, position, "{text}");
    }
    assert!(OrderBy::parse(&["a"; 11].join(",")).is_err());
}

/// What a filter made of these simple conditions means, looking at one item at a time.
fn holds(item: &Item, condition: &str) -> bool {
    let price = item.price.as_ref().map(|price| price.amount.parse::<f64>().unwrap());
    match condition {
        "brand = a" => item.brand.eq_ignore_ascii_case("a"),
        "brand != a" => !item.brand.is_empty() && !item.brand.eq_ignore_ascii_case("a"),
        "price < 3" => price.is_some_and(|price| price < 3.0),
        "price >= 3" => price.is_some_and(|price| price >= 3.0),
        "categories: x" => item.categories.iter().any(|path| path.to_lowercase().split(" > ").any(|step| step == "x")),
        "available = true" => item.available.unwrap_or(true),
        _ => unreachable!(),
    }
}

fn any_item() -> impl Strategy<Value = Item> {
    let brand = prop::sample::select(vec!["", "a", "A", "b"]);
    let category = prop::sample::select(vec!["", "X", "x > y", "z > X", "z"]);
    let price = prop::sample::select(vec!["", "1", "2.99", "3", "10"]);
    (brand, category, price, any::<Option<bool>>())
        .prop_map(|(brand, category, price, available)| Item { available, ..item("t", brand, category, price, &[]) })
}

proptest! {
    #[test]
    fn evaluation_agrees_with_looking_at_every_item(
        before in prop::collection::vec(any_item(), 12),
        after in prop::collection::vec(prop::option::of(any_item()), 12),
        all in prop::collection::vec(
            prop::collection::vec((any::<bool>(), prop::sample::select(vec![
                "brand = a", "brand != a", "price < 3", "price >= 3", "categories: x", "available = true",
            ])), 1..4),
            1..4,
        ),
    ) {
        let mut columns = columns(&before);
        for (doc, (old, new)) in (0..).zip(before.iter().zip(&after)) {
            match new {
                Some(new) => columns.upsert(doc, Some(old), new),
                None => columns.remove(doc, old),
            }
        }
        let alternatives = |any: &Vec<(bool, &str)>| {
            let parts = any.iter().map(|(yes, condition)| if *yes { (*condition).to_owned() } else { format!("NOT {condition}") });
            parts.collect::<Vec<_>>().join(" OR ")
        };
        let filter = all.iter().map(alternatives).collect::<Vec<_>>().join(" AND ");
        let expected = (0..).zip(&after).filter_map(|(doc, item)| {
            let item = item.as_ref()?;
            all.iter().all(|any| any.iter().any(|(yes, condition)| holds(item, condition) == *yes)).then_some(doc)
        });
        prop_assert_eq!(matching(&columns, &filter), expected.collect::<Vec<Doc>>(), "{}", filter);
    }
}
