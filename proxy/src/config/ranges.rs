//! The range of every number, stated once: for validation and for the schema.

/// The least and the greatest value that is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) min: u64,
    pub(super) max: u64,
}

/// The same for numbers with a fraction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fraction {
    pub(super) min: f64,
    pub(super) max: f64,
}

const fn fraction(min: f64, max: f64) -> Fraction {
    Fraction { min, max }
}

const fn range(min: u64, max: u64) -> Range {
    Range { min, max }
}

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600 * SECOND_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// `drain.*_ms`.
pub(super) const DRAIN_MS: Range = range(0, HOUR_MS);
/// `limits.max_connections`.
pub(super) const CONNECTIONS: Range = range(1, 1_000_000);
/// `limits.max_h2_streams`.
pub(super) const H2_STREAMS: Range = range(1, 10_000);
/// `limits.max_header_bytes`. pingora itself gives up at 1 MiB.
pub(super) const HEADER_BYTES: Range = range(1_024, 512 * 1_024);
/// `limits.header_timeout_ms`, `limits.read_timeout_ms`,
/// `limits.upload_timeout_ms`, `limits.keepalive_timeout_ms`.
pub(super) const CLIENT_TIMEOUT_MS: Range = range(10, HOUR_MS);
/// `limits.max_body_bytes`.
pub(super) const BODY_BYTES: Range = range(1, 4 * GIB);
/// `limits.replay_memory_bytes`.
pub(super) const REPLAY_MEMORY_BYTES: Range = range(0, 64 * GIB);
/// `upstream.max_idle_connections`.
pub(super) const IDLE_CONNECTIONS: Range = range(1, 100_000);
/// `upstream.idle_timeout_ms`.
pub(super) const IDLE_TIMEOUT_MS: Range = range(10, HOUR_MS);
/// `dns.lookup_timeout_ms`.
pub(super) const DNS_TIMEOUT_MS: Range = range(10, 60 * SECOND_MS);
/// `dns.min_ttl_ms`, `dns.max_ttl_ms`.
pub(super) const TTL_MS: Range = range(10, HOUR_MS);
/// `dns.forget_after`.
pub(super) const FORGET_AFTER: Range = range(1, 1_000);
/// The most of `dns.servers`.
pub(super) const MAX_DNS_SERVERS: usize = 8;
/// `kubernetes.api_timeout_ms`.
pub(super) const KUBE_REQUEST_MS: Range = range(100, 60 * SECOND_MS);
/// `kubernetes.renew_after_ms`.
pub(super) const KUBE_RENEW_MS: Range = range(SECOND_MS, 600 * SECOND_MS);
/// `kubernetes.retry_base_ms`, `kubernetes.retry_max_ms`.
pub(super) const KUBE_RETRY_MS: Range = range(10, HOUR_MS);
/// `traces.queue_requests`.
pub(super) const QUEUE_REQUESTS: Range = range(1, 100_000);
/// `traces.batch_requests`.
pub(super) const BATCH_REQUESTS: Range = range(1, 10_000);
/// `traces.batch_interval_ms`.
pub(super) const BATCH_MS: Range = range(10, 60 * SECOND_MS);
/// `traces.export_timeout_ms`.
pub(super) const EXPORT_TIMEOUT_MS: Range = range(100, 60 * SECOND_MS);
/// `access_log.sample`, `traces.sample`.
pub(super) const SAMPLE: Fraction = fraction(0.0, 1.0);
/// `access_log.slow_ms`.
pub(super) const SLOW_REQUEST_MS: Range = range(0, DAY_MS);
/// `access_log.buffer_bytes`.
pub(super) const LOG_BUFFER_BYTES: Range = range(64 * 1024, GIB);
/// `breaker.consecutive_failures`, `health_check.*_after`.
pub(super) const IN_A_ROW: Range = range(1, 1_000);
/// `breaker.half_open_*`.
pub(super) const PROBES: Range = range(1, 100);
/// `breaker.open_*_ms`.
pub(super) const OPEN_MS: Range = range(10, DAY_MS);
/// `breaker.probe_lease_ms`.
pub(super) const LEASE_MS: Range = range(100, HOUR_MS);
/// `health_check.interval_ms`, `health_check.timeout_ms`.
pub(super) const CHECK_MS: Range = range(10, HOUR_MS);
/// `breaker.window_ms`, `breaker.sparse_window_ms`.
pub(super) const WINDOW_MS: Range = range(100, HOUR_MS);
/// `breaker.latency_threshold_ms`, `breaker.relative_floor_ms`,
/// `retry.per_try_floor_ms`.
pub(super) const SLOW_MS: Range = range(1, HOUR_MS);
/// `breaker.*_ratio`.
pub(super) const RATIO: Fraction = fraction(0.01, 1.0);
/// `breaker.relative_factor`, `retry.per_try_factor`.
pub(super) const FACTOR: Fraction = fraction(1.0, 1_000.0);
/// `balance.decay_ms`.
pub(super) const DECAY_MS: Range = range(10, HOUR_MS);
/// `balance.max_in_flight`.
pub(super) const IN_FLIGHT: Range = range(1, 1_000_000);
/// `balance.slow_start_ms`.
pub(super) const SLOW_START_MS: Range = range(0, HOUR_MS);
/// `balance.slow_start_from`.
pub(super) const SLOW_START_FROM: Fraction = fraction(0.01, 1.0);
/// `admission.max_queued`.
pub(super) const QUEUED: Range = range(0, 100_000);
/// `retry.budget_ratio`.
pub(super) const BUDGET_RATIO: Fraction = fraction(0.0, 10.0);
/// `retry.budget_per_second`.
pub(super) const BUDGET_PER_SECOND: Fraction = fraction(0.0, 1_000_000.0);
/// `retry.max_retries`.
pub(super) const RETRIES: Range = range(0, 10);
/// `retry.replay_limit_bytes`.
pub(super) const REPLAY_BYTES: Range = range(0, GIB);
/// `shadow.percent`.
pub(super) const PERCENT: Fraction = fraction(0.001, 100.0);
/// `shadow.max_body_bytes`.
pub(super) const SHADOW_BYTES: Range = range(1, GIB);
/// `shadow.max_in_flight`.
pub(super) const SHADOW_IN_FLIGHT: Range = range(1, 10_000);
/// `shadow.rtol`, `shadow.atol`.
pub(super) const TOLERANCE: Fraction = fraction(0.0, 1e9);
/// `timeouts.*_ms`.
pub(super) const UPSTREAM_MS: Range = range(1, DAY_MS);

/// The most models, and the most versions over all models: each is a set of
/// metric series.
pub(super) const MAX_MODELS: usize = 1_000;
/// See [`MAX_MODELS`].
pub(super) const MAX_VERSIONS: usize = 1_000;
/// The most endpoints, over all versions: each is checked on its own. Names count
/// once in the file, and by their addresses while it runs.
pub const MAX_ENDPOINTS: usize = 10_000;
/// The longest fallback chain.
pub(super) const MAX_FALLBACK: usize = 8;
/// The most networks in `forwarded.trusted`: each is compared with every peer.
pub(super) const MAX_TRUSTED: usize = 256;
/// The longest `sticky.jwt_claim`.
pub(super) const MAX_CLAIM_BYTES: usize = 128;
/// The longest `health_check.path`.
pub(super) const MAX_PATH_BYTES: usize = 1_024;
/// `static_answer.status`, where it is not 0: no informational status.
pub(super) const MIN_ANSWER_STATUS: u16 = 200;
/// See [`MIN_ANSWER_STATUS`].
pub(super) const MAX_ANSWER_STATUS: u16 = 599;
/// The longest `static_answer.body`.
pub(super) const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The most `static_answer.headers`.
pub(super) const MAX_ANSWER_HEADERS: usize = 32;
