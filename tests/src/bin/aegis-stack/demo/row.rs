//! One step of the story as a row of a table, and the counters in it.

use std::fmt;

use aegis_e2e::{CANARY, Proxy, STABLE, Scrape};
use aegis_loadtest::Summary;
use anyhow::Result;

/// What the proxy counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    fallbacks: u64,
    retries: u64,
}

/// What came of one step.
pub(super) struct Row<'a> {
    pub(super) window: &'a Summary,
    pub(super) counters: Counters,
}

// === impl Counters ===

impl Counters {
    pub(super) async fn read(proxy: &Proxy) -> Result<Self> {
        Self::of(&proxy.metrics().await?)
    }

    fn of(metrics: &Scrape) -> Result<Self> {
        Ok(Self {
            fallbacks: metrics.count("aegis_proxy_fallbacks_total", &[])?,
            retries: metrics.count("aegis_proxy_retries_total", &[("result", "made")])?,
        })
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            fallbacks: self.fallbacks.saturating_sub(before.fallbacks),
            retries: self.retries.saturating_sub(before.retries),
        }
    }
}

// === impl Row ===

impl Row<'_> {
    pub(super) fn head() -> String {
        format!(
            "   {:>8}   {:>15}   {:>15}   {:>7} {:>7}   {:>6} {:>9} {:>7}",
            "requests",
            "share v1     v2",
            "right v1     v2",
            "p50 ms",
            "p99 ms",
            "errors",
            "fallbacks",
            "retries"
        )
    }

    fn share(&self, version: &str) -> String {
        percent(Some(self.window.share(version)))
    }

    fn accuracy(&self, version: &str) -> String {
        percent(
            self.window
                .versions
                .get(version)
                .and_then(|version| version.accuracy),
        )
    }
}

/// A part of 1 in percent, or a dash where there is none.
fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "–".to_owned(), |part| format!("{:.1}%", part * 100.0))
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = |pick: fn(&aegis_loadtest::Quantiles) -> f64| {
            let latency = self.window.latency.as_ref().map(pick);
            latency.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}"))
        };
        write!(
            f,
            "   {:>8}   {:>8} {:>6}   {:>8} {:>6}   {:>7} {:>7}   {:>6} {:>9} {:>7}",
            self.window.finished,
            self.share(STABLE),
            self.share(CANARY),
            self.accuracy(STABLE),
            self.accuracy(CANARY),
            latency(|quantiles| quantiles.p50_ms),
            latency(|quantiles| quantiles.p99_ms),
            self.window.failed,
            self.counters.fallbacks,
            self.counters.retries,
        )
    }
}
