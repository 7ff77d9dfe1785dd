//! The figures of a run or of a part of it, as they are written to JSON.
//!
//! Fields that would be a ratio or a quantile of nothing are `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::ErrorKind;
use crate::plan::{Pattern, Plan};
use crate::slo::{Invalid, Judgement};
use crate::transport::Transport;
use crate::words::seconds;

pub(crate) mod html;
mod table;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was to be done.
    pub plan: PlanSummary,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// Why it was; none where it was not.
    #[serde(default)]
    pub partial: Option<String>,
    /// What was measured.
    pub summary: Summary,
    /// Why the load was not the one that was asked for; empty where it was, or where nobody judged it.
    #[serde(default)]
    pub invalid: Vec<Invalid>,
    /// Whether it kept the objectives, where some were given.
    #[serde(default)]
    pub slo: Option<Judgement>,
}

/// What was to be done, as far as it helps to read the figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// The server's address.
    pub url: String,
    /// The model asked for; several with commas between them.
    pub model: String,
    /// The version asked for, where one was.
    pub version: Option<String>,
    /// How requests were written.
    #[serde(default)]
    pub transport: Transport,
    /// When requests were sent, in words.
    #[serde(default)]
    pub load: String,
    /// Requests a second, on average; none of a closed loop.
    pub rate: Option<f64>,
    /// Seconds of measurement; none of a counted run.
    pub duration_seconds: Option<f64>,
    /// Requests in all, of a counted run.
    pub requests: Option<u64>,
    /// Workers, of a closed loop or a counted run.
    pub concurrency: Option<usize>,
    /// Milliseconds from the intended send time to giving up.
    pub timeout_ms: f64,
    /// The seed of instants and order.
    pub seed: u64,
}

/// What was measured over a span: the whole run, or since the last window.
///
/// In a window, a request counts where it became due and again where it
/// finished, so that `requests` and `finished` may differ by those under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The span's length; of a run without what is waited for at its end.
    pub elapsed_seconds: f64,
    /// Requests that became due.
    pub requests: u64,
    /// Requests that were sent and whose fate is known.
    pub finished: u64,
    /// Requests under way at the end of the span.
    pub in_flight: u64,
    /// Answers with status 200 and what was asked for.
    pub ok: u64,
    /// Those whose label could be compared with the right one.
    #[serde(default)]
    pub scored: u64,
    /// Those whose label was right.
    pub right: u64,
    /// Requests without such an answer: `finished - ok`.
    pub failed: u64,
    /// `ok` answers for each second of the span. Of an open loop it ends with the schedule, and answers that came
    /// later count: those of an overloaded server, up to the timeout. Of a closed loop it ends when its time is up,
    /// and the answers that came in it count, also those to its warm-up.
    pub achieved_rate: f64,
    /// `right` of `scored`.
    pub accuracy: Option<f64>,
    /// From the intended send time to the end of the answer, over `ok` answers
    /// and timeouts: whoever gave up waited at least that long.
    pub latency: Option<Quantiles>,
    /// By the version that the answers name.
    pub versions: BTreeMap<String, VersionSummary>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Refusals by the reason that they name.
    pub reasons: BTreeMap<String, u64>,
    /// Failures by kind; every kind is there.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Failures by text, at most 100 texts and `(others)`.
    pub failures: Vec<Failure>,
    /// By kind of request, where there are several.
    #[serde(default)]
    pub parts: BTreeMap<String, PartSummary>,
    /// What this client itself could not do.
    pub client: Client,
}

/// What became of one kind of request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartSummary {
    /// Requests whose fate is known.
    pub finished: u64,
    /// Answers with status 200 and what was asked for.
    pub ok: u64,
    /// `right` of those that could be compared.
    pub accuracy: Option<f64>,
    /// From the intended send time, over `ok` answers and timeouts.
    pub latency: Option<Quantiles>,
}

/// What one model version answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionSummary {
    /// Answers that name it, of any status.
    pub answers: u64,
    /// Its part of all answers that name a version.
    pub share: f64,
    /// Answers with status 200 and what was asked for.
    pub ok: u64,
    /// Those whose label was right.
    pub right: u64,
    /// `right` of those that could be compared.
    pub accuracy: Option<f64>,
    /// Answers by the route that they name.
    pub routes: BTreeMap<String, u64>,
    /// From the intended send time to the end of the answer, over `ok` answers.
    pub latency: Option<Quantiles>,
}

/// Latencies in milliseconds, to three digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The mean.
    pub mean_ms: f64,
    /// Half are at most this.
    pub p50_ms: f64,
    /// 90 % are at most this.
    pub p90_ms: f64,
    /// 99 % are at most this.
    pub p99_ms: f64,
    /// 99.9 % are at most this.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// One text of failure and how often it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub text: String,
    /// How often.
    pub count: u64,
}

/// How well the client kept its schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Requests that were due while `max_in_flight` were under way.
    pub dropped: u64,
    /// Requests that could not be sent, since this machine was out of file descriptors, of local ports or of
    /// memory. `failures` says which.
    #[serde(default)]
    pub unsent: u64,
    /// From the intended send time to when this client began to send. It is part
    /// of the latency; where it is large, so is the doubt about the latency.
    pub lag: Option<Quantiles>,
    /// From then to when there was a connection that might be used, which is part of the latency, too.
    /// Long where the connections are bounded and the server is slow.
    #[serde(default)]
    pub wait: Option<Quantiles>,
}

// === impl PlanSummary ===

impl From<&Plan> for PlanSummary {
    fn from(plan: &Plan) -> Self {
        let mut models: Vec<_> = plan.parts.iter().map(|part| part.target.model()).collect();
        models.dedup();
        let first = plan.parts.first();
        // Of one model it is said once; of several, by part.
        let version = first.filter(|_| plan.parts.len() == 1);
        let version = version.and_then(|part| part.target.version());
        let (requests, concurrency) = match plan.pattern {
            Pattern::Open { .. } => (None, None),
            Pattern::Closed { connections, .. } => (None, Some(connections)),
            Pattern::Count {
                requests,
                concurrency,
            } => (Some(requests), Some(concurrency)),
        };
        Self {
            url: first.map(|part| part.target.url()).unwrap_or_default(),
            model: models.join(", "),
            version: version.map(ToOwned::to_owned),
            transport: plan.transport,
            load: plan.pattern.to_string(),
            rate: plan.pattern.mean_rate(),
            duration_seconds: plan.pattern.duration().map(seconds),
            requests,
            concurrency,
            timeout_ms: plan.timeout.as_secs_f64() * 1000.0,
            seed: plan.seed,
        }
    }
}

// === impl Summary ===

impl Summary {
    /// The share of answers that a version gave; 0 where it gave none.
    #[must_use]
    pub fn share(&self, version: &str) -> f64 {
        self.versions
            .get(version)
            .map_or(0.0, |version| version.share)
    }

    /// The failures of that kind.
    #[must_use]
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.errors.get(&kind).copied().unwrap_or(0)
    }
}
