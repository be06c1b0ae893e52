//! Chances that were foretold, and how often they came to be, drawn ("Predicting Good Probabilities with Supervised Learning", Niculescu-Mizil
//! & Caruana 2005).

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, IntoDrawingArea as _, LineSeries, PathElement, SVGBackend, ShapeStyle, WHITE,
};

use crate::click_metrics::Bin;

/// Where a chance is what it says, dots lie on the line; they are as large as they have many examples.
pub fn draw(path: &Path, bins: &[Bin]) -> Result<()> {
    let area = SVGBackend::new(path, (480, 480)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("{error}");
    let drawn = (|| {
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)
            .map_err(|error| failed(&error))?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("chance that was foretold").y_desc("part that was clicked on");
        mesh.draw().map_err(|error| failed(&error))?;
        let line = PathElement::new([(0.0, 0.0), (1.0, 1.0)], BLACK);
        chart.draw_series([line]).map_err(|error| failed(&error))?;
        let points = || bins.iter().map(|bin| (bin.chance, bin.clicked));
        chart.draw_series(LineSeries::new(points(), BLACK)).map_err(|error| failed(&error))?;
        let most = bins.iter().map(|bin| bin.examples).max().unwrap_or(1).max(1) as f64;
        let size = |bin: &Bin| 2 + (8.0 * (bin.examples as f64 / most).sqrt()).round() as i32;
        let dots =
            bins.iter().zip(points()).map(|(bin, at)| Circle::new(at, size(bin), ShapeStyle::from(BLACK).filled()));
        chart.draw_series(dots).map_err(|error| failed(&error))?;
        area.present().map_err(|error| failed(&error))
    })();
    drawn.with_context(|| format!("cannot draw {}", path.display()))
}
