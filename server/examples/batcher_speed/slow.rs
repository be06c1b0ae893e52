//! Queries while slow jobs run in another lane, as making a picture would: in one go or in steps, on the same device or on
//! one of their own.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use parking_lot::Mutex;
use serde_json::{Value, json};
use thread_priority::{NormalThreadSchedulePolicy::Idle, ThreadPriority, ThreadSchedulePolicy, unix};
use tokio::runtime::Handle;
use vitrine_server::batch::{Batcher, Class, DeviceOptions, Lane, LaneOptions, Row, RowCost, RunError, Runner};

use super::{Bench, Spread, micros};

/// How long a job computes.
const JOB: Duration = Duration::from_millis(40);
/// Of what the encoder can do, so much is asked.
const LOAD: f64 = 0.4;
/// How long each way is measured.
const TIME: Duration = Duration::from_secs(6);

/// How slow jobs are run.
struct Way {
    name: &'static str,
    class: Class,
    /// Rows of a job, and so how often others may come between.
    rows: u32,
    /// On a device of their own, whose thread runs only where a core is free.
    apart: bool,
}

const WAYS: [Way; 5] = [
    Way { name: "in one go", class: Class::Interactive, rows: 1, apart: false },
    Way { name: "in steps of 2 ms", class: Class::Interactive, rows: 20, apart: false },
    Way { name: "in steps of 2 ms, as bulk", class: Class::Bulk, rows: 20, apart: false },
    Way { name: "in steps of 1 ms, as bulk", class: Class::Bulk, rows: 40, apart: false },
    Way { name: "in one go, on a device apart", class: Class::Interactive, rows: 1, apart: true },
];

/// Computes for as long as a row's first number says, in turns of the loop.
struct Spin {
    turns: u64,
    apart: bool,
}

impl Runner for Spin {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        if std::mem::take(&mut self.apart) {
            let policy = ThreadSchedulePolicy::Normal(Idle);
            unix::set_thread_priority_and_policy(unix::thread_native_id(), ThreadPriority::Min, policy)
                .map_err(|error| RunError(format!("{error:?}")))?;
        }
        for _ in rows {
            spin(self.turns);
        }
        Ok(vec![Vec::new(); rows.len()])
    }
}

fn spin(turns: u64) {
    let mut value = 1.0_f64;
    for _ in 0..turns {
        value = black_box(value.mul_add(1.000_000_1, 1e-9));
    }
}

/// Turns of the loop that take so long on a core of one's own.
fn turns(time: Duration) -> u64 {
    const TRY: u64 = 1_000_000;
    let best = (0..9)
        .map(|_| {
            let started = Instant::now();
            spin(TRY);
            started.elapsed()
        })
        .min();
    (TRY as f64 * time.as_secs_f64() / best.unwrap_or(time).as_secs_f64().max(1e-9)) as u64
}

/// p50 and p99 of queries alone, and beside slow jobs in each way.
pub async fn beside(bench: &Bench, rows: &[Row], capacity: f64) -> Result<Vec<Value>> {
    let rate = capacity * LOAD;
    println!("{rate:.0} queries a second, and jobs of {} ms one after the other in another lane:", JOB.as_millis());
    let alone = latencies(&bench.lane, rows, rate).await?;
    println!("  {:<30} p50 {:>7.0} µs, p99 {:>7.0} µs", "none", micros(alone.at(0.5)), micros(alone.at(0.99)));
    let mut figures = vec![json!({"jobs": "none", "us_p50": micros(alone.at(0.5)), "us_p99": micros(alone.at(0.99))})];
    let apart = Batcher::start("apart", DeviceOptions::default())?;
    for way in WAYS {
        let options =
            LaneOptions { max_batch_rows: 1, cost: RowCost::from_fn(1, |_| JOB / way.rows), ..LaneOptions::default() };
        let runner = Spin { turns: turns(JOB / way.rows), apart: way.apart };
        let device = if way.apart { &apart } else { &bench.device };
        let slow = device.open_lane("pictures/1", Box::new(runner), options)?;
        let jobs = Jobs::start(&slow, &way);
        let queries = latencies(&bench.lane, rows, rate).await?;
        let done = jobs.stop().await as f64 / TIME.as_secs_f64();
        slow.close().await;
        let [p50, p99] = [0.5, 0.99].map(|quantile| micros(queries.at(quantile)));
        let ratio = p99 / micros(alone.at(0.99)).max(1e-9);
        println!("  {:<30} p50 {p50:>7.0} µs, p99 {p99:>7.0} µs ({ratio:.2}); {done:.1} jobs a second", way.name);
        figures.push(json!({
            "jobs": way.name, "us_p50": p50, "us_p99": p99, "p99_ratio": ratio, "jobs_per_s": done,
        }));
        bench.log.take();
    }
    Ok(figures)
}

/// Jobs one after the other.
struct Jobs {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Jobs {
    fn start(lane: &Lane, way: &Way) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (lane, stopped, class, rows) = (lane.clone(), Arc::clone(&stop), way.class, way.rows as usize);
        let task = tokio::spawn(async move {
            let mut done = 0;
            while !stopped.load(Ordering::Relaxed) && lane.run(vec![vec![0]; rows], class, None).await.is_ok() {
                done += 1;
            }
            done
        });
        Self { stop, task }
    }

    /// Ends them, and says how many there were.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap_or_default()
    }
}

/// From the moment each query is due to its answer.
async fn latencies(lane: &Lane, rows: &[Row], rate: f64) -> Result<Spread> {
    let (lane, rows, handle) = (lane.clone(), rows.to_vec(), Handle::current());
    let (times, failed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (told, failures) = (Arc::clone(&times), Arc::clone(&failed));
    // A thread of its own keeps time better than the runtime does.
    let pace = thread::Builder::new().name("pace".to_owned()).spawn(move || {
        let started = Instant::now();
        let mut calls = Vec::new();
        for (turn, row) in rows.iter().cycle().enumerate() {
            let after = Duration::from_secs_f64(turn as f64 / rate);
            if after >= TIME {
                return calls;
            }
            let due = started + after;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (lane, row) = (lane.clone(), row.clone());
            let (told, failures) = (Arc::clone(&told), Arc::clone(&failures));
            calls.push(handle.spawn(async move {
                match lane.run(vec![row], Class::Interactive, None).await {
                    Ok(_) => told.lock().push(due.elapsed()),
                    Err(_) => _ = failures.fetch_add(1, Ordering::Relaxed),
                }
            }));
        }
        calls
    })?;
    let calls = tokio::task::spawn_blocking(move || pace.join()).await?;
    for call in calls.unwrap_or_default() {
        call.await?;
    }
    anyhow::ensure!(failed.load(Ordering::Relaxed) == 0, "queries failed");
    let times = std::mem::take(&mut *times.lock());
    Ok(Spread::of(times))
}
