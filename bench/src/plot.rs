//! Figures: lines of medians over a load or a size, both axes logarithmic, as SVG.
//!
//! It never measures anything, and draws nothing that is not in a table as well.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

use crate::rounds::{Rounds, Unit};

/// A logarithmic axis has no place for nothing; it lies here, and its tick says so.
const NOTHING: f64 = 100.0;

const SIZE: (u32, u32) = (980, 480);
const MARGIN: i32 = 14;
/// Beside the drawing, for the names of the lines: over it they would cover some.
const NAMES: i32 = 150;
const LABELS: i32 = 76;

/// Told apart by people who see few colours, too; ours is the darkest.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 60, 130), RGBColor(0, 150, 110), RGBColor(225, 140, 0), RGBColor(200, 90, 160)];

/// What is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The file's name without its ending.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) lines: Vec<Line>,
}

/// A line through medians, each with a bar from the least to the most.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Lines of one contender have one colour.
    pub(crate) colour: usize,
    pub(crate) stroke: Stroke,
    pub(crate) points: Vec<(f64, Rounds)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stroke {
    Solid,
    Dashed,
}

impl Figure {
    /// Where it lies, from where the tables lie.
    pub(crate) fn path(&self) -> String {
        format!("plots/{}.svg", self.name)
    }

    /// Draws it into a file.
    pub(crate) fn draw(&self, file: &Path) -> anyhow::Result<()> {
        // plotters' errors borrow the drawing.
        self.render(file).map_err(|error| anyhow!("{}: {error}", file.display()))
    }

    fn render(&self, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = bounds(points().map(|(x, _)| place(*x))).context("there is nothing to draw")?;
        let y = bounds(points().flat_map(|(_, rounds)| [rounds.min(), rounds.max()]))
            .context("there is nothing to draw")?;
        let unit = points().next().map_or(Unit::Ratio, |(_, rounds)| rounds.unit());
        let root = SVGBackend::new(file, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(self.title, ("sans-serif", 18))
            .margin(MARGIN)
            .margin_right(MARGIN + NAMES)
            .x_label_area_size(44)
            .y_label_area_size(LABELS)
            .build_cartesian_2d((x.0 / 1.2..x.1 * 1.2).log_scale(), (y.0 / 1.5..y.1 * 1.5).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(BLACK.mix(0.04))
            .bold_line_style(BLACK.mix(0.12))
            .label_style(("sans-serif", 13))
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| count(*x))
            .y_label_formatter(&|y| unit.show(*y))
            .draw()?;
        for line in &self.lines {
            let colour = COLOURS[line.colour % COLOURS.len()].to_rgba();
            let style = colour.stroke_width(2);
            let medians: Vec<_> = line.points.iter().map(|(x, rounds)| (place(*x), rounds.median())).collect();
            match line.stroke {
                Stroke::Solid => _ = chart.draw_series(LineSeries::new(medians.clone(), style))?,
                Stroke::Dashed => _ = chart.draw_series(DashedLineSeries::new(medians.clone(), 5, 4, style))?,
            }
            chart.draw_series(medians.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            let bars = line.points.iter().map(|(x, rounds)| {
                PathElement::new(vec![(place(*x), rounds.min()), (place(*x), rounds.max())], colour.stroke_width(1))
            });
            chart.draw_series(bars)?;
        }
        // Not plotters' own legend, which has to lie within the axes, where it would cover lines.
        let x = i32::try_from(SIZE.0)? - MARGIN - NAMES + 12;
        for (line, index) in self.lines.iter().zip(0..) {
            let y = 52 + 20 * index;
            let style = COLOURS[line.colour % COLOURS.len()].stroke_width(2);
            let dashes: &[(i32, i32)] = match line.stroke {
                Stroke::Solid => &[(0, 22)],
                Stroke::Dashed => &[(0, 5), (9, 14), (18, 22)],
            };
            for (from, to) in dashes {
                root.draw(&PathElement::new(vec![(x + from, y), (x + to, y)], style))?;
            }
            root.draw(&Text::new(line.name.clone(), (x + 30, y - 7), ("sans-serif", 13)))?;
        }
        root.present()?;
        Ok(())
    }
}

fn place(x: f64) -> f64 {
    if x > 0.0 { x } else { NOTHING }
}

/// The least and the most of positive numbers; none of nothing.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| *value > 0.0).fold(None, |bounds, value| {
        let (least, most) = bounds.unwrap_or((value, value));
        Some((least.min(value), most.max(value)))
    })
}

/// `none`, `500`, `10k`, `1M`.
fn count(x: f64) -> String {
    if x <= NOTHING {
        "none".to_owned()
    } else if x >= 1e6 {
        format!("{}M", x / 1e6)
    } else if x >= 1e3 {
        format!("{}k", x / 1e3)
    } else {
        format!("{x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_what_it_shows() {
        let rounds = |value| Rounds::of(Unit::Seconds, [value, value * 1.1, value * 1.2]);
        let line = |name: &str, colour, stroke| Line {
            name: name.to_owned(),
            colour,
            stroke,
            points: vec![(0.0, rounds(3e-4)), (1e3, rounds(5e-4)), (1e6, rounds(4e-2))],
        };
        let lines = vec![line("ours", 0, Stroke::Solid), line("theirs", 1, Stroke::Dashed)];
        let figure = Figure { name: "figure", title: "Handshakes", x: "revoked", y: "CPU", lines };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("figure.svg");
        figure.draw(&file).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        for text in ["<svg", "Handshakes", "revoked", "ours", "theirs", "none", "100k", "1.00 ms"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        let nothing = Figure { lines: Vec::new(), ..figure };
        assert!(nothing.draw(&file).is_err());
    }
}
