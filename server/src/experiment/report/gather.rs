//! What was seen of an experiment: answers from its exposures, and what they led to from the events, joined by token or by shopper and time.

use rustc_hash::{FxHashMap, FxHashSet};
use vitrine::v1::{Event, EventType, Experiment, Exposure, Placement, ServedAd};

use super::super::Running;
use crate::{
    DAY_MS,
    ads::Micros,
    log::{LogError, Who},
    serving::Shop,
    token::{Tokens, short_hash},
    unix_ms,
};

const DEFAULT_COVARIATE_DAYS: i64 = 14;
const DEFAULT_WINDOW_SECONDS: i64 = 1_800;
/// Answers are compared with those of shadows in their first items.
const COMPARED: usize = 10;

/// An answer that was shown.
pub struct Answer {
    /// To whom, by the place in [`Seen::units`].
    pub unit: u32,
    /// When, in unix milliseconds.
    pub time_ms: i64,
    /// How long it took, in milliseconds.
    pub latency_ms: f32,
    /// Whether it had no item.
    pub is_empty: bool,
    /// Whether a version that the arm names was not there.
    pub fallback: bool,
}

/// A shopper.
#[derive(Default)]
pub struct Unit {
    /// The arm. `None`: more than one was shown.
    pub arm: Option<usize>,
    /// The first answer, in unix milliseconds.
    pub first_ms: i64,
    /// What was known before.
    pub before: Before,
    /// By the place in [`Seen::answers`], in their order.
    answers: Vec<u32>,
}

/// What somebody did before the experiment.
#[derive(Clone, Copy, Default)]
pub struct Before {
    /// How often they clicked.
    pub clicks: f64,
    /// Whether they put something into the cart.
    pub carts: bool,
    /// Whether they bought.
    pub bought: bool,
    /// For how much, in units of any currency.
    pub revenue: f64,
}

/// Something that an answer led to.
pub struct Deed {
    /// When, in unix milliseconds.
    pub time_ms: i64,
    /// By the place in [`Seen::units`].
    pub unit: u32,
    /// By the place in [`Seen::answers`].
    pub answer: u32,
    /// What.
    pub kind: Kind,
}

/// What an answer led to.
pub enum Kind {
    /// A click on an item; of a draft on one of that arm.
    Click(Option<usize>),
    /// An item was put into the cart.
    Cart,
    /// Something was bought, for so much in a currency.
    Purchase(f64, String),
    /// An advertisement was clicked, for so much in a currency.
    AdClick(f64, String),
}

/// What a shadow arm would have shown.
#[derive(Default)]
pub struct Shadow {
    /// Shares of the first items that both have.
    pub overlaps: Vec<f64>,
    /// In how many the first item is the same.
    pub same_first: usize,
    /// Of each, in milliseconds.
    pub latencies: Vec<f32>,
    /// How many there are none of.
    pub failures: usize,
}

/// All of it.
#[derive(Default)]
pub struct Seen {
    /// In their order.
    pub answers: Vec<Answer>,
    /// Everybody who was shown an answer.
    pub units: Vec<Unit>,
    /// In the order of their times.
    pub deeds: Vec<Deed>,
    /// By arm.
    pub shadows: FxHashMap<usize, Shadow>,
    by_answer: FxHashMap<u64, u32>,
    by_unit: FxHashMap<Who, u32>,
    /// Of drafts: the arms that items count for, by answer and item.
    teams: FxHashMap<(u32, u32), usize>,
    /// The first items of answers that shadows may be compared with.
    shown: FxHashMap<u64, Vec<u32>>,
}

/// What the events are read with.
pub struct Reading<'a> {
    /// Opens the events' tokens.
    pub tokens: &'a Tokens,
    /// How old they may be, in milliseconds.
    pub ttl_ms: i64,
}

impl Seen {
    /// Reads exposures and events.
    pub fn of(running: &Running, shop: &Shop, reading: &Reading<'_>) -> Result<Self, LogError> {
        let mut seen = Self::default();
        let Some(start) = running.experiment.start_time.as_ref() else { return Ok(seen) };
        shop.exposures().read(unix_ms(start), |exposure| {
            seen.note(running, &exposure);
            true
        })?;
        let Some(first_ms) = seen.answers.iter().map(|answer| answer.time_ms).min() else { return Ok(seen) };
        let before_ms = first_ms - covariate_days(&running.experiment) * DAY_MS;
        for page in shop.catalog().timed_events(before_ms)? {
            for (time_ms, event) in page? {
                seen.join(running, shop, reading, (before_ms, first_ms), time_ms, &event);
            }
        }
        seen.deeds.sort_by_key(|deed| deed.time_ms);
        Ok(seen)
    }

    fn note(&mut self, running: &Running, exposure: &Exposure) {
        let experiment = &running.experiment;
        let of_it = exposure
            .arms
            .iter()
            .find(|arm| arm.experiment == running.id && arm.bucket_version == experiment.bucket_version);
        let Some(exposed) = of_it else { return };
        let items = exposure.items.iter().take(COMPARED).map(|item| short_hash(&item.id)).collect::<Vec<u32>>();
        if let Some(shadow) = &exposure.shadow {
            if let Some(arm) = running.arm(&shadow.arm) {
                let of_arm = self.shadows.entry(arm).or_default();
                match self.shown.get(&exposure.answer) {
                    Some(shown) if shadow.failure.is_empty() => of_arm.compare(shown, &items, exposure.latency_ms),
                    _ => of_arm.failures += 1,
                }
            }
            return;
        }
        // Of a draft everybody is in the same arm: both.
        let arm = if exposed.arm.is_empty() { Some(0) } else { running.arm(&exposed.arm) };
        let Some(arm) = arm else { return };
        let time_ms = exposure.time.as_ref().map_or(0, unix_ms);
        let (answer, unit) =
            (self.answers.len() as u32, self.unit(Who::of(&exposure.user_id, &exposure.visitor_id), arm, time_ms));
        let known = &mut self.units[unit as usize];
        known.arm = known.arm.filter(|before| *before == arm);
        known.answers.push(answer);
        self.by_answer.insert(exposure.answer, answer);
        if experiment.arms.iter().any(|arm| arm.shadow) {
            self.shown.insert(exposure.answer, items);
        }
        for item in exposure.items.iter().filter(|item| !item.arm.is_empty()) {
            self.teams.extend(running.arm(&item.arm).map(|arm| ((answer, short_hash(&item.id)), arm)));
        }
        self.answers.push(Answer {
            unit,
            time_ms,
            latency_ms: exposure.latency_ms as f32,
            // Pictures that are made are no items.
            is_empty: exposure.items.is_empty() && exposure.placement() != Placement::GenerateImage,
            fallback: exposed.fallback,
        });
    }

    fn unit(&mut self, who: Who, arm: usize, first_ms: i64) -> u32 {
        if let Some(unit) = self.by_unit.get(&who) {
            return *unit;
        }
        let unit = self.units.len() as u32;
        self.units.push(Unit { arm: Some(arm), first_ms, ..Unit::default() });
        self.by_unit.insert(who, unit);
        unit
    }

    /// An event of a shopper who was shown the experiment: from before it, or what an answer led to.
    fn join(
        &mut self,
        running: &Running,
        shop: &Shop,
        reading: &Reading<'_>,
        (before_ms, first_ms): (i64, i64),
        time_ms: i64,
        event: &Event,
    ) {
        let unit = self.by_unit.get(&Who::of(&event.user_id, &event.visitor_id)).copied();
        let kinds = kinds(shop, event);
        if kinds.is_empty() {
            return;
        }
        if time_ms < first_ms {
            if let Some(unit) = unit.filter(|_| time_ms >= before_ms) {
                for (_, kind) in &kinds {
                    self.units[unit as usize].before.note(kind);
                }
            }
            return;
        }
        let token = Some(&event.attribution_token).filter(|token| !token.is_empty());
        let catalog = shop.catalog().id.as_str();
        let named =
            token.and_then(|token| reading.tokens.open_attribution(token, catalog, time_ms, reading.ttl_ms).ok());
        let answer = match named {
            // An answer of ours that is none of the experiment's led to it.
            Some(named) => self.by_answer.get(&named.request_id).copied(),
            // Nothing says that it was clicked in a list.
            None if event.r#type() == EventType::View => None,
            None => unit.and_then(|unit| self.last_answer(unit, time_ms, window_ms(&running.experiment))),
        };
        let Some(answer) = answer else { return };
        let unit = self.answers[answer as usize].unit;
        let team = |item: u32| self.teams.get(&(answer, item)).copied();
        let deeds = kinds.into_iter().map(|(item, kind)| {
            let kind = if let Kind::Click(_) = kind { Kind::Click(team(item)) } else { kind };
            Deed { time_ms, unit, answer, kind }
        });
        let deeds: Vec<Deed> = deeds.collect();
        self.deeds.extend(deeds);
    }

    /// Somebody's last answer before a time, if it is not too long before.
    fn last_answer(&self, unit: u32, time_ms: i64, window_ms: i64) -> Option<u32> {
        let answers = &self.units[unit as usize].answers;
        let later = answers.partition_point(|answer| self.answers[*answer as usize].time_ms <= time_ms);
        let last = *answers.get(later.checked_sub(1)?)?;
        (time_ms - self.answers[last as usize].time_ms <= window_ms).then_some(last)
    }
}

impl Before {
    fn note(&mut self, kind: &Kind) {
        match kind {
            Kind::Click(_) | Kind::AdClick(..) => self.clicks += 1.0,
            Kind::Cart => self.carts = true,
            Kind::Purchase(amount, _) => {
                self.bought = true;
                self.revenue += amount;
            }
        }
    }
}

impl Shadow {
    fn compare(&mut self, shown: &[u32], items: &[u32], latency_ms: f64) {
        let both = shown.iter().copied().collect::<FxHashSet<u32>>();
        let common = items.iter().filter(|item| both.contains(item)).count();
        let most = shown.len().max(items.len());
        self.overlaps.push(if most == 0 { 1.0 } else { common as f64 / most as f64 });
        self.same_first += usize::from(shown.first() == items.first());
        self.latencies.push(latency_ms as f32);
    }
}

/// What of an event counts, each with the item that it is about.
fn kinds(shop: &Shop, event: &Event) -> Vec<(u32, Kind)> {
    let each = |kind: fn() -> Kind| event.items.iter().map(|item| (short_hash(&item.id), kind())).collect();
    match event.r#type() {
        EventType::Click | EventType::View => each(|| Kind::Click(None)),
        EventType::AddToCart => each(|| Kind::Cart),
        EventType::Purchase => {
            let (amount, currency) = value(event);
            vec![(0, Kind::Purchase(amount, currency))]
        }
        EventType::AdClick => {
            let ad = |served: &ServedAd| {
                let name = format!("catalogs/{}/controls/{}", shop.catalog().id, served.campaign);
                let currency = shop.controls().rule(&name).and_then(|rule| Some(rule.campaign()?.currency.clone()));
                Kind::AdClick(Micros(served.charged_micros).units(), currency.unwrap_or_default())
            };
            let kind =
                |item: &vitrine::v1::EventItem| item.served.as_ref().and_then(|served| served.ad.as_ref()).map(ad);
            event
                .items
                .iter()
                .flat_map(|item| {
                    let hash = short_hash(&item.id);
                    std::iter::once((hash, Kind::Click(None))).chain(kind(item).map(|kind| (hash, kind)))
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// What an order is worth: what the event says, or else its items together.
fn value(event: &Event) -> (f64, String) {
    let units = |amount: &str| Micros::parse(amount).map_or(0.0, Micros::units);
    match &event.value {
        Some(value) => (units(&value.amount), value.currency.clone()),
        None => {
            (event.items.iter().map(|item| units(&item.price) * f64::from(item.quantity.max(1))).sum(), String::new())
        }
    }
}

fn covariate_days(experiment: &Experiment) -> i64 {
    match i64::from(experiment.covariate_days) {
        0 => DEFAULT_COVARIATE_DAYS,
        days => days.max(0),
    }
}

fn window_ms(experiment: &Experiment) -> i64 {
    match experiment.attribution_window_seconds {
        0 => DEFAULT_WINDOW_SECONDS * 1_000,
        seconds => seconds * 1_000,
    }
}
