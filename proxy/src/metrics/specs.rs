//! Every metric, declared once: name, labels, and what it means.
//!
//! `config/METRICS.md` lists the same, and a test compares the two.

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

macro_rules! specs {
    ($($const:ident: $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $const: Spec = Spec {
                name: $name,
                kind: Kind::$kind,
                labels: &$labels,
                help: $help,
            };
        )*

        /// Every metric of the proxy.
        pub const ALL: &[Spec] = &[$($const),*];
    };
}

specs! {
    REQUESTS: Counter "aegis_proxy_requests_total"
        ["model", "model_version", "kind", "code"],
        "Requests that were routed to a version, by how it was chosen and by the status that the client got";
    DURATION: Histogram "aegis_proxy_request_duration_seconds"
        ["model", "model_version"],
        "From the request's first byte to the answer's last, in seconds";
    FIRST_BYTE: Histogram "aegis_proxy_time_to_first_byte_seconds"
        ["model", "model_version"],
        "From the request's last byte to the answer's first, over all attempts, in seconds";
    BREAKER_STATE: Gauge "aegis_proxy_breaker_state"
        ["model", "model_version", "endpoint"],
        "State of the endpoint's circuit breaker: 0 closed, 1 half-open, 2 open";
    BREAKER_TRANSITIONS: Counter "aegis_proxy_breaker_transitions_total"
        ["model", "model_version", "endpoint", "to", "reason"],
        "Moves of the endpoint's circuit breaker, by the new state and the rule that moved it";
    ENDPOINT_HEALTHY: Gauge "aegis_proxy_endpoint_healthy"
        ["model", "model_version", "endpoint"],
        "1 when active checks say that the endpoint is ready, else 0";
    AVAILABLE: Gauge "aegis_proxy_version_available_ratio"
        ["model", "model_version"],
        "Part of the version's endpoints that is ready and not tripped, 0 to 1";
    WEIGHT: Gauge "aegis_proxy_split_weight"
        ["model", "model_version"],
        "Weight of the version in the split, as configured";
    FALLBACKS: Counter "aegis_proxy_fallbacks_total"
        ["model", "from", "to", "reason"],
        "Requests that another version answered than the one that was chosen, or the static answer";
    RETRIES: Counter "aegis_proxy_retries_total"
        ["model", "reason", "result"],
        "Attempts that failed before a byte of the answer had gone out, by why, and by whether another attempt was made";
    QUEUED: Gauge "aegis_proxy_queued"
        ["model"],
        "Requests that wait for a slot, because every endpoint of their version and its fallbacks is full";
    QUEUE_SECONDS: Histogram "aegis_proxy_queue_seconds"
        ["model"],
        "Time that requests waited for a slot, whatever came of it, in seconds";
    REJECTED: Counter "aegis_proxy_rejected_total"
        ["reason"],
        "Requests that the proxy answered with an error of its own";
    IN_FLIGHT: Gauge "aegis_proxy_in_flight"
        [],
        "Requests that are being served";
    CONNECTIONS: Gauge "aegis_proxy_connections"
        [],
        "Client connections that are open";
    H2_GIVEN_UP: Counter "aegis_proxy_h2_given_up_total"
        ["error"],
        "Connections of HTTP/2 that the proxy ended for what the client sent, by the error that the client was told";
    LOG_DROPPED: Counter "aegis_proxy_access_log_dropped_total"
        ["reason"],
        "Lines of the access log that were lost, because too many waited or because they could not be written";
    TRACE_SPANS: Counter "aegis_proxy_trace_spans_total"
        ["result"],
        "Spans of recorded traces, by what became of them";
    GENERATION: Gauge "aegis_proxy_config_generation"
        [],
        "Number of the running configuration; 1 is the one of the start";
    RELOADS: Counter "aegis_proxy_config_reloads_total"
        ["result"],
        "Readings of a changed configuration file, and those that were asked for";
    DNS_LOOKUPS: Counter "aegis_proxy_dns_lookups_total"
        ["result"],
        "Lookups of the names of endpoints, by how they ended";
    DNS_FAILING: Gauge "aegis_proxy_dns_names_failing"
        [],
        "Names of endpoints whose last lookup failed, so that their last known addresses serve on";
    DNS_LEFT_OUT: Gauge "aegis_proxy_dns_addresses_left_out"
        [],
        "Addresses of names that are not used, because there are too many";
    KUBERNETES_WATCHES: Counter "aegis_proxy_kubernetes_watches_total"
        ["result"],
        "Lists and watches of Kubernetes services, by how they began or ended";
    KUBERNETES_STALE: Gauge "aegis_proxy_kubernetes_stale_seconds"
        ["service"],
        "How long no watch of the service has stood; 0 while one does";
    KUBERNETES_PODS: Gauge "aegis_proxy_kubernetes_pods"
        ["service", "state"],
        "Pods of the service as Kubernetes sees them";
    KUBERNETES_LEFT_OUT: Gauge "aegis_proxy_kubernetes_slices_left_out"
        [],
        "EndpointSlices that are not used, because their service has too many";
    SHADOW_REQUESTS: Counter "aegis_proxy_shadow_requests_total"
        ["model", "model_version", "result"],
        "Requests that were drawn for the shadow, by how that ended";
    SHADOW_ABSOLUTE: Histogram "aegis_proxy_shadow_max_abs_difference"
        ["model", "model_version", "output"],
        "Largest absolute difference of an output between the shadow's answer and the client's";
    SHADOW_RELATIVE: Histogram "aegis_proxy_shadow_max_rel_difference"
        ["model", "model_version", "output"],
        "Largest relative difference of an output between the shadow's answer and the client's";
    SHADOW_LARGEST: Counter "aegis_proxy_shadow_argmax_total"
        ["model", "model_version", "output", "result"],
        "Rows of an output whose largest element is at the same place in both answers, or is not";
    WAITING: Gauge "aegis_inference_queue_depth"
        ["model", "model_version", "via"],
        "Requests that have been sent to the version and have no answer yet, as seen by the proxy";
    CLIENT_REQUESTS: Counter "aegis_inference_requests_total"
        ["model", "model_version", "code", "via"],
        "Requests to the version as clients of the proxy see them";
    CLIENT_LATENCY: Histogram "aegis_inference_latency_seconds"
        ["model", "model_version", "via"],
        "Latency of the version as clients of the proxy see it, in seconds";
}

/// The value of the label `via` here. Backends export the same names without
/// that label, so a sum over both can be told apart by it.
pub const VIA: &str = "proxy";

// === impl Spec ===

impl Spec {
    pub(super) fn counters(&self, registry: &Registry) -> prometheus::Result<IntCounterVec> {
        register(registry, IntCounterVec::new(self.opts(), self.labels)?)
    }

    pub(super) fn gauges(&self, registry: &Registry) -> prometheus::Result<IntGaugeVec> {
        register(registry, IntGaugeVec::new(self.opts(), self.labels)?)
    }

    pub(super) fn float_gauges(&self, registry: &Registry) -> prometheus::Result<GaugeVec> {
        register(registry, GaugeVec::new(self.opts(), self.labels)?)
    }

    pub(super) fn gauge(&self, registry: &Registry) -> prometheus::Result<IntGauge> {
        register(registry, IntGauge::with_opts(self.opts())?)
    }

    pub(super) fn histograms(
        &self,
        registry: &Registry,
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(self.name, self.help).buckets(buckets.to_vec());
        register(registry, HistogramVec::new(opts, self.labels)?)
    }

    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }
}

fn register<C>(registry: &Registry, collector: C) -> prometheus::Result<C>
where
    C: Collector + Clone + 'static,
{
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
