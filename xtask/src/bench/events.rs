//! `cargo xtask bench events`: how soon an event changes what its user is recommended, while others' events arrive.
//!
//! Again and again somebody new views an item and is then recommended something because of it. Before the event they could only be shown what is
//! popular; the answer that names the item as a reason is the one that counts. And each second a new item comes, like one that somebody has just
//! viewed: how long until it is recommended to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde::Serialize;
use tokio::time::interval;
use vitrine::v1::{
    Event, EventItem, EventStatus, EventType, FeedbackRequest, ForUser, Item, RecommendRequest, RequestContext,
    UpsertItemsRequest, recommend_request::Target,
};
use vitrine_client::{
    Client, Error,
    load::{self, Load, Pace},
};

use super::{
    millis, rounded,
    shop::{self, CATALOG, Shop},
    spread::Spread,
};
use crate::programs::{self, Interrupted, say};

/// Whose events arrive meanwhile.
const SHOPPERS: u32 = 2_000;
/// Somebody new comes so often.
const NEWCOMERS: Duration = Duration::from_millis(50);
/// A new item comes so often.
const NEW_ITEMS: Duration = Duration::from_secs(1);
/// As long as a page may be.
const PAGE: i32 = 100;
/// The events of others go on for so long before anything counts.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub struct Events {
    /// Events of others a second, each a call of its own.
    #[arg(long, default_value_t = 500, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// How long to measure.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = super::duration)]
    duration: Duration,
    /// How many items there are, of the 4,000 most bought.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    items: u32,
    /// A value of the server's configuration, as `recommend.similar=0.3`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    settings: Vec<String>,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
    /// Use the programs that are built already.
    #[arg(long, hide = true)]
    no_build: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Line {
    newcomers: usize,
    events: u64,
    failed: u64,
    answered_late: usize,
    recorded_ms_p50: f64,
    recorded_ms_p99: f64,
    answered_ms_p50: f64,
    answered_ms_p99: f64,
    both_ms_p50: f64,
    both_ms_p99: f64,
    new_items: usize,
    new_item_ms_p50: f64,
    new_item_ms_p99: f64,
}

/// How long a newcomer waited.
#[derive(Clone, Copy)]
struct Waited {
    /// Until the event was acknowledged.
    recorded: Duration,
    /// From then until an answer came that the event has changed.
    answered: Duration,
    /// How many answers had been asked for by then.
    asked: u32,
}

pub fn run(events: &Events) -> Result<()> {
    if !events.no_build {
        programs::build()?;
    }
    let interrupted = Interrupted::watch()?;
    let shop = Shop::open(events.items, &events.settings, &interrupted)?;
    say("Waiting for the vectors of all items");
    let (waited, shown, others) = super::measure(&interrupted, async {
        let client = shop.connect().await?;
        shop::indexed(&client, CATALOG, |_, _| {}).await?;
        let items = shop::items(&client).await?;
        let ids: Arc<[String]> = items.iter().map(|item| item.id.clone()).collect();
        say(&format!("{} events of others a second, and {:.0} newcomers", events.rate, 1.0 / NEWCOMERS.as_secs_f64()));
        let others = Arc::new(Others::default());
        let arriving = tokio::spawn(arrive(client.clone(), Arc::clone(&ids), events.rate, Arc::clone(&others)));
        tokio::time::sleep(SETTLE).await;
        let (waited, shown) =
            tokio::join!(newcomers(&client, &ids, events.duration), new_items(&client, items, events.duration));
        arriving.abort();
        Ok((waited?, Spread::of(shown?), others))
    })?;
    report(events, &waited, &shown, &others);
    shop.close()
}

/// What became of the events of others.
#[derive(Default)]
struct Others {
    recorded: AtomicU64,
    failed: AtomicU64,
}

/// Sends events at a steady rate, whether or not those before are answered.
async fn arrive(client: Client, ids: Arc<[String]>, rate: u32, others: Arc<Others>) -> Result<()> {
    let load = Load { pace: Pace::Rate(rate.into()), duration: Duration::MAX };
    let mut calls = load::start(load, move |number| {
        let mut random = StdRng::seed_from_u64(number);
        let kind = if random.random_bool(0.1) { EventType::Purchase } else { EventType::View };
        let user = format!("shopper-{}", random.random_range(0..SHOPPERS));
        let item = ids.choose(&mut random).cloned().unwrap_or_default();
        record(client.clone(), format!("other-{number}"), user, item, kind)
    })?;
    while let Some(call) = calls.next().await {
        let counter = if call.outcome.is_ok_and(|accepted| accepted) { &others.recorded } else { &others.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether the event was accepted.
async fn record(
    client: Client,
    event_id: String,
    user_id: String,
    item: String,
    kind: EventType,
) -> Result<bool, Error> {
    let items = vec![EventItem { id: item, ..EventItem::default() }];
    let event = Event { event_id, user_id, items, r#type: kind.into(), ..Event::default() };
    let answer = client.feedback(FeedbackRequest { catalog: CATALOG.to_owned(), events: vec![event] }).await?;
    Ok(answer.results.iter().all(|result| result.status() == EventStatus::Accepted))
}

/// Somebody new at each tick, until the time is over.
async fn newcomers(client: &Client, ids: &Arc<[String]>, duration: Duration) -> Result<Vec<Waited>> {
    let mut random = StdRng::seed_from_u64(2);
    let mut due = interval(NEWCOMERS);
    let (begun, mut coming) = (Instant::now(), Vec::new());
    while begun.elapsed() < duration {
        due.tick().await;
        let item = ids.choose(&mut random).cloned().unwrap_or_default();
        coming.push(tokio::spawn(newcomer(client.clone(), format!("newcomer-{}", coming.len()), item)));
    }
    let mut waited = Vec::with_capacity(coming.len());
    for newcomer in coming {
        waited.push(newcomer.await??);
    }
    Ok(waited)
}

async fn newcomer(client: Client, user: String, item: String) -> Result<Waited> {
    let begun = Instant::now();
    let accepted = record(client.clone(), format!("of-{user}"), user.clone(), item.clone(), EventType::View).await?;
    ensure!(accepted, "the event of {user} was not accepted");
    let recorded = begun.elapsed();
    let request = for_user(user);
    let mut asked = 0;
    loop {
        asked += 1;
        let answer = client.recommend(request.clone()).await?;
        let reasons = answer.results.iter().filter_map(|result| result.reason.as_ref());
        if reasons.flat_map(|reason| &reason.source_items).any(|source| *source == item) {
            return Ok(Waited { recorded, answered: begun.elapsed().saturating_sub(recorded), asked });
        }
        ensure!(begun.elapsed() < Duration::from_secs(10), "nothing was recommended because of {item} in ten seconds");
    }
}

fn for_user(user_id: String) -> RecommendRequest {
    let context = Some(RequestContext { catalog: CATALOG.to_owned(), user_id, ..RequestContext::default() });
    let target = Some(Target::ForUser(ForUser {}));
    RecommendRequest { context, target, page_size: 10, explain: true, ..RecommendRequest::default() }
}

/// New items until the time is over, each like one that somebody new has viewed: how long from each one's acknowledgement until it is
/// recommended to them.
async fn new_items(client: &Client, items: Vec<Item>, duration: Duration) -> Result<Vec<Duration>> {
    let mut random = StdRng::seed_from_u64(3);
    let mut due = interval(NEW_ITEMS);
    let (begun, mut waited) = (Instant::now(), Vec::new());
    while begun.elapsed() < duration {
        due.tick().await;
        let viewed = items.choose(&mut random).cloned().unwrap_or_default();
        let number = waited.len();
        let (user, id) = (format!("visitor-of-{number}"), format!("new-{number}"));
        record(client.clone(), format!("of-{user}"), user.clone(), viewed.id.clone(), EventType::View).await?;
        let like = Item { id: id.clone(), title: format!("{}, new", viewed.title), created: None, ..viewed };
        client
            .upsert_items(UpsertItemsRequest { parent: CATALOG.to_owned(), items: vec![like], update_mask: None })
            .await?;
        // The shop has many items of the same name: it need not be among the first.
        let (acknowledged, request) = (Instant::now(), RecommendRequest { page_size: PAGE, ..for_user(user) });
        loop {
            let answer = client.recommend(request.clone()).await?;
            if answer.results.iter().filter_map(|result| result.item.as_ref()).any(|item| item.id == id) {
                break;
            }
            ensure!(acknowledged.elapsed() < Duration::from_secs(10), "{id} was not recommended in ten seconds");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        waited.push(acknowledged.elapsed());
    }
    Ok(waited)
}

fn report(events: &Events, waited: &[Waited], shown: &Spread, others: &Others) {
    let of = |time: fn(&Waited) -> Duration| Spread::of(waited.iter().map(time));
    let (recorded, answered) = (of(|waited| waited.recorded), of(|waited| waited.answered));
    let both = of(|waited| waited.recorded + waited.answered);
    let late = waited.iter().filter(|waited| waited.asked > 1).count();
    println!("\n{:<52} {:>9} {:>9} {:>9}", format!("{} newcomers", waited.len()), "p50", "p99", "longest");
    for (name, spread) in [
        ("their event is recorded", &recorded),
        ("from then until it has changed what is recommended", &answered),
        ("both", &both),
        ("a new item, until it is recommended", shown),
    ] {
        let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|quantile| millis(spread.at(quantile)));
        println!("{name:<52} {p50:>9} {p99:>9} {longest:>9}");
    }
    let [arrived, failed] = [&others.recorded, &others.failed].map(|count| count.load(Ordering::Relaxed));
    println!("{late} had to ask more than once; events of others: {arrived} recorded, {failed} failed");
    if events.json {
        let ms = |spread: &Spread, quantile| rounded(spread.at(quantile).as_secs_f64() * 1e3);
        let line = Line {
            newcomers: waited.len(),
            events: arrived,
            failed,
            answered_late: late,
            recorded_ms_p50: ms(&recorded, 0.5),
            recorded_ms_p99: ms(&recorded, 0.99),
            answered_ms_p50: ms(&answered, 0.5),
            answered_ms_p99: ms(&answered, 0.99),
            both_ms_p50: ms(&both, 0.5),
            both_ms_p99: ms(&both, 0.99),
            new_items: shown.len(),
            new_item_ms_p50: ms(shown, 0.5),
            new_item_ms_p99: ms(shown, 0.99),
        };
        println!("{}", serde_json::json!(line));
    }
}
