//! The language: what is read, what is refused and where, and that what is written down reads the same.

use proptest::prelude::*;

use super::*;

fn error_of(text: &str) -> (usize, String) {
    let error = Filter::parse(text).unwrap_err();
    (error.position, error.message)
}

#[test]
fn or_binds_tighter_than_and() {
    let filter = Filter::parse("a = 1 AND b = 2 OR c = 3").unwrap();
    assert_eq!(filter.to_string(), "attributes.a = 1 AND (attributes.b = 2 OR attributes.c = 3)");
}

#[test]
fn not_has_two_spellings() {
    assert_eq!(Filter::parse("NOT brand = Acme").unwrap(), Filter::parse("-brand=\"Acme\"").unwrap());
}

#[test]
fn quotes_escapes_and_quoted_names_are_read() {
    let filter = Filter::parse(r#"attributes."shoe size" = 'a \'b\' "c"'"#).unwrap();
    assert_eq!(filter.to_string(), r#"attributes."shoe size" = "a 'b' \"c\"""#);
}

#[test]
fn times_are_read_with_and_without_quotes() {
    let same = ["created >= 2026-01-31T09:00:00Z", "created>='2026-01-31T10:00:00+01:00'"];
    assert_eq!(Filter::parse(same[0]).unwrap(), Filter::parse(same[1]).unwrap());
    assert!(Filter::parse("created < 2026-02-01").is_ok());
}

#[test]
fn errors_name_the_place_and_what_was_expected() {
    for (text, position, expected) in [
        ("price <", 7, "expected a value"),
        ("price < abc", 8, "expected a number"),
        ("price < 1e999", 8, "too large"),
        ("price < nan", 8, "expected a number"),
        ("brand", 5, "expected a comparator"),
        ("brand = \"Acme", 13, "to end the text that begins at character 8"),
        ("(brand = Acme", 13, "expected `)`"),
        ("brand = Acme)", 12, "closes nothing"),
        ("brand = Trail shoe", 14, "needs quotes"),
        ("brand = A and price < 5", 10, "expected AND"),
        ("brand = A AND", 13, "expected a key"),
        ("brand < A", 6, "has no order"),
        ("available = maybe", 12, "expected true or false"),
        ("created > yesterday", 10, "expected a time"),
        ("é = \"日本\" AND = 3", 13, "expected a key"),
        ("attributes. = 3", 11, "expected an attribute's name"),
        ("OR = 3", 0, "not `OR`"),
    ] {
        let (at, message) = error_of(text);
        assert!(at == position && message.contains(expected), "{text}: at {at}: {message}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    assert_eq!(error_of(&"(".repeat(3_999)).0, MAX_DEPTH);
    assert_eq!(error_of(&"-(".repeat(1_999)).0, 2 * MAX_DEPTH + 1);
    assert_eq!(error_of(&"x".repeat(4_001)).0, MAX_LENGTH);
    let deepest = format!("{}a = 1{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
    assert!(Filter::parse(&deepest).is_ok());
}

#[test]
fn excluded_keys_go_only_from_the_top() {
    let filter = "(brand = A OR brand = B) AND price < 5 AND (brand = A OR tags: sale) AND NOT colour = red";
    let filter = Filter::parse(filter).unwrap();
    let rest = filter.without_keys(&["brand".to_owned(), "attributes.colour".to_owned()]);
    assert_eq!(rest.to_string(), r#"price < 5 AND (brand = "A" OR tags : "sale")"#);
    assert!(filter.without_keys(&["brand", "price", "tags", "colour"].map(str::to_owned)).is_empty());
}

fn condition() -> impl Strategy<Value = Expression> {
    let text = prop_oneof![Just(Key::Title), Just(Key::Brand), Just(Key::Tags), Just(Key::Categories)];
    let same = prop_oneof![Just(Comparator::Equal), Just(Comparator::NotEqual), Just(Comparator::Has)];
    let every = prop_oneof![
        same.clone(),
        Just(Comparator::Less),
        Just(Comparator::LessOrEqual),
        Just(Comparator::Greater),
        Just(Comparator::GreaterOrEqual)
    ];
    let number = prop::num::f64::NORMAL | prop::num::f64::ZERO;
    let attribute = ".{0,6}".prop_map(Key::Attribute);
    prop_oneof![
        (text, same.clone(), ".*").prop_map(|(k, c, text)| (k, c, Operand::Text(text))),
        (Just(Key::Price), every.clone(), number).prop_map(|(k, c, number)| (k, c, Operand::Number(number))),
        (attribute.clone(), every.clone(), number).prop_map(|(k, c, number)| (k, c, Operand::Number(number))),
        (attribute.clone(), same.clone(), ".*").prop_map(|(k, c, text)| (k, c, Operand::Text(text))),
        (attribute, same.clone(), any::<bool>()).prop_map(|(k, c, truth)| (k, c, Operand::Truth(truth))),
        (Just(Key::Available), same, any::<bool>()).prop_map(|(k, c, truth)| (k, c, Operand::Truth(truth))),
        (Just(Key::Created), every, 0..4_000_000_000_000_i64).prop_map(|(k, c, ms)| (k, c, Operand::Time(ms))),
        Just((Key::Price, Comparator::Has, Operand::Any)),
    ]
    .prop_map(|(key, comparator, operand)| Expression::Condition(Condition { key, comparator, operand }))
}

fn filter() -> impl Strategy<Value = Filter> {
    let root = condition().prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| Expression::all(parts).unwrap()),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| Expression::any(parts).unwrap()),
            inner.prop_map(|part| Expression::Not(Box::new(part))),
        ]
    });
    prop::option::of(root).prop_map(|root| Filter { root })
}

proptest! {
    #[test]
    fn what_is_written_down_reads_the_same(filter in filter()) {
        let text = filter.to_string();
        prop_assume!(text.chars().count() <= MAX_LENGTH);
        prop_assert_eq!(Filter::parse(&text), Ok(filter));
    }

    #[test]
    fn any_text_is_a_filter_or_an_error_within_it(text in ".{0,80}") {
        if let Err(error) = Filter::parse(&text) {
            prop_assert!(error.position <= text.chars().count());
        }
    }

    #[test]
    fn any_run_of_symbols_is_a_filter_or_an_error_within_it(
        symbols in prop::collection::vec(prop::sample::select(vec![
            "(", ")", "-", "NOT ", "AND ", "OR ", "=", "!=", "<", ":", "*", "\"", "'", "\\", "brand ", "price ", "5 ", ".",
            "attributes.", "created ", "2026-01-01 ", "é", "x",
        ]), 0..30),
    ) {
        let text = symbols.concat();
        if let Err(error) = Filter::parse(&text) {
            prop_assert!(error.position <= text.chars().count(), "{}: {}", text, error);
        }
    }
}
