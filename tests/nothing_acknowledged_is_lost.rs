//! The server is killed with SIGKILL at 50 random moments while it records events and imports items. After every
//! restart each acknowledged write is there, and none is doubled.

#![cfg(test)]

mod harness;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use harness::{CATALOG, Start, item, purchase, stock};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use vitrine::v1::{
    Catalog, EventResult, EventStatus, ExportEventsRequest, FeedbackRequest, GetCatalogRequest, GetItemRequest,
    ListItemsRequest,
};
use vitrine_client::{
    Client, Options,
    import::{ImportOptions, ImportUpdate},
};

const KILLS: usize = 50;

/// What was sent, and what the server has confirmed of it.
#[derive(Default)]
struct Ledger {
    /// Events 1 to this were sent.
    events_sent: usize,
    /// Of each event, in order, whether its acknowledgement came.
    events_acknowledged: Vec<bool>,
    /// Items 1 to this were handed to the import.
    items_sent: i64,
    /// Items 1 to this were confirmed.
    items_acknowledged: i64,
    /// Where the server said that the last import goes on.
    resumed_after: Option<i64>,
}

type Shared = Arc<Mutex<Ledger>>;

/// A client that never sends anything twice by itself: what it reports is what one attempt gave.
async fn client_of(url: String) -> Client {
    Client::connect(Options { server: url, retries: 0, ..Options::default() }).await.unwrap()
}

fn event_id(number: usize) -> String {
    format!("e{number}")
}

async fn feedback(client: &Client, numbers: impl Iterator<Item = usize>) -> Option<Vec<EventResult>> {
    let events = numbers.map(|n| purchase(&event_id(n), "u1", "milk")).collect();
    let answer = client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await;
    answer.ok().map(|answer| answer.results)
}

/// Sends events in calls of 1 to 20 until a call fails.
fn send_events(client: Client, ledger: Shared, mut rng: StdRng) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let (first, last) = {
                let mut ledger = ledger.lock().unwrap();
                let sent = ledger.events_sent;
                ledger.events_sent = sent + rng.random_range(1..=20);
                let last = ledger.events_sent;
                ledger.events_acknowledged.resize(last, false);
                (sent + 1, last)
            };
            let Some(results) = feedback(&client, first..=last).await else { return };
            assert!(results.iter().all(|result| result.status() == EventStatus::Accepted), "{results:?}");
            ledger.lock().unwrap().events_acknowledged[first - 1..last].fill(true);
        }
    })
}

/// Imports items in bursts until the connection breaks.
async fn send_items(client: Client, ledger: Shared, mut rng: StdRng) {
    let (rows, source) = mpsc::channel(1);
    let sent = Arc::clone(&ledger);
    let mut position = ledger.lock().unwrap().items_acknowledged;
    tokio::spawn(async move {
        loop {
            for _ in 0..rng.random_range(1..=40) {
                position += 1;
                {
                    let mut ledger = sent.lock().unwrap();
                    ledger.items_sent = ledger.items_sent.max(position);
                }
                let row = (position, item(&format!("i{position}"), &format!("Item {position}")));
                if rows.send(row).await.is_err() {
                    return;
                }
            }
            sleep(Duration::from_millis(rng.random_range(1..=8))).await;
        }
    });
    let options = ImportOptions { import_id: "goods".into(), ..ImportOptions::into_catalog(CATALOG) };
    let update = |update: ImportUpdate<'_>| match update {
        ImportUpdate::Progress(summary) => {
            let mut ledger = ledger.lock().unwrap();
            ledger.resumed_after = Some(summary.resumed_after);
            ledger.items_acknowledged = ledger.items_acknowledged.max(summary.durable_position);
        }
        ImportUpdate::Rejected(error) | ImportUpdate::WithoutPicture(error) => panic!("rejected: {error:?}"),
        ImportUpdate::Reconnecting { .. } => {}
    };
    let ended = client.import_items(options, ReceiverStream::new(source), update).await;
    assert!(ended.is_err(), "the source has no end");
}

async fn look(client: &Client) -> Catalog {
    client.get_catalog(GetCatalogRequest { name: CATALOG.into() }).await.unwrap()
}

/// The ids of all items, page by page.
async fn item_ids(client: &Client) -> Vec<String> {
    let mut ids = Vec::new();
    let mut request = ListItemsRequest { parent: CATALOG.into(), page_size: 1_000, ..Default::default() };
    loop {
        let page = client.list_items(request.clone()).await.unwrap();
        ids.extend(page.items.into_iter().map(|item| item.id));
        if page.next_page_token.is_empty() {
            return ids;
        }
        request.page_token = page.next_page_token;
    }
}

/// Sends the events from `first` again: those acknowledged must be known, and afterwards each is there once.
async fn check_events(client: &Client, ledger: &Shared, first: usize) {
    let (last, acknowledged) = {
        let ledger = ledger.lock().unwrap();
        (ledger.events_sent, ledger.events_acknowledged.clone())
    };
    let numbers: Vec<usize> = (first..=last).collect();
    for chunk in numbers.chunks(5_000) {
        let results = feedback(client, chunk.iter().copied()).await.expect("the restarted server takes events");
        for (&number, result) in chunk.iter().zip(&results) {
            let known = result.status() == EventStatus::Duplicate;
            let accepted = result.status() == EventStatus::Accepted;
            assert!(known || accepted && !acknowledged[number - 1], "lost: event {number}: {result:?}");
        }
    }
    ledger.lock().unwrap().events_acknowledged.fill(true);
    assert_eq!(look(client).await.event_count, last as i64, "each event sent is there once");
}

/// The items acknowledged are there, and no more than were sent (and the one of the start).
async fn check_items(client: &Client, ledger: &Shared, rng: &mut StdRng) {
    let (sent, acknowledged) = {
        let ledger = ledger.lock().unwrap();
        (ledger.items_sent, ledger.items_acknowledged)
    };
    let list = ListItemsRequest { parent: CATALOG.into(), page_size: 1, ..Default::default() };
    let total = client.list_items(list).await.unwrap().total_size;
    assert!((acknowledged + 1..=sent + 1).contains(&total), "{total} of {acknowledged} to {sent} items");
    assert_eq!(look(client).await.item_count, total);
    if acknowledged > 0 {
        for position in [acknowledged, rng.random_range(1..=acknowledged)] {
            let name = format!("{CATALOG}/items/i{position}");
            let found = client.get_item(GetItemRequest { name }).await.unwrap();
            assert_eq!(found.title, format!("Item {position}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_acknowledged_write_survives_fifty_kills() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let ledger = Shared::default();
    let mut server = Start::default().run();
    let mut client = client_of(server.url()).await;
    stock(&client, vec![item("milk", "Whole milk")]).await;

    for kill in 1..=KILLS {
        let (first, before) = {
            let mut ledger = ledger.lock().unwrap();
            ledger.resumed_after = None;
            (ledger.events_sent + 1, ledger.items_acknowledged)
        };
        let events = send_events(client.clone(), Arc::clone(&ledger), StdRng::seed_from_u64(rng.random()));
        let items = send_items(client, Arc::clone(&ledger), StdRng::seed_from_u64(rng.random()));
        let moment = Duration::from_micros(rng.random_range(0..150_000));
        let kill_it = async {
            sleep(moment).await;
            tokio::task::spawn_blocking(move || server.kill()).await.unwrap()
        };
        let (start, ()) = tokio::join!(kill_it, items);
        events.await.unwrap();
        let resumed_after = ledger.lock().unwrap().resumed_after;
        assert!(resumed_after.is_none_or(|at| at >= before), "went on after {resumed_after:?}, not {before}");

        server = start.run();
        client = client_of(server.url()).await;
        eprintln!("kill {kill}: {} events, {before} items before", first - 1);
        check_events(&client, &ledger, first).await;
        check_items(&client, &ledger, &mut rng).await;
    }

    check_events(&client, &ledger, 1).await;
    let (events, items) = {
        let ledger = ledger.lock().unwrap();
        (ledger.events_sent, ledger.items_acknowledged)
    };
    assert!(events > KILLS && items > KILLS as i64, "{events} events and {items} items are too few to tell");
    let mut export =
        client.export_events(ExportEventsRequest { catalog: CATALOG.into(), ..Default::default() }).await.unwrap();
    let (mut exported, mut ids) = (0, HashSet::new());
    while let Some(event) = export.next().await {
        exported += 1;
        ids.insert(event.unwrap().event_id);
    }
    assert_eq!((exported, ids.len()), (events, events), "each event is exported once");
    assert!((1..=events).all(|number| ids.contains(&event_id(number))));
    let listed = item_ids(&client).await;
    let distinct: HashSet<&str> = listed.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), listed.len(), "no item is listed twice");
    assert!((1..=items).all(|position| distinct.contains(format!("i{position}").as_str())));
}
