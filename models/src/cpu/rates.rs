//! How a pass is best shared between the threads, learnt from what passes took: it depends on the machine, and on what
//! else runs on it.

use std::time::Duration;

/// A way to share a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The caller does everything: nobody to wake, nobody to wait for.
    Alone,
    /// All threads work on each layer together, and meet between products.
    Layers,
    /// Each thread takes rows through all layers.
    Rows,
}

const WAYS: [Way; 3] = [Way::Alone, Way::Layers, Way::Rows];

/// Passes are of one class if their numbers of tokens have the same highest bit.
const CLASSES: usize = 24;

/// Each way is measured so often before the best is chosen.
const FIRST: u32 = 3;

/// One pass in so many tries another way, in turn: what was slow may be so no longer.
const TRY_EVERY: u32 = 128;

/// A pass that took longer than so many times the average counts as that.
const MOST: f32 = 4.0;

/// What was measured.
#[derive(Default)]
pub(super) struct Rates([Class; CLASSES]);

#[derive(Default)]
struct Class {
    passes: u32,
    /// Measurements, and nanoseconds for a unit of work of the busiest thread.
    ways: [(u32, f32); WAYS.len()],
}

/// The work of the busiest thread in each way; `None` where the way cannot be gone.
pub(super) type Work = [Option<f32>; WAYS.len()];

impl Rates {
    /// The way to go now.
    pub(super) fn choose(&mut self, tokens: usize, work: &Work) -> Way {
        let class = &mut self.0[class(tokens)];
        class.passes = class.passes.wrapping_add(1);
        let open =
            || WAYS.iter().zip(work).zip(&class.ways).filter_map(|((&way, work), rate)| Some((way, (*work)?, rate)));
        let new = open().filter(|(_, _, (times, _))| *times < FIRST).min_by_key(|(_, _, (times, _))| *times);
        if let Some((way, ..)) = new {
            return way;
        }
        if class.passes.is_multiple_of(TRY_EVERY) {
            let turn = (class.passes / TRY_EVERY) as usize % open().count().max(1);
            if let Some((way, ..)) = open().nth(turn) {
                return way;
            }
        }
        let best = open().min_by(|(_, a, (_, x)), (_, b, (_, y))| (a * x).total_cmp(&(b * y)));
        best.map_or(Way::Alone, |(way, ..)| way)
    }

    /// Learns what a pass took.
    pub(super) fn learn(&mut self, tokens: usize, way: Way, work: &Work, took: Duration) {
        let Some(work) = work[way as usize] else { return };
        let now = took.as_nanos() as f32 / work.max(1.0);
        let (times, rate) = &mut self.0[class(tokens)].ways[way as usize];
        // An average, as a way that is often interrupted is a slow one; but one interruption does not decide.
        *rate = if *times == 0 { now } else { *rate + 0.2 * (now.min(MOST * *rate) - *rate) };
        *times = times.saturating_add(1);
    }
}

fn class(tokens: usize) -> usize {
    (tokens.max(1).ilog2() as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = [Some(100.0), Some(50.0), None];

    /// Runs passes of 100 tokens that take as long as said; how often each way was gone.
    fn run(rates: &mut Rates, passes: usize, took: [u64; 3]) -> [usize; 3] {
        let mut gone = [0; 3];
        for _ in 0..passes {
            let way = rates.choose(100, &WORK);
            gone[way as usize] += 1;
            rates.learn(100, way, &WORK, Duration::from_micros(took[way as usize]));
        }
        gone
    }

    #[test]
    fn the_quicker_way_is_gone_and_the_other_tried_now_and_then() {
        let mut rates = Rates::default();
        let gone = run(&mut rates, 1000, [900, 500, 0]);
        assert!(gone[1] > 980 && gone[0] > 3 && gone[2] == 0, "{gone:?}");
    }

    #[test]
    fn a_way_that_becomes_quicker_is_found() {
        let mut rates = Rates::default();
        run(&mut rates, 1000, [900, 500, 0]);
        let gone = run(&mut rates, 5000, [900, 3000, 0]);
        assert!(gone[0] > 4500, "{gone:?}");
    }

    #[test]
    fn the_uneven_sharing_of_this_pass_counts() {
        let mut rates = Rates::default();
        let even: Work = [None, Some(50.0), Some(50.0)];
        for _ in 0..20 {
            let way = rates.choose(100, &even);
            rates.learn(100, way, &even, Duration::from_micros(if way == Way::Rows { 500 } else { 600 }));
        }
        assert_eq!(rates.choose(100, &even), Way::Rows);
        assert_eq!(rates.choose(100, &[None, Some(50.0), Some(90.0)]), Way::Layers);
    }

    #[test]
    fn what_other_lengths_took_says_nothing() {
        let mut rates = Rates::default();
        run(&mut rates, 100, [900, 500, 0]);
        assert_eq!(rates.choose(8, &WORK), Way::Alone, "not yet measured");
    }
}
