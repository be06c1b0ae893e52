//! What campaigns spent, and how often what they advertise was shown and clicked: a projection of the log's events, part of
//! [`crate::behaviour`].
//!
//! What a click costs is fixed when it is recorded ([`Charges`]), by the thread that records: two clicks cannot both take the last money of a
//! budget. It stands in the event, so that the sums can be made again from the log.

use std::collections::{BTreeMap, HashMap, HashSet};

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use vitrine::v1::{Advertise, Event, EventItem, EventType, Money, Served, ServedAd, control};

use super::calibration::Calibration;
use super::day;
use super::money::Micros;
use crate::Doc;
use crate::catalog::Controls;
use crate::hash::fnv1a;

/// Days whose spending is kept one by one.
const DAYS: usize = 32;
/// The share of advertisements that are clicked, before any were shown, and how many these count as.
const CHANCE: f64 = 0.01;
const CHANCE_COUNTS: f64 = 100.0;
/// How many advertisements of an average item count as one's own.
const AVERAGE_COUNTS: f64 = 50.0;

/// How often something was shown, and clicked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Shown.
    pub impressions: u64,
    /// Clicked.
    pub clicks: u64,
}

/// One campaign's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub(crate) spent: i64,
    pub(crate) shown: Shown,
    /// Spent in each of the last days.
    pub(crate) days: BTreeMap<u32, i64>,
}

/// All campaigns'. See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(crate) accounts: HashMap<Box<str>, Account, FxBuildHasher>,
    pub(crate) items: BTreeMap<u32, Shown>,
    pub(crate) all: Shown,
    pub(crate) predictors: HashMap<Box<str>, Calibration, FxBuildHasher>,
    /// Clicks that were counted today and yesterday: a token's advertisement is good for a day.
    pub(crate) clicked: BTreeMap<u32, HashSet<u64, FxBuildHasher>>,
}

impl Ledger {
    /// Takes in an event about `docs`, its items in their order.
    pub fn apply(&mut self, event: &Event, docs: &[Doc], recorded_ms: i64) {
        let kind = event.r#type();
        if !matches!(kind, EventType::AdImpression | EventType::AdClick) {
            return;
        }
        let today = u32::try_from(day(recorded_ms)).unwrap_or_default();
        for (item, &doc) in event.items.iter().zip(docs) {
            let Some((answer, ad)) = advertised(item) else { continue };
            let is_click = kind == EventType::AdClick;
            if is_click && !self.count(click(answer, &item.id), today) {
                continue;
            }
            let account = self.accounts.entry(ad.campaign.as_str().into()).or_default();
            for shown in [&mut account.shown, self.items.entry(doc).or_default(), &mut self.all] {
                if is_click { shown.clicks += 1 } else { shown.impressions += 1 }
            }
            if !ad.predictor.is_empty() {
                let predictor = self.predictors.entry(ad.predictor.as_str().into()).or_default();
                if is_click { predictor.click() } else { predictor.show(ad.predicted_logit) }
            }
            if is_click {
                account.spent = account.spent.saturating_add(ad.charged_micros);
                let of_day = account.days.entry(today).or_default();
                *of_day = of_day.saturating_add(ad.charged_micros);
                while account.days.len() > DAYS {
                    account.days.pop_first();
                }
            }
        }
    }

    /// Whether the click was not counted before.
    fn count(&mut self, click: u64, today: u32) -> bool {
        self.clicked.retain(|&day, _| day + 1 >= today);
        !self.is_counted(click) && self.clicked.entry(today).or_default().insert(click)
    }

    fn is_counted(&self, click: u64) -> bool {
        self.clicked.values().any(|clicks| clicks.contains(&click))
    }

    /// What a campaign spent altogether.
    pub fn spent(&self, campaign: &str) -> Micros {
        Micros(self.accounts.get(campaign).map_or(0, |account| account.spent))
    }

    /// What a campaign spent on a day since 1970.
    pub fn spent_on(&self, campaign: &str, day: i64) -> Micros {
        let day = u32::try_from(day).unwrap_or_default();
        let account = self.accounts.get(campaign);
        Micros(account.and_then(|account| account.days.get(&day)).copied().unwrap_or_default())
    }

    /// How often a campaign's items were shown and clicked.
    pub fn shown(&self, campaign: &str) -> Shown {
        self.accounts.get(campaign).map(|account| account.shown).unwrap_or_default()
    }

    /// The share of an item's advertisements that are clicked, drawn towards that of all where there were few.
    pub fn chance(&self, doc: Doc) -> f64 {
        let share = |shown: Shown, prior: f64, counts: f64| {
            (prior.mul_add(counts, shown.clicks as f64) / (shown.impressions as f64 + counts)).min(1.0)
        };
        let average = share(self.all, CHANCE, CHANCE_COUNTS);
        share(self.items.get(&doc).copied().unwrap_or_default(), average, AVERAGE_COUNTS)
    }

    /// What is to be added to the logits of a ranker's version, as `ranker/3`.
    pub fn shift(&self, predictor: &str) -> f64 {
        self.predictors.get(predictor).map_or(0.0, Calibration::shift)
    }
}

/// The advertisement that an item of an event was, and the answer it was in.
fn advertised(item: &EventItem) -> Option<(u64, &ServedAd)> {
    let Some(Served { answer, ad: Some(ad), .. }) = &item.served else { return None };
    Some((*answer, ad))
}

fn click(answer: u64, item: &str) -> u64 {
    fnv1a(&[&answer.to_le_bytes(), item.as_bytes()])
}

/// What clicks cost that are about to be recorded.
pub struct Charges<'a> {
    ledger: &'a Ledger,
    spent: FxHashMap<String, i64>,
    clicked: FxHashSet<u64>,
}

impl<'a> Charges<'a> {
    /// None yet, on top of what is recorded.
    pub fn new(ledger: &'a Ledger) -> Self {
        Self { ledger, spent: FxHashMap::default(), clicked: FxHashSet::default() }
    }

    /// Fixes what the clicks of an event cost: the price of the answer or what is left of the budgets; nothing for those that were counted
    /// before, and of a campaign that is gone.
    pub fn fix(&mut self, event: &mut Event, controls: &Controls, recorded_ms: i64) {
        let is_click = event.r#type() == EventType::AdClick;
        for item in &mut event.items {
            let Some((answer, ad)) = advertised(item) else { continue };
            let click = click(answer, &item.id);
            let mut charged = 0;
            if is_click && !self.ledger.is_counted(click) && self.clicked.insert(click) {
                charged = self.left(&ad.campaign, controls, recorded_ms).clamp(0, ad.price_micros.max(0));
                let spent = self.spent.entry(ad.campaign.clone()).or_default();
                *spent = spent.saturating_add(charged);
            }
            if let Some(ad) = item.served.as_mut().and_then(|served| served.ad.as_mut()) {
                ad.charged_micros = charged;
            }
        }
    }

    fn left(&self, campaign: &str, controls: &Controls, recorded_ms: i64) -> i64 {
        let control = controls.get(campaign).and_then(|control| control.action.as_ref());
        let Some(control::Action::Advertise(Advertise { budget, daily_budget, .. })) = control else { return 0 };
        let pending = self.spent.get(campaign).copied().unwrap_or_default();
        let left = |budget: &Option<Money>, spent: Micros| {
            let budget = budget.as_ref().and_then(|budget| Micros::parse(&budget.amount));
            budget.map_or(i64::MAX, |budget| budget.0.saturating_sub(spent.0).saturating_sub(pending))
        };
        let today = left(daily_budget, self.ledger.spent_on(campaign, day(recorded_ms)));
        left(budget, self.ledger.spent(campaign)).min(today)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vitrine::v1::Control;

    use super::*;

    const NOW: i64 = 1_000 * crate::DAY_MS;

    fn event(kind: EventType, answer: u64, item: &str, price: i64) -> Event {
        let ad = ServedAd { campaign: "spring".into(), price_micros: price, ..ServedAd::default() };
        let served = Some(Served { answer, propensity: None, ad: Some(ad) });
        let items = vec![EventItem { id: item.into(), served, ..EventItem::default() }];
        Event { r#type: kind.into(), items, ..Event::default() }
    }

    fn controls(budget: Option<&str>, daily_budget: Option<&str>) -> Controls {
        let money = |amount: &str| Money { amount: amount.into(), currency: "EUR".into() };
        let (budget, daily_budget) = (budget.map(money), daily_budget.map(money));
        let advertise = Advertise { budget, daily_budget, ..Advertise::default() };
        let action = Some(control::Action::Advertise(advertise));
        Controls::from([("spring".into(), Arc::new(Control { action, ..Control::default() }))])
    }

    fn charged(event: &Event) -> i64 {
        advertised(&event.items[0]).unwrap().1.charged_micros
    }

    /// Records clicks together, and answers what each costs.
    fn record(ledger: &mut Ledger, controls: &Controls, now: i64, clicks: &[(u64, i64)]) -> Vec<i64> {
        let mut events: Vec<Event> =
            clicks.iter().map(|&(answer, price)| event(EventType::AdClick, answer, "a", price)).collect();
        let before = ledger.clone();
        let mut charges = Charges::new(&before);
        for event in &mut events {
            charges.fix(event, controls, now);
        }
        for event in &events {
            ledger.apply(event, &[0], now);
        }
        events.iter().map(charged).collect()
    }

    #[test]
    fn a_click_is_charged_once_for_each_answer() {
        let (mut ledger, controls) = (Ledger::default(), controls(None, None));
        assert_eq!(record(&mut ledger, &controls, NOW, &[(1, 500), (1, 500), (2, 300)]), [500, 0, 300]);
        assert_eq!(record(&mut ledger, &controls, NOW + crate::DAY_MS, &[(2, 300)]), [0]);
        assert_eq!((ledger.spent("spring"), ledger.shown("spring").clicks), (Micros(800), 2));
    }

    #[test]
    fn budgets_are_not_passed_by_a_single_millionth() {
        let (mut ledger, controls) = (Ledger::default(), controls(Some("0.002"), Some("0.0012")));
        assert_eq!(record(&mut ledger, &controls, NOW, &[(1, 500), (2, 500), (3, 500), (4, 500)]), [500, 500, 200, 0]);
        let tomorrow = NOW + crate::DAY_MS;
        assert_eq!(record(&mut ledger, &controls, tomorrow, &[(5, 500), (6, 500)]), [500, 300]);
        assert_eq!(ledger.spent("spring"), Micros(2_000));
    }

    #[test]
    fn the_largest_prices_add_up_to_the_largest_sum() {
        let (mut ledger, controls) = (Ledger::default(), controls(None, None));
        assert_eq!(record(&mut ledger, &controls, NOW, &[(1, i64::MAX), (2, i64::MAX)]), [i64::MAX; 2]);
        assert_eq!(ledger.spent("spring"), Micros(i64::MAX));
    }

    #[test]
    fn a_campaign_that_is_gone_pays_nothing() {
        let mut ledger = Ledger::default();
        assert_eq!(record(&mut ledger, &Controls::default(), NOW, &[(1, 500)]), [0]);
    }

    #[test]
    fn items_that_are_clicked_more_often_have_better_chances() {
        let mut ledger = Ledger::default();
        let before = ledger.chance(0);
        for answer in 0..1_000 {
            ledger.apply(&event(EventType::AdImpression, answer, "a", 0), &[0], NOW);
            ledger.apply(&event(EventType::AdImpression, answer, "b", 0), &[1], NOW);
        }
        (0..100).for_each(|answer| ledger.apply(&event(EventType::AdClick, answer, "a", 0), &[0], NOW));
        assert!((before - CHANCE).abs() < 1e-12);
        assert!(ledger.chance(0) > 0.09 && ledger.chance(1) < 0.01 && ledger.chance(2) > 0.03, "{ledger:?}");
    }
}
