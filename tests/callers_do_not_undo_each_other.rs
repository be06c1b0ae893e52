//! Many services keep one catalog: one knows prices, another stock, a third texts. Each replaces its own fields.

#![cfg(test)]

mod harness;

use harness::{CATALOG, Start, item, refused, stock};
use vitrine::v1::{GetItemRequest, Item, UpsertItemsRequest};
use vitrine_client::Code;

fn patch(item: Item, path: &str) -> UpsertItemsRequest {
    let update_mask = Some(prost_types::FieldMask { paths: vec![path.into()] });
    UpsertItemsRequest { parent: CATALOG.into(), items: vec![item], update_mask }
}

#[tokio::test]
async fn what_one_replaces_the_others_keep() {
    let server = Start::default().run();
    let client = server.client().await;
    stock(&client, vec![item("shoe", "Trail shoe")]).await;
    let patches = (0..50).map(|n| {
        let (client, key) = (client.clone(), format!("key{n}"));
        let attributes = prost_types::Struct { fields: [(key.clone(), f64::from(n).into())].into() };
        let item = Item { id: "shoe".into(), attributes: Some(attributes), ..Item::default() };
        tokio::spawn(async move { client.upsert_items(patch(item, &format!("attributes.{key}"))).await.unwrap() })
    });
    for patched in patches.collect::<Vec<_>>() {
        assert_eq!(patched.await.unwrap().replaced_count, 1);
    }
    let stored = client.get_item(GetItemRequest { name: format!("{CATALOG}/items/shoe") }).await.unwrap();
    assert_eq!((stored.title.as_str(), stored.attributes.unwrap().fields.len()), ("Trail shoe", 50));
}

#[tokio::test]
async fn a_wrong_patch_is_named_and_changes_nothing() {
    let server = Start::default().run();
    let client = server.client().await;
    stock(&client, vec![item("shoe", "Trail shoe")]).await;
    for (changed, path, code, named) in [
        (item("shoe", "Boot"), "titel", Code::InvalidArgument, "update_mask.paths[0]"),
        (item("shoe", "Boot"), "id", Code::InvalidArgument, "update_mask.paths[0]"),
        (item("shoe", ""), "title", Code::InvalidArgument, "items[0].title"),
        (item("boot", "Boot"), "title", Code::NotFound, "boot"),
    ] {
        let error = refused(client.upsert_items(patch(changed, path)).await);
        assert_eq!(error.code, code, "{path}: {error}");
        assert!(error.to_string().contains(named), "{path}: {error}");
    }
    let mut without_paths = patch(item("shoe", "Boot"), "title");
    without_paths.update_mask = Some(prost_types::FieldMask::default());
    assert!(refused(client.upsert_items(without_paths).await).to_string().contains("update_mask.paths"));
    let stored = client.get_item(GetItemRequest { name: format!("{CATALOG}/items/shoe") }).await.unwrap();
    assert_eq!(stored.title, "Trail shoe");
}
