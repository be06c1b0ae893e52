//! What an experiment has led to: shoppers and their answers from its exposures, what they did from the events, and what that says.
//!
//! `gather` joins; `figures` counts by arm, now or as it was at a time; here it becomes what the API tells.

mod figures;
mod gather;

use std::{
    num::NonZeroU64,
    time::{Duration, SystemTime},
};

use vitrine::v1::{
    Arm, ArmReport, Comparison, ConfidenceInterval, CurvePoint, ExperimentMetric, ExperimentReport, ExperimentState,
    GuardRailReport, GuardRailState, Preference, SampleRatio, ShadowReport,
};

use super::{
    Running, life,
    statistics::{Adjustment, Estimate, Interval, Moments, NotEnough, Preferences, Probability, sample_ratio_mismatch},
};
use crate::{DAY, log::LogError, serving::Shop, token::Tokens};
use figures::{Figures, LATENCIES, METRICS, percentile};
use gather::{Reading, Seen, Shadow};

/// A share of shoppers of the wrong size that comes by chance less often than that is no chance.
const MISMATCH: f64 = 0.001;
/// So many of a hundred shoppers in several arms are a warning.
const MANY_MULTIPLE: f64 = 0.01;

/// What is asked of a report.
pub struct Asked {
    /// Intervals miss the truth this often; above 0, below 0.5.
    pub alpha: f64,
    /// The number of shoppers at which always-valid intervals are tightest; 1 or more.
    pub tuning: i64,
    /// How many points in time the curves have.
    pub curve_points: usize,
}

/// Reads and counts. Blocks.
pub fn report(
    running: &Running,
    shop: &Shop,
    tokens: &Tokens,
    ttl_ms: i64,
    asked: &Asked,
) -> Result<ExperimentReport, LogError> {
    let mut seen = Seen::of(running, shop, &Reading { tokens, ttl_ms })?;
    let telling = Telling {
        running,
        alpha: Probability::new(asked.alpha).unwrap_or(Probability::FIVE_PERCENT),
        tightest_at: u64::try_from(asked.tuning)
            .ok()
            .and_then(NonZeroU64::new)
            .unwrap_or(super::statistics::TIGHTEST_AT),
    };
    let mut figures = Figures::until(running, &seen, i64::MAX);
    let mut arms = telling.arms(&figures);
    let mut comparisons = telling.comparisons(&figures);
    telling.compare_latencies(&mut figures, &mut arms, &mut comparisons);
    let sample_ratio = sample_ratio(running, &seen);
    let mut shadows: Vec<(usize, Shadow)> = std::mem::take(&mut seen.shadows).into_iter().collect();
    shadows.sort_by_key(|(arm, _)| *arm);
    let multiple = seen.units.iter().filter(|unit| unit.arm.is_none()).count();
    Ok(ExperimentReport {
        experiment: Some(running.experiment.clone()),
        time: Some(SystemTime::now().into()),
        alpha: asked.alpha,
        sequential_tuning: asked.tuning,
        arms,
        warnings: telling.warnings(sample_ratio.as_ref(), multiple, &seen, &figures),
        guard_rails: telling.guard_rails(&figures, &comparisons),
        comparisons,
        sample_ratio,
        multiple_exposures: multiple as i64,
        preference: running.is_interleaved().then(|| telling.preference(&figures)),
        shadows: shadows.into_iter().map(|(arm, shadow)| shadow_report(running, arm, shadow)).collect(),
        curve: telling.curve(&seen, asked.curve_points),
        revenue_currency: figures.revenue_currency,
        ad_currency: figures.ad_currency,
    })
}

struct Telling<'a> {
    running: &'a Running,
    alpha: Probability,
    tightest_at: NonZeroU64,
}

impl Telling<'_> {
    fn arms(&self, figures: &Figures) -> Vec<ArmReport> {
        let arms = self.running.experiment.arms.iter().zip(&figures.arms);
        arms.map(|(arm, of_arm)| ArmReport {
            arm: arm.name.clone(),
            users: of_arm.users as i64,
            answers: of_arm.answers as i64,
            metrics: if self.running.is_interleaved() { Vec::new() } else { of_arm.metrics() },
            fallbacks: of_arm.fallbacks as i64,
        })
        .collect()
    }

    /// The arms that are compared with the control.
    fn others(&self) -> impl Iterator<Item = (usize, &Arm)> {
        let compares = !self.running.is_interleaved();
        self.running.experiment.arms.iter().enumerate().skip(1).filter(move |(_, arm)| compares && !arm.shadow)
    }

    /// Of each arm but the control and the shadows, in each metric but latencies.
    fn comparisons(&self, figures: &Figures) -> Vec<Comparison> {
        let mut comparisons = Vec::new();
        for (place, metric) in METRICS.into_iter().enumerate() {
            let of_metric: Vec<Moments> = figures.arms.iter().map(|arm| arm.moments[place]).collect();
            let adjustment = Adjustment::pooled(&of_metric);
            let of = |arm: usize| Estimate::of(&of_metric[arm], &adjustment);
            for (arm, named) in self.others() {
                let told = self.comparison(named, metric, lift(of(0), of(arm)));
                let variance_reduction =
                    if told.not_enough_data.is_empty() { adjustment.variance_reduction() } else { 0.0 };
                comparisons.push(Comparison { variance_reduction, ..told });
            }
        }
        self.sort(&mut comparisons);
        comparisons
    }

    /// The same of latencies, and how far off those of each arm may be. For this they are ordered: too much for every point of the curve.
    fn compare_latencies(&self, figures: &mut Figures, arms: &mut [ArmReport], comparisons: &mut Vec<Comparison>) {
        for (metric, share) in LATENCIES {
            let Some(share) = Probability::new(share) else { continue };
            let of_arms = figures.arms.iter_mut().map(|arm| Estimate::percentile(&mut arm.latencies, share));
            let of_arms: Vec<_> = of_arms.collect();
            for (arm, estimate) in arms.iter_mut().zip(&of_arms) {
                let told = arm.metrics.iter_mut().filter(|told| told.metric() == metric);
                told.for_each(|told| told.standard_error = estimate.ok().map(|estimate| estimate.standard_error));
            }
            let told = self.others().map(|(arm, named)| self.comparison(named, metric, lift(of_arms[0], of_arms[arm])));
            comparisons.extend(told);
        }
        self.sort(comparisons);
    }

    fn comparison(&self, arm: &Arm, metric: ExperimentMetric, lift: Result<Estimate, String>) -> Comparison {
        let mut told = Comparison { arm: arm.name.clone(), metric: metric as i32, ..Comparison::default() };
        match lift {
            Err(why) => told.not_enough_data = why,
            Ok(lift) => {
                told.lift = lift.value;
                told.interval = Some(interval(lift.interval(self.alpha)));
                told.sequential_interval = Some(interval(lift.always_valid_interval(self.alpha, self.tightest_at)));
                told.p_value = lift.p_value();
            }
        }
        told
    }

    /// By arm, in the order of metrics.
    fn sort(&self, comparisons: &mut [Comparison]) {
        comparisons.sort_by_key(|told| self.others().position(|(_, arm)| arm.name == told.arm));
    }

    fn guard_rails(&self, figures: &Figures, comparisons: &[Comparison]) -> Vec<GuardRailReport> {
        let mut rails = Vec::new();
        for (arm, named) in self.running.experiment.arms.iter().enumerate().skip(1).filter(|(_, arm)| !arm.shadow) {
            for guard in &self.running.experiment.guard_rails {
                let told = comparisons.iter().find(|told| told.arm == named.name && told.metric == guard.metric);
                let known = told.and_then(|told| told.sequential_interval);
                let known = known.or_else(|| self.interval_of_few(figures, arm, guard.metric()));
                let state =
                    known.map_or(GuardRailState::Unknown, |known| state_of(guard.metric(), known, guard.tolerance));
                rails.push(GuardRailReport { arm: named.name.clone(), guard_rail: Some(*guard), state: state as i32 });
            }
        }
        rails
    }

    /// The always-valid interval of an arm of which too few brought anything to tell how much that varies: it is taken to vary as the control's
    /// does, which is more. Else an arm that nobody clicks would never be found out.
    fn interval_of_few(&self, figures: &Figures, arm: usize, metric: ExperimentMetric) -> Option<ConfidenceInterval> {
        let place = METRICS.iter().position(|known| *known == metric)?;
        let (control, few) = (&figures.arms[0].moments[place], &figures.arms[arm].moments[place]);
        let Err(NotEnough::Hits { .. }) = Estimate::of(few, &Adjustment::default()) else { return None };
        let control = Estimate::of(control, &Adjustment::default()).ok()?;
        let standard_error = control.standard_error * (control.units as f64 / few.units() as f64).sqrt();
        let treatment = Estimate { value: few.ratio()?, standard_error, units: few.units() };
        let lift = treatment.lift_over(&control).ok()?;
        Some(interval(lift.always_valid_interval(self.alpha, self.tightest_at)))
    }

    fn preference(&self, figures: &Figures) -> Preference {
        let preferences = Preferences { control: figures.preferred[0], treatment: figures.preferred[1] };
        let share = preferences.treatment_share(self.alpha);
        Preference {
            control: preferences.control as i64,
            treatment: preferences.treatment as i64,
            ties: figures.ties as i64,
            share: share.map(|(share, _)| share),
            interval: share.map(|(_, known)| interval(known)),
            p_value: preferences.p_value(),
        }
    }

    fn curve(&self, seen: &Seen, points: usize) -> Vec<CurvePoint> {
        let times =
            || seen.answers.iter().map(|answer| answer.time_ms).chain(seen.deeds.iter().map(|deed| deed.time_ms));
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return Vec::new() };
        let points = i64::try_from(points).unwrap_or_default();
        let at = |point: i64| first + (last - first) * point / points;
        (1..=points)
            .map(|point| {
                let figures = Figures::until(self.running, seen, at(point));
                CurvePoint {
                    time: Some((SystemTime::UNIX_EPOCH + Duration::from_millis(at(point).max(0) as u64)).into()),
                    comparisons: self.comparisons(&figures),
                    arms: self.arms(&figures),
                }
            })
            .collect()
    }

    fn warnings(&self, ratio: Option<&SampleRatio>, multiple: usize, seen: &Seen, figures: &Figures) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(ratio) = ratio.filter(|ratio| ratio.mismatch) {
            warnings.push(format!(
                "SAMPLE RATIO MISMATCH (p = {:.2e}): arms do not have as many shoppers as their weights say. The assignment or the log is broken, and no figure is to be believed",
                ratio.p_value
            ));
        }
        if multiple as f64 > MANY_MULTIPLE * seen.units.len() as f64 {
            let share = 100.0 * multiple as f64 / seen.units.len() as f64;
            warnings.push(format!("{multiple} shoppers ({share:.1} %) were shown more than one arm, and are left out: did weights change, or ids?"));
        }
        for (arm, of_arm) in self.running.experiment.arms.iter().zip(&figures.arms) {
            if of_arm.fallbacks > 0 {
                warnings.push(format!(
                    "{} of {} answers of {} came from another version than the arm names",
                    of_arm.fallbacks, of_arm.answers, arm.name
                ));
            }
        }
        if self.running.experiment.state() == ExperimentState::Running
            && life::coverage(&self.running.experiment) == 0.0
        {
            warnings.push("its coverage is 0: nobody takes part".to_owned());
        }
        if let (Some(first), Some(start)) = (seen.answers.first(), &self.running.experiment.start_time) {
            let days = (first.time_ms / 1_000 - start.seconds) / i64::from(DAY);
            if days > 0 {
                warnings.push(format!(
                    "the first answer came {days} days after the start: was it deleted, or logged on another server?"
                ));
            }
        }
        warnings
    }
}

fn lift(control: Result<Estimate, NotEnough>, treatment: Result<Estimate, NotEnough>) -> Result<Estimate, String> {
    let control = control.map_err(|why| format!("of the control: {why}"))?;
    treatment.and_then(|treatment| treatment.lift_over(&control)).map_err(|why| why.to_string())
}

/// Whether all of an interval is worse than tolerated.
fn state_of(metric: ExperimentMetric, known: ConfidenceInterval, tolerance: f64) -> GuardRailState {
    let broken = match metric {
        ExperimentMetric::Empty | ExperimentMetric::LatencyP50 | ExperimentMetric::LatencyP99 => {
            known.lower > tolerance
        }
        _ => known.upper < -tolerance,
    };
    if broken { GuardRailState::Broken } else { GuardRailState::Holds }
}

/// Of those who were first shown an arm since weights last changed: whoever came before was shared out by other weights.
fn sample_ratio(running: &Running, seen: &Seen) -> Option<SampleRatio> {
    let since = running.experiment.weights_time.as_ref().map_or(i64::MIN, |time| time.seconds * 1_000);
    let arms = &running.experiment.arms;
    let mut units = vec![0; arms.len()];
    for arm in seen.units.iter().filter(|unit| unit.first_ms >= since).filter_map(|unit| unit.arm) {
        units[arm] += 1;
    }
    let weighted = arms.iter().filter(|arm| arm.weight > 0.0).count();
    if running.is_interleaved() || weighted < 2 || units.iter().sum::<u64>() == 0 {
        return None;
    }
    let p_value = sample_ratio_mismatch(&units.into_iter().zip(arms.iter().map(|arm| arm.weight)).collect::<Vec<_>>());
    Some(SampleRatio { p_value, mismatch: p_value < MISMATCH })
}

fn shadow_report(running: &Running, arm: usize, shadow: Shadow) -> ShadowReport {
    let Shadow { overlaps, same_first, latencies, failures } = shadow;
    let answers = overlaps.len();
    let share = |sum: f64| if answers == 0 { 0.0 } else { sum / answers as f64 };
    ShadowReport {
        arm: running.experiment.arms[arm].name.clone(),
        answers: answers as i64,
        overlap_at_10: share(overlaps.iter().sum()),
        same_first: share(same_first as f64),
        latency_p50_ms: percentile(latencies.iter().copied(), 0.5).unwrap_or_default(),
        latency_p99_ms: percentile(latencies.iter().copied(), 0.99).unwrap_or_default(),
        failures: failures as i64,
    }
}

fn interval(known: Interval) -> ConfidenceInterval {
    ConfidenceInterval { lower: known.low, upper: known.high }
}
