//! Catalogs are made while versions are loaded: each has vectors of each version, and no version fails for want of them.

#![cfg(test)]

mod harness;

use harness::{
    Start,
    encoders::{publish, tiny},
    eventually, item,
    models::{served, served_by, version_name},
    text_search,
};
use vitrine::v1::{
    CreateCatalogRequest, LoadVersionRequest, RequestContext, SearchRequest, UnloadVersionRequest, UpsertItemsRequest,
};
use vitrine_client::Client;

/// So many times a version is loaded while so many catalogs are made.
const ROUNDS: usize = 4;
const CATALOGS: usize = 4;

async fn make_catalogs(client: &Client, names: &[String]) {
    for name in names {
        client.create_catalog(CreateCatalogRequest { name: name.clone() }).await.unwrap();
        let items = vec![item("milk", "Whole milk")];
        let request = UpsertItemsRequest { parent: name.clone(), items, update_mask: None };
        client.upsert_items(request).await.unwrap();
    }
}

/// Waits until a search by this version finds in all catalogs what there is.
async fn finds(client: &Client, version: u32, names: &[String]) {
    for catalog in names {
        let model_selector = [("text-embedding".to_owned(), version.to_string())].into();
        let context = RequestContext { catalog: catalog.clone(), model_selector, ..Default::default() };
        let search = SearchRequest { context: Some(context), ..text_search("milk") };
        eventually(&format!("version {version} finds in {catalog}"), async || {
            let answer = client.search(search.clone()).await.unwrap();
            (served_by(&answer) == Some(version) && answer.degraded.is_empty()).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_catalog_is_searched_by_every_version() {
    let (server, client) = served(Start::default()).await;
    let two = publish(&server.start.registry, tiny(2).path());
    for round in 0..ROUNDS {
        let names: Vec<String> = (0..CATALOGS).map(|number| format!("catalogs/shop-{round}-{number}")).collect();
        let load = LoadVersionRequest { name: version_name(two), unload_first: false };
        let ((), loaded) = tokio::join!(make_catalogs(&client, &names), client.load_version(load));
        loaded.unwrap();
        finds(&client, two, &names).await;
        client.unload_version(UnloadVersionRequest { name: version_name(two) }).await.unwrap();
        finds(&client, 1, &names).await;
    }
}
