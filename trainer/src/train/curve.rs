//! Loss and validation over the passes, drawn.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, DrawingArea, IntoDrawingArea as _, LineSeries, SVGBackend, ShapeStyle, WHITE,
};

/// One pass.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub epoch: u32,
    pub loss: f64,
    pub score: f64,
}

/// Draws passes, of which one was the best.
pub fn draw(path: &Path, points: &[Point], metric: &str, best: u32) -> Result<()> {
    let area = SVGBackend::new(path, (720, 480)).into_drawing_area();
    let drawn = (|| {
        area.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
        let [above, below] = &area.split_evenly((2, 1))[..] else { return Err(anyhow!("it cannot be divided")) };
        panel(above, "loss", points.iter().map(|point| (point.epoch, point.loss)).collect(), None)?;
        let scores = points.iter().map(|point| (point.epoch, point.score)).collect();
        panel(below, &format!("{metric} of the validation"), scores, Some(best))?;
        area.present().map_err(|error| anyhow!("{error}"))
    })();
    drawn.with_context(|| format!("cannot draw {}", path.display()))
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    caption: &str,
    points: Vec<(u32, f64)>,
    best: Option<u32>,
) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("{error}");
    let (least, most) = points
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (_, value)| (least.min(*value), most.max(*value)));
    let margin = ((most - least) * 0.05).max(1e-6);
    let last = points.last().map_or(1, |(epoch, _)| *epoch).max(2);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(1..last, least - margin..most + margin)
        .map_err(|error| failed(&error))?;
    chart.configure_mesh().x_labels(10).y_labels(6).draw().map_err(|error| failed(&error))?;
    let best = points.iter().copied().find(|(epoch, _)| Some(*epoch) == best);
    chart.draw_series(LineSeries::new(points, BLACK)).map_err(|error| failed(&error))?;
    let dot = best.map(|best| Circle::new(best, 4, ShapeStyle::from(BLACK).filled()));
    chart.draw_series(dot).map_err(|error| failed(&error))?;
    Ok(())
}
