//! A metric of all arms beside the control: each with its lift, its interval, and the one that is valid at any time.

use maud::{Markup, html};
use vitrine::v1::{Comparison, ConfidenceInterval, ExperimentMetric, ExperimentReport};

use super::{
    axis::{Axis, percents},
    figures::{NOT_ENOUGH_DATA, arms, interval, less_is_better, lift},
};
use crate::command::experiments::words;

const WIDTH: f64 = 860.0;
/// Where the plot begins and ends, between the arms' names and their figures.
const PLOT: (f64, f64) = (176.0, 630.0);
const ROW: f64 = 34.0;

/// The picture, or nothing if the metric is not compared.
pub fn forest(report: &ExperimentReport, metric: ExperimentMetric) -> Option<Markup> {
    let rows: Vec<&Comparison> = report.comparisons.iter().filter(|row| row.metric() == metric).collect();
    if rows.iter().all(|row| row.interval.is_none()) {
        return None;
    }
    let limit = limit(report, metric);
    let axis = Axis::new(range(&rows, limit), PLOT);
    let floor = ROW * rows.len() as f64 + 6.0;
    let ticks = axis.ticks(6.0);
    let view = format!("0 0 {WIDTH} {}", floor + 24.0);
    Some(html! {
        svg viewBox=(view) role="img" aria-label={ "Lift of " (words::metric(metric.into())) } {
            @for (tick, label) in ticks.iter().zip(percents(&ticks)) {
                line.grid x1=(place(&axis, *tick)) x2=(place(&axis, *tick)) y1="0" y2=(floor) {}
                text.tick x=(place(&axis, *tick)) y=(floor + 16.0) text-anchor="middle" { (label) }
            }
            line.zero x1=(place(&axis, 0.0)) x2=(place(&axis, 0.0)) y1="0" y2=(floor) {}
            @if let Some(limit) = limit {
                line.limit x1=(place(&axis, limit)) x2=(place(&axis, limit)) y1="0" y2=(floor) {
                    title { "guard rail" }
                }
            }
            @for (number, row) in rows.iter().enumerate() { (arm(report, &axis, row, ROW * (number as f64 + 0.5) + 2.0)) }
        }
    })
}

/// One arm, at that height.
fn arm(report: &ExperimentReport, axis: &Axis, row: &Comparison, y: f64) -> Markup {
    html! {
        g class=(class(report, &row.arm)) {
            text.name x=(PLOT.0 - 14.0) y=(y + 4.0) text-anchor="end" { title { (row.arm) } (short(&row.arm)) }
            @if !row.not_enough_data.is_empty() {
                text.lacking x=(axis.place(0.0) + 8.0) y=(y + 4.0) { (NOT_ENOUGH_DATA) }
            } @else {
                @if let Some(always) = &row.sequential_interval { (whiskers(axis, always, y)) }
                @if let Some(fixed) = &row.interval {
                    rect.interval x=(place(axis, axis.within(fixed.lower))) y=(y - 4.5) height="9" rx="2"
                        width=(width(axis, fixed)) {}
                }
                circle.lift cx=(place(axis, row.lift)) cy=(y) r="4" {}
                text.value x=(PLOT.1 + 14.0) y=(y + 4.0) {
                    tspan.strong { (lift(row.lift)) }
                    @if let Some(fixed) = &row.interval { "  (" (interval(fixed)) ")" }
                }
            }
        }
    }
}

/// The thin line of the interval that is valid at any time; an arrow where it leaves the picture.
fn whiskers(axis: &Axis, interval: &ConfidenceInterval, y: f64) -> Markup {
    let ends = [(interval.lower, PLOT.0, 1.0), (interval.upper, PLOT.1, -1.0)];
    html! {
        line.always x1=(place(axis, axis.within(interval.lower))) x2=(place(axis, axis.within(interval.upper))) y1=(y) y2=(y) {}
        @for (value, edge, inwards) in ends {
            @if axis.holds(value) {
                line.always x1=(place(axis, value)) x2=(place(axis, value)) y1=(y - 6.0) y2=(y + 6.0) {}
            } @else {
                path.arrow d={ "M" (edge) " " (y) "l" (inwards * 8.0) " -5v10z" } { title { "goes on to " (lift(value)) } }
            }
        }
    }
}

/// What the picture shows: zero, all lifts and intervals, and of those valid at any time what is not too far away.
fn range(rows: &[&Comparison], limit: Option<f64>) -> (f64, f64) {
    let figures = || rows.iter().filter(|row| row.not_enough_data.is_empty());
    let fixed = figures().flat_map(|row| row.interval.iter().flat_map(ends).chain([row.lift]));
    let near = widened(fixed.chain(limit).chain([0.0]));
    let reach = near.1 - near.0;
    let always = figures().flat_map(|row| row.sequential_interval.iter().flat_map(ends));
    let shown = always.filter(|value| (near.0 - reach..=near.1 + reach).contains(value));
    let (low, high) = widened(shown.chain([near.0, near.1]));
    let margin = 0.04 * (high - low);
    (low - margin, high + margin)
}

fn ends(interval: &ConfidenceInterval) -> [f64; 2] {
    [interval.lower, interval.upper]
}

/// From the least to the largest that is finite.
pub fn widened(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low > high { (0.0, 0.0) } else { (low, high) }
}

/// How far the metric may go to the worse side.
pub fn limit(report: &ExperimentReport, metric: ExperimentMetric) -> Option<f64> {
    let rails = &report.experiment.as_ref()?.guard_rails;
    let tolerance = rails.iter().find(|rail| rail.metric() == metric)?.tolerance;
    Some(if less_is_better(metric) { tolerance } else { -tolerance })
}

/// The colour of an arm, everywhere on the page.
pub fn class(report: &ExperimentReport, arm: &str) -> String {
    let index = arms(report).position(|other| other.arm == arm).unwrap_or(0);
    // The control has a colour for itself.
    format!("arm-{}", if index == 0 { 0 } else { (index - 1) % 7 + 1 })
}

fn width(axis: &Axis, interval: &ConfidenceInterval) -> String {
    let [from, to] = ends(interval).map(|value| axis.place(axis.within(value)));
    format!("{:.1}", (to - from).max(1.0))
}

fn place(axis: &Axis, value: f64) -> String {
    format!("{:.1}", axis.place(value))
}

/// A name that fits beside the picture.
fn short(name: &str) -> String {
    const FITS: usize = 20;
    if name.chars().count() <= FITS { name.to_owned() } else { name.chars().take(FITS - 1).chain(['…']).collect() }
}
