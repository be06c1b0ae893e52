//! `cargo xtask bench swap`: a label goes back and forth between two versions of the encoder while searches go on at a
//! steady rate. Each version is unloaded when the label has left it, and loaded, warmed up and brought up to date with the
//! items before the label comes back.
//!
//! Every query is another one: a version that comes anew knows no queries' vectors, so queries that come again would make
//! the time before the first swap look better than it is. Items change all the time, before the swaps too.

mod curve;
mod figures;
mod label;
mod live;
mod searches;
mod steps;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use tokio::time::sleep;

use self::{
    figures::Figures,
    label::Move,
    live::Live,
    searches::{Record, Search, Searches},
    steps::{Background, Seen, Server},
};
use super::{
    millis, plot,
    process::{Sample, mebibytes},
    queries::Queries,
    shop::{self, CATALOG, Shop},
    spinner,
};
use crate::programs::{self, Interrupted, say};

/// Measuring what the server can do at most.
const CAPACITY: Duration = Duration::from_secs(10);
/// The load runs for so long before anything counts.
const SETTLE: Duration = Duration::from_secs(5);
/// What counts as being around a swap, or longer if a swap takes longer. What follows, until the next one, is steady again: on a machine whose speed changes from
/// one minute to the next, a swap is to be compared with the time just before it.
const AROUND: Duration = Duration::from_secs(10);
/// What a version leaves behind is given back after it is gone.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// How often the label is rolled back in the end, and from one time to the next.
const ROLLBACKS: u32 = 10;
const ROLLBACK_EVERY: Duration = Duration::from_secs(1);
const FIRST: u32 = 1;
const SECOND: u32 = 2;

#[derive(Args)]
pub struct Swap {
    /// How often the label moves.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    swaps: u32,
    /// From one swap to the next.
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = super::duration)]
    every: Duration,
    /// How long to measure before the first swap.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = super::duration)]
    steady: Duration,
    /// The part of what the server can do that is asked of it.
    #[arg(long, default_value_t = 0.6, value_name = "PART")]
    load: f64,
    /// Searches a second, instead of a part of what the server can do.
    #[arg(long, value_name = "R", conflicts_with = "load")]
    rate: Option<f64>,
    /// Changes of items a second.
    #[arg(long, default_value_t = 2.0, value_name = "R")]
    writes: f64,
    /// How many items there are, of the 4,000 most bought.
    #[arg(long, default_value_t = 4000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    items: u32,
    /// A value of the server's configuration, as `search.min_similarity=0.3`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    settings: Vec<String>,
    /// Where to draw memory and latency over time, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
    /// Use the programs that are built already.
    #[arg(long, hide = true)]
    no_build: bool,
}

/// All that happened.
pub struct Story {
    started: Instant,
    capacity: Option<f64>,
    rate: f64,
    /// Before the first swap, and before each other one.
    steady: Vec<Span>,
    /// While the second version's index was made from nothing.
    indexing: Span,
    swaps: Vec<Swapped>,
    rollbacks: Vec<Move>,
    searches: Vec<Search>,
    seen: Seen,
    items: usize,
    /// The part of the machine that others used.
    others: f64,
}

/// From when to when.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: Instant,
    pub until: Instant,
}

/// One swap.
pub struct Swapped {
    /// From the call that loads the new version to the end of the old one, and longer.
    around: Span,
    /// Until the new version was available.
    load: Duration,
    moved: Move,
    /// Until the old one was gone.
    unload: Duration,
    /// That, and a second longer.
    unloading: Span,
    /// When all was over.
    memory: Sample,
}

impl Story {
    /// How long after the beginning of the searches.
    fn after(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }
}

impl Swapped {
    fn told(&self) -> String {
        let (version, load) = (self.moved.to, self.load.as_secs_f64());
        let (switch, memory) = (millis(self.moved.switch()), mebibytes(self.memory.bytes));
        format!("version {version} loaded in {load:.1} s, answers {switch} after the move; {memory}")
    }
}

impl Span {
    fn since(from: Instant) -> Self {
        Self { from, until: Instant::now() }
    }

    pub fn contains(&self, at: Instant) -> bool {
        self.from <= at && at < self.until
    }
}

pub fn run(swap: &Swap) -> Result<()> {
    if !(swap.load > 0.0 && swap.writes > 0.0 && swap.rate.is_none_or(|rate| rate > 0.0)) {
        bail!("--load, --rate and --writes must be more than 0");
    }
    if !swap.no_build {
        programs::build()?;
    }
    let interrupted = Interrupted::watch()?;
    let mut shop = Shop::open(swap.items, &swap.settings, &interrupted)?;
    say("Publishing a second version: the first one, followed by a rotation");
    shop.publish_another(&interrupted)?;
    let queries = Arc::new(Queries::new(std::mem::take(&mut shop.queries)));
    let story = super::measure(&interrupted, measure(swap, &shop, queries)).inspect_err(|_| {
        if !interrupted.is_set() {
            println!("The server's last words:\n{}", shop.server.last_words());
        }
    })?;
    say("Stopping the server");
    shop.close()?;

    let figures = Figures::of(&story);
    figures.print();
    if let Some(path) = &swap.plot {
        plot::save(path, &curve::draw(&story))?;
    }
    if swap.json {
        println!("{}", serde_json::to_string(&figures.line())?);
    }
    Ok(())
}

async fn measure(swap: &Swap, shop: &Shop, queries: Arc<Queries>) -> Result<Story> {
    let client = shop.connect().await?;
    say("Waiting for the vectors of all items");
    let bar = spinner();
    shop::indexed(&client, CATALOG, |done, all| bar.set_message(format!("{done} of {all} items"))).await?;
    bar.finish_and_clear();
    let items = shop::items(&client).await?;
    let count = items.len();
    println!("{count} items, {} different queries", queries.len());

    let mut capacity = None;
    let rate = if let Some(rate) = swap.rate {
        rate
    } else {
        say(&format!("Measuring what the server can do, {} s", CAPACITY.as_secs()));
        let most = searches::capacity(&client, &queries, CAPACITY).await?;
        println!("{most:.1} searches a second, of {} callers who wait for each answer", searches::CALLERS);
        capacity = Some(most);
        most * swap.load
    };

    let server = Server { client: shop.connect().await?, process: shop.server.id() };
    let (started, ticks) = (Instant::now(), server.ticks()?);
    let searches = Searches::start(&client, queries, rate)?;
    let background = Background::start(&server, items, swap.writes).await?;
    let live = Live::start(spinner(), searches.record(), background.seen());
    sleep(SETTLE).await;

    live.say(&format!(
        "Steady: {rate:.1} searches and {} changes of items a second, {} s",
        swap.writes,
        swap.steady.as_secs()
    ));
    let steady = Instant::now();
    sleep(swap.steady).await;
    let steady = Span::since(steady);
    live.tell(steady, "");
    let mut steady = vec![steady];

    live.say("Making the index of the second version");
    let indexing = Instant::now();
    server.load(SECOND).await?;
    let indexing = Span::since(indexing);
    live.tell(indexing, &format!("; made in {:.0} s", (indexing.until - indexing.from).as_secs_f64()));
    server.unload(SECOND).await?;
    sleep(SETTLE).await;

    live.say(&format!("{} swaps, one every {} s", swap.swaps, swap.every.as_secs()));
    let mut swaps: Vec<Swapped> = Vec::new();
    let (mut from, mut to) = (FIRST, SECOND);
    for number in 1..=swap.swaps {
        let swapped = swap_once(&server, from, to, swap.every, searches.record()).await?;
        live.tell(swapped.around, &format!("; swap {number}: {}", swapped.told()));
        steady.push(Span::since(swapped.around.until));
        swaps.push(swapped);
        (from, to) = (to, from);
    }

    live.say(&format!("{ROLLBACKS} rollbacks, with both versions loaded"));
    server.load(to).await?;
    let mut rollbacks = vec![server.set_label(from, to, searches.record()).await?];
    for _ in 0..ROLLBACKS {
        (from, to) = (to, from);
        sleep(ROLLBACK_EVERY).await;
        rollbacks.push(server.roll_back(to, searches.record()).await?);
    }
    live.end();
    let others = ticks.others(server.ticks()?);
    let searches = searches.stop().await?;
    let seen = background.stop();
    Ok(Story { started, capacity, rate, steady, indexing, swaps, rollbacks, searches, seen, items: count, others })
}

/// Loads a version, moves the label to it, and unloads the one that it left. Takes `every` at least.
async fn swap_once(server: &Server, from: u32, to: u32, every: Duration, record: &Record) -> Result<Swapped> {
    let started = Instant::now();
    server.load(to).await?;
    let load = started.elapsed();
    let moved = server.set_label(from, to, record).await?;
    let leaving = Instant::now();
    server.unload(from).await?;
    let unload = leaving.elapsed();
    // The last moment before the next one begins: what can be given back has been.
    sleep(every.saturating_sub(started.elapsed())).await;
    let unloading = Span { from: leaving, until: leaving + unload + AFTERWARDS };
    let around = Span { from: started, until: Instant::now().min(unloading.until.max(started + AROUND)) };
    Ok(Swapped { around, load, moved, unload, unloading, memory: server.memory()? })
}
