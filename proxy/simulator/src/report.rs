//! What came of a simulation: a table for people, JSON for programs.

mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::scenario::Expect;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The model.
    pub model: String,
    /// What the scenario is about.
    pub about: String,
    /// Repeats all of it.
    pub seed: u64,
    /// How many proxies there were.
    pub proxies: u32,
    /// How many endpoints.
    pub endpoints: usize,
    /// Requests a second.
    pub rate: f64,
    /// How long it was measured.
    pub seconds: f64,
    /// Before, in and after the trouble, and all together, which comes last.
    pub phases: Vec<Phase>,
    /// Which version answered.
    pub versions: Vec<Share>,
    /// How requests failed, by what clients were told.
    pub failures: BTreeMap<&'static str, u64>,
    /// Answers of another version than the one that was chosen.
    pub fallbacks: u64,
    /// Attempts after the first.
    pub retries: Retries,
    /// What breakers did.
    pub ejections: Ejections,
    /// Until the last pod with which something is wrong got less than a quarter of
    /// its share; none while one did not.
    pub out_after_ms: Option<f64>,
    /// When what went wrong.
    pub marks: Vec<Mark>,
    /// Second by second.
    pub series: Vec<Second>,
    /// What the scenario expects and did not come true.
    pub missed: Vec<String>,
}

/// The requests of some time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// Which time.
    pub name: &'static str,
    /// How many came.
    pub requests: u64,
    /// How many were not answered well.
    pub failed: u64,
    /// The part that was.
    pub availability: f64,
    /// The median time to an answer, failed requests included.
    pub p50_ms: f64,
    /// The 99th percentile of it.
    pub p99_ms: f64,
    /// The 99.9th.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// How many took longer than 100 ms.
    pub over_100_ms: u64,
    /// Attempts after the first.
    pub retries: u64,
}

/// What one version answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The version.
    pub version: String,
    /// Its answers.
    pub answered: u64,
    /// Their part of all answers.
    pub share: f64,
    /// Where it runs.
    pub endpoints: usize,
}

/// Attempts after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// Those that were made.
    pub made: u64,
    /// Those that the budget forbade.
    pub no_budget: u64,
    /// Those that came too late.
    pub no_time: u64,
    /// Those for which nobody was left.
    pub nobody_left: u64,
}

/// What breakers did, over all proxies.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ejections {
    /// How often one opened that was closed.
    pub opened: u64,
    /// Of those, at endpoints that nothing was wrong with.
    pub of_healthy: u64,
    /// How often one closed.
    pub closed: u64,
    /// Why they opened, failed probes included.
    pub by_reason: BTreeMap<&'static str, u64>,
    /// When the first opened after the trouble began.
    pub first_after_ms: Option<f64>,
}

/// When something went wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// What.
    pub what: &'static str,
    /// In which zone, where it befell one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// From when on.
    pub from_seconds: f64,
    /// Until when.
    pub until_seconds: f64,
}

/// One second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Second {
    /// Requests that ended.
    pub ended: u64,
    /// Those that ended well.
    pub answered: u64,
    /// The median time that those that ended took.
    pub p50_ms: f64,
    /// Its 99th percentile.
    pub p99_ms: f64,
    /// Attempts after the first.
    pub retries: u64,
    /// Breakers that are not closed at its end, over all proxies.
    pub open: i64,
    /// Answers of each version.
    pub by_version: Vec<u64>,
}

// === impl Report ===

impl Report {
    /// All phases together.
    #[must_use]
    pub fn all(&self) -> Option<&Phase> {
        self.phases.last()
    }

    /// The requests that came while something was wrong; all, where nothing was.
    #[must_use]
    pub fn trouble(&self) -> Option<&Phase> {
        let trouble = self.phases.iter().find(|phase| phase.name == "trouble");
        trouble.or_else(|| self.all())
    }

    /// Fills in what was expected and did not come true.
    pub(crate) fn judged(mut self, expect: &Expect) -> Self {
        let Some(all) = self.phases.last() else {
            return self;
        };
        if let Some(least) = expect
            .availability
            .filter(|least| all.availability < *least)
        {
            self.missed.push(format!(
                "availability {:.4} %, expected at least {:.4} %",
                all.availability * 100.0,
                least * 100.0
            ));
        }
        let most = expect.p99.map(|most| most.as_secs_f64() * 1e3);
        if let Some(most) = most.filter(|most| all.p99_ms > *most) {
            self.missed.push(format!(
                "p99 {:.1} ms, expected at most {most:.1} ms",
                all.p99_ms
            ));
        }
        let each = all.retries as f64 / all.requests.max(1) as f64;
        if let Some(most) = expect.retries.filter(|most| each > *most) {
            self.missed.push(format!(
                "{each:.4} retries a request, expected at most {most}"
            ));
        }
        let healthy = self.ejections.of_healthy;
        if let Some(most) = expect.healthy_ejected.filter(|most| healthy > *most) {
            self.missed.push(format!(
                "{healthy} breakers opened at healthy endpoints, expected at most {most}"
            ));
        }
        self
    }
}
