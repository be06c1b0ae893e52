//! The scheduling core under a made-up clock.

use std::{cell::Cell, rc::Rc};

use super::*;
use crate::batch::{
    options::RowCost,
    request::{End, Part},
};

mod properties;

const MS: Duration = Duration::from_millis(1);

/// A request's number, and whether its caller has gone.
#[derive(Clone)]
struct Caller {
    number: usize,
    gone: Rc<Cell<bool>>,
}

impl Ticket for Caller {
    fn is_cancelled(&self) -> bool {
        self.gone.get()
    }
}

/// Class and lane of a batch; for each request in it its number, and how many of its rows.
type Ran = (Class, LaneId, Vec<(usize, usize)>);

/// One device and a clock that only moves when told to.
struct Bench {
    scheduler: Scheduler<Caller>,
    now: Instant,
    callers: Vec<Caller>,
}

/// A millisecond for each token; at most 8 rows or 100 tokens in a batch, 16 rows or 400 tokens in a queue.
fn lane_options() -> LaneOptions {
    LaneOptions {
        max_batch_rows: 8,
        max_batch_tokens: 100,
        max_queue_rows: 16,
        max_queue_tokens: 400,
        cost: RowCost::from_fn(100, |tokens| MS * tokens as u32),
    }
}

impl Bench {
    fn new() -> Self {
        let options = DeviceOptions {
            bulk_batch_time: 50 * MS,
            quiet_bulk_batch_time: 90 * MS,
            bulk_share: 0.1,
            bulk_pace: 1.0,
            quantum: 10 * MS,
        };
        Self::with(options)
    }

    fn with(options: DeviceOptions) -> Self {
        Self { scheduler: Scheduler::new(options), now: Instant::now(), callers: Vec::new() }
    }

    fn lane(&mut self) -> LaneId {
        self.scheduler.open(lane_options())
    }

    fn ask(&mut self, lane: LaneId, class: Class, tokens: &[usize], deadline: Option<u32>) -> Result<usize, Refusal> {
        let number = self.callers.len();
        let ticket = Caller { number, gone: Rc::default() };
        self.callers.push(ticket.clone());
        let deadline = deadline.map(|after| self.now + MS * after);
        self.scheduler.admit(lane, Request { ticket, tokens: tokens.to_vec(), class, deadline }, self.now)?;
        Ok(number)
    }

    fn interactive(&mut self, lane: LaneId, tokens: &[usize]) -> usize {
        self.ask(lane, Class::Interactive, tokens, None).unwrap()
    }

    fn bulk(&mut self, lane: LaneId, tokens: &[usize]) -> usize {
        self.ask(lane, Class::Bulk, tokens, None).unwrap()
    }

    /// Runs the next batch for as long as estimated: whose rows, and how many of each.
    fn run(&mut self) -> Option<Ran> {
        let batch = self.scheduler.next_batch(self.now)?;
        self.now += batch.estimate();
        self.scheduler.finished(&batch, Some(batch.estimate()));
        let rows = |part: &Part<Caller>| (part.ticket.number, part.rows.len());
        Some((batch.class, batch.lane, batch.parts.iter().map(rows).collect()))
    }

    fn run_rows(&mut self) -> Vec<(usize, usize)> {
        self.run().map(|(_, _, rows)| rows).unwrap_or_default()
    }

    fn ended(&mut self) -> Vec<(usize, End)> {
        self.scheduler.take_ended().into_iter().map(|ended| (ended.ticket.number, ended.end)).collect()
    }
}

#[test]
fn what_waits_is_one_batch_in_the_order_of_asking() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    for _ in 0..3 {
        bench.interactive(lane, &[5, 5]);
    }
    assert_eq!(bench.run_rows(), [(0, 2), (1, 2), (2, 2)]);
    assert_eq!(bench.run(), None);
}

#[test]
fn a_request_larger_than_a_batch_is_split_between_its_rows() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    bench.interactive(lane, &[40, 40, 40]);
    bench.interactive(lane, &[10]);
    assert_eq!(bench.run_rows(), [(0, 2)]);
    assert_eq!(bench.run_rows(), [(0, 1), (1, 1)]);
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    bench.interactive(lane, &[10; 16]);
    let refused = bench.ask(lane, Class::Interactive, &[10], None);
    assert_eq!(refused, Err(Refusal::QueueFull { retry_after: 80 * MS }), "half of 160 ms");
    assert!(bench.ask(lane, Class::Bulk, &[10], None).is_ok(), "each class has room of its own");
    assert!(!bench.run_rows().is_empty());
    assert!(bench.ask(lane, Class::Interactive, &[10], None).is_ok());
}

#[test]
fn what_never_fits_is_refused_as_too_large() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    for tokens in [&[1; 17][..], &[90; 5], &[101]] {
        let refused = bench.ask(lane, Class::Interactive, tokens, None);
        assert!(matches!(refused, Err(Refusal::TooLarge { .. })), "{refused:?}");
    }
}

#[test]
fn expired_and_cancelled_requests_keep_nobody_out() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    bench.interactive(lane, &[1]);
    bench.ask(lane, Class::Interactive, &[1; 7], Some(20)).unwrap();
    let cancelled = bench.interactive(lane, &[1; 8]);
    bench.callers[cancelled].gone.set(true);
    bench.now += 20 * MS;
    bench.interactive(lane, &[1; 15]);
    assert_eq!(bench.ended(), [(1, End::Expired), (2, End::Cancelled)]);
    assert_eq!(bench.run_rows(), [(0, 1), (3, 7)]);
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    assert_eq!(bench.ask(lane, Class::Interactive, &[10], Some(0)), Err(Refusal::DeadlineExceeded));
    bench.interactive(lane, &[50, 50]);
    assert_eq!(bench.ask(lane, Class::Interactive, &[10], Some(100)), Err(Refusal::DeadlineExceeded));
    assert!(bench.ask(lane, Class::Interactive, &[10], Some(101)).is_ok());
}

#[test]
fn a_running_batch_counts_in_the_wait_and_less_so_as_it_goes_on() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    bench.interactive(lane, &[50]);
    let running = bench.scheduler.next_batch(bench.now).unwrap();
    assert_eq!(bench.ask(lane, Class::Interactive, &[1], Some(50)), Err(Refusal::DeadlineExceeded));
    bench.now += 10 * MS;
    assert!(bench.ask(lane, Class::Interactive, &[1], Some(41)).is_ok());
    bench.scheduler.finished(&running, Some(50 * MS));
}

#[test]
fn an_idle_device_tries_however_slow_it_is_thought_to_be() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    bench.interactive(lane, &[1]);
    let batch = bench.scheduler.next_batch(bench.now).unwrap();
    bench.scheduler.finished(&batch, Some(Duration::from_mins(1)));
    assert!(bench.ask(lane, Class::Interactive, &[1], Some(5)).is_ok());
}

#[test]
fn estimates_follow_what_runs_really_take() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    for _ in 0..2 {
        bench.interactive(lane, &[10]);
        let batch = bench.scheduler.next_batch(bench.now).unwrap();
        bench.scheduler.finished(&batch, Some(30 * MS));
    }
    bench.interactive(lane, &[10]);
    assert_eq!(bench.scheduler.next_batch(bench.now).map(|batch| batch.estimate()), Some(30 * MS));
}

#[test]
fn expired_and_cancelled_rows_are_not_computed() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    bench.ask(lane, Class::Interactive, &[90], Some(1)).unwrap();
    let cancelled = bench.interactive(lane, &[90]);
    let wanted = bench.interactive(lane, &[90]);
    bench.callers[cancelled].gone.set(true);
    bench.now += MS;
    assert_eq!(bench.run_rows(), [(wanted, 1)]);
    assert_eq!(bench.ended(), [(0, End::Expired), (1, End::Cancelled)]);
}

#[test]
fn interactive_rows_of_any_lane_go_before_bulk_rows_of_any_lane() {
    let mut bench = Bench::new();
    let (first, second) = (bench.lane(), bench.lane());
    bench.bulk(first, &[10]);
    bench.interactive(second, &[10]);
    assert_eq!(bench.run().map(|(class, lane, _)| (class, lane)), Some((Class::Interactive, second)));
    assert_eq!(bench.run().map(|(class, lane, _)| (class, lane)), Some((Class::Bulk, first)));
}

#[test]
fn bulk_delays_an_interactive_row_by_one_short_batch_at_most() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    bench.interactive(lane, &[1]);
    assert!(bench.run().is_some());
    bench.bulk(lane, &[30; 8]);
    let launched = bench.scheduler.next_batch(bench.now).unwrap();
    assert!(launched.estimate() <= 50 * MS, "{:?}", launched.estimate());
    bench.interactive(lane, &[1]);
    bench.now += launched.estimate();
    bench.scheduler.finished(&launched, Some(launched.estimate()));
    assert_eq!(bench.run().map(|(class, ..)| class), Some(Class::Interactive));
}

#[test]
fn bulk_batches_are_longer_where_nobody_waits() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    bench.bulk(lane, &[30; 8]);
    assert_eq!(bench.run_rows(), [(0, 3)]);
    bench.interactive(lane, &[1]);
    assert_eq!(bench.run_rows(), [(1, 1)]);
    assert_eq!(bench.run_rows(), [(0, 1)]);
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.run_rows(), [(0, 3)]);
}

#[test]
fn bulk_rests_while_interactive_rows_come_one_after_the_other() {
    let mut bench = Bench::with(DeviceOptions { bulk_batch_time: 4 * MS, bulk_pace: 0.25, ..DeviceOptions::default() });
    let (lane, start) = (bench.lane(), bench.now);
    let after = |bench: &Bench| bench.now - start;
    bench.bulk(lane, &[4; 8]);
    bench.interactive(lane, &[1]);
    assert_eq!(bench.run_rows(), [(1, 1)]);
    assert_eq!((after(&bench), bench.run_rows()), (MS, vec![(0, 1)]));
    assert_eq!((bench.run(), bench.scheduler.bulk_from()), (None, Some(start + 17 * MS)), "a quarter of the time");
    bench.interactive(lane, &[1]);
    assert_eq!((after(&bench), bench.run_rows()), (5 * MS, vec![(2, 1)]), "others need not rest");
    assert_eq!(bench.scheduler.bulk_from(), Some(start + 18 * MS), "a quarter of the time that they leave");
    bench.now = start + 18 * MS;
    assert_eq!(bench.run_rows(), [(0, 1)]);
    assert_eq!((bench.run(), bench.scheduler.bulk_from()), (None, Some(start + 25 * MS)), "nobody else has come");
    bench.now = start + 25 * MS;
    assert_eq!((bench.run_rows(), bench.run_rows()), (vec![(0, 1)], vec![(0, 1)]));
    bench.interactive(lane, &[1]);
    assert_eq!((bench.run_rows(), bench.run()), (vec![(3, 1)], None));
    bench.scheduler.close(lane);
    assert_eq!(bench.run_rows(), [(0, 1)], "what is to end does not rest");
}

#[test]
fn bulk_gets_its_share_of_a_device_that_interactive_rows_keep_busy() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    let start = bench.now;
    let mut bulk_time = Duration::ZERO;
    for _ in 0..400 {
        let _ = bench.ask(lane, Class::Interactive, &[10; 8], None);
        let _ = bench.ask(lane, Class::Bulk, &[25; 8], None);
        let before = bench.now;
        if let Some((Class::Bulk, ..)) = bench.run() {
            bulk_time += bench.now - before;
        }
    }
    let share = bulk_time.as_secs_f64() / (bench.now - start).as_secs_f64();
    assert!((0.08..0.12).contains(&share), "{share}");
}

#[test]
fn bulk_takes_its_share_in_a_pause_if_there_is_one() {
    let mut bench = Bench::with(DeviceOptions { bulk_batch_time: MS, bulk_pace: 0.01, ..DeviceOptions::default() });
    let lane = bench.lane();
    bench.bulk(lane, &[4; 16]);
    bench.interactive(lane, &[1]);
    assert_eq!([bench.run_rows(), bench.run_rows()], [[(1, 1)], [(0, 1)]], "and bulk is to rest now, for long");
    bench.interactive(lane, &[2; 8]);
    bench.interactive(lane, &[1]);
    let classes = [(); 3].map(|()| bench.run().map(|(class, ..)| class));
    assert_eq!(classes, [Class::Interactive, Class::Interactive, Class::Bulk].map(Some));
}

#[test]
fn a_closing_lane_runs_what_waits_and_then_goes() {
    let mut bench = Bench::new();
    let lane = bench.lane();
    bench.interactive(lane, &[1]);
    bench.scheduler.close(lane);
    assert_eq!(bench.ask(lane, Class::Interactive, &[1], None), Err(Refusal::Closed));
    assert!(bench.scheduler.remove_drained(bench.now).is_empty());
    assert_eq!(bench.run_rows(), [(0, 1)]);
    assert_eq!(bench.scheduler.remove_drained(bench.now), [lane]);
    assert_eq!(bench.ask(lane, Class::Interactive, &[1], None), Err(Refusal::Closed));
}
