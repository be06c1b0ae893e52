//! A network learnt from what was shown to whom, and what came of it, puts a server's candidates in order. What it sees of them there is what
//! it would see in the log: each recommendation is logged as shown, and judged again from the log.

#![cfg(test)]

mod harness;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use harness::{CATALOG, Start, TestServer, context, eventually, recommend, refused, run};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use vitrine::v1::{
    Ads, Advertise, Control, DegradedReason, Event, EventItem, EventType, Exploration, FeedbackRequest, ForSession,
    ForUser, GetModelVersionRequest, Money, PutControlRequest, RecommendRequest, RecommendResponse, RequestContext,
    VersionState, control::Action, recommend_request::Target,
};
use vitrine_client::{Client, Code};

const BRANDS: [&str; 4] = ["North Wind", "Acme", "Best", "Solo"];
const ITEMS: usize = 40;
const USERS: usize = 60;
const VERSION: &str = "models/clicks/versions/1";
/// Columns that do not say when it is.
const TIMELESS: [&str; 4] = ["user_id", "brand", "met_brands", "met_before"];

/// Goods of four brands.
fn items() -> String {
    let line = |n: usize| {
        json!({
            "id": format!("i{n:02}"), "title": format!("Item {n}"), "brand": BRANDS[n % 4],
            "categories": [format!("Goods > Shelf {}", n % 5)], "price": {"amount": format!("{}.50", n + 1), "currency": "EUR"},
            "attributes": {"weight": n * 10, "colour": (["blue", "dark red"][n % 2])}, "created": format!("2025-{:02}-{:02}T09:00:00Z", 1 + n % 12, 1 + n % 28),
        })
    };
    (0..ITEMS).fold(String::new(), |mut lines, n| {
        writeln!(lines, "{}", line(n)).unwrap();
        lines
    })
}

/// People who are shown five items a visit, and click on those of the brand that they clicked on last. Each comes at all hours of all days, and so
/// often that no hour seems to belong to a brand: it does not matter when the network is asked.
///
/// With the brand of each when they left.
fn events() -> (String, Vec<usize>) {
    let mut random = StdRng::seed_from_u64(1);
    let mut lines = String::new();
    let (mut number, mut brands) = (0, Vec::with_capacity(USERS));
    let start = jiff::Timestamp::now().as_second() - 16 * 86_400;
    for user in 0..USERS {
        let mut brand = user % 4;
        for visit in 0..48 {
            for _ in 0..5 {
                let item = random.random_range(0..ITEMS);
                let time = start + visit * 7 * 3_600 + user as i64 * 24 * 60 + number % 1_000;
                let clicked = clicks(&mut random, item, brand);
                for (kind, at) in [("impression", Some(time)), ("click", clicked.then_some(time + 5))] {
                    let Some(at) = at else { continue };
                    let time = jiff::Timestamp::from_second(at).unwrap();
                    let event = json!({
                        "event_id": format!("e{number}"), "type": kind, "user_id": format!("u{user}"),
                        "item_id": format!("i{item:02}"), "time": time.to_string(),
                    });
                    writeln!(lines, "{event}").unwrap();
                    number += 1;
                }
                if clicked {
                    brand = item % 4;
                }
            }
        }
        brands.push(brand);
    }
    (lines, brands)
}

/// Whether somebody whose last click was on an item of a brand clicks on an item.
fn clicks(random: &mut StdRng, item: usize, brand: usize) -> bool {
    item % 4 == brand && random.random_bool(0.9) || random.random_bool(0.05)
}

/// A network learnt from some columns of them, or all, published.
fn learnt(registry: &Path, dir: &Path, columns: &[&str]) {
    fs::write(dir.join("items.jsonl"), items()).unwrap();
    fs::write(dir.join("events.jsonl"), events().0).unwrap();
    run("vitrine-trainer", dir, "prepare-clicks --items items.jsonl --events events.jsonl --out shown");
    let settings =
        format!("columns = {columns:?}\nwidth = 8\nlayers = [16]\n[learning]\nepochs = 12\nlearning_rate = 0.01\n");
    fs::write(dir.join("clicks.toml"), settings).unwrap();
    run("vitrine-trainer", dir, "train deepfm --interactions shown/shown.inter --config clicks.toml --out learnt");
    let registry = registry.display();
    run("vitrine-trainer", dir, &format!("publish learnt --registry {registry} --model clicks --label stable"));
}

async fn served(start: Start) -> (TestServer, Client) {
    let server = start.set("ranker.model=clicks").run();
    let client = server.client().await;
    (server, client)
}

/// The same with the goods and what happened, and a ranker of some columns, or all, available; and the folder of all.
async fn shop(columns: &[&str]) -> (TestServer, Client, PathBuf) {
    let start = Start::default();
    let dir = start.dir.path().to_owned();
    learnt(&start.registry, &dir, columns);
    let (server, client) = served(start).await;
    for (what, file) in [("items", "items.jsonl"), ("events", "events.jsonl")] {
        let output = server.cli(&[what, "import", dir.join(file).to_str().unwrap(), "--create"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    eventually("the ranker is available", async || {
        let version = client.get_model_version(GetModelVersionRequest { name: VERSION.into() }).await.ok()?;
        (version.state() == VersionState::Available).then_some(())
    })
    .await;
    (server, client, dir)
}

fn of(user: &str) -> RecommendRequest {
    RecommendRequest {
        context: Some(RequestContext { user_id: user.into(), ..context().unwrap() }),
        page_size: 20,
        ..recommend(Target::ForUser(ForUser {}))
    }
}

/// Each result with its chance.
fn ranked(answer: &RecommendResponse) -> Vec<(String, f64)> {
    let chance = |result: &vitrine::v1::Recommendation| {
        let stage = result.stages.iter().find(|stage| stage.stage == "ranked").unwrap();
        (result.item.as_ref().unwrap().id.clone(), stage.score)
    };
    answer.results.iter().map(chance).collect()
}

/// Says that an answer was shown.
async fn show(client: &Client, user: &str, answer: &RecommendResponse, at: SystemTime) {
    let items = ranked(answer).into_iter().map(|(id, _)| EventItem { id, ..Default::default() }).collect();
    let event = Event {
        event_id: format!("shown-{user}"),
        r#type: EventType::Impression as i32,
        user_id: user.into(),
        items,
        time: Some(at.into()),
        ..Default::default()
    };
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events: vec![event] }).await.unwrap();
}

#[tokio::test]
async fn what_is_seen_of_candidates_is_what_the_log_says_of_them() {
    let (server, client, dir) = shop(&[]).await;
    let mut served = Vec::new();
    for user in ["u0", "u1", "u2"] {
        let at = SystemTime::now();
        let answer = client.recommend(of(user)).await.unwrap();
        assert_eq!((answer.degraded.len(), answer.results.len()), (0, 20));
        let chances = ranked(&answer);
        assert!(chances.windows(2).all(|pair| pair[0].1 >= pair[1].1), "best first: {chances:?}");
        assert!(answer.served_by.iter().any(|by| by.task == "ctr-ranking" && by.model == "clicks"));
        show(&client, user, &answer, at).await;
        served.extend(chances);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let exported = dir.join("exported.jsonl");
    let output = server.cli(&["events", "export", "--out", exported.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    run("vitrine-trainer", &dir, "prepare-clicks --items items.jsonl --events exported.jsonl --out again");
    let line = "evaluate clicks learnt --interactions again/again.inter --all --chances chances.txt";
    run("vitrine-trainer", &dir, line);
    let examples = fs::read_to_string(dir.join("again/again.inter")).unwrap();
    let (header, lines) = examples.split_once('\n').unwrap();
    let item = header.split('\t').position(|column| column == "item_id:token").unwrap();
    let ids: Vec<&str> = lines.lines().map(|line| line.split('\t').nth(item).unwrap()).collect();
    let chances = fs::read_to_string(dir.join("chances.txt")).unwrap();
    let chances: Vec<f64> = chances.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(ids.len(), chances.len());
    for (of_user, served) in served.chunks(20).enumerate() {
        let from = ids.len() - 60 + of_user * 20;
        for (id, chance) in served {
            let at = ids[from..from + 20].iter().position(|other| other == id).unwrap();
            let again = chances[from + at];
            assert!((chance - again).abs() < 1e-5, "{id}: {chance} served, {again} of the log");
        }
    }
}

#[tokio::test]
async fn people_get_more_of_what_they_clicked_on_last_and_other_targets_are_left_alone() {
    let (_server, client, _) = shop(&TIMELESS).await;
    for (brand, name) in BRANDS.iter().enumerate() {
        let view = |n: usize| Event {
            r#type: EventType::Click as i32,
            items: vec![EventItem { id: format!("i{:02}", n * 4 + brand), ..Default::default() }],
            ..Default::default()
        };
        let session = ForSession { events: (0..4).map(view).collect() };
        // Somebody new: only the session says what they want.
        let context = Some(RequestContext { user_id: String::new(), ..context().unwrap() });
        let request =
            RecommendRequest { context, page_size: 6, explain: true, ..recommend(Target::ForSession(session)) };
        let answer = client.recommend(request.clone()).await.unwrap();
        // What they clicked on speaks for the first, and is told only when it is asked for.
        let first = &answer.results[0].reason.as_ref().unwrap().features;
        assert!(first.len() <= 3 && first.windows(2).all(|pair| pair[0].share >= pair[1].share), "{first:?}");
        assert!(first.iter().any(|feature| feature.feature.starts_with("met_") && feature.share > 0.0), "{first:?}");
        let plain = client.recommend(RecommendRequest { explain: false, ..request }).await.unwrap();
        assert_eq!((ranked(&plain), plain.results[0].reason.as_ref()), (ranked(&answer), None));
        let of_brand = answer.results.iter().filter(|result| result.item.as_ref().unwrap().brand == *name).count();
        assert!(of_brand >= 4, "{of_brand} of {name} in {:?}", ranked(&answer));
    }
    let popular = client.recommend(recommend(Target::Popular(vitrine::v1::Popular::default()))).await.unwrap();
    assert!(popular.results.iter().all(|result| result.stages.iter().all(|stage| stage.stage != "ranked")));
}

#[tokio::test]
async fn what_a_ranker_would_have_earned_is_told_from_answers_that_explore() {
    let (server, client, dir) = shop(&[]).await;
    let (mut random, mut brands) = (StdRng::seed_from_u64(2), events().1);
    let (mut shown, mut clicked) = (0, 0);
    for visit in 0..10 {
        for (user, brand) in brands.iter_mut().enumerate() {
            let exploration = Some(Exploration { epsilon: 1.0, candidates: ITEMS as i32 });
            let user_id = format!("u{user}");
            let request = RecommendRequest { exploration, page_size: 5, ..of(&user_id) };
            let answer = client.recommend(request).await.unwrap();
            assert!((answer.results[1].propensity.unwrap() - 1.0 / (ITEMS - 1) as f64).abs() < 1e-9, "{answer:?}");
            let ids: Vec<&str> =
                answer.results.iter().map(|result| result.item.as_ref().unwrap().id.as_str()).collect();
            let event = |kind: EventType, ids: &[&str]| Event {
                event_id: format!("{}-{visit}-{user}-{}", kind.as_str_name(), ids[0]),
                r#type: kind as i32,
                user_id: user_id.clone(),
                items: ids.iter().map(|id| EventItem { id: (*id).into(), ..Default::default() }).collect(),
                attribution_token: answer.attribution_token.clone(),
                ..Default::default()
            };
            let mut events = vec![event(EventType::Impression, &ids)];
            shown += ids.len();
            let before = *brand;
            for id in &ids {
                let item: usize = id[1..].parse().unwrap();
                if clicks(&mut random, item, before) {
                    events.push(event(EventType::Click, &[id]));
                    clicked += 1;
                    *brand = item % 4;
                }
            }
            client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
        }
    }
    let exported = dir.join("exported.jsonl");
    let output = server.cli(&["events", "export", "--out", exported.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    run("vitrine-trainer", &dir, "prepare-clicks --items items.jsonl --events exported.jsonl --off-policy --out told");
    let line = "evaluate off-policy learnt --interactions told/told.inter --sharpness 3 --json";
    let values: Value = serde_json::from_str(run("vitrine-trainer", &dir, line).lines().last().unwrap()).unwrap();
    assert_eq!(values["impressions"], shown);
    let value = |name: &str| values[name]["value"].as_f64().unwrap();
    assert!((value("logged") - f64::from(clicked) / shown as f64).abs() < 1e-9, "{values}");
    // It knows by what they clicked on last what people click on nine times of ten; what is shown by chance they click on a quarter as often.
    for estimator in ["ips", "snips", "dr"] {
        let margin = values[estimator]["margin"].as_f64().unwrap();
        assert!(value(estimator) - margin > value("logged"), "{estimator} of {values}");
    }
}

#[tokio::test]
async fn advertisements_come_by_what_it_says_corrected_by_their_clicks() {
    let (_server, client, _) = shop(&TIMELESS).await;
    let bid = Some(Money { amount: "0.50".into(), currency: "EUR".into() });
    let advertise = Advertise { filter: "id:*".into(), bid, ..Advertise::default() };
    let name = format!("{CATALOG}/controls/all");
    let control = Control { name, action: Some(Action::Advertise(advertise)), ..Control::default() };
    client.put_control(PutControlRequest { control: Some(control), validate_only: false }).await.unwrap();
    let ads = || async {
        let target = Target::Ads(Ads { slot: "home".into(), floor_price: None });
        let answer = client.recommend(RecommendRequest { target: Some(target), ..of("u1") }).await.unwrap();
        assert!(answer.served_by.iter().any(|by| by.task == "ctr-ranking"));
        let predicted: Vec<f64> =
            answer.results.iter().map(|result| result.ad.as_ref().unwrap().predicted_ctr).collect();
        (ranked(&answer), predicted, answer.attribution_token)
    };
    let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / numbers.len() as f64;
    let (chances, predicted, token) = ads().await;
    assert_eq!(chances.len(), 20);
    for ((id, chance), predicted) in chances.iter().zip(&predicted) {
        assert!((chance - predicted).abs() < 1e-6, "{id}: {chance} becomes {predicted} though nothing was shown");
    }
    // Shown twenty times to others, who click once in fifty.
    for round in 0..20 {
        let event = |kind: EventType, id: &str| Event {
            event_id: format!("{}-{round}-{id}", kind.as_str_name()),
            r#type: kind.into(),
            visitor_id: format!("v{round}"),
            items: vec![EventItem { id: id.into(), ..Default::default() }],
            attribution_token: token.clone(),
            ..Default::default()
        };
        let shown = chances.iter().map(|(id, _)| event(EventType::AdImpression, id));
        let clicked =
            chances.iter().skip(round).take(usize::from(round < 8)).map(|(id, _)| event(EventType::AdClick, id));
        let events = shown.chain(clicked).collect();
        client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    }
    let (again, corrected, _) = ads().await;
    assert_eq!(again, chances, "the ranker says the same, and the order stays");
    assert!(
        mean(&predicted) > 0.3,
        "it was learnt from clicks on a quarter of all that was shown: {}",
        mean(&predicted)
    );
    // 8 of 400 were clicked; that the ranker may be right counts as 100 more.
    let expected = (8.0 + 100.0 * mean(&predicted)) / 500.0;
    assert!((mean(&corrected) - expected).abs() < 0.03, "{} instead of {expected}", mean(&corrected));
}

#[tokio::test]
async fn a_ranker_whose_numbers_are_none_never_answers_and_the_sources_order_what_they_propose() {
    let start = Start::default();
    let dir = start.dir.path().to_owned();
    learnt(&start.registry, &dir, &[]);
    // The second version: weights that are no numbers, and nothing recorded to be compared with.
    fs::create_dir(dir.join("broken")).unwrap();
    fs::copy(dir.join("learnt/config.json"), dir.join("broken/config.json")).unwrap();
    let mut weights = fs::read(dir.join("learnt/model.safetensors")).unwrap();
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    weights[8 + length..].chunks_exact_mut(4).for_each(|bytes| bytes.copy_from_slice(&f32::NAN.to_le_bytes()));
    fs::write(dir.join("broken/model.safetensors"), weights).unwrap();
    let registry = start.registry.display();
    let line = format!("publish clicks broken --kind deepfm --task ctr-ranking --registry {registry}");
    run("vitrine-registry", &dir, &line);
    run("vitrine-registry", &dir, &format!("label clicks stable 2 --registry {registry}"));
    let (server, client) = served(start).await;
    for (what, file) in [("items", "items.jsonl"), ("events", "events.jsonl")] {
        assert!(server.cli(&[what, "import", dir.join(file).to_str().unwrap(), "--create"]).status.success());
    }
    let answer = eventually("the version has failed", async || {
        let answer = client.recommend(of("u1")).await.unwrap();
        let why = answer.degraded.first()?;
        assert_eq!((why.reason(), answer.degraded.len()), (DegradedReason::RankerUnavailable, 1));
        why.detail.contains("is not finite").then_some(answer)
    })
    .await;
    assert_eq!(answer.results.len(), 20);
    let mut selecting = of("u1");
    selecting.context.as_mut().unwrap().model_selector.insert("ctr-ranking".into(), "2".into());
    assert_eq!(refused(client.recommend(selecting).await).code, Code::NotFound);
}
