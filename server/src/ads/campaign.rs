//! One campaign: what the shop wrote, checked and made ready.

use vitrine::v1::{Advertise, Money};

use super::money::Micros;
use super::pace::Purse;
use super::{Ledger, day};
use crate::DAY_MS;
use crate::error::Violations;
use crate::filter::Filter;
use crate::{check, control::rule};

const MAX_SLOTS: usize = 100;
const MAX_IMPRESSIONS: i32 = 1_000;
const MAX_WINDOW_SECONDS: i64 = 366 * 86_400;

/// A campaign, ready to take part in auctions.
#[derive(Debug)]
pub struct Campaign {
    /// Which items.
    pub filter: Filter,
    /// The most that a click may cost.
    pub bid: Micros,
    /// Of all its amounts.
    pub currency: String,
    slots: Vec<String>,
    budget: Option<Micros>,
    daily_budget: Option<Micros>,
    /// So many advertisements in so many seconds.
    pub cap: Option<(usize, u32)>,
}

impl Campaign {
    /// Makes one ready; what is wrong goes to `violations`.
    pub fn new(violations: &mut Violations, advertise: &Advertise) -> Option<Self> {
        const FIELD: &str = "control.advertise";
        let filter = rule::filter(violations, "control.advertise.filter", &advertise.filter);
        let currency = advertise.bid.as_ref().map(|bid| bid.currency.clone()).unwrap_or_default();
        let mut amount = |name: &str, amount: Option<&Money>| {
            let amount = amount?;
            let field = format!("{FIELD}.{name}");
            if amount.currency != currency {
                violations.add(format!("{field}.currency"), "must be that of the bid");
            }
            positive(violations, &field, amount)
        };
        let bid = amount("bid", advertise.bid.as_ref());
        let budget = amount("budget", advertise.budget.as_ref());
        let daily_budget = amount("daily_budget", advertise.daily_budget.as_ref());
        if advertise.bid.is_none() {
            violations.add(format!("{FIELD}.bid"), "is required: the most that a click may cost");
        }
        if advertise.slots.len() > MAX_SLOTS {
            let count = advertise.slots.len();
            violations.add(format!("{FIELD}.slots"), format!("has {count} entries; at most {MAX_SLOTS} are allowed"));
        }
        for (index, name) in advertise.slots.iter().enumerate().take(MAX_SLOTS) {
            check::slot(violations, &format!("{FIELD}.slots[{index}]"), name);
        }
        let cap = advertise.frequency_cap.map(|cap| {
            let field = |name: &str| format!("{FIELD}.frequency_cap.{name}");
            if !(1..=MAX_IMPRESSIONS).contains(&cap.impressions) {
                let problem = format!("is {}; it must be 1 to {MAX_IMPRESSIONS}", cap.impressions);
                violations.add(field("impressions"), problem);
            }
            if !(1..=MAX_WINDOW_SECONDS).contains(&cap.window_seconds) {
                let problem = format!("is {}; it must be 1 to {MAX_WINDOW_SECONDS}", cap.window_seconds);
                violations.add(field("window_seconds"), problem);
            }
            (cap.impressions.max(0) as usize, cap.window_seconds.clamp(0, MAX_WINDOW_SECONDS) as u32)
        });
        let slots = advertise.slots.clone();
        Some(Self { filter: filter?, bid: bid?, currency, slots, budget, daily_budget, cap })
    }

    /// Whether it pays for that slot.
    pub fn is_for(&self, slot: &str) -> bool {
        self.slots.is_empty() || self.slots.iter().any(|wanted| wanted == slot)
    }

    /// Whether it spent all that it ever may.
    pub fn is_out_of_budget(&self, id: &str, ledger: &Ledger) -> bool {
        self.budget.is_some_and(|budget| ledger.spent(id) >= budget)
    }

    /// Whether it has money for a click now; `time` and the rest as for its purses.
    pub fn may_spend(&self, id: &str, ledger: &Ledger, time: Option<(i64, i64)>, now_ms: i64) -> bool {
        self.purses(id, ledger, time, now_ms).all(|purse| purse.may_spend(self.bid, now_ms))
    }

    /// What it may spend: over its time (in milliseconds since 1970, if that has both ends) and today.
    fn purses<'a>(
        &'a self,
        id: &'a str,
        ledger: &'a Ledger,
        time: Option<(i64, i64)>,
        now_ms: i64,
    ) -> impl Iterator<Item = Purse> + 'a {
        let today = day(now_ms);
        let whole = self.budget.map(move |budget| Purse { budget, spent: ledger.spent(id), time });
        let daily = self.daily_budget.map(move |budget| Purse {
            budget,
            spent: ledger.spent_on(id, today),
            time: Some((today * DAY_MS, (today + 1) * DAY_MS)),
        });
        whole.into_iter().chain(daily)
    }
}

fn positive(violations: &mut Violations, field: &str, money: &Money) -> Option<Micros> {
    let amount = Micros::checked(violations, field, money);
    if amount == Some(Micros(0)) {
        violations.add(format!("{field}.amount"), "must be more than 0");
    }
    amount
}
