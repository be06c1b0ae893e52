//! A network learnt from histories says what a user or a session does next: as well when it is served as when it was tested, from the
//! newest event on, and with a word when it cannot.

#![cfg(test)]

mod harness;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{CATALOG, Start, TestServer, context, eventually, item, program, purchase, recommend, upsert};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use vitrine::v1::{
    DegradedReason, Event, EventItem, EventType, ExcludeInteracted, FeedbackRequest, ForSession, ForUser,
    GetModelVersionRequest, RecommendRequest, RecommendResponse, RequestContext, VersionState,
    recommend_request::Target,
};
use vitrine_client::{Client, Code};

const ITEMS: u32 = 40;
const VERSION: &str = "models/next-item/versions/1";

/// Users who walk round a circle of items, mostly a step at a time.
fn walks(path: &Path) {
    let mut random = StdRng::seed_from_u64(1);
    let mut lines = "user_id:token\titem_id:token\ttimestamp:float\n".to_owned();
    for user in 0..120 {
        let mut at: u32 = random.random_range(0..ITEMS);
        for time in 0..9 {
            writeln!(lines, "u{user}\ti{:02}\t{}", at % ITEMS, 1_000_000 + time * 60).unwrap();
            at += if random.random_bool(0.7) { 1 } else { random.random_range(2..4) };
        }
    }
    fs::write(path, lines).unwrap();
}

fn run(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(program(name)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A network learnt from the walks and published, and the walks.
fn learnt(dir: &Path, registry: &Path) -> PathBuf {
    let (walks_file, config, out) = (dir.join("walks.inter"), dir.join("next.toml"), dir.join("learnt"));
    walks(&walks_file);
    let settings = "max_length = 8\nhidden = 16\ndropout = 0.1\n[learning]\nlearning_rate = 0.01\nepochs = 30\n";
    fs::write(&config, settings).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (walks_path, out_path) = (text(&walks_file), text(&out));
    run(
        "vitrine-trainer",
        &["train", "sasrec", "--interactions", &walks_path, "--config", &text(&config), "--out", &out_path],
    );
    let registry = text(registry);
    run(
        "vitrine-trainer",
        &["publish", &out_path, "--registry", &registry, "--model", "next-item", "--label", "stable"],
    );
    walks_file
}

/// A server that runs it.
async fn served(settings: &[&str]) -> (TestServer, Client, PathBuf) {
    let start = settings.iter().fold(Start::default(), |start, setting| start.set(setting));
    let walks = learnt(start.dir.path(), &start.registry);
    let server = start.set("sequence_model.model=next-item").run();
    let client = server.client().await;
    eventually("the network is available", async || {
        let version = client.get_model_version(GetModelVersionRequest { name: VERSION.into() }).await.ok()?;
        (version.state() == VersionState::Available).then_some(())
    })
    .await;
    (server, client, walks)
}

fn ids(answer: &RecommendResponse) -> Vec<&str> {
    answer.results.iter().map(|result| result.item.as_ref().unwrap().id.as_str()).collect()
}

/// For a user, none of what they know.
fn of(user: &str) -> RecommendRequest {
    RecommendRequest {
        context: Some(RequestContext { user_id: user.into(), ..context().unwrap() }),
        exclude_interacted: Some(ExcludeInteracted::default()),
        explain: true,
        ..recommend(Target::ForUser(ForUser {}))
    }
}

#[tokio::test]
async fn it_foretells_as_well_as_when_it_was_tested() {
    let others_off =
        ["follows", "together", "similar", "again", "popular"].map(|source| format!("recommend.{source}=0.0"));
    let (server, _client, walks) = served(&others_off.each_ref().map(String::as_str)).await;
    let metrics = fs::read_to_string(server.start.dir.path().join("learnt/metrics.json")).unwrap();
    let tested = serde_json::from_str::<Value>(&metrics).unwrap()["ndcg@10"].as_f64().unwrap();
    let walks = walks.to_str().unwrap();
    let arguments =
        ["evaluate", "recommend", "--server", &server.url(), "--catalog", "walks", "--interactions", walks, "--json"];
    let report: Value = serde_json::from_str(&run("vitrine-trainer", &arguments)).unwrap();
    let models = report["models"].as_array().unwrap();
    let ndcg =
        |name: &str| models.iter().find(|model| model["model"] == name).unwrap()["ndcg"]["value"].as_f64().unwrap();
    assert!((ndcg("for_user") - tested).abs() < 1e-6, "{} served, {tested} tested", ndcg("for_user"));
    assert!(tested > ndcg("Pop") + 0.2, "{tested} is no better than what is popular: {report}");
}

#[tokio::test]
async fn users_and_sessions_are_read_to_their_newest_event_and_strangers_get_what_is_popular() {
    let (_server, client, _) = served(&[]).await;
    client.create_catalog(vitrine::v1::CreateCatalogRequest { name: CATALOG.into() }).await.unwrap();
    upsert(&client, (0..ITEMS).map(|n| item(&format!("i{n:02}"), &format!("Item {n}"))).collect()).await;
    let met = async |user: &str, n: u32| {
        let events = vec![purchase(&format!("{user}-{n}"), user, &format!("i{n:02}"))];
        client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    };
    for n in 5..9 {
        met("walker", n).await;
    }
    let answer = client.recommend(of("walker")).await.unwrap();
    assert!(ids(&answer)[..3].contains(&"i09"), "{:?}", ids(&answer));
    let first = &answer.results[0];
    assert!(first.stages.iter().any(|stage| stage.stage == "next"), "{first:?}");
    let reason = first.reason.as_ref().unwrap();
    assert!(reason.text.starts_with("likely next after Item "), "{reason:?}");
    assert_eq!(reason.source_items[0], "i08", "the last one counts most: {reason:?}");
    let by = answer.served_by.iter().find(|by| by.task == "sequence-recommendation").unwrap();
    assert_eq!((by.model.as_str(), by.version, by.label.as_str()), ("next-item", 1, "stable"));
    // The next answer knows the last event.
    for n in [20, 21, 22] {
        met("walker", n).await;
    }
    let answer = client.recommend(of("walker")).await.unwrap();
    assert!(ids(&answer)[..3].contains(&"i23"), "{:?}", ids(&answer));

    let view = |id: &str| Event {
        r#type: EventType::View as i32,
        items: vec![EventItem { id: id.into(), ..Default::default() }],
        ..Default::default()
    };
    let session = ForSession { events: ["i30", "i31", "not-there", "i32"].map(view).into() };
    let answer = client.recommend(recommend(Target::ForSession(session))).await.unwrap();
    assert!(ids(&answer)[..4].contains(&"i33"), "{:?}", ids(&answer));

    let answer = client.recommend(of("stranger")).await.unwrap();
    assert!(answer.degraded.is_empty() && !answer.results.is_empty(), "{answer:?}");
    assert!(answer.results.iter().all(|result| result.reason.as_ref().unwrap().text == "popular"), "{answer:?}");
    assert!(answer.served_by.is_empty());

    // Items that the network has never met are no candidates of its, and do no harm.
    upsert(&client, vec![item("new", "New")]).await;
    met("walker", 23).await;
    let events = vec![purchase("walker-new", "walker", "new")];
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    let answer = client.recommend(of("walker")).await.unwrap();
    assert!(ids(&answer)[..3].contains(&"i24"), "{:?}", ids(&answer));
}

#[tokio::test]
async fn a_network_that_knows_half_of_the_items_says_so_and_the_others_come_from_elsewhere() {
    let (_server, client, _) = served(&[]).await;
    client.create_catalog(vitrine::v1::CreateCatalogRequest { name: CATALOG.into() }).await.unwrap();
    // The first half of what it knows, and as many others.
    let known = (0..ITEMS / 2).map(|n| item(&format!("i{n:02}"), &format!("Item {n}")));
    upsert(&client, known.chain((0..ITEMS / 2).map(|n| item(&format!("new{n:02}"), &format!("New {n}")))).collect())
        .await;
    let mut events = Vec::new();
    let walks = [("walker", &["new01", "i05", "new02", "i06", "new03"][..]), ("other", &["i06", "new03", "new04"])];
    for (user, items) in walks {
        events.extend(items.iter().map(|item| purchase(&format!("{user}-{item}"), user, item)));
    }
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    let answer = client.recommend(of("walker")).await.unwrap();
    let why: Vec<_> = answer.degraded.iter().map(|why| (why.reason(), why.detail.as_str())).collect();
    let wanted = "the sequence model knows 2 of the last 5 items; it has learnt from others";
    assert_eq!(why, [(DegradedReason::SequenceModelOutdated, wanted)]);
    let found = ids(&answer);
    assert!(found.contains(&"i07") && found.contains(&"new04"), "{found:?}");
    // Of little nothing is concluded.
    assert!(client.recommend(of("other")).await.unwrap().degraded.is_empty());
}

#[tokio::test]
async fn without_the_network_others_answer_and_say_so() {
    let start = Start::default().set("sequence_model.model=next-item");
    let server = start.run();
    let client = server.client().await;
    client.create_catalog(vitrine::v1::CreateCatalogRequest { name: CATALOG.into() }).await.unwrap();
    upsert(&client, vec![item("milk", "Milk"), item("bread", "Bread")]).await;
    let events = vec![purchase("e1", "u1", "milk"), purchase("e2", "u2", "bread")];
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    let answer = client.recommend(of("u1")).await.unwrap();
    assert_eq!(ids(&answer), ["bread"]);
    assert!(answer.degraded.iter().any(|why| why.reason() == DegradedReason::SequenceModelUnavailable), "{answer:?}");
    let mut selecting = of("u1");
    selecting.context.as_mut().unwrap().model_selector.insert("sequence-recommendation".into(), "7".into());
    assert_eq!(harness::refused(client.recommend(selecting).await).code, Code::NotFound);
}
