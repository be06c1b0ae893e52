//! What holds whatever is asked, and whenever.

use std::{collections::HashMap, ops::Range};

use proptest::prelude::*;

use super::*;

/// Runs two lanes that never run dry, with rows of these lengths; the device time each gets.
fn shares(tokens: [usize; 2], batches: usize) -> [Duration; 2] {
    let mut bench = Bench::new();
    let lanes = [bench.lane(), bench.lane()];
    let mut got = [Duration::ZERO; 2];
    for _ in 0..batches {
        for (lane, tokens) in lanes.into_iter().zip(tokens) {
            while bench.ask(lane, Class::Interactive, &[tokens], None).is_ok() {}
        }
        let before = bench.now;
        let (_, ran, _) = bench.run().unwrap();
        got[usize::from(ran == lanes[1])] += bench.now - before;
    }
    got
}

proptest! {
    #[test]
    fn lanes_that_never_run_dry_get_the_same_device_time(a in 1_usize..=100, b in 1_usize..=100, batches in 2_usize..60) {
        let [a, b] = shares([a, b], batches);
        // The bound of the algorithm: a turn and the largest batch, for each lane.
        prop_assert!(a.abs_diff(b) <= 2 * (10 * MS + 100 * MS), "{a:?} {b:?}");
    }
}

#[derive(Clone, Debug)]
enum Action {
    Ask { lane: usize, class: Class, tokens: Vec<usize>, deadline: Option<u32> },
    Cancel(prop::sample::Index),
    Pass(u32),
    Run { took: Option<u32> },
    Open,
    Close(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let class = prop::sample::select(&Class::ALL[..]);
    let tokens = prop::collection::vec(1_usize..=60, 1..10);
    let deadline = prop::option::of(0_u32..400);
    prop_oneof![
        8 => (0_usize..4, class, tokens, deadline)
            .prop_map(|(lane, class, tokens, deadline)| Action::Ask { lane, class, tokens, deadline }),
        1 => any::<prop::sample::Index>().prop_map(Action::Cancel),
        2 => (0_u32..50).prop_map(Action::Pass),
        6 => prop::option::of(0_u32..200).prop_map(|took| Action::Run { took }),
        1 => Just(Action::Open),
        1 => (0_usize..4).prop_map(Action::Close),
    ]
}

/// What became of each row of each admitted request.
#[derive(Default)]
struct Fates {
    rows: HashMap<(usize, usize), &'static str>,
    admitted: HashMap<usize, (usize, Option<Instant>)>,
}

impl Fates {
    fn set(&mut self, request: usize, rows: Range<usize>, fate: &'static str) {
        for row in rows {
            let before = self.rows.insert((request, row), fate);
            assert_eq!(before, None, "row {row} of request {request} was {before:?} and is now {fate}");
        }
    }

    fn take_ended(&mut self, bench: &mut Bench) {
        for ended in bench.scheduler.take_ended() {
            let number = ended.ticket.number;
            match ended.end {
                End::Expired => assert!(self.admitted[&number].1.unwrap() <= bench.now),
                End::Cancelled => assert!(ended.ticket.is_cancelled()),
                End::Closed => {}
            }
            self.set(number, ended.rows, ended.end.name());
        }
    }

    fn run(&mut self, bench: &mut Bench, took: Option<u32>) -> bool {
        let batch = bench.scheduler.next_batch(bench.now);
        self.take_ended(bench);
        let Some(batch) = batch else {
            let idle = bench.scheduler.lanes.values().all(LaneQueue::is_empty);
            assert!(idle, "rows wait and nothing runs");
            return false;
        };
        assert!((1..=8).contains(&batch.rows) && batch.tokens <= 100);
        assert_eq!(batch.rows, batch.parts.iter().map(|part| part.rows.len()).sum::<usize>());
        for part in &batch.parts {
            assert!(!part.ticket.is_cancelled());
            assert!(part.deadline.is_none_or(|deadline| deadline > bench.now));
            assert!(part.rows.start == 0 || self.rows.contains_key(&(part.ticket.number, part.rows.start - 1)));
            self.set(part.ticket.number, part.rows.clone(), "run");
        }
        let took = took.map(|ms| MS * ms);
        bench.now += took.unwrap_or_default();
        bench.scheduler.finished(&batch, took);
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bounds_hold_and_every_admitted_row_meets_exactly_one_end(
        actions in prop::collection::vec(action(), 0..150),
        drain in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        let mut fates = Fates::default();
        let mut lanes = vec![bench.lane(), bench.lane()];
        for action in actions {
            match action {
                Action::Ask { lane, class, tokens, deadline } => {
                    let lane = lanes[lane % lanes.len()];
                    let rows = tokens.len();
                    if let Ok(number) = bench.ask(lane, class, &tokens, deadline) {
                        fates.admitted.insert(number, (rows, deadline.map(|after| bench.now + MS * after)));
                    }
                    fates.take_ended(&mut bench);
                }
                Action::Cancel(which) if !bench.callers.is_empty() => which.get(&bench.callers).gone.set(true),
                Action::Pass(ms) => bench.now += MS * ms,
                Action::Run { took } => drop(fates.run(&mut bench, took)),
                Action::Open if lanes.len() < 4 => lanes.push(bench.lane()),
                Action::Cancel(_) | Action::Open => {}
                Action::Close(lane) => bench.scheduler.close(lanes[lane % lanes.len()]),
            }
            for lane in bench.scheduler.lanes.values() {
                for class in Class::ALL {
                    let waiting = lane.class(class).waiting();
                    prop_assert!(waiting.rows <= 16 && waiting.tokens <= 400, "{waiting:?}");
                }
            }
        }
        if drain {
            while fates.run(&mut bench, Some(1)) {}
        } else {
            bench.scheduler.abandon();
            fates.take_ended(&mut bench);
        }
        let admitted: usize = fates.admitted.values().map(|(rows, _)| rows).sum();
        prop_assert_eq!(fates.rows.len(), admitted);
        bench.scheduler.close_all();
        bench.scheduler.remove_drained(bench.now);
        prop_assert!(bench.scheduler.lanes.is_empty());
    }
}
