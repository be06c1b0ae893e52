//! Line charts as SVG: panels one below the other, on one horizontal axis.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

/// A chart.
pub struct Chart<'a> {
    pub title: &'a str,
    /// What the horizontal axis shows, with its unit.
    pub x_label: &'a str,
    pub panels: Vec<Panel<'a>>,
    /// Stretches of the horizontal axis with a name.
    pub bands: Vec<Band<'a>>,
    /// Moments on the horizontal axis.
    pub marks: Vec<f64>,
}

/// A part of the chart with a vertical axis of its own.
pub struct Panel<'a> {
    /// What the vertical axis shows, with its unit.
    pub y_label: &'a str,
    pub scale: Scale,
    pub series: Vec<Series<'a>>,
}

/// How a vertical axis leads from values to places.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// Each power of ten is as long as the next.
    Logarithmic,
}

/// Points of one kind.
pub struct Series<'a> {
    pub name: &'a str,
    pub style: Style,
    pub points: Vec<(f64, f64)>,
}

/// How points look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Of first importance.
    Strong,
    /// Of second importance.
    Soft,
    /// Single points, not joined.
    Dots,
}

/// A stretch of the horizontal axis.
pub struct Band<'a> {
    pub name: &'a str,
    pub from: f64,
    pub until: f64,
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const PANEL: f64 = 200.0;
const GAP: f64 = 44.0;
const BOTTOM: f64 = 52.0;
/// About how many steps an axis has.
const X_STEPS: f64 = 10.0;
const Y_STEPS: f64 = 4.0;

const STYLE: &str = "text { font: 12px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #475569 }
  .title { font-size: 16px; font-weight: 600; fill: #0f172a }
  .band { fill: #f1f5f9 }
  .mark { stroke: #cbd5e1; stroke-width: 0.75 }
  .grid { stroke: #e2e8f0 }
  .axis { stroke: #64748b }
  .line { fill: none; stroke-linejoin: round }";

impl Style {
    fn colour(self) -> &'static str {
        match self {
            Self::Strong => "#1d4ed8",
            Self::Soft => "#93c5fd",
            Self::Dots => "#c2410c",
        }
    }
}

/// From values to places.
#[derive(Clone)]
struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
    ticks: Vec<f64>,
    /// The place of `least`, and of `most`.
    places: (f64, f64),
}

impl Axis {
    /// From 0 to `most` or a little more, so that it ends with a step if it is `whole`.
    fn linear(most: f64, steps: f64, whole: bool, places: (f64, f64)) -> Self {
        let step = round_step(most / steps);
        let most = if whole { (most / step).ceil().max(1.0) * step } else { most };
        let ticks = (0..=(most * 1.0001 / step) as u32).map(|n| f64::from(n) * step).collect();
        Self { scale: Scale::Linear, least: 0.0, most, ticks, places }
    }

    /// From a round number to a round number.
    fn logarithmic(least: f64, most: f64, places: (f64, f64)) -> Self {
        let powers = least.log10().floor() as i32..=most.log10().floor() as i32 + 1;
        let round: Vec<f64> =
            powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power))).collect();
        let first = round.iter().rposition(|tick| *tick <= least * 1.0001).unwrap_or(0);
        let last = round.iter().position(|tick| *tick >= most * 0.9999).unwrap_or(round.len() - 1).max(first + 1);
        let ticks = round[first..=last].to_vec();
        Self { scale: Scale::Logarithmic, least: round[first], most: round[last], ticks, places }
    }

    fn at(&self, value: f64) -> f64 {
        let (start, end) = self.places;
        let part = match self.scale {
            Scale::Linear => value / self.most,
            Scale::Logarithmic => (value.max(self.least) / self.least).ln() / (self.most / self.least).ln(),
        };
        start + (end - start) * part
    }
}

/// The smallest of 1, 2, 5, 10, 20, 50 … that is at least `step`, or the like below 1.
fn round_step(step: f64) -> f64 {
    if !(step.is_finite() && step > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|round| *round >= step * 0.9999).unwrap_or(10.0 * power)
}

/// Writes a drawing, and says where it is.
pub fn save(path: &Path, drawing: &str) -> Result<()> {
    fs::write(path, drawing).with_context(|| path.display().to_string())?;
    println!("\nDrawn in {}", path.display());
    Ok(())
}

/// Draws a chart.
pub fn svg(chart: &Chart<'_>) -> String {
    let points = || chart.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
    let x_most = points().map(|point| point.0).fold(1e-9, f64::max);
    let x = Axis::linear(x_most, X_STEPS, false, (LEFT, WIDTH - RIGHT));
    let panels = chart.panels.len() as f64;
    let end = TOP + panels * PANEL + (panels - 1.0) * GAP;
    let height = end + BOTTOM;
    let mut svg = String::new();
    // Writing into a string cannot fail.
    let _ = write!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">
<style>
  {STYLE}
</style>
<rect width="100%" height="100%" fill="white"/>
<text class="title" x="{LEFT}" y="24">{}</text>
"#,
        escaped(chart.title)
    );
    for (panel, top) in chart.panels.iter().zip((0..).map(|n| TOP + f64::from(n) * (PANEL + GAP))) {
        draw_panel(&mut svg, chart, panel, &x, top);
    }
    for tick in &x.ticks {
        let _ = writeln!(svg, r#"<text x="{:.1}" y="{}" text-anchor="middle">{tick}</text>"#, x.at(*tick), end + 18.0);
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let _ = writeln!(
        svg,
        r#"<text x="{middle}" y="{}" text-anchor="middle">{}</text>"#,
        end + 40.0,
        escaped(chart.x_label)
    );
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(svg: &mut String, chart: &Chart<'_>, panel: &Panel<'_>, x: &Axis, top: f64) {
    let bottom = top + PANEL;
    let values = || panel.series.iter().flat_map(|series| &series.points).map(|point| point.1);
    let most = values().fold(1e-9, f64::max);
    let y = match panel.scale {
        Scale::Linear => Axis::linear(most, Y_STEPS, true, (bottom, top)),
        Scale::Logarithmic => {
            Axis::logarithmic(values().filter(|value| *value > 0.0).fold(most, f64::min), most, (bottom, top))
        }
    };
    for band in &chart.bands {
        let (from, until) = (x.at(band.from), x.at(band.until));
        let width = until - from;
        let _ = writeln!(svg, r#"<rect class="band" x="{from:.1}" y="{top}" width="{width:.1}" height="{PANEL}"/>"#);
        let middle = f64::midpoint(from, until);
        let name = escaped(band.name);
        let _ = writeln!(svg, r#"<text x="{middle:.1}" y="{}" text-anchor="middle">{name}</text>"#, top - 6.0);
    }
    for mark in &chart.marks {
        let at = x.at(*mark);
        let _ = writeln!(svg, r#"<line class="mark" x1="{at:.1}" y1="{top}" x2="{at:.1}" y2="{bottom}"/>"#);
    }
    for tick in &y.ticks {
        let (at, class) = (y.at(*tick), if *tick <= y.least { "axis" } else { "grid" });
        let end = WIDTH - RIGHT;
        let _ = writeln!(svg, r#"<line class="{class}" x1="{LEFT}" y1="{at:.1}" x2="{end}" y2="{at:.1}"/>"#);
        let (left, line) = (LEFT - 8.0, at + 4.0);
        let _ = writeln!(svg, r#"<text x="{left}" y="{line:.1}" text-anchor="end">{tick}</text>"#);
    }
    let (middle, label) = (f64::midpoint(top, bottom), escaped(panel.y_label));
    let _ =
        writeln!(svg, r#"<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">{label}</text>"#);
    for series in &panel.series {
        draw_series(svg, series, x, &y);
    }
    draw_legend(svg, panel, bottom);
}

fn draw_series(svg: &mut String, series: &Series<'_>, x: &Axis, y: &Axis) {
    let colour = series.style.colour();
    let places = series.points.iter().map(|&(a, b)| (x.at(a), y.at(b)));
    if series.style == Style::Dots {
        for (a, b) in places {
            let _ = writeln!(svg, r#"<circle cx="{a:.1}" cy="{b:.1}" r="2.2" fill="{colour}"/>"#);
        }
        return;
    }
    let line: Vec<String> = places.map(|(a, b)| format!("{a:.1},{b:.1}")).collect();
    let _ =
        writeln!(svg, r#"<polyline class="line" stroke="{colour}" stroke-width="1.4" points="{}"/>"#, line.join(" "));
}

/// In the lower left corner: curves of memory and latency leave room there.
fn draw_legend(svg: &mut String, panel: &Panel<'_>, bottom: f64) {
    let mut left = LEFT + 12.0;
    let line = bottom - 12.0;
    for series in &panel.series {
        let (colour, name, text) = (series.style.colour(), escaped(series.name), left + 14.0);
        let _ = writeln!(svg, r#"<circle cx="{}" cy="{}" r="4" fill="{colour}"/>"#, left + 4.0, line - 4.0);
        let _ = writeln!(svg, r#"<text x="{text}" y="{line}">{name}</text>"#);
        // About the width of a letter at this size.
        left = text + series.name.chars().count() as f64 * 6.6 + 20.0;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (step, round) in [(0.03, 0.05), (1.0, 1.0), (1.1, 2.0), (37.0, 50.0), (51.0, 100.0), (0.0, 1.0)] {
            assert!((round_step(step) - round).abs() < 1e-9, "{step}");
        }
    }

    #[test]
    fn the_largest_value_lies_within_its_axis() {
        let axis = Axis::linear(431.0, 4.0, true, (200.0, 0.0));
        assert!(axis.at(431.0) > 0.0 && axis.at(431.0) < axis.at(0.0));
        assert_eq!(axis.ticks.last(), Some(&axis.most));
    }

    #[test]
    fn powers_of_ten_are_equally_far_apart_on_a_logarithmic_axis() {
        let axis = Axis::logarithmic(0.7, 310.0, (200.0, 0.0));
        assert_eq!((axis.ticks[0], axis.ticks.last()), (0.5, Some(&500.0)));
        assert!((axis.at(1.0) - axis.at(10.0) - (axis.at(10.0) - axis.at(100.0))).abs() < 1e-9);
        assert!((axis.at(0.5) - 200.0).abs() < 1e-9 && axis.at(500.0).abs() < 1e-9);
        assert!((axis.at(0.0) - 200.0).abs() < 1e-9, "what is too small lies at the beginning");
    }

    #[test]
    fn every_name_and_point_is_drawn() {
        let points = vec![(0.0, 1.0), (2.0, 3.0)];
        let series = |style| Series { name: "a < b", style, points: points.clone() };
        let chart = Chart {
            title: "Times & sizes",
            x_label: "time (min)",
            panels: vec![Panel {
                y_label: "size (MiB)",
                scale: Scale::Linear,
                series: vec![series(Style::Strong), series(Style::Dots)],
            }],
            bands: vec![Band { name: "before", from: 0.0, until: 1.0 }],
            marks: vec![1.5],
        };
        let drawn = svg(&chart);
        for text in ["Times &amp; sizes", "time (min)", "size (MiB)", "a &lt; b", "before"] {
            assert!(drawn.contains(text), "{text}");
        }
        assert_eq!(drawn.matches("<polyline").count(), 1);
        assert_eq!(drawn.matches(r#"r="2.2""#).count(), 2);
        assert_eq!(drawn.matches("class=\"mark\"").count(), 1);
    }
}
