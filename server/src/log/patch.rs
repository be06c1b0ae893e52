//! Some fields of an item, to take the place of those of the item as it is when the change is recorded: two callers who
//! patch different fields at the same time do not undo each other.

use std::sync::Arc;

use vitrine::v1::Item;

/// A field of an item that can be replaced by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `title`, like the rest by its name in the API.
    Title,
    /// `description`
    Description,
    /// `categories`
    Categories,
    /// `brand`
    Brand,
    /// `price`
    Price,
    /// `tags`
    Tags,
    /// `image`
    Image,
    /// `available`
    Available,
    /// `attributes`: all of them.
    Attributes,
    /// `created`
    Created,
    /// `attributes.KEY`: one of them.
    Attribute(String),
}

impl Field {
    /// The field of that path, if it can be replaced.
    pub fn parse(path: &str) -> Option<Self> {
        Some(match path {
            "title" => Self::Title,
            "description" => Self::Description,
            "categories" => Self::Categories,
            "brand" => Self::Brand,
            "price" => Self::Price,
            "tags" => Self::Tags,
            "image" => Self::Image,
            "available" => Self::Available,
            "attributes" => Self::Attributes,
            "created" => Self::Created,
            _ => Self::Attribute(path.strip_prefix("attributes.").filter(|key| !key.is_empty())?.to_owned()),
        })
    }
}

/// New values for some fields of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Holds the values, and the id of the item.
    pub item: Item,
    /// Which fields; what else `item` holds does not count.
    pub fields: Arc<[Field]>,
}

impl Patch {
    /// Puts the values into an item. A value that is absent removes the one there was.
    pub fn apply(&self, to: &mut Item) {
        let from = &self.item;
        for field in &*self.fields {
            match field {
                Field::Title => to.title.clone_from(&from.title),
                Field::Description => to.description.clone_from(&from.description),
                Field::Categories => to.categories.clone_from(&from.categories),
                Field::Brand => to.brand.clone_from(&from.brand),
                Field::Price => to.price.clone_from(&from.price),
                Field::Tags => to.tags.clone_from(&from.tags),
                Field::Image => to.image.clone_from(&from.image),
                Field::Available => to.available = from.available,
                Field::Attributes => to.attributes.clone_from(&from.attributes),
                Field::Created => to.created = from.created,
                Field::Attribute(key) => {
                    let value = from.attributes.as_ref().and_then(|attributes| attributes.fields.get(key));
                    let fields = &mut to.attributes.get_or_insert_default().fields;
                    match value {
                        Some(value) => fields.insert(key.clone(), value.clone()),
                        None => fields.remove(key),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{Struct, Value};

    use super::*;

    fn attributes(values: &[(&str, f64)]) -> Struct {
        Struct { fields: values.iter().map(|&(key, value)| (key.to_owned(), Value::from(value))).collect() }
    }

    #[test]
    fn only_the_named_fields_are_replaced() {
        let mut item = Item { id: "a".into(), title: "Shoe".into(), brand: "Acme".into(), ..Item::default() };
        item.attributes = Some(attributes(&[("size", 40.0), ("weight", 310.0)]));
        let new = Item { title: "Boot".into(), attributes: Some(attributes(&[("size", 41.0)])), ..Item::default() };
        let fields = ["title", "attributes.size", "attributes.weight"].map(|path| Field::parse(path).unwrap());
        Patch { item: new, fields: fields.into() }.apply(&mut item);
        assert_eq!((item.title.as_str(), item.brand.as_str()), ("Boot", "Acme"));
        assert_eq!(item.attributes, Some(attributes(&[("size", 41.0)])));
    }

    #[test]
    fn what_cannot_be_replaced_is_no_field() {
        for path in ["", "id", "Title", "attributes.", "price.amount"] {
            assert_eq!(Field::parse(path), None, "{path}");
        }
    }
}
