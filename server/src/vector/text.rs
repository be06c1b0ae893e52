//! What of an item is embedded.
//!
//! Encoders cut a text off (all-MiniLM-L6-v2 after 128 tokens), so the most telling comes first: title, brand,
//! categories from the general to the special, tags, text attributes in order of their names, description. What adds no
//! word to what stands before it is left out: many shops repeat the title in an attribute.

use prost_types::value::Kind;
use rustc_hash::FxHashSet;
use vitrine::v1::Item;

use crate::hash::fnv1a;

/// No more than about this many bytes are made: well above what encoders read.
const LONGEST: usize = 2000;
/// Tags take no more than about this, and attributes neither, so that there is room for the description.
const LONGEST_PART: usize = 250;

/// The text of an item that is embedded.
pub fn item_text(item: &Item) -> String {
    let mut text = Composer::default();
    text.add(&item.title, LONGEST);
    text.add(&item.brand, LONGEST);
    for segment in item.categories.iter().flat_map(|path| path.split('>')) {
        text.add(segment, LONGEST);
    }
    let room = text.text.len() + LONGEST_PART;
    for tag in &item.tags {
        text.add(tag, room);
    }
    let room = text.text.len() + LONGEST_PART;
    for value in item.attributes.iter().flat_map(|attributes| attributes.fields.values()) {
        match &value.kind {
            Some(Kind::StringValue(value)) => text.add(value, room),
            Some(Kind::ListValue(list)) => {
                for value in &list.values {
                    if let Some(Kind::StringValue(value)) = &value.kind {
                        text.add(value, room);
                    }
                }
            }
            _ => {}
        }
    }
    text.add(&item.description, LONGEST);
    if text.text.is_empty() { item.title.trim().to_owned() } else { text.text }
}

/// Tells whether a text has changed since it was embedded.
pub fn content_hash(text: &str) -> u64 {
    fnv1a(&[text.as_bytes()])
}

#[derive(Default)]
struct Composer {
    text: String,
    words: FxHashSet<String>,
}

impl Composer {
    /// Adds `part`, cut so that the whole is no longer than `longest` bytes, if it has a word that is new.
    fn add(&mut self, part: &str, longest: usize) {
        let room = longest.saturating_sub(self.text.len() + 2);
        let part = &part[..part.floor_char_boundary(room)];
        let mut new = false;
        for word in part.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
            new |= self.words.insert(word.to_lowercase());
        }
        if new {
            if !self.text.is_empty() {
                self.text.push_str(". ");
            }
            self.text.push_str(part.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::{ListValue, Struct, Value};

    fn text_value(text: &str) -> Value {
        Value { kind: Some(Kind::StringValue(text.to_owned())) }
    }

    fn attributes(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
        Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
    }

    #[test]
    fn the_most_telling_comes_first() {
        let item = Item {
            title: "Trail shoe".into(),
            brand: "Acme".into(),
            categories: vec!["Sport > Running".into()],
            tags: vec!["sale".into()],
            description: "Light and quick.".into(),
            attributes: Some(attributes([
                (
                    "colour",
                    Value {
                        kind: Some(Kind::ListValue(ListValue {
                            values: vec![text_value("blue"), text_value("white")],
                        })),
                    },
                ),
                ("weight_g", Value { kind: Some(Kind::NumberValue(310.0)) }),
            ])),
            ..Item::default()
        };
        assert_eq!(item_text(&item), "Trail shoe. Acme. Sport. Running. sale. blue. white. Light and quick.");
    }

    #[test]
    fn what_only_repeats_is_left_out() {
        let item = Item {
            title: "Whole Milk, 1 gal".into(),
            categories: vec!["Dairy > Milk".into(), "Dairy > Whole milk".into()],
            attributes: Some(attributes([
                ("source", text_value("WHOLE MILK 1 GAL")),
                ("note", text_value("DAIRY fresh")),
            ])),
            ..Item::default()
        };
        assert_eq!(item_text(&item), "Whole Milk, 1 gal. Dairy. DAIRY fresh");
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_leave_room_for_the_description() {
        let item = Item {
            title: "鞋".into(),
            tags: (0..1000).map(|n| format!("标签{n}")).collect(),
            description: "描述 ".repeat(10_000),
            ..Item::default()
        };
        let text = item_text(&item);
        assert!(text.len() <= LONGEST && text.contains("描述"), "{} bytes", text.len());
    }

    #[test]
    fn an_item_of_a_title_alone_is_its_title() {
        assert_eq!(item_text(&Item { title: " Lamp ".into(), ..Item::default() }), "Lamp");
        assert_eq!(item_text(&Item { title: "!!!".into(), ..Item::default() }), "!!!");
    }

    #[test]
    fn the_hash_follows_the_text() {
        assert_eq!(content_hash("a"), content_hash("a"));
        assert_ne!(content_hash("a"), content_hash("b"));
    }
}
