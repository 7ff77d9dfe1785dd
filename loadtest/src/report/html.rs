//! A run as one HTML file that needs nothing else: a verdict, the plan, the figures, and plots over time.
//!
//! Texts that came from servers are escaped by the template (`maud`), whatever they are. There is no script:
//! the file can be attached to a release, mailed, and opened in ten years. Plots are SVG by `plotters`, whose
//! colours are replaced by classes ([`chart`]), so that the style sheet says what they look like in light, in
//! dark and on paper. Each plot is drawn twice, for wide and for narrow screens, and the style sheet shows one
//! of them: scaled down to a phone, the letters of the wide one could not be read.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::chart::PlotError;
use self::events::Event;
use super::Report;
use crate::scrape::Scraped;
use crate::slo;
use crate::timeline::Series;

mod axis;
pub(crate) mod chart;
mod events;
mod plots;
mod tables;

/// The style sheet.
const STYLE: &str = include_str!("html/page.css");

/// All that a page shows.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) report: &'a Report,
    pub(crate) series: &'a Series,
    pub(crate) scraped: &'a [Scraped],
    pub(crate) verdict: Verdict,
    /// When it was made, for people.
    pub(crate) made: String,
}

/// What is said at the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) kind: VerdictKind,
    pub(crate) text: String,
}

/// How the top looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerdictKind {
    /// All is well.
    Pass,
    /// Something is not.
    Fail,
    /// The run says nothing about the server, or not enough.
    Invalid,
    /// Nothing was to be judged.
    None,
}

// === impl Page ===

impl Page<'_> {
    /// The whole file.
    ///
    /// # Errors
    ///
    /// [`PlotError`].
    pub(crate) fn render(&self) -> Result<String, PlotError> {
        let events = events::of(self.series, self.scraped);
        let report = self.report;
        let title = format!("Load test of {} at {}", report.plan.model, report.plan.url);
        let body = html! {
            header {
                h1 { "Load test of " b { (report.plan.model) } " at " b { (report.plan.url) } }
                p.meta { (self.made) " · aegis-loadtest " (env!("CARGO_PKG_VERSION")) }
                (self.verdict)
                @for reason in &report.invalid { p.note { "Invalid: " (reason) "." } }
                @if report.interrupted {
                    @let reason = report.partial.as_deref().unwrap_or("stopped early");
                    p.note { "Partial: " (reason) "." }
                }
            }
            @if let Some(judgement) = &report.slo {
                section { h2 { "Objectives" } (tables::objectives(judgement)) }
            }
            section { h2 { "Plan" } (tables::plan(&report.plan)) }
            section { h2 { "Figures" } (tables::figures(&report.summary)) (tables::parts(&report.summary.parts)) }
            section {
                h2 { "Over time" }
                @if let Some(events) = list(&events) { (events) }
                (plots::over_time(self.series, self.scraped, &events, report.slo.as_ref())?)
            }
            section { h2 { "Quantiles" } (plots::quantiles(self.series)?) }
            section { h2 { "Versions" } (tables::versions(&report.summary)) }
            section { h2 { "Failures" } (tables::failures(&report.summary)) }
            @if !self.scraped.is_empty() {
                section { h2 { "Scraped" } (tables::scraped(self.scraped)) }
            }
        };
        Ok(document(&title, &body))
    }
}

/// Wraps a body into a document with our style.
pub(crate) fn document(title: &str, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    markup.into_string()
}

/// What the numbers on the plots mean; none where there are none.
fn list(events: &[Event]) -> Option<Markup> {
    (!events.is_empty()).then(|| {
        html! {
            ol.events {
                @for event in events {
                    li { span.at { (format!("{:.1} s", event.at)) } " " (event.text) }
                }
            }
        }
    })
}

// === impl Verdict ===

impl Verdict {
    /// Something is wrong.
    pub(crate) fn fail(text: String) -> Self {
        let kind = VerdictKind::Fail;
        Self { kind, text }
    }

    /// What a run's own judgement comes to.
    pub(crate) fn of(report: &Report) -> Self {
        let verdict = report.slo.as_ref().map(|judgement| judgement.verdict);
        let (kind, text) = match verdict {
            _ if !report.invalid.is_empty() => (
                VerdictKind::Invalid,
                "The load was not the one that was asked for, so the figures say nothing of the server.",
            ),
            None => (VerdictKind::None, "There was no objective to hold it to."),
            Some(slo::Verdict::Fail) => (VerdictKind::Fail, "An objective is missed."),
            Some(slo::Verdict::TooSmall | slo::Verdict::Invalid) => {
                (VerdictKind::Invalid, "The run is too small to tell.")
            }
            Some(slo::Verdict::Partial) => (
                VerdictKind::Invalid,
                "Every objective was met until the run ended early.",
            ),
            Some(slo::Verdict::Pass) => (VerdictKind::Pass, "Every objective is met."),
        };
        let text = text.to_owned();
        Self { kind, text }
    }
}

impl maud::Render for Verdict {
    fn render(&self) -> Markup {
        let (class, word) = match self.kind {
            VerdictKind::Pass => ("pass", "PASS"),
            VerdictKind::Fail => ("fail", "FAIL"),
            VerdictKind::Invalid => ("invalid", "NOT SHOWN"),
            VerdictKind::None => ("none", "NOT JUDGED"),
        };
        html! {
            p.verdict.(class) { strong { (word) } " " span { (self.text) } }
        }
    }
}
