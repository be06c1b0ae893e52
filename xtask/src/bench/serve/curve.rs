//! Latency against offered load, drawn.

use super::{
    CALLERS,
    figures::{Figures, Level, median},
};
use crate::bench::plot::{Chart, Panel, Scale, Series, Style, svg};

pub fn draw(figures: &Figures) -> String {
    let most = |levels: &[Level]| levels.last().map_or(0.0, |level| level.offered);
    let new = format!("new queries (ms); 100 % is {:.0}/s", most(&figures.new));
    let seen = format!("seen before (ms); 100 % is {:.0}/s", most(&figures.seen));
    let title = format!("Searches by meaning over {} films: latency against offered load", figures.items);
    let alone = |of: fn(&super::Round) -> &super::Loaded| {
        median(figures.rounds.iter().map(|round| of(round).latency.at(0.5).as_secs_f64() * 1e3))
    };
    let chart = Chart {
        title: &title,
        x_label: &format!("offered load (% of what {CALLERS} waiting callers get; at 0: one waiting caller's p50)"),
        panels: vec![
            panel(&new, &figures.new, alone(|round| &round.one_new)),
            panel(&seen, &figures.seen, alone(|round| &round.one_seen)),
        ],
        bands: Vec::new(),
        marks: Vec::new(),
    };
    svg(&chart)
}

fn panel<'a>(y_label: &'a str, levels: &[Level], alone: f64) -> Panel<'a> {
    let curve = |quantile| {
        let point = |level: &Level| (level.part * 100.0, level.loaded.latency.at(quantile).as_secs_f64() * 1e3);
        levels.iter().map(point).collect()
    };
    Panel {
        y_label,
        scale: Scale::Logarithmic,
        series: vec![
            Series { name: "p50", style: Style::Soft, points: curve(0.5) },
            Series { name: "p99", style: Style::Strong, points: curve(0.99) },
            Series { name: "one caller", style: Style::Dots, points: vec![(0.0, alone)] },
        ],
    }
}
