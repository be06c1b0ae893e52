//! What is counted of each arm, of all that had happened by a time.

use std::collections::BTreeMap;

use vitrine::v1::{ArmMetric, ExperimentMetric};

use super::{
    super::{
        Running,
        statistics::{Adjustment, Estimate, Moments, Unit},
    },
    gather::{Before, Deed, Kind, Seen},
};

/// What has an interval.
pub const METRICS: [ExperimentMetric; 6] = [
    ExperimentMetric::Ctr,
    ExperimentMetric::AddToCart,
    ExperimentMetric::Conversion,
    ExperimentMetric::Revenue,
    ExperimentMetric::AdRevenue,
    ExperimentMetric::Empty,
];

/// The shares of answers that took at most so long.
pub const LATENCIES: [(ExperimentMetric, f64); 2] =
    [(ExperimentMetric::LatencyP50, 0.5), (ExperimentMetric::LatencyP99, 0.99)];

/// Of all arms.
#[derive(Default)]
pub struct Figures {
    /// In the order of the experiment.
    pub arms: Vec<OfArm>,
    /// The currency that most was bought in.
    pub revenue_currency: String,
    /// The currency that most advertisements were clicked in.
    pub ad_currency: String,
    /// Of a draft: how many clicked more of the control, and of the other arm.
    pub preferred: [u64; 2],
    /// And as many of both.
    pub ties: u64,
}

/// Of one arm.
#[derive(Clone, Default)]
pub struct OfArm {
    /// Shoppers.
    pub users: usize,
    /// Answers that they were shown.
    pub answers: usize,
    /// Those of another version than the arm names.
    pub fallbacks: usize,
    /// Of each of [`METRICS`], over shoppers.
    pub moments: [Moments; METRICS.len()],
    /// Of each answer, in milliseconds, with the place of its shopper in [`Seen::units`].
    pub latencies: Vec<(u32, f32)>,
}

/// What one shopper did.
#[derive(Clone, Default)]
struct Did {
    answers: u32,
    empty: u32,
    clicked: u32,
    carts: bool,
    bought: bool,
    revenue: f64,
    ad_revenue: f64,
    /// Of a draft, by arm.
    credits: [u32; 2],
}

impl Figures {
    /// Of what had happened by a time, in unix milliseconds.
    pub fn until(running: &Running, seen: &Seen, until_ms: i64) -> Self {
        let mut figures = Self { arms: vec![OfArm::default(); running.experiment.arms.len()], ..Self::default() };
        let deeds = &seen.deeds[..seen.deeds.partition_point(|deed| deed.time_ms <= until_ms)];
        let purchases = deeds.iter().filter_map(|deed| match &deed.kind {
            Kind::Purchase(_, currency) => Some(currency),
            _ => None,
        });
        figures.revenue_currency = most_frequent(purchases);
        let ads = deeds.iter().filter_map(|deed| match &deed.kind {
            Kind::AdClick(_, currency) => Some(currency),
            _ => None,
        });
        figures.ad_currency = most_frequent(ads);

        let mut did = vec![Did::default(); seen.units.len()];
        for answer in seen.answers.iter().filter(|answer| answer.time_ms <= until_ms) {
            let Some(arm) = seen.units[answer.unit as usize].arm else { continue };
            let of_unit = &mut did[answer.unit as usize];
            of_unit.answers += 1;
            of_unit.empty += u32::from(answer.is_empty);
            let of_arm = &mut figures.arms[arm];
            of_arm.answers += 1;
            of_arm.fallbacks += usize::from(answer.fallback);
            of_arm.latencies.push((answer.unit, answer.latency_ms));
        }
        let mut clicked = vec![false; seen.answers.len()];
        for deed in deeds {
            let first =
                matches!(deed.kind, Kind::Click(_)) && !std::mem::replace(&mut clicked[deed.answer as usize], true);
            figures.note(&mut did[deed.unit as usize], deed, first);
        }
        for (unit, did) in seen.units.iter().zip(&did).filter(|(_, did)| did.answers > 0) {
            let Some(arm) = unit.arm else { continue };
            figures.arms[arm].add(did, &unit.before);
            match did.credits[0].cmp(&did.credits[1]) {
                std::cmp::Ordering::Greater => figures.preferred[0] += 1,
                std::cmp::Ordering::Less => figures.preferred[1] += 1,
                std::cmp::Ordering::Equal => figures.ties += 1,
            }
        }
        if running.is_interleaved() {
            // Everybody was shown both.
            figures.arms[1] = figures.arms[0].clone();
        }
        figures
    }

    fn note(&self, did: &mut Did, deed: &Deed, first_click: bool) {
        match &deed.kind {
            Kind::Click(team) => {
                did.clicked += u32::from(first_click);
                if let Some(credits) = team.and_then(|team| did.credits.get_mut(team)) {
                    *credits += 1;
                }
            }
            Kind::Cart => did.carts = true,
            Kind::Purchase(amount, currency) => {
                did.bought = true;
                did.revenue += if *currency == self.revenue_currency { *amount } else { 0.0 };
            }
            Kind::AdClick(amount, currency) => {
                did.ad_revenue += if *currency == self.ad_currency { *amount } else { 0.0 };
            }
        }
    }
}

impl OfArm {
    fn add(&mut self, did: &Did, before: &Before) {
        let truth = |is: bool| f64::from(u8::from(is));
        let each = |numerator: f64, covariate: f64| Unit { numerator, denominator: 1.0, covariate };
        let answers = f64::from(did.answers);
        let units = [
            Unit { numerator: f64::from(did.clicked), denominator: answers, covariate: before.clicks },
            each(truth(did.carts), truth(before.carts)),
            each(truth(did.bought), truth(before.bought)),
            each(did.revenue, before.revenue),
            each(did.ad_revenue, 0.0),
            Unit { numerator: f64::from(did.empty), denominator: answers, covariate: 0.0 },
        ];
        self.users += 1;
        for (moments, unit) in self.moments.iter_mut().zip(units) {
            moments.add(unit);
        }
    }

    /// As the API has them.
    pub fn metrics(&self) -> Vec<ArmMetric> {
        let counted = METRICS.into_iter().zip(&self.moments).map(|(metric, moments)| ArmMetric {
            metric: metric as i32,
            estimate: moments.ratio(),
            standard_error: Estimate::of(moments, &Adjustment::default()).ok().map(|estimate| estimate.standard_error),
        });
        let latencies = LATENCIES.into_iter().map(|(metric, share)| ArmMetric {
            metric: metric as i32,
            estimate: percentile(self.latencies.iter().map(|(_, ms)| *ms), share),
            standard_error: None,
        });
        counted.chain(latencies).collect()
    }
}

/// What a share of numbers is not above: the smallest number for which that holds. `None` of none.
pub fn percentile(numbers: impl Iterator<Item = f32>, share: f64) -> Option<f64> {
    let mut numbers: Vec<f32> = numbers.collect();
    let place = ((numbers.len() as f64 * share).ceil() as usize).clamp(1, numbers.len().max(1)) - 1;
    (!numbers.is_empty()).then(|| f64::from(*numbers.select_nth_unstable_by(place, f32::total_cmp).1))
}

fn most_frequent<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numbers_that_were_seen() {
        let numbers = || (1..=100).rev().map(|number| number as f32);
        assert_eq!(percentile(numbers(), 0.5), Some(50.0));
        assert_eq!(percentile(numbers(), 0.99), Some(99.0));
        assert_eq!((percentile([].into_iter(), 0.5), percentile([7.0].into_iter(), 0.99)), (None, Some(7.0)));
    }
}
