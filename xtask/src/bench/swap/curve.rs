//! Memory and latency over time, drawn.

use std::{collections::BTreeMap, time::Duration};

use super::{Span, Story};
use crate::bench::{
    plot::{Band, Chart, Panel, Scale, Series, Style, svg},
    spread::Spread,
};

/// Percentiles are of the searches of so much time, or of more when much is drawn.
const BIN: f64 = 5.0;
const MOST_BINS: f64 = 200.0;

pub fn draw(story: &Story) -> String {
    let minutes = |at| story.after(at).as_secs_f64() / 60.0;
    let band = |name, span: Span| Band { name, from: minutes(span.from), until: minutes(span.until) };
    let memory = |samples: &mut dyn Iterator<Item = &super::Sample>| {
        samples.map(|sample| (minutes(sample.at), sample.bytes as f64 / f64::from(1 << 20))).collect()
    };
    let after_swaps = memory(&mut story.swaps.iter().map(|swapped| &swapped.memory));
    let chart = Chart {
        title: &format!("{} swaps of the text encoder, {:.0} searches a second", story.swaps.len(), story.rate),
        x_label: "time (minutes); thin lines: the label moves",
        panels: vec![
            Panel {
                y_label: "resident memory (MiB)",
                scale: Scale::Linear,
                series: vec![
                    Series { name: "all the time", style: Style::Soft, points: memory(&mut story.seen.memory.iter()) },
                    Series { name: "after each swap", style: Style::Dots, points: after_swaps },
                ],
            },
            latency(story),
        ],
        bands: vec![band("indexing", story.indexing)],
        marks: story.swaps.iter().map(|swapped| minutes(swapped.moved.sent)).collect(),
    };
    svg(&chart)
}

fn latency(story: &Story) -> Panel<'_> {
    let last = story.searches.iter().map(|search| story.after(search.due).as_secs_f64()).fold(0.0, f64::max);
    let bin = BIN.max((last / MOST_BINS).ceil());
    let mut bins: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
    for search in story.searches.iter().filter(|search| search.outcome.is_ok() && !search.probe) {
        bins.entry((story.after(search.due).as_secs_f64() / bin) as u64).or_default().push(search.latency);
    }
    let spreads: Vec<(f64, Spread)> =
        bins.into_iter().map(|(n, times)| ((n as f64 + 0.5) * bin / 60.0, Spread::of(times))).collect();
    let curve = |quantile| spreads.iter().map(|(at, spread)| (*at, spread.at(quantile).as_secs_f64() * 1e3)).collect();
    Panel {
        y_label: "latency (ms)",
        scale: Scale::Linear,
        series: vec![
            Series { name: "p50", style: Style::Soft, points: curve(0.5) },
            Series { name: "p99", style: Style::Strong, points: curve(0.99) },
        ],
    }
}
