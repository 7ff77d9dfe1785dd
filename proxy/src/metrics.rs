//! What the proxy counts: names in one place, handles for the hot path.
//!
//! A request must not look labels up, so everything that it counts is resolved
//! when its version is configured: [`VersionMetrics`] holds one counter for
//! every kind and status. Gauges that describe state (breakers, health, shares)
//! are not kept up to date by whoever changes the state, which would drift;
//! they are set from the state itself when somebody asks ([`Metrics::show`]).
//!
//! Every series exists at 0 from the start, so that a rate over its first
//! increase is right, and [`Metrics::reconcile`] takes away the series of what
//! is no longer configured, and [`Metrics::repool`] those of endpoints that have
//! gone; nobody who still speaks of these makes them anew (`metrics/known.rs`). Label values come from closed sets, or from names
//! and addresses in the configuration, whose number is bounded.

mod client_side;
mod known;
mod labels;
mod series;
mod shadow;
pub mod specs;
mod tracked;
mod version;

#[cfg(test)]
mod tests;

use aegis_policy::FallbackReason;
use aegis_protocol::Reason;
use parking_lot::RwLock;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use crate::{
    access_log::Lost,
    config::{Config, Name},
    dns::LookupError,
    kubernetes::{News, WatchError},
    pools::Pools,
    status::{HealthWord, Running, VersionStatus},
    trace::SpanCounts,
};

use known::Known;
use labels::{
    H2_ERRORS, H2_OTHER, LOOKUP_FOUND, LOOKUP_RESULTS, POD_STATES, WATCH_CHANGED, WATCH_LISTED,
    WATCH_RESULTS, WATCH_STANDS,
};
pub use labels::{RETRY_REASONS, ReloadResult, RetryResult, STATIC_LABEL};
pub use shadow::ShadowMetrics;
pub use tracked::Tracked;
pub use version::VersionMetrics;

/// Upper bounds of the latency buckets, in seconds. They resolve 0.2 and 1.5 s,
/// and are the backend's, so that the two can be laid over each other.
pub const LATENCY_BUCKETS: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0,
];

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Everything that the proxy counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    first_byte: HistogramVec,
    waiting: IntGaugeVec,
    breaker_state: IntGaugeVec,
    breaker_transitions: IntCounterVec,
    endpoint_healthy: IntGaugeVec,
    available: GaugeVec,
    weight: GaugeVec,
    fallbacks: IntCounterVec,
    retries: IntCounterVec,
    queued: IntGaugeVec,
    queue_seconds: HistogramVec,
    rejected: IntCounterVec,
    in_flight: IntGauge,
    connections: IntGauge,
    h2_given_up: IntCounterVec,
    log_dropped: IntCounterVec,
    trace_spans: IntCounterVec,
    generation: IntGauge,
    reloads: IntCounterVec,
    lookups: IntCounterVec,
    names_failing: IntGauge,
    addresses_left_out: IntGauge,
    watches: IntCounterVec,
    stale: GaugeVec,
    pods: IntGaugeVec,
    slices_left_out: IntGauge,
    shadow_requests: IntCounterVec,
    shadow_absolute: HistogramVec,
    shadow_relative: HistogramVec,
    shadow_largest: IntCounterVec,
    known: RwLock<Known>,
}

// === impl Metrics ===

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// When two metrics have one name: a mistake in [`specs`], which the first
    /// start finds.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let metrics = Self {
            requests: specs::REQUESTS.counters(r)?,
            duration: specs::DURATION.histograms(r, &LATENCY_BUCKETS)?,
            first_byte: specs::FIRST_BYTE.histograms(r, &LATENCY_BUCKETS)?,
            waiting: specs::WAITING.gauges(r)?,
            breaker_state: specs::BREAKER_STATE.gauges(r)?,
            breaker_transitions: specs::BREAKER_TRANSITIONS.counters(r)?,
            endpoint_healthy: specs::ENDPOINT_HEALTHY.gauges(r)?,
            available: specs::AVAILABLE.float_gauges(r)?,
            weight: specs::WEIGHT.float_gauges(r)?,
            fallbacks: specs::FALLBACKS.counters(r)?,
            retries: specs::RETRIES.counters(r)?,
            queued: specs::QUEUED.gauges(r)?,
            queue_seconds: specs::QUEUE_SECONDS.histograms(r, &LATENCY_BUCKETS)?,
            rejected: specs::REJECTED.counters(r)?,
            in_flight: specs::IN_FLIGHT.gauge(r)?,
            connections: specs::CONNECTIONS.gauge(r)?,
            h2_given_up: specs::H2_GIVEN_UP.counters(r)?,
            log_dropped: specs::LOG_DROPPED.counters(r)?,
            trace_spans: specs::TRACE_SPANS.counters(r)?,
            generation: specs::GENERATION.gauge(r)?,
            reloads: specs::RELOADS.counters(r)?,
            lookups: specs::DNS_LOOKUPS.counters(r)?,
            names_failing: specs::DNS_FAILING.gauge(r)?,
            addresses_left_out: specs::DNS_LEFT_OUT.gauge(r)?,
            watches: specs::KUBERNETES_WATCHES.counters(r)?,
            stale: specs::KUBERNETES_STALE.float_gauges(r)?,
            pods: specs::KUBERNETES_PODS.gauges(r)?,
            slices_left_out: specs::KUBERNETES_LEFT_OUT.gauge(r)?,
            shadow_requests: specs::SHADOW_REQUESTS.counters(r)?,
            shadow_absolute: specs::SHADOW_ABSOLUTE.histograms(r, &shadow::BUCKETS)?,
            shadow_relative: specs::SHADOW_RELATIVE.histograms(r, &shadow::BUCKETS)?,
            shadow_largest: specs::SHADOW_LARGEST.counters(r)?,
            known: RwLock::default(),
            registry,
        };
        for reason in Reason::ALL {
            metrics.rejected.with_label_values(&[reason.name()]);
        }
        for error in H2_ERRORS.iter().map(|(_, name)| name).chain([&H2_OTHER]) {
            metrics.h2_given_up.with_label_values(&[error]);
        }
        let _ = metrics.lost_lines();
        let _ = metrics.trace_spans();
        for result in ReloadResult::ALL {
            metrics.reloads.with_label_values(&[result.label()]);
        }
        for result in LOOKUP_RESULTS {
            metrics.lookups.with_label_values(&[result]);
        }
        for result in WATCH_RESULTS.iter().chain(&WatchError::LABELS) {
            metrics.watches.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// The handles for the requests of one version; its series exist from now on.
    #[must_use]
    pub fn version(&self, model: &Name, version: &Name) -> VersionMetrics {
        VersionMetrics::new(self, model, version)
    }

    /// Where the times are counted that requests to a model wait for a slot.
    #[must_use]
    pub fn queue_seconds(&self, model: &str) -> Histogram {
        self.queue_seconds.with_label_values(&[model])
    }

    /// The handles for the shadow of a model; its series exist from now on.
    #[must_use]
    pub fn shadow(&self, model: &Name, version: &Name) -> ShadowMetrics {
        ShadowMetrics::new(self, &model.to_arc(), &version.to_arc())
    }

    /// Gives every series of a configuration and its endpoints its 0, and takes
    /// away the series of what is not among them. Call it, and [`Self::repool`], for one
    /// configuration after the other.
    pub fn reconcile(&self, config: &Config, pools: &Pools, generation: u64) {
        self.generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.repool(config, pools);
        series::create(self, config);
        series::remove_stale(self, config);
    }

    /// Gives the series of endpoints that have come to the pools of a configuration their
    /// 0, and takes away the series of those that have gone. What stays is not touched: a
    /// pool may have thousands of endpoints of which one moves.
    pub fn repool(&self, config: &Config, pools: &Pools) {
        let next = Known::of(config, pools);
        let before = std::mem::replace(&mut *self.known.write(), next);
        let known = self.known.read();
        for endpoint in known.without(&before) {
            series::create_endpoint(self, endpoint);
        }
        for endpoint in before.without(&known) {
            series::remove_endpoint(self, endpoint);
        }
    }

    /// A request left its version for another.
    pub fn fell_back(&self, model: &str, from: &str, to: &str, reason: FallbackReason) {
        let known = self.known.read();
        let has_target = to == STATIC_LABEL || known.has_version(model, to);
        if has_target && known.has_version(model, from) {
            self.fallbacks
                .with_label_values(&[model, from, to, reason.label()])
                .inc();
        }
    }

    /// An attempt failed for `reason` (of [`RETRY_REASONS`]); `result` says
    /// whether another one was made.
    pub fn retried(&self, model: &str, reason: &str, result: RetryResult) {
        let known = self.known.read();
        if known.has_model(model) {
            self.retries
                .with_label_values(&[model, reason, result.label()])
                .inc();
        }
    }

    /// A breaker moved.
    pub fn breaker_moved(&self, model: &str, moved: &aegis_policy::Transition) {
        let known = self.known.read();
        if !known.has_endpoint((model, &moved.version, moved.address)) {
            return;
        }
        let endpoint = moved.address.to_string();
        let (to, reason) = (moved.step.to.label(), moved.step.reason.label());
        self.breaker_transitions
            .with_label_values(&[model, &moved.version, &endpoint, to, reason])
            .inc();
    }

    /// The proxy refused a request by itself.
    pub fn rejected(&self, reason: Reason) {
        self.rejected.with_label_values(&[reason.name()]).inc();
    }

    /// The proxy ended a connection of HTTP/2, and told its client this error.
    pub fn h2_given_up(&self, error: u32) {
        let name = labels::h2_error(error);
        self.h2_given_up.with_label_values(&[name]).inc();
    }

    /// What counts the lines that the access log loses.
    #[must_use]
    pub fn lost_lines(&self) -> Lost {
        Lost {
            full: self.log_dropped.with_label_values(&["full"]),
            unwritten: self.log_dropped.with_label_values(&["write_failed"]),
        }
    }

    /// What counts the spans of traces.
    #[must_use]
    pub fn trace_spans(&self) -> SpanCounts {
        let counter = |result| self.trace_spans.with_label_values(&[result]);
        SpanCounts {
            exported: counter("exported"),
            full: counter("full"),
            failed: counter("failed"),
        }
    }

    /// A reload came to an end.
    pub fn reloaded(&self, result: ReloadResult) {
        self.reloads.with_label_values(&[result.label()]).inc();
    }

    /// A name was looked up.
    pub fn looked_up(&self, error: Option<&LookupError>) {
        let result = error.map_or(LOOKUP_FOUND, LookupError::label);
        self.lookups.with_label_values(&[result]).inc();
    }

    /// Something was heard of a service.
    pub fn watched(&self, news: &News) {
        let result = match news {
            News::Listed(_) => WATCH_LISTED,
            News::Failed(error) => error.label(),
            News::Watched => WATCH_STANDS,
            News::Put(_) | News::Gone(_) => WATCH_CHANGED,
        };
        self.watches.with_label_values(&[result]).inc();
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn request_in_flight(&self) -> Tracked {
        Tracked::new(&self.in_flight)
    }

    /// Counts a client connection as open until the guard is dropped.
    pub fn connection_open(&self) -> Tracked {
        Tracked::new(&self.connections)
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Client connections that are open.
    #[must_use]
    pub fn connections(&self) -> i64 {
        self.connections.get()
    }

    /// Sets the gauges that describe state, but for those of what has gone since.
    pub fn show(&self, running: &Running) {
        let failing = running.dns.names.values().filter(|name| name.failures > 0);
        self.names_failing.set(to_gauge(failing.count()));
        self.addresses_left_out
            .set(to_gauge(running.dns.addresses_left_out));
        self.show_services(running);
        for (model, status) in &running.models {
            let known = self.known.read();
            if known.has_model(model) {
                let queued = i64::try_from(status.queued).unwrap_or(i64::MAX);
                self.queued.with_label_values(&[model]).set(queued);
            }
            drop(known);
            for (version, status) in &status.versions {
                self.show_version(model, version, status);
            }
        }
    }

    fn show_version(&self, model: &str, version: &str, status: &VersionStatus) {
        let known = self.known.read();
        if known.has_version(model, version) {
            self.available
                .with_label_values(&[model, version])
                .set(status.available_ratio);
        }
        drop(known);
        for endpoint in &status.endpoints {
            // Taken for each: who changes what is known waits for no pool of thousands.
            let known = self.known.read();
            if !known.has_endpoint((model, version, endpoint.address)) {
                continue;
            }
            let address = endpoint.address.to_string();
            let labels = [model, version, &address];
            let healthy = endpoint.health == HealthWord::Ready;
            self.breaker_state
                .with_label_values(&labels)
                .set(endpoint.breaker.gauge());
            self.endpoint_healthy
                .with_label_values(&labels)
                .set(healthy.into());
        }
    }

    fn show_services(&self, running: &Running) {
        let services = &running.kubernetes.services;
        let known = self.known.read();
        for (name, service) in services {
            if !known.has_service(name) {
                continue;
            }
            let stale = service.stale_for_seconds.unwrap_or(0.0);
            self.stale.with_label_values(&[name]).set(stale);
            let counts = [service.ready, service.unready, service.terminating];
            for (state, count) in POD_STATES.into_iter().zip(counts) {
                let pods = self.pods.with_label_values(&[name.as_str(), state]);
                pods.set(to_gauge(count));
            }
        }
        let left_out = services.values().map(|service| service.slices_left_out);
        self.slices_left_out.set(to_gauge(left_out.sum()));
    }

    /// Everything, in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// When a metric cannot be written down, which none of ours does.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut families = self.registry.gather();
        families.extend(client_side::families(self));
        // The encoder refuses a family without a series.
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

fn to_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
