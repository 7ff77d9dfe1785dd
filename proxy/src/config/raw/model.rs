//! One model: its versions, and the rules that it is served by.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{
    name::NAME_PATTERN,
    ranges::{
        BUDGET_PER_SECOND, BUDGET_RATIO, CHECK_MS, DECAY_MS, FACTOR, IN_A_ROW, IN_FLIGHT, LEASE_MS,
        MAX_ANSWER_BYTES, MAX_ANSWER_HEADERS, MAX_ANSWER_STATUS, MAX_CLAIM_BYTES, MAX_ENDPOINTS,
        MAX_FALLBACK, MAX_PATH_BYTES, MIN_ANSWER_STATUS, OPEN_MS, PROBES, QUEUED, RATIO,
        REPLAY_BYTES, RETRIES, SLOW_MS, SLOW_START_FROM, SLOW_START_MS, UPSTREAM_MS, WINDOW_MS,
    },
};
use super::{RawEndpoint, RawKubernetes, RawShadow};

/// One model and how it is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Model")]
pub struct RawModel {
    /// Whether a client may name the version, in the path or in the header
    /// `x-aegis-model-version`.
    pub allow_pin: bool,
    /// Versions that answer, in this order, when the chosen one cannot. At most 8.
    #[schemars(length(max = MAX_FALLBACK))]
    pub fallback: Vec<String>,
    /// Whether a request that names its version may be answered by another one,
    /// too.
    pub pinned_fallback: bool,
    /// By what a client stays with one version while weights change; without it
    /// every request is drawn anew.
    pub sticky: RawSticky,
    /// The versions, by name. At least one. A name has 1 to 128 characters of
    /// `A-Z a-z 0-9 . _ -`.
    #[schemars(extend("propertyNames" = serde_json::json!({"pattern": NAME_PATTERN})))]
    pub versions: BTreeMap<String, RawVersion>,
    /// When an endpoint is left alone.
    pub breaker: RawBreaker,
    /// How an endpoint is chosen among those that serve.
    pub balance: RawBalance,
    /// How endpoints are asked whether they are ready.
    pub health_check: RawHealthCheck,
    /// What happens when every endpoint is full.
    pub admission: RawAdmission,
    /// What happens when an attempt fails.
    pub retry: RawRetry,
    /// How long an answer may take.
    pub timeouts: RawTimeouts,
    /// Another version that a part of the inferences is asked of too, off the
    /// clients' path, to compare the answers.
    pub shadow: RawShadow,
    /// What is answered when neither the chosen version nor its fallbacks can.
    pub static_answer: RawStaticAnswer,
}

/// One version of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Version")]
pub struct RawVersion {
    /// Its part of the traffic, in proportion to the other versions' weights.
    /// 0 takes only pinned requests and fallback. Must be given.
    #[schemars(range(min = 0.0, max = aegis_policy::split::MAX_WEIGHT))]
    pub weight: Option<f64>,
    /// Where it runs: `10.0.0.1:8000`, `[fd00::1]:8000`, or a host name, which
    /// stands for all its addresses and is resolved again and again:
    /// `pods.models.svc:8000`. With its zone:
    /// `{ address = "10.0.0.1:8000", zone = "a" }`. At least one, unless `kubernetes`
    /// says where.
    #[schemars(length(max = MAX_ENDPOINTS))]
    pub endpoints: Vec<RawEndpoint>,
    /// A Kubernetes service whose pods are its endpoints, beside those above; the pool
    /// follows its `EndpointSlice`s.
    pub kubernetes: RawKubernetes,
}

/// By what a client stays with one version: one of the three, or none. Raising a
/// weight moves only those who must move; a request without it is drawn by weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Sticky")]
pub struct RawSticky {
    /// The header whose value stands for the client; empty for none.
    pub header: String,
    /// The cookie whose value does; empty for none.
    pub cookie: String,
    /// The claim of a JSON Web Token whose value does, a text or a number; empty for
    /// none. The token's signature is not verified: the claim chooses a version, and
    /// says nothing on who may ask.
    #[schemars(length(max = MAX_CLAIM_BYTES))]
    pub jwt_claim: String,
    /// The header that carries the token, with or without `Bearer`; empty for
    /// `authorization`.
    pub jwt_header: String,
}

/// How an endpoint is chosen among those that serve: the better of two that are
/// drawn at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Balance")]
pub struct RawBalance {
    /// What is compared.
    pub by: BalanceWord,
    /// In how long the memory of a slow answer falls to 1/e, in milliseconds.
    #[schemars(range(min = DECAY_MS.min, max = DECAY_MS.max))]
    pub decay_ms: u64,
    /// Requests that may be out at one endpoint; when all are full, requests wait
    /// (`admission`). At least four times what it batches, or batching starves.
    #[schemars(range(min = IN_FLIGHT.min, max = IN_FLIGHT.max))]
    pub max_in_flight: u64,
    /// How long an endpoint takes to its full share once it is ready, and after
    /// its breaker has closed, in milliseconds; 0 gives it all at once.
    #[schemars(range(min = SLOW_START_MS.min, max = SLOW_START_MS.max))]
    pub slow_start_ms: u64,
    /// The part of its share that it begins with.
    #[schemars(range(min = SLOW_START_FROM.min, max = SLOW_START_FROM.max))]
    pub slow_start_from: f64,
}

/// What the choice between two endpoints goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalanceWord {
    /// How long a request would wait: latency times load.
    #[default]
    ExpectedWait,
    /// Requests that are out.
    LeastRequest,
    /// Nothing: one after the other.
    RoundRobin,
}

/// When an endpoint's circuit breaker opens, and how it closes again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Breaker")]
pub struct RawBreaker {
    /// Failures in a row that open it.
    #[schemars(range(min = IN_A_ROW.min, max = IN_A_ROW.max))]
    pub consecutive_failures: u64,
    /// The share of failures that opens it, of at least `min_samples` attempts.
    #[schemars(range(min = RATIO.min, max = RATIO.max))]
    pub failure_ratio: f64,
    /// Slow attempts in a row that open it.
    #[schemars(range(min = IN_A_ROW.min, max = IN_A_ROW.max))]
    pub consecutive_slow: u64,
    /// The share of slow attempts that opens it, of at least `min_samples`.
    #[schemars(range(min = RATIO.min, max = RATIO.max))]
    pub slow_ratio: f64,
    /// Attempts that a share is taken of.
    #[schemars(range(min = IN_A_ROW.min, max = IN_A_ROW.max))]
    pub min_samples: u64,
    /// The recent past that a share is taken of, in milliseconds.
    #[schemars(range(min = WINDOW_MS.min, max = WINDOW_MS.max))]
    pub window_ms: u64,
    /// How far back it looks for `min_samples` when the window holds fewer, in
    /// milliseconds, so that thin traffic trips too.
    #[schemars(range(min = WINDOW_MS.min, max = WINDOW_MS.max))]
    pub sparse_window_ms: u64,
    /// An attempt is slow when its first byte takes longer than this after the
    /// last byte of the request, in milliseconds. One that is still running
    /// counts as soon as it is older.
    #[schemars(range(min = SLOW_MS.min, max = SLOW_MS.max))]
    pub latency_threshold_ms: u64,
    /// It is also slow beyond this many times the median of the pool's other
    /// endpoints (or 1.5 times their 95th percentile, where that is more).
    #[schemars(range(min = FACTOR.min, max = FACTOR.max))]
    pub relative_factor: f64,
    /// But never under this, in milliseconds.
    #[schemars(range(min = SLOW_MS.min, max = SLOW_MS.max))]
    pub relative_floor_ms: u64,
    /// How long it stays open the first time, in milliseconds, ± 20 %; each
    /// further trip doubles it.
    #[schemars(range(min = OPEN_MS.min, max = OPEN_MS.max))]
    pub open_base_ms: u64,
    /// The longest that it stays open, in milliseconds, ± 20 %.
    #[schemars(range(min = OPEN_MS.min, max = OPEN_MS.max))]
    pub open_max_ms: u64,
    /// Probes at once, after the first has succeeded.
    #[schemars(range(min = PROBES.min, max = PROBES.max))]
    pub half_open_max_probes: u64,
    /// Probes that must succeed to close it.
    #[schemars(range(min = PROBES.min, max = PROBES.max))]
    pub half_open_successes: u64,
    /// A probe without an outcome is given up for lost after this, in milliseconds.
    #[schemars(range(min = LEASE_MS.min, max = LEASE_MS.max))]
    pub probe_lease_ms: u64,
    /// `false` is a dry run: trips are counted and shown, and nothing is ejected.
    pub enforce: bool,
}

/// How endpoints are asked whether they are ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "HealthCheck")]
pub struct RawHealthCheck {
    /// What is asked for; `{model}` and `{version}` are filled in. 200 is ready,
    /// unless a JSON body says `"loaded": false`.
    #[schemars(length(min = 1, max = MAX_PATH_BYTES))]
    pub path: String,
    /// From one check to the next, in milliseconds, ± 10 %.
    #[schemars(range(min = CHECK_MS.min, max = CHECK_MS.max))]
    pub interval_ms: u64,
    /// The longest that one check may take, in milliseconds.
    #[schemars(range(min = CHECK_MS.min, max = CHECK_MS.max))]
    pub timeout_ms: u64,
    /// Passing checks in a row that make an endpoint ready again.
    #[schemars(range(min = IN_A_ROW.min, max = IN_A_ROW.max))]
    pub healthy_after: u64,
    /// Failing checks in a row that make an endpoint not ready.
    #[schemars(range(min = IN_A_ROW.min, max = IN_A_ROW.max))]
    pub unhealthy_after: u64,
}

/// What happens when every endpoint that could answer is full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Admission")]
pub struct RawAdmission {
    /// Requests that may wait for an endpoint, the earliest deadline first; beyond,
    /// and where the deadline could not be met, the answer is 429 at once. 0 lets
    /// none wait.
    #[schemars(range(min = QUEUED.min, max = QUEUED.max))]
    pub max_queued: u64,
}

/// What happens when an attempt fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub struct RawRetry {
    /// Attempts after the first, each on another endpoint.
    #[schemars(range(min = RETRIES.min, max = RETRIES.max))]
    pub max_retries: u64,
    /// Whether a 500 is tried elsewhere too: right where inference changes
    /// nothing. 429, 502, 503 and 504 always are.
    pub on_500: bool,
    /// Retries per first attempt that there may be, over ten seconds.
    #[schemars(range(min = BUDGET_RATIO.min, max = BUDGET_RATIO.max))]
    pub budget_ratio: f64,
    /// Retries a second that there may be beside that, whatever the traffic.
    #[schemars(range(min = BUDGET_PER_SECOND.min, max = BUDGET_PER_SECOND.max))]
    pub budget_per_second: f64,
    /// The least time that an attempt gets for its first byte before another
    /// endpoint is tried, in milliseconds.
    #[schemars(range(min = SLOW_MS.min, max = SLOW_MS.max))]
    pub per_try_floor_ms: u64,
    /// An attempt gets so many times the 99th percentile of its version, and at
    /// most half of the time that is left.
    #[schemars(range(min = FACTOR.min, max = FACTOR.max))]
    pub per_try_factor: f64,
    /// Request bodies up to this are kept for a retry, in bytes; larger ones
    /// stream through, and past their first 64 KiB they are sent once.
    #[schemars(range(min = REPLAY_BYTES.min, max = REPLAY_BYTES.max))]
    pub replay_limit_bytes: u64,
}

/// How long an answer may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Timeouts")]
#[expect(clippy::struct_field_names, reason = "a wire key carries its unit")]
pub struct RawTimeouts {
    /// From the last byte of the request to the first of the answer, over all
    /// attempts, in milliseconds. A client may ask for less with
    /// `x-request-timeout-ms`, `grpc-timeout`, or `parameters.timeout` (microseconds)
    /// of an inference that is kept for a retry. What is left is passed on.
    #[schemars(range(min = UPSTREAM_MS.min, max = UPSTREAM_MS.max))]
    pub request_ms: u64,
    /// Until the connection stands, in milliseconds.
    #[schemars(range(min = UPSTREAM_MS.min, max = UPSTREAM_MS.max))]
    pub connect_ms: u64,
    /// Between any two reads of an answer that has begun, in milliseconds.
    #[schemars(range(min = UPSTREAM_MS.min, max = UPSTREAM_MS.max))]
    pub idle_ms: u64,
    /// Between any two writes of the request, in milliseconds.
    #[schemars(range(min = UPSTREAM_MS.min, max = UPSTREAM_MS.max))]
    pub write_ms: u64,
}

/// What is answered to an inference when neither the chosen version nor its
/// fallbacks can: the end of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "StaticAnswer")]
pub struct RawStaticAnswer {
    /// Its status, 200 to 599; 0 for none, where the client gets an error.
    #[schemars(extend("oneOf" = serde_json::json!([
        {"const": 0},
        {"minimum": MIN_ANSWER_STATUS, "maximum": MAX_ANSWER_STATUS},
    ])))]
    pub status: u64,
    /// Its body. At most 64 KiB; empty where the status allows none.
    #[schemars(length(max = MAX_ANSWER_BYTES))]
    pub body: String,
    /// Its headers, each as `name: value`. At most 32; none that speak of the
    /// connection or of the body's length, and none in the proxy's own name.
    #[schemars(length(max = MAX_ANSWER_HEADERS))]
    pub headers: Vec<String>,
}

// === impl RawModel ===

impl Default for RawModel {
    fn default() -> Self {
        Self {
            allow_pin: true,
            fallback: Vec::new(),
            pinned_fallback: false,
            sticky: RawSticky::default(),
            versions: BTreeMap::new(),
            breaker: RawBreaker::default(),
            balance: RawBalance::default(),
            health_check: RawHealthCheck::default(),
            admission: RawAdmission::default(),
            retry: RawRetry::default(),
            timeouts: RawTimeouts::default(),
            shadow: RawShadow::default(),
            static_answer: RawStaticAnswer::default(),
        }
    }
}

// === impl RawBalance ===

impl Default for RawBalance {
    fn default() -> Self {
        Self {
            by: BalanceWord::default(),
            decay_ms: 10_000,
            max_in_flight: 256,
            slow_start_ms: 10_000,
            slow_start_from: 0.1,
        }
    }
}

// === impl RawBreaker ===

impl Default for RawBreaker {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_ratio: 0.5,
            consecutive_slow: 5,
            slow_ratio: 0.5,
            min_samples: 20,
            window_ms: 10_000,
            sparse_window_ms: 300_000,
            latency_threshold_ms: 1_000,
            relative_factor: 3.0,
            relative_floor_ms: 50,
            open_base_ms: 5_000,
            open_max_ms: 300_000,
            half_open_max_probes: 3,
            half_open_successes: 3,
            probe_lease_ms: 30_000,
            enforce: true,
        }
    }
}

// === impl RawHealthCheck ===

impl Default for RawHealthCheck {
    fn default() -> Self {
        Self {
            path: "/v2/models/{model}/versions/{version}/ready".into(),
            interval_ms: 1_000,
            timeout_ms: 500,
            healthy_after: 2,
            unhealthy_after: 2,
        }
    }
}

// === impl RawAdmission ===

impl Default for RawAdmission {
    fn default() -> Self {
        Self { max_queued: 1_024 }
    }
}

// === impl RawRetry ===

impl Default for RawRetry {
    fn default() -> Self {
        Self {
            // Two can meet three bad pods of eight, and a client would see it.
            max_retries: 3,
            on_500: true,
            budget_ratio: 0.2,
            budget_per_second: 10.0,
            per_try_floor_ms: 50,
            per_try_factor: 3.0,
            replay_limit_bytes: 8 * 1024 * 1024,
        }
    }
}

// === impl RawTimeouts ===

impl Default for RawTimeouts {
    fn default() -> Self {
        Self {
            request_ms: 1_500,
            connect_ms: 250,
            idle_ms: 30_000,
            write_ms: 30_000,
        }
    }
}
