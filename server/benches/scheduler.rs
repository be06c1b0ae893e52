//! The scheduling core alone: letting requests in, forming a batch of what waits, passing over what nobody waits for.
//!
//! `cargo bench --profile dev -p vitrine-server`

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vitrine_server::batch::{
    Class, DeviceOptions, LaneOptions,
    request::{LaneId, Request, Ticket},
    scheduler::Scheduler,
};

const WAITING: [usize; 3] = [10, 1_000, 10_000];
/// Of a short query.
const TOKENS: usize = 7;

/// A caller who may have gone.
#[derive(Clone, Default)]
struct Caller(Arc<AtomicBool>);

impl Ticket for Caller {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A device with one lane in which requests of one row wait.
struct Waiting {
    scheduler: Scheduler<Caller>,
    lane: LaneId,
    callers: Vec<Caller>,
    now: Instant,
}

impl Waiting {
    fn new(requests: usize) -> Self {
        let mut scheduler = Scheduler::new(DeviceOptions::default());
        let lane = scheduler.open(LaneOptions { max_queue_rows: 20_000, ..LaneOptions::default() });
        let mut waiting = Self { scheduler, lane, callers: Vec::new(), now: Instant::now() };
        for _ in 0..requests {
            waiting.admit();
        }
        waiting
    }

    fn admit(&mut self) {
        let ticket = Caller::default();
        self.callers.push(ticket.clone());
        let deadline = Some(self.now + Duration::from_mins(1));
        let request = Request { ticket, tokens: vec![TOKENS], class: Class::Interactive, deadline };
        // Refused ones would make the figures too good.
        assert!(self.scheduler.admit(self.lane, request, self.now).is_ok());
    }

    /// How many rows the next batch has.
    fn form(&mut self) -> usize {
        let Some(batch) = self.scheduler.next_batch(self.now) else { return 0 };
        self.scheduler.finished(&batch, Some(Duration::from_millis(1)));
        batch.rows
    }
}

fn scheduler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admit");
    for requests in WAITING {
        group.bench_function(BenchmarkId::new("behind", requests), |bencher| {
            bencher.iter_batched_ref(|| Waiting::new(requests), Waiting::admit, BatchSize::LargeInput);
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("form a batch");
    for requests in WAITING {
        group.bench_function(BenchmarkId::new("of", requests), |bencher| {
            bencher.iter_batched_ref(|| Waiting::new(requests), Waiting::form, BatchSize::LargeInput);
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("pass over the cancelled");
    for requests in WAITING {
        let cancelled = || {
            let waiting = Waiting::new(requests);
            waiting.callers.iter().for_each(|caller| caller.0.store(true, Ordering::Relaxed));
            waiting
        };
        group.throughput(Throughput::Elements(requests as u64));
        group.bench_function(BenchmarkId::from_parameter(requests), |bencher| {
            bencher.iter_batched_ref(
                cancelled,
                |waiting| assert_eq!(waiting.form() + waiting.scheduler.take_ended().len(), requests),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = scheduler
}
criterion_main!(benches);
