//! The report as a picture: what clients saw and what breakers did, second by second.
//!
//! Four panels share one axis of time: the part of the requests that was answered, how
//! long answers took, breakers and retries, and which version answered. What was
//! wrong meanwhile is shaded. SVG is text: the same report draws the same file.

use std::{io, ops::Range};

use plotters::{coord::Shift, prelude::*};

use crate::Report;

const SIZE: (u32, u32) = (1_000, 1_000);
const TITLE: u32 = 40;
const FONT: &str = "sans-serif";
/// One colour a line, told apart by everybody (Okabe and Ito's).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const SHADE: RGBColor = RGBColor(240, 228, 66);

/// Why a plot could not be drawn: in memory, only for want of it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PlotError(#[from] DrawingAreaErrorKind<io::Error>);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One panel.
struct Panel {
    title: &'static str,
    from_zero: bool,
    lines: Vec<Line>,
}

/// One line of a panel: a value a second.
struct Line {
    label: String,
    values: Vec<f64>,
}

/// Draws a report.
///
/// # Errors
/// [`PlotError`].
pub fn svg(report: &Report) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(TITLE);
        let title = format!(
            "{} (model {}, {} requests/s, {} endpoints, seed {})",
            report.about, report.model, report.rate, report.endpoints, report.seed
        );
        head.titled(&title, (FONT, 16))?;
        let panels = panels(report);
        for (area, panel) in body.split_evenly((panels.len(), 1)).iter().zip(&panels) {
            panel.draw(area, report)?;
        }
        root.present()?;
    }
    Ok(text)
}

fn panels(report: &Report) -> [Panel; 4] {
    let line = |label: &str, of: &dyn Fn(&crate::report::Second) -> f64| Line {
        label: label.to_owned(),
        values: report.series.iter().map(of).collect(),
    };
    let versions = report.versions.iter().enumerate().map(|(at, share)| {
        line(&format!("version {}", share.version), &|second| {
            second.by_version.get(at).copied().unwrap_or(0) as f64
        })
    });
    [
        Panel {
            title: "answered, % of those that ended",
            from_zero: false,
            lines: vec![line("available", &|second| {
                100.0 * second.answered as f64 / second.ended.max(1) as f64
            })],
        },
        Panel {
            title: "time to an answer, ms",
            from_zero: true,
            lines: vec![
                line("p50", &|second| second.p50_ms),
                line("p99", &|second| second.p99_ms),
            ],
        },
        Panel {
            title: "breakers that are not closed, retries a second",
            from_zero: true,
            lines: vec![
                line("breakers", &|second| second.open as f64),
                line("retries", &|second| second.retries as f64),
            ],
        },
        Panel {
            title: "answers a second",
            from_zero: true,
            lines: versions.collect(),
        },
    ]
}

// === impl Panel ===

impl Panel {
    fn draw(&self, area: &Area<'_>, report: &Report) -> Result<(), PlotError> {
        let range = self.range();
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 14))
            .margin(8)
            .margin_right(24)
            .x_label_area_size(24)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..report.seconds, range.clone())?;
        for mark in &report.marks {
            let corners = [
                (mark.from_seconds, range.start),
                (mark.until_seconds, range.end),
            ];
            let shade = Rectangle::new(corners, SHADE.mix(0.25).filled());
            chart.draw_series(std::iter::once(shade))?;
        }
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .label_style((FONT, 12))
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS.into_iter().cycle()) {
            // A value stands for the second that ended then.
            let points = line.values.iter().enumerate();
            let points = points.map(|(second, value)| (second as f64 + 1.0, *value));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(&line.label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .label_font((FONT, 12))
            .draw()?;
        Ok(())
    }

    /// What the axis shows: all values, and a little room.
    fn range(&self) -> Range<f64> {
        let values = || {
            self.lines
                .iter()
                .flat_map(|line| line.values.iter().copied())
        };
        let largest = values().fold(f64::MIN, f64::max);
        let smallest = values().fold(f64::MAX, f64::min);
        if self.from_zero {
            return 0.0..largest.max(1.0) * 1.1;
        }
        // Of something that is 100 % all the time there is nothing to be seen closer.
        (smallest.min(99.0) - 1.0).max(0.0)..101.0
    }
}
