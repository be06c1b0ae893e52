//! `cargo xtask bench storefront`: every call that runs a network, each alone and all together on one device: searches by words and by pictures,
//! recommendations for users and for sessions, and made pictures.
//!
//! The network that reads histories learns from the shop's own purchases, for one pass only: how good it is makes no difference here. What sees and makes pictures
//! is in `model-registry/starter`; the goods get pictures that it made.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use prost::bytes::Bytes;
use serde::Serialize;
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    Event, EventItem, EventType, ForSession, ForUser, GenerateImageRequest, GetModelRequest, ImageQuery,
    PutPictureRequest, RecommendRequest, RequestContext, SearchRequest, VersionState,
    generate_image_request::Condition, recommend_request::Target, search_request::Query,
};
use vitrine_client::{
    Client, Error,
    load::{self, Load, Pace},
};

use super::{
    millis,
    queries::Queries,
    rounded,
    shop::{self, CATALOG, Shop},
    spread::Spread,
};
use crate::programs::{self, Interrupted, say};

const SEQUENCES: &str = "next-item";
const RANKER: &str = "clicks";
const PICTURES: &str = programs::GENERATOR.model;
const IMAGE_ENCODER: &str = programs::IMAGE_ENCODER.model;
/// Different pictures that the goods have, and as many others to search by; at most 64, as many as a call makes.
const LOOKS: i32 = 64;
/// Callers of the closed loop that tells what the server can do.
const CALLERS: usize = 16;
/// Measuring what it can do at most.
const CAPACITY: Duration = Duration::from_secs(10);
/// Events of a session.
const SESSION: usize = 5;
/// Pictures of a call among the others.
const FEW: i32 = 4;

#[derive(Args)]
pub struct Storefront {
    /// How long to measure each call alone.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = super::duration)]
    alone: Duration,
    /// How long to measure all together.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = super::duration)]
    together: Duration,
    /// The part of what the server can do that is asked of it then.
    #[arg(long, default_value_t = 0.6, value_name = "PART")]
    load: f64,
    /// How many items there are, of the 4,000 most bought.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    items: u32,
    /// How many candidates of a recommendation a ranker puts in order, a `deepfm` of the kinds' usual sizes. 0: there is none.
    #[arg(long, default_value_t = 0, value_name = "N")]
    ranked: usize,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
    /// Use the programs that are built already.
    #[arg(long, hide = true)]
    no_build: bool,
}

/// A call that runs a network. Pictures are timed until the first of them is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Search,
    ByPicture,
    ForUser,
    ForSession,
    Pictures(i32),
}

/// Of each twenty calls, what they are.
const MIX: [(Kind, u64); 5] =
    [(Kind::Search, 10), (Kind::ByPicture, 2), (Kind::ForUser, 4), (Kind::ForSession, 3), (Kind::Pictures(FEW), 1)];

impl Kind {
    fn name(self) -> String {
        match self {
            Self::Search => "search".to_owned(),
            Self::ByPicture => "search_by_picture".to_owned(),
            Self::ForUser => "for_user".to_owned(),
            Self::ForSession => "for_session".to_owned(),
            Self::Pictures(1) => "generate_image_1".to_owned(),
            Self::Pictures(count) => format!("generate_image_{count}_first"),
        }
    }

    /// The call of that number, well mixed.
    fn of_mix(number: u64) -> Self {
        let all: u64 = MIX.iter().map(|(_, count)| count).sum();
        let mut place = number * 7 % all;
        for (kind, count) in MIX {
            match place.checked_sub(count) {
                None => return kind,
                Some(rest) => place = rest,
            }
        }
        Self::Search
    }
}

/// The last line of `--json`: milliseconds by call.
#[derive(Serialize)]
struct Line {
    alone_ms_p50: BTreeMap<String, f64>,
    alone_ms_p99: BTreeMap<String, f64>,
    together_ms_p50: BTreeMap<String, f64>,
    together_ms_p99: BTreeMap<String, f64>,
    capacity_per_s: f64,
    rate_per_s: f64,
    failed: usize,
}

/// What came of calls.
#[derive(Default)]
struct Times {
    of: BTreeMap<Kind, Vec<Duration>>,
    failed: usize,
    seconds: f64,
}

impl Times {
    fn spreads(&self) -> BTreeMap<Kind, Spread> {
        self.of.iter().map(|(kind, times)| (*kind, Spread::of(times.iter().copied()))).collect()
    }

    fn rate(&self) -> f64 {
        self.of.values().map(Vec::len).sum::<usize>() as f64 / self.seconds
    }
}

pub fn run(storefront: &Storefront) -> Result<()> {
    if !storefront.no_build {
        programs::build()?;
    }
    let interrupted = Interrupted::watch()?;
    let mut settings = vec![
        format!("sequence_model.model={SEQUENCES}"),
        format!("image_generator.model={PICTURES}"),
        format!("image_encoder.model={IMAGE_ENCODER}"),
    ];
    if storefront.ranked > 0 {
        settings.extend([format!("ranker.model={RANKER}"), format!("recommend.ranked={}", storefront.ranked)]);
    }
    let shop = Shop::open(storefront.items, &settings, &interrupted)?;
    shop.import_events(&interrupted)?;
    publish(&shop, storefront.ranked > 0, &interrupted)?;
    let (alone, capacity, together) = super::measure(&interrupted, measure(storefront, &shop))?;
    report(storefront, &alone, capacity, &together);
    shop.close()
}

/// Puts the networks into the registry.
fn publish(shop: &Shop, ranked: bool, interrupted: &Interrupted) -> Result<()> {
    say("Publishing what makes and sees pictures, and what reads histories after a pass over them");
    for starter in [programs::GENERATOR, programs::IMAGE_ENCODER] {
        programs::run(programs::pull_starter(starter, &shop.registry())?, Some(interrupted))?;
    }
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let path = |name: &str| folder.path().join(name);
    fs::write(path("next.toml"), "max_length = 50\n[learning]\nepochs = 1\n").context("cannot write a file")?;
    let trainer = |arguments: &[&str]| -> Result<Command> {
        let mut command = Command::new(programs::ours("vitrine-trainer")?);
        command.args(arguments).current_dir(folder.path());
        Ok(command)
    };
    let events = fs::canonicalize(shop.events()).context("the events are not there")?;
    let mut prepare = trainer(&["prepare", "--out", "shop", "--events"])?;
    prepare.arg(&events);
    programs::run(prepare, Some(interrupted))?;
    let train = ["train", "sasrec", "--interactions", "shop/shop.inter", "--config", "next.toml", "--out", "learnt"];
    programs::run(trainer(&train)?, Some(interrupted))?;
    let registry = fs::canonicalize(shop.registry()).context("the registry is not there")?;
    let publish = |learnt: &str, model: &str| -> Result<()> {
        let mut publish = trainer(&["publish", learnt, "--model", model, "--label", "stable", "--registry"])?;
        publish.arg(&registry);
        programs::run(publish, Some(interrupted))
    };
    publish("learnt", SEQUENCES)?;
    if !ranked {
        return Ok(());
    }
    fs::write(path("clicks.toml"), "[learning]\nepochs = 1\n").context("cannot write a file")?;
    let mut prepare = trainer(&["prepare-clicks", "--drawn", "2", "--out", "shown", "--events"])?;
    prepare.arg(&events).arg("--items").arg(fs::canonicalize(shop.goods()).context("the goods are not there")?);
    programs::run(prepare, Some(interrupted))?;
    let train =
        ["train", "deepfm", "--interactions", "shown/shown.inter", "--config", "clicks.toml", "--out", "clicks"];
    programs::run(trainer(&train)?, Some(interrupted))?;
    publish("clicks", RANKER)
}

async fn measure(storefront: &Storefront, shop: &Shop) -> Result<(Times, f64, Times)> {
    let client = shop.connect().await?;
    say("Waiting for the networks, and for the vectors of all items and their pictures");
    let ranker = (storefront.ranked > 0).then_some(RANKER);
    for model in [SEQUENCES, PICTURES, IMAGE_ENCODER].into_iter().chain(ranker) {
        available(&client, model).await?;
    }
    let items: Vec<String> = shop::items(&client).await?.into_iter().map(|item| item.id).collect();
    let looks = made(&client, 0).await?;
    for (item, data) in items.iter().zip(looks.into_iter().cycle()) {
        client.put_picture(PutPictureRequest { name: format!("{CATALOG}/items/{item}"), data }).await?;
    }
    shop::indexed(&client, CATALOG, |_, _| {}).await?;
    let asking = Arc::new(Asking {
        queries: Queries::new(shop.queries.clone()),
        pictures: made(&client, LOOKS.unsigned_abs().into()).await?,
        users: users(shop.events())?,
        items,
        client,
    });
    let mut alone = Times::default();
    for kind in [Kind::Search, Kind::ByPicture, Kind::ForUser, Kind::ForSession, Kind::Pictures(1), Kind::Pictures(16)]
    {
        say(&format!("{} alone", kind.name()));
        let times = calls(&asking, Pace::Callers(1), storefront.alone, move |_| kind).await?;
        alone.failed += times.failed;
        alone.of.extend(times.of);
    }
    say("All together, as many as the server can answer");
    let capacity = calls(&asking, Pace::Callers(CALLERS), CAPACITY, Kind::of_mix).await?.rate();
    let rate = capacity * storefront.load;
    say(&format!("All together, {rate:.1} calls a second"));
    let together = calls(&asking, Pace::Rate(rate), storefront.together, Kind::of_mix).await?;
    Ok((alone, capacity, together))
}

/// Pictures of dresses, of this seed and those after it.
async fn made(client: &Client, seed: u64) -> Result<Vec<Bytes>> {
    let context = Some(RequestContext { catalog: CATALOG.to_owned(), ..RequestContext::default() });
    let condition = Some(Condition::Category("dress".to_owned()));
    let request = GenerateImageRequest { context, condition, count: LOOKS, seed: Some(seed), ..Default::default() };
    let mut images = client.generate_image(request).await?;
    let mut files = Vec::new();
    while let Some(image) = images.next().await {
        files.push(image?.data);
    }
    Ok(files)
}

async fn available(client: &Client, model: &str) -> Result<()> {
    loop {
        let model = client.get_model(GetModelRequest { name: format!("models/{model}") }).await;
        let states = model.into_iter().flat_map(|model| model.versions);
        if states.into_iter().any(|version| version.state() == VersionState::Available) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Who did something, as long as nobody is asked for twice.
fn users(events: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(events).with_context(|| events.display().to_string())?;
    let mut users: Vec<String> = text
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).ok()?.get("user_id")?.as_str().map(str::to_owned)
        })
        .collect();
    users.sort_unstable();
    users.dedup();
    Ok(users)
}

/// Makes calls and times them.
async fn calls(
    asking: &Arc<Asking>,
    pace: Pace,
    duration: Duration,
    kind: impl Fn(u64) -> Kind + Copy + Send + Sync + 'static,
) -> Result<Times> {
    let (asking, begun) = (Arc::clone(asking), Instant::now());
    let mut calls = load::start(Load { pace, duration }, move |number| {
        let (asking, kind) = (Arc::clone(&asking), kind(number));
        async move { Ok((kind, asking.call(kind, number).await?)) }
    })?;
    let mut times = Times::default();
    while let Some(call) = calls.next().await {
        match call.outcome {
            Ok((kind, more)) => times.of.entry(kind).or_default().push(call.latency.saturating_sub(more)),
            Err(_) => times.failed += 1,
        }
    }
    times.seconds = begun.elapsed().as_secs_f64();
    Ok(times)
}

/// What is asked for.
struct Asking {
    client: Client,
    queries: Queries,
    /// Files that no item has.
    pictures: Vec<Bytes>,
    users: Vec<String>,
    items: Vec<String>,
}

impl Asking {
    /// Makes a call; how long more came after what it is timed by.
    async fn call(&self, kind: Kind, number: u64) -> Result<Duration, Error> {
        let context = Some(RequestContext { catalog: CATALOG.to_owned(), ..RequestContext::default() });
        let of = |all: &[String], at: usize| all.get(at % all.len().max(1)).cloned().unwrap_or_default();
        let at = number as usize;
        match kind {
            Kind::Search => {
                let query = Some(Query::Text(self.queries.next()));
                self.client.search(SearchRequest { context, query, ..Default::default() }).await?;
            }
            Kind::ByPicture => {
                let data = self.pictures[at % self.pictures.len().max(1)].clone();
                let query = Some(Query::Image(ImageQuery { data }));
                self.client.search(SearchRequest { context, query, ..Default::default() }).await?;
            }
            Kind::ForUser => {
                let context = context.map(|context| RequestContext { user_id: of(&self.users, at), ..context });
                let target = Some(Target::ForUser(ForUser {}));
                self.client.recommend(RecommendRequest { context, target, ..Default::default() }).await?;
            }
            Kind::ForSession => {
                let viewed = |item: usize| Event {
                    r#type: EventType::View.into(),
                    items: vec![EventItem { id: of(&self.items, at * 31 + item * 7), ..Default::default() }],
                    ..Default::default()
                };
                let target = Some(Target::ForSession(ForSession { events: (0..SESSION).map(viewed).collect() }));
                self.client.recommend(RecommendRequest { context, target, ..Default::default() }).await?;
            }
            Kind::Pictures(count) => {
                let condition = Some(Condition::Category("dress".to_owned()));
                let request =
                    GenerateImageRequest { context, condition, count, seed: Some(number), ..Default::default() };
                let mut images = self.client.generate_image(request).await?;
                if let Some(first) = images.next().await {
                    first?;
                }
                let first = Instant::now();
                while let Some(image) = images.next().await {
                    image?;
                }
                return Ok(first.elapsed());
            }
        }
        Ok(Duration::ZERO)
    }
}

fn report(storefront: &Storefront, alone: &Times, capacity: f64, together: &Times) {
    let rate = capacity * storefront.load;
    println!("\n{:<24} {:>9} {:>9} {:>9}", "alone, one caller", "calls", "p50", "p99");
    print(&alone.spreads(), alone);
    println!("\n{:<24} {:>9} {:>9} {:>9}", format!("together, {rate:.0}/s"), "calls", "p50", "p99");
    print(&together.spreads(), together);
    let failed = alone.failed + together.failed;
    println!("{capacity:.0} calls a second at most; {failed} failed");
    if storefront.json {
        let ms = |times: &Times, quantile: f64| -> BTreeMap<String, f64> {
            let of = |spread: &Spread| rounded(spread.at(quantile).as_secs_f64() * 1e3);
            times.spreads().iter().map(|(kind, spread)| (kind.name(), of(spread))).collect()
        };
        let line = Line {
            alone_ms_p50: ms(alone, 0.5),
            alone_ms_p99: ms(alone, 0.99),
            together_ms_p50: ms(together, 0.5),
            together_ms_p99: ms(together, 0.99),
            capacity_per_s: rounded(capacity),
            rate_per_s: rounded(rate),
            failed,
        };
        println!("{}", serde_json::json!(line));
    }
}

fn print(spreads: &BTreeMap<Kind, Spread>, times: &Times) {
    for (kind, spread) in spreads {
        let [p50, p99] = [0.5, 0.99].map(|quantile| millis(spread.at(quantile)));
        println!("{:<24} {:>9} {p50:>9} {p99:>9}", kind.name(), times.of.get(kind).map_or(0, Vec::len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_twenty_calls_all_kinds_have_their_part() {
        let all: Vec<Kind> = (0..20).map(Kind::of_mix).collect();
        for (kind, count) in MIX {
            assert_eq!(all.iter().filter(|one| **one == kind).count() as u64, count, "{kind:?}");
        }
        assert_eq!(Kind::of_mix(3), Kind::of_mix(23));
    }
}
