//! Field masks of `UpsertItems`: which fields of an item are replaced.

use prost_types::FieldMask;
use tonic::Status;
use vitrine::v1::Item;

use crate::{
    catalog::items::Table,
    error::{Violations, not_found},
};

/// Makes whole items of partial ones: what `mask` does not name is taken from the items as they are.
pub fn apply(mask: &FieldMask, items: &mut [Item], table: &Table) -> Result<(), Status> {
    let mut violations = Violations::default();
    if mask.paths.is_empty() {
        violations
            .add("update_mask.paths", "is required: at least one field; leave the mask out to replace whole items");
    }
    for item in items {
        let stored = table.doc(&item.id).and_then(|doc| table.item(doc));
        let stored = stored.ok_or_else(|| not_found("item", &item.id, "with `update_mask` every item must exist"))?;
        let mut merged = Item::clone(stored);
        for (index, path) in mask.paths.iter().enumerate() {
            if !take(path, item, &mut merged) {
                let description = format!("names no field of an item that can be replaced: `{path}`");
                violations.add(format!("update_mask.paths[{index}]"), description);
            }
        }
        violations.into_result()?;
        violations = Violations::default();
        *item = merged;
    }
    violations.into_result()
}

fn take(path: &str, from: &mut Item, to: &mut Item) -> bool {
    match path {
        "title" => to.title = std::mem::take(&mut from.title),
        "description" => to.description = std::mem::take(&mut from.description),
        "categories" => to.categories = std::mem::take(&mut from.categories),
        "brand" => to.brand = std::mem::take(&mut from.brand),
        "price" => to.price = from.price.take(),
        "tags" => to.tags = std::mem::take(&mut from.tags),
        "image" => to.image = std::mem::take(&mut from.image),
        "available" => to.available = from.available,
        "attributes" => to.attributes = from.attributes.take(),
        "created" => to.created = from.created,
        _ => return path.strip_prefix("attributes.").is_some_and(|key| take_attribute(key, from, to)),
    }
    true
}

/// One attribute; absent in the new item, it is removed.
fn take_attribute(key: &str, from: &mut Item, to: &mut Item) -> bool {
    let value = from.attributes.as_mut().and_then(|attributes| attributes.fields.remove(key));
    let fields = &mut to.attributes.get_or_insert_default().fields;
    match value {
        Some(value) => fields.insert(key.to_owned(), value),
        None => fields.remove(key),
    };
    !key.is_empty()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        table.upsert(Arc::new(Item {
            id: "a".into(),
            title: "Shoe".into(),
            brand: "Acme".into(),
            ..Default::default()
        }));
        table
    }

    fn mask(path: &str) -> FieldMask {
        FieldMask { paths: vec![path.into()] }
    }

    #[test]
    fn only_the_named_fields_are_replaced() {
        let mut items = [Item { id: "a".into(), title: "Boot".into(), ..Default::default() }];
        apply(&mask("title"), &mut items, &table()).unwrap();
        assert_eq!((items[0].title.as_str(), items[0].brand.as_str()), ("Boot", "Acme"));
    }

    #[test]
    fn unknown_fields_and_items_are_errors() {
        let mut items = [Item { id: "a".into(), ..Default::default() }];
        assert_eq!(apply(&mask("id"), &mut items, &table()).unwrap_err().code(), tonic::Code::InvalidArgument);
        let mut items = [Item { id: "b".into(), ..Default::default() }];
        assert_eq!(apply(&mask("title"), &mut items, &table()).unwrap_err().code(), tonic::Code::NotFound);
    }
}
