//! Whether a campaign may spend now: a budget is spent evenly over its time, so that it does not end with the first customers of the
//! morning.
//!
//! At any moment a campaign may have spent its budget's share of the time that has passed, and what the next twenty-fourth of the time will
//! add: clicks come in bursts, and later than the advertisements. A campaign that is ahead waits.

use super::money::Micros;

/// This share of the time may be spent in advance.
const LEAD: f64 = 1.0 / 24.0;

/// Money for a time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Purse {
    /// So much.
    pub budget: Micros,
    /// So much of it is spent.
    pub spent: Micros,
    /// The time over which it is spent evenly. `None`: as it comes.
    pub time: Option<(i64, i64)>,
}

impl Purse {
    /// What is left of it.
    pub fn left(&self) -> Micros {
        Micros(self.budget.0.saturating_sub(self.spent.0).max(0))
    }

    /// Whether it has money for a click of at most `bid`.
    pub fn may_spend(&self, bid: Micros, now_ms: i64) -> bool {
        if self.left() == Micros(0) {
            return false;
        }
        let Some((from, until)) = self.time else { return true };
        let length = until.saturating_sub(from).max(1) as f64;
        let passed = now_ms.saturating_sub(from) as f64 / length;
        let due = self.budget.units() * (passed + LEAD).clamp(0.0, 1.0);
        // A small budget is spent click by click.
        self.spent.units() < due.max(bid.units().min(self.budget.units()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn purse(spent: i64) -> Purse {
        Purse { budget: Micros(24_000_000), spent: Micros(spent), time: Some((0, 24 * HOUR)) }
    }

    #[test]
    fn a_campaign_that_is_ahead_waits_until_the_time_has_come() {
        let bid = Micros(100_000);
        assert!(purse(0).may_spend(bid, 0));
        assert!(!purse(6_000_000).may_spend(bid, 4 * HOUR));
        assert!(purse(6_000_000).may_spend(bid, 6 * HOUR));
        assert!(purse(23_999_999).may_spend(bid, 24 * HOUR - 1));
        assert!(!purse(24_000_000).may_spend(bid, 24 * HOUR - 1));
    }

    #[test]
    fn a_budget_of_one_click_can_be_spent_at_once() {
        let small = Purse { budget: Micros(50_000), ..purse(0) };
        assert!(small.may_spend(Micros(100_000), 0));
    }

    proptest! {
        #[test]
        fn spending_whenever_it_may_keeps_to_the_line_and_ends_with_the_budget(
            bid in 1_000_i64..2_000_000, starts in prop::collection::vec(0_i64..24 * HOUR, 200..2_000)
        ) {
            let mut starts = starts;
            starts.sort_unstable();
            let mut spent = 0;
            for now in starts {
                let purse = purse(spent);
                if purse.may_spend(Micros(bid), now) {
                    spent += bid.min(purse.left().0);
                }
                let line = 24_000_000.0 * (now as f64 / (24 * HOUR) as f64 + LEAD).min(1.0);
                prop_assert!(spent as f64 <= line + bid as f64, "{spent} at {now}");
                prop_assert!(spent <= 24_000_000);
            }
        }
    }
}
