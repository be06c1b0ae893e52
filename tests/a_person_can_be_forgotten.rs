//! What is recorded of one person is handed out, and erased without a trace: not in answers, not after a restart, and not
//! in any file.

#![cfg(test)]

mod harness;

use std::{fs, path::Path};

use harness::{CATALOG, Start, TestServer, item, purchase, recommend, stock};
use vitrine::v1::{
    EraseUserRequest, Event, EventItem, FeedbackRequest, ForUser, GetCatalogRequest, Person, RecommendRequest,
    RequestContext, person::Id, recommend_request::Target,
};
use vitrine_client::Client;

const GONE: &str = "anna-to-be-forgotten";
const STAYS: &str = "bert-who-stays";

async fn feedback(client: &Client, events: Vec<Event>) {
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
}

async fn erase(client: &Client, user: &str) -> i64 {
    let person = Some(Person { id: Some(Id::UserId(user.into())) });
    client.erase_user(EraseUserRequest { catalog: CATALOG.into(), person }).await.unwrap().erased_events
}

async fn event_count(client: &Client) -> i64 {
    client.get_catalog(GetCatalogRequest { name: CATALOG.into() }).await.unwrap().event_count
}

/// The reasons of what is recommended to a user.
async fn reasons(client: &Client, user: &str) -> Vec<String> {
    let context = Some(RequestContext { catalog: CATALOG.into(), user_id: user.into(), ..RequestContext::default() });
    let request = RecommendRequest { context, explain: true, ..recommend(Target::ForUser(ForUser::default())) };
    let results = client.recommend(request).await.unwrap().results;
    results.into_iter().filter_map(|result| Some(result.reason?.text)).collect()
}

fn exported(server: &TestServer, user: &str) -> String {
    let output = server.cli(&["users", "export", "--user", user]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Files that hold the text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if fs::read(&path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn nothing_is_left_of_who_is_erased_and_all_of_the_others() {
    let server = Start::default().run();
    let client = server.client().await;
    stock(&client, ["milk", "bread", "butter"].map(|id| item(id, id)).into()).await;
    let basket = |n: usize, user: &str, items: &[&str]| {
        let items = items.iter().map(|&id| EventItem { id: id.into(), ..EventItem::default() }).collect();
        Event { order_id: format!("order-of-{user}-{n}"), items, ..purchase(&format!("{user}-{n}"), user, "milk") }
    };
    let baskets = (0..20).flat_map(|n| [basket(n, GONE, &["milk"]), basket(n, STAYS, &["milk", "bread"])]);
    feedback(&client, baskets.collect()).await;
    // Also named inside another person's events: those are not hers.
    let mention = Event { query: GONE.into(), ..purchase("mention", STAYS, "butter") };
    feedback(&client, vec![mention.clone()]).await;
    assert_eq!(exported(&server, GONE).lines().count(), 20);
    let before = reasons(&client, GONE).await;
    assert!(before.iter().any(|reason| reason.contains("milk")), "{before:?}");

    assert!(!server.cli(&["users", "erase", "--user", GONE]).status.success(), "erased without --yes");
    assert_eq!(erase(&client, GONE).await, 20);
    assert_eq!(erase(&client, GONE).await, 0);
    assert_eq!(event_count(&client).await, 21);
    assert_eq!((exported(&server, GONE).as_str(), exported(&server, STAYS).lines().count()), ("", 21));
    assert!(reasons(&client, GONE).await.iter().all(|reason| reason == "popular"));

    // What is written after it has its own positions, also when the last record was erased.
    feedback(&client, vec![purchase("late", GONE, "milk")]).await;
    assert_eq!(erase(&client, GONE).await, 1);
    let restart = server.kill();
    let server = restart.run();
    let client = server.client().await;
    assert_eq!(event_count(&client).await, 21);
    feedback(&client, vec![purchase("later", STAYS, "milk")]).await;
    assert_eq!((exported(&server, GONE).as_str(), exported(&server, STAYS).lines().count()), ("", 22));

    // Once nobody mentions her any more, no file does. They are read of a server that stopped at that moment: a running
    // one puts files in the place of others meanwhile.
    assert_eq!(erase(&client, STAYS).await, 22);
    let restart = server.kill();
    for name in [GONE, STAYS, "order-of"] {
        assert_eq!(holding(&restart.dir.path().join("data"), name), Vec::<String>::new(), "{name}");
    }
    let server = restart.run();
    assert_eq!(event_count(&server.client().await).await, 0);
}

#[tokio::test]
async fn erasing_does_not_disturb_those_who_write() {
    let server = Start::default().run();
    let client = server.client().await;
    stock(&client, vec![item("milk", "milk")]).await;
    let write = |user: &'static str| {
        let client = client.clone();
        tokio::spawn(async move {
            for n in 0..200 {
                feedback(&client, vec![purchase(&format!("{user}-{n}"), user, "milk")]).await;
            }
        })
    };
    let (gone, stays) = (write(GONE), write(STAYS));
    let mut erased = 0;
    while !gone.is_finished() {
        erased += erase(&client, GONE).await;
    }
    gone.await.unwrap();
    stays.await.unwrap();
    erased += erase(&client, GONE).await;
    assert_eq!((erased, event_count(&client).await), (200, 200));
    assert_eq!((exported(&server, GONE).as_str(), exported(&server, STAYS).lines().count()), ("", 200));
}
