//! The figures of a report as text, the same in the terminal and on the page.

use vitrine::v1::{
    ArmReport, Comparison, ConfidenceInterval, ExperimentMetric, ExperimentReport, GuardRailState, Preference,
};

use crate::command::experiments::words;
use crate::output::{counted, grouped};

/// How a warning begins that comes before all others.
const MISMATCH: &str = "SAMPLE RATIO MISMATCH";
/// In the place of figures.
pub const NOT_ENOUGH_DATA: &str = "not enough data";

/// How much more, as `+3.2 %`.
pub fn lift(share: f64) -> String {
    if share.is_infinite() { percents(share) } else { format!("{} %", percents(share)) }
}

/// `-0.5 … +7.1 %`.
pub fn interval(interval: &ConfidenceInterval) -> String {
    let from = if interval.upper.is_infinite() { lift(interval.lower) } else { percents(interval.lower) };
    format!("{from} … {}", lift(interval.upper))
}

fn percents(share: f64) -> String {
    if share.is_infinite() {
        return if share > 0.0 { "∞" } else { "-∞" }.to_owned();
    }
    let percents = (share * 1e3).round() / 10.0;
    if percents == 0.0 { "0.0".to_owned() } else { format!("{percents:+.1}") }
}

/// A share of all, as `3.21 %`.
pub fn share(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// How likely it is by chance, as `0.031` or `3e-12`.
pub fn chance(p: f64) -> String {
    if p >= 0.0005 || p == 0.0 { format!("{p:.3}") } else { format!("{p:.0e}") }
}

/// One figure of an arm, in its unit; nothing if nothing was seen.
pub fn estimate(report: &ExperimentReport, arm: &ArmReport, metric: ExperimentMetric) -> String {
    let seen = arm.metrics.iter().find(|figure| figure.metric() == metric).and_then(|figure| figure.estimate);
    seen.map(|value| amount(report, metric, value)).unwrap_or_default()
}

/// How far off it may be, in the same unit; nothing if it is not known.
pub fn standard_error(report: &ExperimentReport, arm: &ArmReport, metric: ExperimentMetric) -> Option<String> {
    let figure = arm.metrics.iter().find(|figure| figure.metric() == metric)?;
    figure.standard_error.map(|error| amount(report, metric, error))
}

fn amount(report: &ExperimentReport, metric: ExperimentMetric, value: f64) -> String {
    match metric {
        ExperimentMetric::Revenue => money(value, &report.revenue_currency),
        ExperimentMetric::AdRevenue => money(value, &report.ad_currency),
        ExperimentMetric::LatencyP50 | ExperimentMetric::LatencyP99 => format!("{value:.1} ms"),
        _ => share(value),
    }
}

fn money(value: f64, currency: &str) -> String {
    format!("{value:.3} {currency}").trim_end().to_owned()
}

/// The metrics of which some arm has a figure, in their order.
pub fn measured(report: &ExperimentReport) -> Vec<ExperimentMetric> {
    let all = (1..).map_while(|number| ExperimentMetric::try_from(number).ok());
    let seen = |metric: &ExperimentMetric| {
        let mut figures = report.arms.iter().flat_map(|arm| &arm.metrics);
        figures.any(|figure| figure.metric() == *metric && figure.estimate.is_some())
    };
    all.filter(seen).collect()
}

/// Whether less of it is better.
pub fn less_is_better(metric: ExperimentMetric) -> bool {
    matches!(metric, ExperimentMetric::Empty | ExperimentMetric::LatencyP50 | ExperimentMetric::LatencyP99)
}

/// What the interval that is valid at any time says, so far: `better`, `worse`, or nothing.
pub fn verdict(comparison: &Comparison) -> &'static str {
    let Some(interval) = &comparison.sequential_interval else { return "" };
    let sign = if less_is_better(comparison.metric()) { -1.0 } else { 1.0 };
    let (low, high) = (sign * interval.lower, sign * interval.upper);
    match (low.min(high) > 0.0, low.max(high) < 0.0) {
        (true, _) => "better",
        (_, true) => "worse",
        _ => "",
    }
}

/// The metrics of an arm that have no figures, and why: those with one reason together.
pub fn lacking<'a>(comparisons: impl Iterator<Item = &'a Comparison>) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for comparison in comparisons.filter(|comparison| !comparison.not_enough_data.is_empty()) {
        let (reason, metric) = (comparison.not_enough_data.as_str(), words::metric(comparison.metric));
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, metrics)) => metrics.push(metric),
            None => reasons.push((reason, vec![metric])),
        }
    }
    reasons.into_iter().map(|(reason, metrics)| format!("{}: {reason}", metrics.join(", "))).collect()
}

/// Whether a guard rail holds, in a word.
pub fn standing(state: GuardRailState) -> &'static str {
    match state {
        GuardRailState::Holds => "holds",
        GuardRailState::Broken => "BROKEN",
        GuardRailState::Unknown | GuardRailState::Unspecified => NOT_ENOUGH_DATA,
    }
}

/// The arms that somebody is shown. What was seen of shadows is told apart.
pub fn arms(report: &ExperimentReport) -> impl Iterator<Item = &ArmReport> + Clone {
    let planned = report.experiment.as_ref().map(|experiment| &experiment.arms[..]).unwrap_or_default();
    let is_shadow = |name: &str| planned.iter().any(|arm| arm.shadow && arm.name == name);
    report.arms.iter().filter(move |arm| !is_shadow(&arm.arm))
}

/// If shoppers are not shared out as they should be, what that means and how they are shared out.
pub fn mismatch(report: &ExperimentReport) -> Option<Vec<String>> {
    let ratio = report.sample_ratio.as_ref().filter(|ratio| ratio.mismatch)?;
    let total = arms(report).map(|arm| arm.users).sum::<i64>().max(1);
    let experiment = report.experiment.clone().unwrap_or_default();
    let shares = arms(report).filter_map(|arm| {
        let weight = experiment.arms.iter().find(|planned| planned.name == arm.arm)?.weight;
        let seen = share(arm.users as f64 / total as f64);
        Some(format!("{} {seen} in place of {}", arm.arm, words::percent(weight)))
    });
    let p = chance(ratio.p_value);
    let mut said = vec![format!("{MISMATCH}: shoppers are not shared out as the weights say (p = {p})")];
    // Those who came before weights were changed were shared out by others, and are not told apart here.
    if experiment.weights_time.is_none() {
        said.push(format!("of {}: {}", counted(total, "shopper"), shares.collect::<Vec<_>>().join(", ")));
    }
    said.push("the assignment or the log is broken: believe no figure of this report".to_owned());
    Some(said)
}

/// What else speaks against the figures: the server also warns of what [`mismatch`] says.
pub fn warnings(report: &ExperimentReport) -> impl Iterator<Item = &String> {
    report.warnings.iter().filter(|warning| !warning.starts_with(MISMATCH))
}

/// Whom the figures are without, if there is anybody.
pub fn left_out(report: &ExperimentReport) -> Option<String> {
    let who = counted(report.multiple_exposures, "shopper");
    (report.multiple_exposures > 0).then(|| format!("{who} had more than one arm shown: the figures are without them"))
}

/// Which of two interleaved rankings is preferred, in a sentence each.
pub fn preference(report: &ExperimentReport, preference: &Preference) -> Vec<String> {
    let name = |index: usize| report.arms.get(index).map_or("the other", |arm| arm.arm.as_str());
    let counts = format!(
        "{} clicked more of {}, {} more of {}, {} as much of both",
        counted(preference.treatment, "shopper"),
        name(1),
        grouped(preference.control),
        name(0),
        grouped(preference.ties),
    );
    let share = preference.share.zip(preference.interval.as_ref()).map(|(share, interval)| {
        let (lower, upper) = (self::share(interval.lower), self::share(interval.upper));
        let p = chance(preference.p_value);
        format!("{} of those with a preference prefer {} ({lower} … {upper}, p {p})", self::share(share), name(1))
    });
    vec![share.unwrap_or_else(|| format!("{NOT_ENOUGH_DATA}: nobody prefers one")), counts]
}

/// How sure the intervals are, as `95 %`.
pub fn confidence(report: &ExperimentReport) -> String {
    words::percent(1.0 - report.alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(metric: ExperimentMetric, lower: f64, upper: f64) -> Comparison {
        let sequential_interval = Some(ConfidenceInterval { lower, upper });
        Comparison { metric: metric.into(), sequential_interval, ..Comparison::default() }
    }

    #[test]
    fn lifts_have_their_sign_and_no_false_digits() {
        assert_eq!([0.032, -0.0504, 1e-9, -1e-9].map(lift), ["+3.2 %", "-5.0 %", "0.0 %", "0.0 %"]);
        let open = ConfidenceInterval { lower: f64::NEG_INFINITY, upper: f64::INFINITY };
        assert_eq!(interval(&open), "-∞ … ∞");
        assert_eq!(interval(&ConfidenceInterval { lower: -0.005, ..open }), "-0.5 % … ∞");
        assert_eq!(interval(&ConfidenceInterval { upper: 0.071, lower: -0.005 }), "-0.5 … +7.1 %");
    }

    #[test]
    fn small_chances_keep_their_magnitude() {
        assert_eq!([1.0, 0.0312, 0.0004, 2.4e-12, 0.0].map(chance), ["1.000", "0.031", "4e-4", "2e-12", "0.000"]);
    }

    #[test]
    fn a_verdict_needs_the_whole_interval_on_one_side() {
        assert_eq!(verdict(&between(ExperimentMetric::Ctr, 0.01, 0.2)), "better");
        assert_eq!(verdict(&between(ExperimentMetric::Ctr, -0.2, -0.01)), "worse");
        assert_eq!(verdict(&between(ExperimentMetric::Ctr, -0.2, 0.01)), "");
        assert_eq!(verdict(&between(ExperimentMetric::Empty, 0.01, 0.2)), "worse");
        assert_eq!(verdict(&between(ExperimentMetric::Revenue, f64::NEG_INFINITY, f64::INFINITY)), "");
        assert_eq!(verdict(&Comparison::default()), "");
    }

    #[test]
    fn metrics_without_figures_are_named_with_their_reason_once() {
        let lacks = |metric: ExperimentMetric, why: &str| Comparison {
            metric: metric.into(),
            not_enough_data: why.into(),
            ..Comparison::default()
        };
        let comparisons = [
            lacks(ExperimentMetric::Ctr, ""),
            lacks(ExperimentMetric::Conversion, "no orders"),
            lacks(ExperimentMetric::AdRevenue, "no clicks"),
            lacks(ExperimentMetric::Revenue, "no orders"),
        ];
        assert_eq!(lacking(comparisons.iter()), ["conversion, revenue: no orders", "ad revenue: no clicks"]);
    }
}
