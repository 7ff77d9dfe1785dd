//! What the server says of itself, in one struct.
//!
//! Every name stands here once, and in `config/METRICS.md`; a test compares the two. A model
//! version's series are made when it is configured, all at 0, and their handles are kept
//! ([`VersionMetrics`]), so that a request looks up no label and a graph shows zero before the
//! first fault. Label values come from the configuration and from closed sets, never from a
//! client.

use std::time::Duration;

use aegis_protocol::Reason;
use aegis_signing::Outcome;
use http::StatusCode;
use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge, Registry, TextEncoder};

use crate::control::Counted;
use crate::integrity::Verifications;
use crate::safety::{Action, Check};
use families::{Declare, Families};

mod families;
#[cfg(test)]
mod tests;

/// Not a status that is sent: the client left before there was one.
pub const CLIENT_LEFT: u16 = 499;

/// Every code that a request to a configured model version can end with.
pub const CODES: [u16; 11] = [
    200,
    400,
    408,
    413,
    415,
    422,
    429,
    CLIENT_LEFT,
    500,
    503,
    504,
];

/// The registry and its families; a clone shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Whether anything is counted.
    are_kept: bool,
    registry: Registry,
    /// In the order of [`Reason::ALL`].
    rejected: [IntCounter; Reason::ALL.len()],
    /// How often verifications of models ended how.
    pub verifications: Verifications,
    /// How often models were loaded and unloaded at run time.
    pub model_control: Counted,
    /// Connections that are open.
    pub connections: IntGauge,
    /// How often accepting paused because there were too many.
    pub accept_paused: IntCounter,
    families: Families,
}

/// The series of one model version.
#[derive(Clone, Debug)]
pub struct VersionMetrics {
    /// Whether requests and batches are counted. What is rare is counted in any case, and `in_flight`, which
    /// load reports tell.
    are_kept: bool,
    /// In the order of [`CODES`].
    requests: [IntCounter; CODES.len()],
    /// From the request's head to its answer, for requests that were queued.
    latency: Histogram,
    /// Requests that are being read, waiting, running or being written.
    pub in_flight: IntGauge,
    /// Accepted, not yet running.
    pub queue_depth: IntGauge,
    /// From push to batch.
    queue_seconds: Histogram,
    /// Requests that waited longer than `max_latency_ms`.
    over_max_wait: IntCounter,
    /// Rows of a batch.
    pub batch_size: Histogram,
    /// Time of a batch in the model.
    batch_seconds: Histogram,
    /// What a batch costs for each row, in seconds, as learned.
    batch_cost_per_row: Gauge,
    /// And what it costs once.
    batch_cost_per_batch: Gauge,
    /// Batches that failed and were run again one by one.
    pub batches_split: IntCounter,
    /// Time that instances spent running.
    busy_seconds: Counter,
    /// Instances that hung.
    pub hung: IntCounter,
    tests_passed: IntCounter,
    tests_failed: IntCounter,
    /// 1 when it is loaded and warm.
    pub loaded: IntGauge,
    /// In the order of [`Check::ALL`], and each in that of [`Action::ALL`].
    flagged: [[IntCounter; Action::ALL.len()]; Check::ALL.len()],
}

// === impl Metrics ===

impl Metrics {
    /// Declares every family; those without labels, and the reasons, are there at 0.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let declare = Declare(&registry);
        let rejected = declare.counters(
            "aegis_inference_rejected_total",
            "Requests that were refused, by reason.",
            &["reason"],
        );
        let rejected = Reason::ALL.map(|reason| rejected.with_label_values(&[reason.name()]));
        let verifications = declare.counters(
            "aegis_model_verifications_total",
            "Verifications of model versions before they are loaded, by how they ended.",
            &["outcome"],
        );
        let verifications =
            Outcome::ALL.map(|outcome| verifications.with_label_values(&[outcome.name()]));
        let changes = declare.counters(
            "aegis_model_control_total",
            "Loads and unloads that clients asked for, by how they ended.",
            &["action", "result"],
        );
        let model_control = Counted::ACTIONS.map(|action| {
            Counted::RESULTS.map(|result| changes.with_label_values(&[action, result]))
        });
        let connections = declare.gauge("aegis_http_connections", "Connections that are open.");
        let accept_paused = declare.counter(
            "aegis_http_accept_paused_total",
            "Times that accepting paused because `max_connections` were open.",
        );
        let families = Families::new(declare);
        Self {
            are_kept: true,
            registry,
            rejected,
            verifications: Verifications(verifications),
            model_control: Counted(model_control),
            connections,
            accept_paused,
            families,
        }
    }

    /// The same, of which nothing is kept: for those who have no use for them, and to measure what they cost.
    #[must_use]
    pub fn off() -> Self {
        Self {
            are_kept: false,
            ..Self::new()
        }
    }

    /// Whether anything is counted.
    #[must_use]
    pub fn are_kept(&self) -> bool {
        self.are_kept
    }

    /// The series of one model version, all at 0 when they are new.
    #[must_use]
    pub fn version(&self, model: &str, version: &str) -> VersionMetrics {
        self.families.version(model, version, self.are_kept)
    }

    /// Removes the series of one model version: it is served no more.
    pub fn forget(&self, model: &str, version: &str) {
        self.families.forget(model, version);
    }

    /// Counts a refusal.
    pub fn rejected(&self, reason: Reason) {
        if let Some(at) = Reason::ALL.iter().position(|known| *known == reason) {
            self.rejected[at].inc();
        }
    }

    /// Everything, in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// Never for families that hold samples; the encoder's signature allows it.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

// === impl VersionMetrics ===

impl VersionMetrics {
    /// Records how long a request took that was queued.
    pub fn took(&self, time: Duration) {
        if self.are_kept {
            self.latency.observe(time.as_secs_f64());
        }
    }

    /// Records how long a request waited in the queue.
    pub fn waited(&self, time: Duration) {
        if self.are_kept {
            self.queue_seconds.observe(time.as_secs_f64());
        }
    }

    /// Counts requests that waited longer than they may for company.
    pub fn waited_too_long(&self, requests: usize) {
        if self.are_kept && requests > 0 {
            let requests = u64::try_from(requests).unwrap_or(u64::MAX);
            self.over_max_wait.inc_by(requests);
        }
    }

    /// Shows how many requests wait.
    pub fn show_depth(&self, requests: usize) {
        if self.are_kept {
            let requests = i64::try_from(requests).unwrap_or(i64::MAX);
            self.queue_depth.set(requests);
        }
    }

    /// Shows what a batch costs, in seconds.
    pub fn show_cost(&self, per_row: f64, per_batch: f64) {
        if self.are_kept {
            self.batch_cost_per_row.set(per_row);
            self.batch_cost_per_batch.set(per_batch);
        }
    }

    /// Counts a request that ended with this status.
    pub fn answered(&self, status: StatusCode) {
        self.ended(status.as_u16());
    }

    /// Counts a request whose client left.
    pub fn client_left(&self) {
        self.ended(CLIENT_LEFT);
    }

    /// Counts a request that a safety check objected to, and what was done about it.
    pub fn flagged(&self, check: Check, action: Action) {
        let check = Check::ALL.iter().position(|known| *known == check);
        let action = Action::ALL.iter().position(|known| *known == action);
        if let (Some(check), Some(action)) = (check, action) {
            self.flagged[check][action].inc();
        }
    }

    /// Records a batch of so many rows that took so long.
    pub fn ran(&self, rows: usize, time: Duration) {
        if !self.are_kept {
            return;
        }
        // Exact up to 2^53 rows.
        #[expect(clippy::cast_precision_loss, reason = "nobody batches that many rows")]
        self.batch_size.observe(rows as f64);
        self.batch_seconds.observe(time.as_secs_f64());
        self.busy_seconds.inc_by(time.as_secs_f64());
    }

    /// Counts a run of zeros, after several runs that had failed.
    pub fn tested(&self, passed: bool) {
        if passed {
            &self.tests_passed
        } else {
            &self.tests_failed
        }
        .inc();
    }

    /// How many runs of zeros have passed, or failed.
    #[cfg(test)]
    pub(crate) fn tests(&self, passed: bool) -> u64 {
        if passed {
            &self.tests_passed
        } else {
            &self.tests_failed
        }
        .get()
    }

    fn ended(&self, code: u16) {
        if !self.are_kept {
            return;
        }
        let at = CODES.iter().position(|known| *known == code);
        debug_assert!(at.is_some(), "{code} is missing in CODES");
        if let Some(at) = at {
            self.requests[at].inc();
        }
    }
}
