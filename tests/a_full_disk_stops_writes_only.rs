//! The disk under the data directory fills up: reads and searches go on, writes are refused with a reason, and work
//! again when there is room.

#![cfg(test)]

mod harness;

use std::fs;

use harness::{CATALOG, Start, disk::SmallDisk, eventually, item, purchase, recommend, stock, text_search};
use vitrine::v1::{
    EventStatus, FeedbackRequest, GetItemRequest, ListItemsRequest, Popular, UpsertItemsRequest,
    recommend_request::Target,
};
use vitrine_client::{Client, Code, Error, Options, import::ImportOptions};

async fn send(client: &Client, id: &str) -> Result<EventStatus, Error> {
    let events = vec![purchase(id, "u1", "milk")];
    let answer = client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await?;
    Ok(answer.results[0].status())
}

async fn put(client: &Client, id: &str, description: &str) -> Result<(), Error> {
    let items = vec![vitrine::v1::Item { description: description.into(), ..item(id, "Oat drink") }];
    client.upsert_items(UpsertItemsRequest { parent: CATALOG.into(), items, update_mask: None }).await.map(|_| ())
}

async fn import(client: &Client, id: &str) -> Result<(), Error> {
    let rows = tokio_stream::iter([(1, item(id, "Imported drink"))]);
    client.import_items(ImportOptions::into_catalog(CATALOG), rows, |_| {}).await.map(|_| ())
}

#[track_caller]
fn assert_no_room<T: std::fmt::Debug>(answer: Result<T, Error>) {
    let error = harness::refused(answer);
    assert!(matches!(error.code, Code::ResourceExhausted | Code::Unavailable), "{error:?}");
    assert!(!error.reason.is_empty() && !error.message.is_empty(), "{error:?}");
}

async fn assert_reads_go_on(client: &Client) {
    let found = client.search(text_search("milk")).await.unwrap();
    assert_eq!(found.results[0].item.as_ref().unwrap().id, "milk");
    let name = format!("{CATALOG}/items/milk");
    assert_eq!(client.get_item(GetItemRequest { name }).await.unwrap().title, "Whole milk");
    let list = ListItemsRequest { parent: CATALOG.into(), ..Default::default() };
    assert!(client.list_items(list).await.unwrap().total_size >= 2);
    let popular = client.recommend(recommend(Target::Popular(Popular::default()))).await.unwrap();
    assert!(!popular.results.is_empty());
}

#[tokio::test]
async fn writes_are_refused_until_there_is_room_and_reads_go_on() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let server = Start { data_dir: disk.path().to_owned(), ..Start::default() }.run();
    let options = Options { server: server.url(), retries: 0, ..Options::default() };
    let client = Client::connect(options).await.unwrap();
    stock(&client, vec![item("milk", "Whole milk"), item("bread", "Rye bread")]).await;
    assert_eq!(send(&client, "before").await.unwrap(), EventStatus::Accepted);
    eventually("the items are found", async || {
        let found = client.search(text_search("milk")).await.unwrap();
        (!found.results.is_empty()).then_some(())
    })
    .await;

    let filler = disk.fill();
    // Pages that the log has already may take a few small writes more.
    let large = "words that need room ".repeat(4_000);
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for n in 0..200 {
        let id = format!("full-{n}");
        match put(&client, &id, &large).await {
            Ok(()) => accepted.push(id),
            Err(error) => {
                assert_no_room(Err::<(), _>(error));
                refused += 1;
            }
        }
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "the disk is full, and everything was accepted");
    let many = (0..5_000).map(|n| purchase(&format!("many-{n}"), "u1", "milk")).collect();
    assert_no_room(client.feedback(FeedbackRequest { catalog: CATALOG.into(), events: many }).await);
    let rows = tokio_stream::iter((1..).zip((0..5_000).map(|n| item(&format!("row-{n}"), "Imported drink"))));
    assert_no_room(client.import_items(ImportOptions::into_catalog(CATALOG), rows, |_| {}).await);
    assert_reads_go_on(&client).await;
    assert!(client.health("").await.is_ok());

    fs::remove_file(filler).unwrap();
    eventually("events are taken again", async || send(&client, "after").await.ok()).await;
    eventually("items are taken again", async || put(&client, "oat", "").await.ok()).await;
    eventually("imports are taken again", async || import(&client, "imported").await.ok()).await;
    assert_eq!(send(&client, "before").await.unwrap(), EventStatus::Duplicate);
    for id in accepted.iter().map(String::as_str).chain(["oat", "imported"]) {
        client.get_item(GetItemRequest { name: format!("{CATALOG}/items/{id}") }).await.unwrap();
    }
    eventually("what was written after it is found", async || {
        let found = client.search(text_search("imported drink")).await.unwrap();
        found.results.iter().any(|result| result.item.as_ref().unwrap().id == "imported").then_some(())
    })
    .await;
    assert_reads_go_on(&client).await;
    drop(server);
}
