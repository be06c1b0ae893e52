//! What the batcher adds to the forward passes that it runs: with a real text encoder, and real queries.
//!
//! `cargo run -p vitrine-server --example batcher_speed -- VERSION_DIR QUERIES [--json]`
//!
//! QUERIES has one query a line. `--json` adds a line with the medians. `kernel`: the encoder, and a record of what it ran;
//! `slow`: slow jobs beside queries.

mod kernel;
mod slow;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};
use vitrine_models::{DeviceSpec, Ragged, TextEncoder, Tokenizer};
use vitrine_server::{
    batch::{Batcher, Class, DeviceOptions, Lane, LaneOptions, Row, RowCost},
    model::ModelOptions,
};

use kernel::{Kernel, Log, Ran};

/// Rows of a round, and how many rounds.
const ROWS: usize = 1_024;
const ROUNDS: usize = 5;
/// Callers who each wait for their row: as many as a busy server has, and more than a batch takes.
const CALLERS: [usize; 2] = [32, 512];
/// Rows that are asked for one after the other.
const SINGLE: usize = 1_000;
/// A short query and an item's text, in tokens, and how many of each.
const MIX: ([usize; 2], usize) = ([5, 120], 128);

/// An encoder on a device of its own.
struct Bench {
    encoder: Arc<TextEncoder>,
    device: Batcher,
    lane: Lane,
    log: Log,
}

#[tokio::main]
async fn main() -> Result<()> {
    let (mut paths, mut json) = (Vec::new(), false);
    for word in std::env::args().skip(1) {
        if word == "--json" {
            json = true;
        } else {
            paths.push(PathBuf::from(word));
        }
    }
    ensure!(paths.len() == 2, "give the folder of an encoder's version, and a file with one query a line");
    let queries = fs::read_to_string(&paths[1]).with_context(|| paths[1].display().to_string())?;
    let mut queries: Vec<&str> = queries.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(!queries.is_empty(), "{} is empty", paths[1].display());
    queries.shuffle(&mut StdRng::seed_from_u64(1));

    let encoder = TextEncoder::load(&paths[0], &DeviceSpec::Cpu)?;
    encoder.share_work(available_parallelism()?.get())?;
    println!("{} queries; the encoder runs on {}", queries.len(), encoder.backend());
    let tokenizer = encoder.tokenizer();
    let rows: Vec<Row> = queries.iter().map(|query| tokenizer.encode(query)).collect::<Result<_, _>>()?;
    let bench = Bench::open(encoder)?;
    bench.warm_up(&rows).await?;

    let loaded: Vec<Value> = vec![
        bench.saturate("queries", &rows, CALLERS[0]).await?,
        bench.saturate("queries", &rows, CALLERS[1]).await?,
        bench.saturate("5 and 120 tokens", &mixed(&rows), CALLERS[1]).await?,
    ];
    let (idle, forward) = bench.idle(&rows).await?;
    let tokens = tokenisation(&tokenizer, &queries, forward)?;
    let capacity = loaded[0]["rows_per_s"].as_f64().unwrap_or_default();
    let slow = slow::beside(&bench, &rows, capacity).await?;
    if json {
        println!("{}", json!({"loaded": loaded, "idle": idle, "tokenisation": tokens, "slow": slow}));
    }
    Ok(())
}

impl Bench {
    fn open(encoder: TextEncoder) -> Result<Self> {
        let device = Batcher::start("cpu", DeviceOptions::default())?;
        let encoder = Arc::new(encoder);
        let log = Log::default();
        let kernel = Kernel::new(Arc::clone(&encoder), Log::clone(&log));
        // As a server has it.
        let defaults = ModelOptions::default();
        let cost = RowCost::from_fn(512, |tokens| Duration::from_micros(100).mul_f32(encoder.cost(tokens)));
        let options = LaneOptions {
            max_batch_rows: defaults.max_batch_rows,
            max_batch_tokens: defaults.max_batch_tokens,
            max_queue_rows: defaults.max_queue_rows,
            cost,
            ..LaneOptions::default()
        };
        let lane = device.open_lane("minilm/1", Box::new(kernel), options)?;
        Ok(Self { encoder, device, lane, log })
    }

    /// Until the encoder has found out how to share passes of every size between its threads.
    async fn warm_up(&self, rows: &[Row]) -> Result<()> {
        for callers in [1, 2, 4, 8, 16, 32, 64, 512] {
            self.through_lane(rows.iter().take(callers * 24).cloned().collect(), callers).await?;
        }
        self.log.take();
        Ok(())
    }

    /// Runs each row once, one a call, from so many callers who wait for their answers.
    async fn through_lane(&self, rows: Vec<Row>, callers: usize) -> Result<Duration> {
        let (rows, next) = (Arc::new(rows), Arc::new(AtomicUsize::new(0)));
        let started = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (lane, rows, next) = (self.lane.clone(), Arc::clone(&rows), Arc::clone(&next));
                tokio::spawn(async move {
                    while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                        lane.run(vec![row.clone()], Class::Interactive, None).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(started.elapsed())
    }

    /// The encoder called in a loop.
    fn in_a_loop<'a>(&self, batches: impl IntoIterator<Item = &'a Ragged>) -> Result<Duration> {
        let started = Instant::now();
        for batch in batches {
            self.encoder.embed(batch)?;
        }
        Ok(started.elapsed())
    }

    /// Rows a second under a load that never ends: through the lane, by the encoder called in a loop on the very batches that
    /// the lane made, and the same on the rows sorted by length in full batches. In turn, so that all see the same machine.
    async fn saturate(&self, what: &str, rows: &[Row], callers: usize) -> Result<Value> {
        let rows: Vec<Row> = rows.iter().take(ROWS).cloned().collect();
        let ideal = packed(&rows);
        let (mut lane, mut same, mut packed, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            lane.push(self.through_lane(rows.clone(), callers).await?);
            let ran = self.log.take();
            same.push(self.in_a_loop(ran.iter().map(|ran| &ran.rows))?);
            packed.push(self.in_a_loop(&ideal)?);
            sizes.push(rows.len() as f64 / ran.len().max(1) as f64);
        }
        let share = |of: &[Duration]| {
            median(of.iter().zip(&lane).map(|(of, lane)| of.as_secs_f64() / lane.as_secs_f64()).collect())
        };
        let rate = |times: &[Duration]| {
            median(times.iter().map(|time| rows.len() as f64 / time.as_secs_f64().max(1e-9)).collect())
        };
        let (of_same, of_packed, size) = (share(&same), share(&packed), median(sizes));
        let (through, same, packed) = (rate(&lane), rate(&same), rate(&packed));
        println!(
            "{what}, {callers} callers: {through:.0} rows/s in batches of {size:.0}; the same batches in a loop {same:.0} \
             ({:.1} %); full batches, sorted {packed:.0} ({:.1} %)",
            of_same * 100.0,
            of_packed * 100.0
        );
        Ok(json!({
            "rows": what, "callers": callers, "rows_per_s": through, "batch_rows": size, "loop_rows_per_s": same,
            "of_loop": of_same, "packed_rows_per_s": packed, "of_packed": of_packed,
        }))
    }

    /// One row at a time, while nothing else waits: what the lane adds to the forward pass. Also the median pass.
    async fn idle(&self, rows: &[Row]) -> Result<(Value, Duration)> {
        let (lane, rows) = (self.lane.clone(), rows.iter().take(SINGLE).cloned().collect::<Vec<_>>());
        // On a thread of the runtime, as a server's calls are.
        let calls = tokio::spawn(async move {
            let mut calls = Vec::with_capacity(rows.len());
            for row in rows {
                let asked = Instant::now();
                lane.run(vec![row], Class::Interactive, None).await?;
                calls.push(asked.elapsed());
            }
            anyhow::Ok(calls)
        });
        let calls = Spread::of(calls.await??);
        let ran = self.log.take();
        let passes = Spread::of(ran.iter().map(|ran| ran.took));
        let alone = ran.iter().map(|Ran { rows, .. }| self.in_a_loop([rows])).collect::<Result<Vec<_>>>()?;
        let alone = Spread::of(alone);
        let added = micros(calls.at(0.5)) - micros(passes.at(0.5));
        println!("one row, nothing else waits (p50, p99):");
        for (name, spread) in [("  through the lane", &calls), ("  its forward pass", &passes), ("  in a loop", &alone)]
        {
            println!("{name:<20} {:>7.0} µs {:>7.0} µs", micros(spread.at(0.5)), micros(spread.at(0.99)));
        }
        println!("  the lane adds {added:.0} µs");
        let figures = json!({
            "lane_us_p50": micros(calls.at(0.5)), "lane_us_p99": micros(calls.at(0.99)),
            "forward_us_p50": micros(passes.at(0.5)), "forward_us_p99": micros(passes.at(0.99)),
            "loop_us_p50": micros(alone.at(0.5)), "added_us_p50": added,
        });
        Ok((figures, passes.at(0.5)))
    }
}

/// What making rows of queries takes, beside running them one at a time.
fn tokenisation(tokenizer: &Tokenizer, queries: &[&str], forward: Duration) -> Result<Value> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for query in queries {
            std::hint::black_box(tokenizer.encode(query)?);
        }
        times.push(micros(started.elapsed()) / queries.len() as f64);
    }
    let each = median(times);
    let share = each / (each + micros(forward));
    println!("tokenisation: {each:.1} µs a query, {:.1} % of it and a forward pass", share * 100.0);
    Ok(json!({"us_per_query": each, "share_of_one_row": share}))
}

/// As many rows of either length, in no order, of the queries' tokens end to end.
fn mixed(rows: &[Row]) -> Vec<Row> {
    let mut ids = rows.iter().flatten().copied().cycle();
    let (lengths, count) = MIX;
    let mut mixed: Vec<Row> =
        lengths.iter().cycle().take(2 * count).map(|&tokens| ids.by_ref().take(tokens).collect()).collect();
    mixed.shuffle(&mut StdRng::seed_from_u64(2));
    mixed
}

/// Full batches of rows of like length.
fn packed(rows: &[Row]) -> Vec<Ragged> {
    let (defaults, mut rows) = (ModelOptions::default(), rows.to_vec());
    rows.sort_by_key(Vec::len);
    let (mut batches, mut batch) = (Vec::new(), Ragged::default());
    for row in &rows {
        if batch.len() == defaults.max_batch_rows || batch.tokens() + row.len() > defaults.max_batch_tokens {
            batches.push(std::mem::take(&mut batch));
        }
        batch.push(row);
    }
    batches.push(batch);
    batches
}

/// How times are distributed; shortest first.
struct Spread(Vec<Duration>);

impl Spread {
    fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }

    /// The time that the part `quantile` of all does not pass. Zero if there is none.
    fn at(&self, quantile: f64) -> Duration {
        let rank = (quantile * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
