//! One plot as SVG, in the colours of the style sheet.
//!
//! plotters writes colours into the file. Here it draws with marker colours that no eye would choose, and each
//! attribute with one becomes a class: `stroke="#000001"` is `class="s1"`. It also places everything on whole
//! pixels, on which curves look like stairs, so it draws on a plane that is larger than what is shown.

use std::io;
use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::events::Event;

/// How much larger the plane is than the picture.
const FINE: u32 = 8;

/// Colours of lines; the style sheet has as many.
pub(crate) const COLOURS: usize = 9;

/// The markers of what is no line.
const INK: RGBColor = RGBColor(0, 0, 0x20);
const GRID: RGBColor = RGBColor(0, 0, 0x21);
const SHADE: RGBColor = RGBColor(0, 0, 0x22);
const MARK: RGBColor = RGBColor(0, 0, 0x23);
const CLASSES: [(&str, &str); 4] = [
    ("#000020", "ink"),
    ("#000021", "grid"),
    ("#000022", "shade"),
    ("#000023", "mark"),
];

/// Why a plot could not be drawn: in memory, only for want of it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct PlotError(#[from] DrawingAreaErrorKind<io::Error>);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One plot.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    pub(super) title: &'static str,
    /// What is on the axes, and how to read it.
    pub(super) about: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// Lines lie on top of each other, filled.
    pub(super) is_stacked: bool,
    /// A part of the x axis that is not measured.
    pub(super) shade: Option<Range<f64>>,
    pub(super) events: &'a [Event],
}

/// One line, in pieces where there is something missing between.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) label: String,
    /// Which of the style sheet's.
    pub(super) colour: usize,
    /// Pixels.
    pub(super) width: u32,
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
}

/// An axis as plotters takes it: its own have no ticks that are given, or no labels for them.
struct Ticked {
    range: Range<f64>,
    ticks: Vec<f64>,
}

/// A size that a plot is drawn for, in pixels.
#[derive(Clone, Copy, Debug)]
struct Size {
    class: &'static str,
    width: u32,
    height: u32,
    x_ticks: u32,
    y_ticks: u32,
}

/// For screens, and for phones.
const SIZES: [Size; 2] = [
    Size {
        class: "wide",
        width: 1000,
        height: 270,
        x_ticks: 12,
        y_ticks: 6,
    },
    Size {
        class: "narrow",
        width: 350,
        height: 240,
        x_ticks: 5,
        y_ticks: 5,
    },
];

// === impl Ticked ===

impl Ticked {
    fn new(axis: &Axis, ticks: Vec<f64>) -> Self {
        let range = axis.range.clone();
        Self { range, ticks }
    }
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(
        clippy::cast_possible_truncation,
        reason = "pixels; a cast of what is out of range saturates"
    )]
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        let pixels = f64::from(limit.1 - limit.0);
        limit.0 + (part * pixels).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

// === impl Line ===

impl Line {
    /// A line through what is there; where nothing is, it breaks off.
    pub(super) fn through(
        label: impl Into<String>,
        colour: usize,
        points: impl Iterator<Item = (f64, Option<f64>)>,
    ) -> Self {
        let mut pieces = vec![Vec::new()];
        for (x, y) in points {
            match (y, pieces.last_mut()) {
                (Some(y), Some(piece)) => piece.push((x, y)),
                _ => pieces.push(Vec::new()),
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        Self {
            label: label.into(),
            colour,
            width: 2,
            pieces,
        }
    }

    pub(super) fn of_width(self, width: u32) -> Self {
        Self { width, ..self }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.pieces.iter().flatten().map(|&(_, y)| y)
    }
}

// === impl Chart ===

impl Chart<'_> {
    /// The figure: title, legend, and the picture in both sizes.
    pub(super) fn figure(&self) -> Result<Markup, PlotError> {
        let [wide, narrow] = SIZES;
        Ok(html! {
            figure {
                figcaption { b { (self.title) } " " span { (self.about) } }
                ul.legend {
                    @for line in &self.lines {
                        li { i class={ "k" (line.colour % COLOURS) } {} (line.label) }
                    }
                }
                (PreEscaped(self.svg(wide)?))
                (PreEscaped(self.svg(narrow)?))
            }
        })
    }

    fn svg(&self, size: Size) -> Result<String, PlotError> {
        let mut text = String::new();
        let plane = (size.width * FINE, size.height * FINE);
        {
            let root = SVGBackend::with_string(&mut text, plane).into_drawing_area();
            self.draw(&root, size)?;
            root.present()?;
        }
        let open = html! {
            (PreEscaped("<svg class=\"")) (size.class) (PreEscaped("\" viewBox=\"0 0 "))
            (plane.0) " " (plane.1) (PreEscaped("\" role=\"img\" aria-label=\"")) (self.title)
            (PreEscaped("\">"))
        };
        let inner = text.split_once('>').map_or("", |(_, inner)| inner);
        Ok(open.into_string() + &classes(inner))
    }

    fn draw(&self, area: &Area<'_>, size: Size) -> Result<(), PlotError> {
        let ticks = (self.x.ticks(size.x_ticks), self.y.ticks(size.y_ticks));
        let x = Ticked::new(&self.x, ticks.0);
        let y = Ticked::new(&self.y, ticks.1);
        let mut chart = ChartBuilder::on(area)
            .margin_top(22 * FINE)
            .margin_right(14 * FINE)
            .x_label_area_size(24 * FINE)
            .y_label_area_size(46 * FINE)
            .build_cartesian_2d(x, y)?;
        let (left, right) = (self.x.range.start, self.x.range.end);
        let (low, high) = (self.y.range.start, self.y.range.end);
        if let Some(shade) = &self.shade {
            let corners = [(shade.start.max(left), low), (shade.end.min(right), high)];
            chart.draw_series([Rectangle::new(corners, SHADE.filled())])?;
        }
        let letters = ("sans-serif", 12 * FINE).into_font().color(&INK);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(FINE))
            .axis_style(GRID.stroke_width(FINE))
            .label_style(letters)
            .set_all_tick_mark_size(4 * FINE)
            .x_label_formatter(&|tick| self.x.label(*tick))
            .y_label_formatter(&|tick| self.y.label(*tick))
            .draw()?;
        if self.is_stacked {
            chart.draw_series(self.layers())?;
        } else {
            // The first line is the last drawn: it is the one that matters.
            for line in self.lines.iter().rev() {
                chart.draw_series(self.strokes(line))?;
                chart.draw_series(self.dots(line))?;
            }
        }
        let events = self.events.iter().enumerate();
        let events = events.filter(|(_, event)| (left..=right).contains(&event.at));
        let style = ("sans-serif", 12 * FINE).into_font().color(&MARK);
        let style = style.pos(Pos::new(HPos::Center, VPos::Bottom));
        // Numbers that would lie on each other are left out; the list has them all.
        let apart = (right - left) * 16.0 / f64::from(size.width);
        let mut free = f64::MIN;
        for (index, event) in events {
            let line = vec![(event.at, low), (event.at, high)];
            chart.draw_series([PathElement::new(line, MARK.stroke_width(FINE))])?;
            if event.at >= free {
                free = event.at + apart;
                let number = (index + 1).to_string();
                chart.draw_series([Text::new(number, (event.at, high), style.clone())])?;
            }
        }
        Ok(())
    }

    fn placed(&self, piece: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let places = piece.iter();
        places
            .map(|&(x, y)| (self.x.place(x), self.y.place(y)))
            .collect()
    }

    fn strokes(&self, line: &Line) -> Vec<PathElement<(f64, f64)>> {
        let pieces = line.pieces.iter().filter(|piece| piece.len() > 1);
        let style = colour(line.colour).stroke_width(line.width * FINE);
        pieces
            .map(|piece| PathElement::new(self.placed(piece), style))
            .collect()
    }

    /// A point that has no neighbours would not be seen as a line.
    fn dots(&self, line: &Line) -> Vec<Circle<(f64, f64), u32>> {
        let pieces = line.pieces.iter().filter(|piece| piece.len() == 1);
        let places = pieces.flat_map(|piece| self.placed(piece));
        places
            .map(|place| Circle::new(place, 3 * FINE, colour(line.colour).filled()))
            .collect()
    }

    /// Filled areas, one on the other. All lines have the same x, and break off together.
    fn layers(&self) -> Vec<Polygon<(f64, f64)>> {
        let mut layers = Vec::new();
        let pieces = self.lines.first().map_or(0, |line| line.pieces.len());
        for piece in 0..pieces {
            let mut floor: Vec<f64> = Vec::new();
            for line in &self.lines {
                let Some(points) = line.pieces.get(piece) else {
                    continue;
                };
                floor.resize(points.len(), 0.0);
                let below = points.iter().zip(&floor).map(|(&(x, _), &y)| (x, y));
                let below: Vec<_> = below.rev().collect();
                for (floor, (_, y)) in floor.iter_mut().zip(points) {
                    *floor += y;
                }
                let above = points.iter().zip(&floor).map(|(&(x, _), &y)| (x, y));
                let outline: Vec<_> = above.chain(below).collect();
                layers.push(Polygon::new(outline, colour(line.colour).filled()));
            }
        }
        layers
    }
}

/// The marker of a line's colour.
fn colour(index: usize) -> RGBColor {
    RGBColor(0, 0, u8::try_from(index % COLOURS + 1).unwrap_or(1))
}

/// Puts classes in the place of marker colours. Texts are escaped, so a quote is always an attribute's.
fn classes(svg: &str) -> String {
    let mut svg = svg.to_owned();
    let lines = (1..=COLOURS).map(|index| (format!("#{index:06X}"), format!("{}", index - 1)));
    let others = CLASSES.map(|(marker, class)| (marker.to_owned(), format!("-{class}")));
    for (marker, class) in lines.chain(others) {
        for (attribute, kind) in [("stroke", "s"), ("fill", "f")] {
            svg = svg.replace(
                &format!("{attribute}=\"{marker}\""),
                &format!("class=\"{kind}{class}\""),
            );
        }
    }
    svg
}
