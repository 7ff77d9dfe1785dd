//! The names, helps, labels and buckets of what is counted by model version.

use std::collections::HashMap;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::{CODES, VersionMetrics};
use crate::safety::{Action, Check};

/// Resolves the objectives of 0.2 s and 1.5 s.
const LATENCY: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0,
];

/// A batch of a small model takes tens of microseconds; a queue under load, seconds.
const WORK: [f64; 15] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

const ROWS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const VERSION: [&str; 2] = ["model", "model_version"];

/// The families that have a series for each model version.
#[derive(Clone, Debug)]
pub(super) struct Families {
    requests: IntCounterVec,
    latency: HistogramVec,
    in_flight: IntGaugeVec,
    queue_depth: IntGaugeVec,
    queue_seconds: HistogramVec,
    over_max_wait: IntCounterVec,
    batch_size: HistogramVec,
    batch_seconds: HistogramVec,
    batch_cost: GaugeVec,
    batches_split: IntCounterVec,
    busy_seconds: CounterVec,
    hung: IntCounterVec,
    tests: IntCounterVec,
    loaded: IntGaugeVec,
    safety_flags: IntCounterVec,
}

/// Declares families in a registry.
#[derive(Clone, Copy)]
pub(super) struct Declare<'r>(pub(super) &'r Registry);

// === impl Families ===

impl Families {
    #[rustfmt::skip] // One family a line: this is a table.
    pub(super) fn new(declare: Declare<'_>) -> Self {
        Self {
            requests: declare.counters(
                "aegis_inference_requests_total",
                "Inference requests that ended, by status code; 499 when the client left first.",
                &["model", "model_version", "code"]),
            latency: declare.histograms(
                "aegis_inference_latency_seconds",
                "From a request's head to its answer, for requests that were queued.", &LATENCY),
            in_flight: declare.gauges(
                "aegis_inference_in_flight",
                "Inference requests that are being read, waiting, running or being answered."),
            queue_depth: declare.gauges(
                "aegis_inference_queue_depth",
                "Requests that are accepted and not yet running."),
            queue_seconds: declare.histograms(
                "aegis_inference_queue_seconds",
                "Time that a request waited in the queue before it ran.", &WORK),
            over_max_wait: declare.counters(
                "aegis_inference_over_max_wait_total",
                "Requests that waited longer than `max_latency_ms`: every instance was busy.",
                &VERSION),
            batch_size: declare.histograms(
                "aegis_inference_batch_size",
                "Rows of a batch.", &ROWS),
            batch_seconds: declare.histograms(
                "aegis_inference_batch_seconds",
                "Time that a batch took in the model.", &WORK),
            batch_cost: declare.measures(
                "aegis_inference_batch_cost_seconds",
                "What a batch costs, as learned: `alpha` for each row, `beta` once.",
                &["model", "model_version", "term"]),
            batches_split: declare.counters(
                "aegis_inference_batches_split_total",
                "Batches that failed and were run again request by request.", &VERSION),
            busy_seconds: declare.seconds(
                "aegis_instance_busy_seconds_total",
                "Time that instances spent running batches."),
            hung: declare.counters(
                "aegis_instance_hung_total",
                "Instances that were given up because a run took longer than `run_timeout_ms`.",
                &VERSION),
            tests: declare.counters(
                "aegis_instance_tests_total",
                "Runs of zeros after several that failed, by whether they did too.",
                &["model", "model_version", "outcome"]),
            loaded: declare.gauges(
                "aegis_model_loaded",
                "1 when the model version is loaded and warm, else 0."),
            safety_flags: declare.counters(
                "aegis_safety_flags_total",
                "Requests that a safety check flagged, by check and by what was done.",
                &["model", "model_version", "reason", "action"]),
        }
    }

    pub(super) fn version(&self, model: &str, version: &str, are_kept: bool) -> VersionMetrics {
        let labels = &[model, version];
        let term = |term| self.batch_cost.with_label_values(&[model, version, term]);
        let test = |outcome| self.tests.with_label_values(&[model, version, outcome]);
        VersionMetrics {
            are_kept,
            requests: CODES.map(|code| {
                let code = code.to_string();
                self.requests
                    .with_label_values(&[model, version, code.as_str()])
            }),
            latency: self.latency.with_label_values(labels),
            in_flight: self.in_flight.with_label_values(labels),
            queue_depth: self.queue_depth.with_label_values(labels),
            queue_seconds: self.queue_seconds.with_label_values(labels),
            over_max_wait: self.over_max_wait.with_label_values(labels),
            batch_size: self.batch_size.with_label_values(labels),
            batch_seconds: self.batch_seconds.with_label_values(labels),
            batch_cost_per_row: term("alpha"),
            batch_cost_per_batch: term("beta"),
            batches_split: self.batches_split.with_label_values(labels),
            busy_seconds: self.busy_seconds.with_label_values(labels),
            hung: self.hung.with_label_values(labels),
            tests_passed: test("passed"),
            tests_failed: test("failed"),
            loaded: self.loaded.with_label_values(labels),
            flagged: Check::ALL.map(|check| {
                Action::ALL.map(|action| {
                    let labels = &[model, version, check.name(), action.name()];
                    self.safety_flags.with_label_values(labels)
                })
            }),
        }
    }

    /// Removes the series of a version from every family.
    pub(super) fn forget(&self, model: &str, version: &str) {
        let Self {
            requests,
            latency,
            in_flight,
            queue_depth,
            queue_seconds,
            over_max_wait,
            batch_size,
            batch_seconds,
            batch_cost,
            batches_split,
            busy_seconds,
            loaded,
            hung,
            tests,
            safety_flags,
        } = self;
        for family in [
            requests,
            over_max_wait,
            batches_split,
            hung,
            tests,
            safety_flags,
        ] {
            forget(family, model, version);
        }
        for family in [latency, queue_seconds, batch_size, batch_seconds] {
            forget(family, model, version);
        }
        for family in [in_flight, queue_depth, loaded] {
            forget(family, model, version);
        }
        forget(batch_cost, model, version);
        forget(busy_seconds, model, version);
    }
}

/// Removes every series of a family with these values of `model` and `model_version`, whatever its other
/// labels are.
fn forget<T: MetricVecBuilder>(family: &MetricVec<T>, model: &str, version: &str) {
    for shown in family.collect() {
        for metric in shown.get_metric() {
            let labels: HashMap<_, _> = metric
                .get_label()
                .iter()
                .map(|label| (label.name(), label.value()))
                .collect();
            if (labels.get("model"), labels.get("model_version")) == (Some(&model), Some(&version))
            {
                // It was there a moment ago.
                let _ = family.remove(&labels);
            }
        }
    }
}

// === impl Declare ===

impl Declare<'_> {
    pub(super) fn counter(self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    pub(super) fn gauge(self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help))
    }

    pub(super) fn counters(self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn seconds(self, name: &str, help: &str) -> CounterVec {
        self.register(CounterVec::new(Opts::new(name, help), &VERSION))
    }

    fn measures(self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn gauges(self, name: &str, help: &str) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), &VERSION))
    }

    fn histograms(self, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(opts, &VERSION))
    }

    #[expect(
        clippy::expect_used,
        reason = "fails only for a malformed or doubled constant name"
    )]
    fn register<C: Collector + Clone + 'static>(
        self,
        collector: Result<C, prometheus::Error>,
    ) -> C {
        let collector = collector.expect("metric names are well-formed");
        self.0
            .register(Box::new(collector.clone()))
            .expect("metric names are unique");
        collector
    }
}
