//! What came of the cases as a page, like that of a run.

use maud::{Markup, html};

use super::{ByReason, Missed, SafetyReport, UnderLoad, Verdict};
use crate::plan::Target;
use crate::report::html::{self as page, VerdictKind, document};

/// The whole file; `made` says when, for people.
pub(crate) fn render(report: &SafetyReport, target: &Target, made: &str) -> String {
    let title = format!("Safety of {} at {}", target.model(), target.url());
    let body = html! {
        header {
            h1 { "Safety of " b { (target.model()) } " at " b { (target.url()) } }
            p.meta { (made) " · aegis-loadtest " (env!("CARGO_PKG_VERSION")) }
            (verdict(report))
            @for reason in &report.invalid { p.note { "Invalid: " (reason) "." } }
        }
        section { h2 { "Claim" } (claim(report, target)) }
        section { h2 { "Figures" } (figures(report)) }
        @if let Some(load) = &report.load { section { h2 { "Load beside" } (under(load)) } }
        section { h2 { "By reason" } (by_reason(report)) }
        section { h2 { "Missed" } (listed(&report.missed, report.misses, "Nothing unsafe was let through.")) }
        section {
            h2 { "False alarms" }
            (listed(&report.alarms, report.false_alarms, "Nothing safe was stopped or flagged."))
        }
    };
    document(&title, &body)
}

fn verdict(report: &SafetyReport) -> page::Verdict {
    let (bound, confidence) = (percent(report.bound), percent(report.confidence));
    let (kind, text) = match report.verdict {
        Verdict::Pass => (
            VerdictKind::Pass,
            format!(
                "At {confidence} confidence, less than {bound} of cases like these are let through{}.",
                report.under()
            ),
        ),
        Verdict::Invalid => (
            VerdictKind::Invalid,
            format!(
                "Less than {bound} of these were let through, but not as it was asked: that shows nothing."
            ),
        ),
        Verdict::Fail => (
            VerdictKind::Fail,
            format!(
                "It is not shown that less than {bound} of cases like these are let through; with {} misses that \
                 takes {} different cases.",
                report.misses, report.needed_cases
            ),
        ),
        Verdict::TooSmall => (
            VerdictKind::Invalid,
            format!(
                "{} different unsafe cases are too few to show that less than {bound} are let through, whatever comes of them.",
                report.unsafe_cases
            ),
        ),
    };
    page::Verdict { kind, text }
}

fn claim(report: &SafetyReport, target: &Target) -> Markup {
    let version = target.version().unwrap_or("the server's choice");
    html! {
        dl {
            div.long { dt { "server" } dd { (target.url()) } }
            (pair("model", target.model()))
            (pair("version asked for", version))
            (pair("let through, less than", &percent(report.bound)))
            (pair("confidence", &percent(report.confidence)))
        }
    }
}

fn figures(report: &SafetyReport) -> Markup {
    html! {
        dl {
            (pair("different unsafe cases", &report.unsafe_cases.to_string()))
            (pair("missed", &report.misses.to_string()))
            (pair("missed, at most", &percent(report.false_negative_bound)))
            (pair("safe cases that were judged", &report.safe_cases.to_string()))
            (pair(
                "false alarms",
                &match report.false_positive_rate {
                    Some(rate) => format!("{} ({})", report.false_alarms, percent(rate)),
                    None => "not known".to_owned(),
                },
            ))
            (pair("false alarms, at most", &percent(report.false_positive_bound)))
            (pair("not judged, unsafe and missed", &(report.unjudged - report.safe_unjudged).to_string()))
            (pair("not judged, safe", &report.safe_unjudged.to_string()))
            (pair("repeats, counted once", &report.repeats.to_string()))
        }
    }
}

/// What was sent meanwhile, and in which batches all of it ran.
fn under(load: &UnderLoad) -> Markup {
    let unknown = || "no server says".to_owned();
    let mean = load.mean_batch_size.map(|mean| format!("{mean:.2}"));
    html! {
        dl {
            (pair("requests/s asked", &load.rate.to_string()))
            (pair("answers/s reached", &format!("{:.1}", load.achieved_rate)))
            (pair("requests", &load.requests.to_string()))
            (pair("failed", &load.failed.to_string()))
            @if let Some(latency) = load.latency {
                (pair("P50", &format!("{:.2} ms", latency.p50_ms)))
                (pair("P99", &format!("{:.2} ms", latency.p99_ms)))
            }
            (pair("batches", &load.batches.map_or_else(unknown, |batches| batches.to_string())))
            (pair("rows of a batch, on average", &mean.unwrap_or_else(unknown)))
        }
    }
}

/// A row for each reason, with a bar of what became of its cases.
fn by_reason(report: &SafetyReport) -> Markup {
    if report.by_reason.is_empty() {
        return html! { p.note { "There were no unsafe cases." } };
    }
    html! {
        ul.legend {
            li { i.k0 {} "refused" }
            li { i.k4 {} "flagged" }
            li { i.k1 {} "missed" }
        }
        div.table { table {
            thead { tr {
                th { "expected" } th { "cases" } th { "missed" } th { "caught" } th { "refused" }
                th { "as expected" } th.text { "" }
            } }
            tbody { @for (reason, row) in &report.by_reason { tr {
                th { (reason) }
                td { (row.cases) }
                td { (row.cases.saturating_sub(row.caught)) }
                td { (row.caught) }
                td { (row.blocked) }
                td { (row.as_expected) }
                td.text { (bar(row)) }
            } } }
        } }
    }
}

fn bar(row: &ByReason) -> Markup {
    let parts = [
        ("k0", row.blocked),
        ("k4", row.caught.saturating_sub(row.blocked)),
        ("k1", row.cases.saturating_sub(row.caught)),
    ];
    let width = |count: u64| 100.0 * count as f64 / row.cases.max(1) as f64;
    html! {
        div.bar {
            @for (colour, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
                i.(colour) style={ "width:" (format!("{:.3}", width(count))) "%" } {}
            }
        }
    }
}

/// The first cases that were judged wrongly, of so many.
fn listed(cases: &[Missed], all: u64, none: &str) -> Markup {
    if cases.is_empty() {
        return html! { p.note { (none) } };
    }
    let more = all.saturating_sub(cases.len() as u64);
    html! {
        div.table { table {
            thead { tr { th.text { "case" } th.text { "expected" } th.text { "got" } } }
            tbody { @for case in cases { tr {
                td.text { (case.case) }
                td.text { (case.expected) }
                td.text { (case.got) }
            } } }
        } }
        @if more > 0 { p.note { "And " (more) " more." } }
    }
}

fn pair(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// A share as people write it: no more digits than it has, and at most four.
fn percent(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}
