//! How the figures came to be, over time.

use maud::{Markup, html};
use prost_types::Timestamp;
use vitrine::v1::{Comparison, CurvePoint, ExperimentMetric, ExperimentReport};

use super::{
    axis::{Axis, percents},
    figures::arms,
    forest::{class, limit, widened},
};
use crate::{command::experiments::words, output::grouped};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 230.0;
/// Where the plot begins and ends, to the right of its labels.
const ACROSS: (f64, f64) = (80.0, 846.0);
/// Where the plot begins and ends, from its floor upwards.
const UPWARDS: (f64, f64) = (200.0, 8.0);

/// What is drawn of one arm.
struct Line {
    class: String,
    /// Time, lift, and the ends of the interval that is valid at any time, in stretches without a gap.
    stretches: Vec<Vec<[f64; 4]>>,
}

/// The lift in a metric of each arm over time, or nothing if there is too little to draw.
pub fn lifts(report: &ExperimentReport, metric: ExperimentMetric) -> Option<Markup> {
    let lines: Vec<Line> = arms(report).skip(1).map(|arm| line(report, &arm.arm, metric)).collect();
    let points = || lines.iter().flat_map(|line| line.stretches.iter().flatten());
    if points().count() < 2 {
        return None;
    }
    let span = widened(report.curve.iter().map(seconds));
    // Early intervals are many times as wide as the later ones, which are what the picture is for.
    let late = points().filter(|point| point[0] >= f64::midpoint(span.0, span.1));
    let (low, high) = widened(late.flat_map(|point| point[1..].iter().copied()).chain([0.0]));
    let margin = 0.06 * (high - low);
    let upwards = Axis::new((low - margin, high + margin), UPWARDS);
    let ticks = upwards.ticks(5.0);
    let labels = percents(&ticks);
    let limit = limit(report, metric).filter(|limit| upwards.holds(*limit));
    let inner = |across: &Axis| {
        html! {
            line.zero x1="0" x2=(WIDTH) y1=(place(&upwards, 0.0)) y2=(place(&upwards, 0.0)) {}
            @if let Some(limit) = limit {
                line.limit x1="0" x2=(WIDTH) y1=(place(&upwards, limit)) y2=(place(&upwards, limit)) {}
            }
            @for line in &lines {
                g class=(line.class) {
                    @for stretch in &line.stretches {
                        polygon.band points=(band(across, &upwards, stretch)) {}
                        polyline.curve points=(path(across, &upwards, stretch.iter().map(|point| (point[0], point[1])))) {}
                    }
                }
            }
        }
    };
    let name = format!("Lift of {} over time", words::metric(metric.into()));
    Some(frame(&name, span, &upwards, ticks.into_iter().zip(labels), inner))
}

/// The shoppers of each arm over time, or nothing if there is too little to draw.
pub fn users(report: &ExperimentReport) -> Option<Markup> {
    let times: Vec<f64> = report.curve.iter().map(seconds).collect();
    if times.len() < 2 {
        return None;
    }
    let seen = |point: &CurvePoint, arm: &str| {
        point.arms.iter().find(|other| other.arm == arm).map_or(0.0, |other| other.users as f64)
    };
    let most = report.curve.iter().flat_map(|point| &point.arms).map(|arm| arm.users).max().unwrap_or(0);
    let upwards = Axis::new((0.0, 1.05 * most.max(1) as f64), UPWARDS);
    let ticks: Vec<f64> = upwards.ticks(5.0).into_iter().filter(|tick| tick.fract() == 0.0).collect();
    let inner = |across: &Axis| {
        html! {
            @for arm in arms(report) {
                g class=(class(report, &arm.arm)) {
                    polyline.curve points=(path(across, &upwards, report.curve.iter().map(|point| (seconds(point), seen(point, &arm.arm))))) {}
                }
            }
        }
    };
    let ticks = ticks.into_iter().map(|tick| (tick, grouped(tick as i64)));
    Some(frame("Shoppers over time", widened(times.into_iter()), &upwards, ticks, inner))
}

/// Axes, and inside of them what `inner` draws; what leaves the frame is cut off.
fn frame(
    name: &str,
    span: (f64, f64),
    upwards: &Axis,
    ticks: impl Iterator<Item = (f64, String)>,
    inner: impl Fn(&Axis) -> Markup,
) -> Markup {
    let across = Axis::new(span, ACROSS);
    let (width, height) = (ACROSS.1 - ACROSS.0, UPWARDS.0 - UPWARDS.1);
    // The inner picture has the outer one's places.
    let same = format!("{} {} {width} {height}", ACROSS.0, UPWARDS.1);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(name) {
            @for (tick, label) in ticks {
                line.grid x1=(ACROSS.0) x2=(ACROSS.1) y1=(place(upwards, tick)) y2=(place(upwards, tick)) {}
                text.tick x=(ACROSS.0 - 8.0) y=(format!("{:.1}", upwards.place(tick) + 4.0)) text-anchor="end" { (label) }
            }
            @for (moment, label) in across.moments() {
                line.grid x1=(place(&across, moment)) x2=(place(&across, moment)) y1=(UPWARDS.0) y2=(UPWARDS.0 + 5.0) {}
                text.tick x=(place(&across, moment)) y=(UPWARDS.0 + 19.0) text-anchor="middle" { (label) }
            }
            svg x=(ACROSS.0) y=(UPWARDS.1) width=(width) height=(height) viewBox=(same) { (inner(&across)) }
        }
    }
}

fn line(report: &ExperimentReport, arm: &str, metric: ExperimentMetric) -> Line {
    let mut stretches: Vec<Vec<[f64; 4]>> = vec![Vec::new()];
    for point in &report.curve {
        let found = point.comparisons.iter().find(|other| other.arm == arm && other.metric() == metric);
        match found.and_then(|comparison| figures(point, comparison)) {
            Some(figures) => stretches.last_mut().into_iter().for_each(|stretch| stretch.push(figures)),
            None if stretches.last().is_some_and(|stretch| !stretch.is_empty()) => stretches.push(Vec::new()),
            None => {}
        }
    }
    stretches.retain(|stretch| !stretch.is_empty());
    Line { class: class(report, arm), stretches }
}

fn figures(point: &CurvePoint, comparison: &Comparison) -> Option<[f64; 4]> {
    let interval = comparison.sequential_interval.as_ref().filter(|_| comparison.not_enough_data.is_empty())?;
    Some([seconds(point), comparison.lift, interval.lower, interval.upper])
}

fn seconds(point: &CurvePoint) -> f64 {
    point.time.as_ref().map_or(0.0, |Timestamp { seconds, nanos }| *seconds as f64 + f64::from(*nanos) / 1e9)
}

fn path(across: &Axis, upwards: &Axis, points: impl Iterator<Item = (f64, f64)>) -> String {
    let places = points.map(|(x, y)| format!("{},{}", place(across, x), place(upwards, y)));
    places.collect::<Vec<_>>().join(" ")
}

/// Along the upper ends, and back along the lower ones.
fn band(across: &Axis, upwards: &Axis, stretch: &[[f64; 4]]) -> String {
    let there = stretch.iter().map(|point| (point[0], point[3]));
    let back = stretch.iter().rev().map(|point| (point[0], point[2]));
    path(across, upwards, there.chain(back))
}

fn place(axis: &Axis, value: f64) -> String {
    format!("{:.1}", axis.place(value))
}
