//! Plots as SVG.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// One line of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What the legend says.
    pub(crate) name: String,
    /// Its points.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws lines over two logarithmic axes.
pub(crate) fn draw(
    file: &Path,
    title: &str,
    (across, up): (&str, &str),
    lines: &[Line],
) -> Result<(), Box<dyn Error>> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    if points().count() == 0 {
        return Ok(());
    }
    let range = |of: fn((f64, f64)) -> f64| {
        let all = points().map(of).filter(|value| *value > 0.0);
        all.fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (x, y) = (range(|point| point.0), range(|point| point.1));
    let root = SVGBackend::new(file, (760, 460)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (x.0 * 0.9..x.1 * 1.1).log_scale(),
            (y.0 * 0.7..y.1 * 1.5).log_scale(),
        )?;
    chart.configure_mesh().x_desc(across).y_desc(up).draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let dots = line.points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots)?;
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

const COLOURS: [RGBColor; 8] = [
    RGBColor(200, 30, 30),
    RGBColor(240, 140, 30),
    RGBColor(30, 90, 200),
    RGBColor(30, 150, 70),
    RGBColor(130, 60, 160),
    RGBColor(110, 80, 50),
    RGBColor(60, 160, 170),
    RGBColor(120, 120, 120),
];
