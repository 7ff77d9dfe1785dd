//! The figures of the page.

use std::collections::BTreeMap;
use std::fmt::Display;

use maud::{Markup, html};

use crate::report::{PartSummary, PlanSummary, Quantiles, Summary};
use crate::scrape::{Poll, Scraped};
use crate::slo::Judgement;
use crate::transport::Transport;

/// The most failure texts that are shown; JSON has the rest.
const FAILURES: usize = 20;

/// What was to be done.
pub(super) fn plan(plan: &PlanSummary) -> Markup {
    let version = plan.version.as_deref().unwrap_or("the server's choice");
    html! {
        dl {
            div.long { dt { "server" } dd { (plan.url) } }
            (pair("model", &plan.model))
            (pair("version asked for", version))
            div.long { dt { "load" } dd { (plan.load) } }
            @if let Some(rate) = plan.rate { (pair("on average", &format!("{rate:.1} requests/s"))) }
            @if let Some(seconds) = plan.duration_seconds { (pair("measured", &format!("{seconds} s"))) }
            (pair("transport", transport(plan.transport)))
            (pair("timeout", &format!("{} ms", plan.timeout_ms)))
            (pair("seed", &plan.seed))
        }
    }
}

/// What was measured, of all versions together.
pub(super) fn figures(summary: &Summary) -> Markup {
    let part = |count: u64| {
        let of = summary.requests.max(1) as f64;
        format!("{count} ({:.3} %)", 100.0 * count as f64 / of)
    };
    html! {
        dl {
            (pair("requests due", &summary.requests))
            (pair("answered", &part(summary.ok)))
            (pair("failed", &part(summary.failed)))
            (pair("dropped by this client", &part(summary.client.dropped)))
            (pair("answers/s reached", &format!("{:.1}", summary.achieved_rate)))
            @if let Some(accuracy) = summary.accuracy {
                (pair("right labels", &format!("{:.2} %", 100.0 * accuracy)))
            }
            @if let Some(latency) = summary.latency {
                (pair("P50", &millis(latency.p50_ms)))
                (pair("P90", &millis(latency.p90_ms)))
                (pair("P99", &millis(latency.p99_ms)))
                (pair("P99.9", &millis(latency.p999_ms)))
                (pair("longest", &millis(latency.max_ms)))
            }
            @if let Some(lag) = summary.client.lag {
                (pair("lag of sending, P99", &millis(lag.p99_ms)))
            }
        }
    }
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Json => "REST, JSON",
        Transport::Binary => "REST, tensors in binary",
        Transport::Grpc => "gRPC",
    }
}

/// Each objective, and whether it is kept.
pub(super) fn objectives(judgement: &Judgement) -> Markup {
    let sure = (judgement.confidence * 1e6).round() / 1e4;
    html! {
        div.table { table {
            thead { tr {
                th { "objective" } th { "wanted" } th { "measured" } th { (sure) " % interval" }
                th.text { "verdict" }
            } }
            tbody { @for objective in &judgement.objectives { tr {
                th { (objective.name) }
                td { (objective.wanted()) }
                td { (objective.figure(objective.measured)) }
                td { (objective.interval()) }
                td.text {
                    (objective.said())
                    @if let Some(examples) = objective.examples { " (of " (examples) " different examples)" }
                }
            } } }
        } }
    }
}

/// What each version answered.
pub(super) fn versions(summary: &Summary) -> Markup {
    if summary.versions.is_empty() {
        return html! { p.note { "No answer named a version." } };
    }
    html! {
        div.table { table {
            thead { tr {
                th { "version" } th { "answers" } th { "share" } th { "accuracy" } (quantile_heads())
                th.text { "route" }
            } }
            tbody {
                @for (name, version) in &summary.versions {
                    tr {
                        th { (name) }
                        td { (version.answers) }
                        td { (percent(Some(version.share))) }
                        td { (percent(version.accuracy)) }
                        (quantile_cells(version.latency))
                        td.text { (counts(&version.routes)) }
                    }
                }
                tr {
                    th { "all" }
                    td { (summary.ok) }
                    td {}
                    td { (percent(summary.accuracy)) }
                    (quantile_cells(summary.latency))
                    td {}
                }
            }
        } }
    }
}

/// What became of each kind of request; nothing where there is one kind.
pub(super) fn parts(parts: &BTreeMap<String, PartSummary>) -> Markup {
    html! { @if !parts.is_empty() {
        div.table { table {
            thead { tr {
                th { "requests" } th { "finished" } th { "answered" } th { "accuracy" } (quantile_heads())
            } }
            tbody { @for (name, part) in parts { tr {
                th { (name) }
                td { (part.finished) }
                td { (part.ok) }
                td { (percent(part.accuracy)) }
                (quantile_cells(part.latency))
            } } }
        } }
    } }
}

/// What went wrong, the most frequent first.
pub(super) fn failures(summary: &Summary) -> Markup {
    let mut failures: Vec<_> = summary.failures.iter().collect();
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
    let more = failures.len().saturating_sub(FAILURES);
    html! {
        dl {
            (pair("statuses", &counts(&summary.statuses)))
            (pair("reasons", &counts(&summary.reasons)))
            (pair("errors", &counts(&summary.errors)))
        }
        @if !failures.is_empty() {
            div.table { table {
                thead { tr { th { "count" } th.text { "text" } } }
                tbody { @for failure in failures.iter().take(FAILURES) {
                    tr { td { (failure.count) } td.text { code { (failure.text) } } }
                } }
            } }
            @if more > 0 { p.note { "And " (more) " other texts, which `--json` has." } }
        }
    }
}

/// What the servers' metrics said.
pub(super) fn scraped(scraped: &[Scraped]) -> Markup {
    html! {
        div.table { table {
            thead { tr {
                th.text { "server" } th { "scrapes" } th { "failed" } th { "batches" } th { "mean rows" }
                th { "deepest queue" } th.text { "note" }
            } }
            tbody { @for server in scraped { (scraped_row(server)) } }
        } }
    }
}

fn scraped_row(server: &Scraped) -> Markup {
    let sum = |of: fn(&Poll) -> f64| server.polls.iter().map(of).sum::<f64>();
    let (batches, rows) = (sum(|poll| poll.batches), sum(|poll| poll.rows));
    let queues = server.polls.iter().filter_map(|poll| poll.queue);
    let note = match &server.first_miss {
        Some((at, why)) => format!("first failure at {at:.1} s: {why}"),
        None if !server.knows_model => "its metrics say nothing of the model".to_owned(),
        None => String::new(),
    };
    html! {
        tr {
            th.text { (server.name) }
            td { (server.asked) }
            td { (server.missed) }
            td { (batches) }
            td { @if batches > 0.0 { (format!("{:.2}", rows / batches)) } @else { "–" } }
            td { @if let Some(most) = queues.reduce(f64::max) { (most) } @else { "–" } }
            td.text { (note) }
        }
    }
}

fn pair(name: &str, value: &(impl Display + ?Sized)) -> Markup {
    html! { div { dt { (name) } dd { (value.to_string()) } } }
}

fn quantile_heads() -> Markup {
    html! { @for name in ["P50", "P90", "P99", "P99.9", "longest"] { th { (name) } } }
}

fn quantile_cells(quantiles: Option<Quantiles>) -> Markup {
    html! {
        @if let Some(q) = quantiles {
            @for value in [q.p50_ms, q.p90_ms, q.p99_ms, q.p999_ms, q.max_ms] { td { (millis(value)) } }
        } @else {
            @for _ in 0..5 { td { "–" } }
        }
    }
}

fn millis(value: f64) -> String {
    format!("{value:.2} ms")
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".to_owned(), |share| format!("{:.2} %", 100.0 * share))
}

fn counts<K: Display>(counts: &BTreeMap<K, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let counts = counts
        .iter()
        .map(|(name, count)| format!("{name}: {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_request_has_a_row_and_its_name_stays_text() {
        let part = PartSummary {
            finished: 40,
            ok: 39,
            accuracy: Some(0.5),
            latency: None,
        };
        let kinds = BTreeMap::from([("<b>critical".to_owned(), part)]);
        let table = parts(&kinds).into_string();
        assert!(
            table.contains("<th>&lt;b&gt;critical</th><td>40</td><td>39</td><td>50.00 %</td>"),
            "{table}"
        );
        assert_eq!(parts(&BTreeMap::new()).into_string(), "");
    }
}
