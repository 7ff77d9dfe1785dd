//! Which plots there are, and what is on them.

use maud::{Markup, html};

use super::axis::Axis;
use super::chart::{Chart, Line, PlotError};
use super::events::Event;
use crate::scrape::{Poll, Scraped};
use crate::slo::{Judgement, Objective};
use crate::timeline::{Point, Series};

/// Servers that get a line; the table has all.
const MAX_SERVERS: usize = 9;

/// The colour of what versions or servers have in common.
const GREY: usize = 7;

/// What all plots over time share.
struct Over<'a> {
    series: &'a Series,
    events: &'a [Event],
    /// What the run was held to, where it was.
    slo: Option<&'a Judgement>,
}

/// The plots whose x axis is time.
pub(super) fn over_time(
    series: &Series,
    scraped: &[Scraped],
    events: &[Event],
    slo: Option<&Judgement>,
) -> Result<Markup, PlotError> {
    let over = Over {
        series,
        events,
        slo,
    };
    let mut charts: Vec<_> = over.latency().into_iter().collect();
    charts.push(over.throughput());
    charts.extend(over.failures());
    charts.extend(over.versions());
    charts.extend(over.batches(scraped));
    charts.extend(over.queues(scraped));
    let figures: Result<Vec<_>, _> = charts.iter().map(Chart::figure).collect();
    let figures = figures?;
    Ok(html! {
        @for figure in figures { (figure) }
        @if series.reasons.is_empty() { p.note { "No request failed." } }
    })
}

/// Latency by quantile.
pub(super) fn quantiles(series: &Series) -> Result<Markup, PlotError> {
    if series.curves.is_empty() {
        return Ok(html! { p.note { "There are no latencies of the measurement." } });
    }
    // Versions in the colours that they have over time.
    let lines = series.curves.iter().enumerate().map(|(index, curve)| Line {
        label: match &curve.version {
            Some(version) => format!("version {version}"),
            None => "all".to_owned(),
        },
        colour: index.checked_sub(1).unwrap_or(GREY),
        width: 2,
        pieces: vec![curve.points.clone()],
    });
    let lines: Vec<_> = lines.collect();
    let last = |line: &Line| {
        line.pieces
            .iter()
            .flatten()
            .map(|&(x, _)| x)
            .fold(0.0, f64::max)
    };
    let chart = Chart {
        title: "Latency by percentile",
        about: "milliseconds, from when a request was due to the end of its answer".to_owned(),
        x: Axis::nines(lines.iter().map(last).fold(0.0, f64::max)),
        y: Axis::log(lines.iter().flat_map(Line::values)),
        lines,
        is_stacked: false,
        shade: None,
        events: &[],
    };
    chart.figure()
}

// === impl Over ===

impl<'a> Over<'a> {
    fn chart(&self, title: &'static str, about: &str, y: Axis, lines: Vec<Line>) -> Chart<'a> {
        let warmup = 0.0..self.series.measured;
        Chart {
            title,
            about: about.to_owned(),
            x: Axis::linear(0.0, self.series.end),
            y,
            lines,
            is_stacked: false,
            shade: (!warmup.is_empty()).then_some(warmup),
            events: self.events,
        }
    }

    /// A line of what each point says.
    fn line(
        &self,
        label: impl Into<String>,
        colour: usize,
        of: impl Fn(&Point) -> Option<f64>,
    ) -> Line {
        let points = self.series.points.iter();
        Line::through(label, colour, points.map(|point| (point.at, of(point))))
    }

    fn latency(&self) -> Option<Chart<'a>> {
        let line = |label, index: usize| {
            self.line(label, index, move |point| {
                point.latency?.get(index).copied()
            })
        };
        let mut lines = vec![
            line("P50", 0),
            line("P90", 1),
            line("P99", 2),
            line("longest", 3),
        ];
        let every = match self.series.width {
            1.0 => "the second".to_owned(),
            width => format!("the {width} seconds"),
        };
        let about = format!("milliseconds, of the requests that were due in {every}");
        let is_empty = lines.iter().all(|line| line.pieces.is_empty());
        lines.extend(self.bounds());
        let y = Axis::log(lines.iter().flat_map(Line::values));
        (!is_empty).then(|| self.chart("Latency", &about, y, lines))
    }

    /// What latencies are held to, from side to side, in the colours of their quantiles.
    fn bounds(&self) -> Vec<Line> {
        let objectives = self.slo.iter().flat_map(|slo| &slo.objectives);
        let latencies = objectives.filter(|objective| !objective.is_share());
        let bound = |objective: &Objective| {
            let colour = match objective.name.as_str() {
                "p50" => 0,
                "p90" => 1,
                "p99" => 2,
                _ => GREY,
            };
            let label = format!("objective: {} {}", objective.name, objective.wanted());
            let ends = [0.0, self.series.end].map(|at| (at, Some(objective.target)));
            Line::through(label, colour, ends.into_iter()).of_width(1)
        };
        latencies.map(bound).collect()
    }

    fn throughput(&self) -> Chart<'a> {
        let lines = vec![
            self.line("answered", 0, |point| Some(point.rates.as_ref()?.answered)),
            self.line("asked", GREY, |point| Some(point.rates.as_ref()?.due))
                .of_width(5),
        ];
        let y = Axis::from_zero(1.0, lines.iter().flat_map(Line::values));
        self.chart("Throughput", "requests a second", y, lines)
    }

    fn failures(&self) -> Option<Chart<'a>> {
        let reasons = self.series.reasons.iter().enumerate();
        let lines = reasons.map(|(index, reason)| {
            self.line(reason.name.as_str(), index, move |point| {
                point.rates.as_ref()?.failed.get(index).copied()
            })
        });
        let lines: Vec<_> = lines.collect();
        let y = Axis::from_zero(1.0, lines.iter().flat_map(Line::values));
        let about = "requests a second, by the second in which they were due";
        (!lines.is_empty()).then(|| self.chart("Failures by reason", about, y, lines))
    }

    fn versions(&self) -> Option<Chart<'a>> {
        let half = self.series.width / 2.0;
        let versions = self.series.versions.iter().enumerate();
        let lines = versions.map(|(index, seen)| {
            // A span has one share from its beginning to its end, and none where nobody answered.
            let steps = self.series.points.iter().flat_map(|point| {
                let all = point.versions.iter().sum::<u64>();
                let part = point.versions.get(index).copied().unwrap_or(0);
                let share = (all > 0).then(|| 100.0 * part as f64 / all as f64);
                let end = self.series.end;
                [point.at - half, point.at + half].map(|at| (at.clamp(0.0, end), share))
            });
            Line::through(format!("version {}", seen.name), index, steps)
        });
        let lines: Vec<_> = lines.collect();
        (!lines.is_empty()).then(|| Chart {
            is_stacked: true,
            ..self.chart(
                "Versions",
                "% of the answers",
                Axis::linear(0.0, 100.0),
                lines,
            )
        })
    }

    fn batches(&self, scraped: &[Scraped]) -> Option<Chart<'a>> {
        let about = "rows of a batch, on average over what ran between two scrapes";
        self.scraped("Batch size", about, scraped, Poll::batch_size)
    }

    fn queues(&self, scraped: &[Scraped]) -> Option<Chart<'a>> {
        let about = "requests that wait, when scraped";
        self.scraped("Queue depth", about, scraped, |poll| poll.queue)
    }

    fn scraped(
        &self,
        title: &'static str,
        about: &str,
        scraped: &[Scraped],
        of: impl Fn(&Poll) -> Option<f64> + Copy,
    ) -> Option<Chart<'a>> {
        let end = self.series.end;
        let lines = scraped.iter().enumerate().map(|(index, server)| {
            let polls = server.polls.iter().filter(|poll| poll.at <= end);
            // Where nothing ran there is no batch, and that is no gap; an answer that is missing is one.
            let polls = polls.filter(|poll| !poll.is_there || of(poll).is_some());
            let value = |poll: &Poll| (poll.at, of(poll).filter(|_| poll.is_there));
            Line::through(server.name.as_str(), index, polls.map(value))
        });
        let lines = lines.filter(|line| !line.pieces.is_empty());
        let lines: Vec<_> = lines.take(MAX_SERVERS).collect();
        let y = Axis::from_zero(4.0, lines.iter().flat_map(Line::values));
        (!lines.is_empty()).then(|| self.chart(title, about, y, lines))
    }
}
