//! The file as TOML has it: every key optional, nothing checked but its type.
//!
//! The doc comments are the descriptions in the JSON Schema, which editors
//! show; ranges and defaults come from the same constants as the checks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    name::NAME_PATTERN,
    ranges::{
        BODY_BYTES, CHECK_MS, CLIENT_TIMEOUT_MS, CONNECTIONS, DRAIN_MS, IDLE_CONNECTIONS,
        IDLE_TIMEOUT_MS, IN_A_ROW, LEASE_MS, MAX_ENDPOINTS, MAX_FALLBACK, MAX_PATH_BYTES, OPEN_MS,
        PROBES, REPLAY_BYTES, REPLAY_MEMORY_BYTES, RETRIES, UPSTREAM_MS,
    },
};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Config")]
pub struct RawConfig {
    /// Where the proxy listens. A change needs a restart.
    pub listen: RawListen,
    /// How log lines are written, to stderr. A change needs a restart.
    pub log_format: LogFormat,
    /// How the proxy goes away after SIGTERM. A change needs a restart.
    pub drain: RawDrain,
    /// What clients can take. A change needs a restart.
    pub limits: RawLimits,
    /// Connections to endpoints that wait for the next request. A change needs a
    /// restart.
    pub upstream: RawUpstream,
    /// What is served, by model name; all of it can change while the proxy runs.
    /// At least one. A name has 1 to 128
    /// characters of `A-Z a-z 0-9 . _ -`.
    #[schemars(extend("propertyNames" = serde_json::json!({"pattern": NAME_PATTERN})))]
    pub models: BTreeMap<String, RawModel>,
}

/// Where the proxy listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Listen")]
pub struct RawListen {
    /// Address and port for clients; port 0 takes a free one.
    pub data: String,
    /// Address and port for operators: status, metrics, reload. It has no
    /// password, so keep it on loopback or inside the cluster.
    pub admin: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How the proxy goes away after SIGTERM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Drain")]
pub struct RawDrain {
    /// How long the proxy says that it is not ready and still accepts, in
    /// milliseconds: as long as the load balancer in front needs to see it.
    #[schemars(range(min = DRAIN_MS.min, max = DRAIN_MS.max))]
    pub delay_ms: u64,
    /// The longest drain in all, `delay_ms` included, in milliseconds; the
    /// proxy exits earlier when it is idle. Keep it under Kubernetes' 30 s.
    #[schemars(range(min = DRAIN_MS.min, max = DRAIN_MS.max))]
    pub grace_ms: u64,
}

/// What clients can take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub struct RawLimits {
    /// Client connections at once; further ones wait.
    #[schemars(range(min = CONNECTIONS.min, max = CONNECTIONS.max))]
    pub max_connections: u64,
    /// The longest silence of a client in the middle of a request, in milliseconds.
    #[schemars(range(min = CLIENT_TIMEOUT_MS.min, max = CLIENT_TIMEOUT_MS.max))]
    pub read_timeout_ms: u64,
    /// How long a client connection may wait for its next request, in milliseconds.
    #[schemars(range(min = CLIENT_TIMEOUT_MS.min, max = CLIENT_TIMEOUT_MS.max))]
    pub keepalive_timeout_ms: u64,
    /// The longest request body, in bytes; longer ones get 413.
    #[schemars(range(min = BODY_BYTES.min, max = BODY_BYTES.max))]
    pub max_body_bytes: u64,
    /// Memory for request bodies of over 64 KiB that are kept for a retry, over
    /// all requests, in bytes. When it is full, bodies are sent once.
    #[schemars(range(min = REPLAY_MEMORY_BYTES.min, max = REPLAY_MEMORY_BYTES.max))]
    pub replay_memory_bytes: u64,
}

/// Connections to endpoints that wait for the next request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Upstream")]
pub struct RawUpstream {
    /// How many may wait, over all endpoints.
    #[schemars(range(min = IDLE_CONNECTIONS.min, max = IDLE_CONNECTIONS.max))]
    pub max_idle_connections: u64,
    /// How long each may wait, in milliseconds. Keep it under the backend's own limit.
    #[schemars(range(min = IDLE_TIMEOUT_MS.min, max = IDLE_TIMEOUT_MS.max))]
    pub idle_timeout_ms: u64,
}

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
    /// The versions, by name. At least one. A name has 1 to 128 characters of
    /// `A-Z a-z 0-9 . _ -`.
    #[schemars(extend("propertyNames" = serde_json::json!({"pattern": NAME_PATTERN})))]
    pub versions: BTreeMap<String, RawVersion>,
    /// When an endpoint is left alone.
    pub breaker: RawBreaker,
    /// How endpoints are asked whether they are ready.
    pub health_check: RawHealthCheck,
    /// What happens when an attempt fails.
    pub retry: RawRetry,
    /// How long an endpoint may stay silent.
    pub timeouts: RawTimeouts,
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
    /// Addresses and ports where it runs: `10.0.0.1:8000` or `[fd00::1]:8000`.
    /// At least one.
    #[schemars(length(min = 1, max = MAX_ENDPOINTS))]
    pub endpoints: Vec<String>,
}

/// When an endpoint's circuit breaker opens, and how it closes again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Breaker")]
pub struct RawBreaker {
    /// Failures in a row that open it.
    #[schemars(range(min = IN_A_ROW.min, max = IN_A_ROW.max))]
    pub consecutive_failures: u64,
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

/// What happens when an attempt fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub struct RawRetry {
    /// Attempts after the first, each on another endpoint.
    #[schemars(range(min = RETRIES.min, max = RETRIES.max))]
    pub max_retries: u64,
    /// Request bodies up to this are kept for a retry, in bytes; larger ones
    /// stream through, and past their first 64 KiB they are sent once.
    #[schemars(range(min = REPLAY_BYTES.min, max = REPLAY_BYTES.max))]
    pub replay_limit_bytes: u64,
}

/// How long an endpoint may stay silent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Timeouts")]
#[expect(clippy::struct_field_names, reason = "a wire key carries its unit")]
pub struct RawTimeouts {
    /// Until the connection stands, in milliseconds.
    #[schemars(range(min = UPSTREAM_MS.min, max = UPSTREAM_MS.max))]
    pub connect_ms: u64,
    /// Until the first byte of the answer, and between any two reads, in milliseconds.
    #[schemars(range(min = UPSTREAM_MS.min, max = UPSTREAM_MS.max))]
    pub read_ms: u64,
    /// Between any two writes of the request, in milliseconds.
    #[schemars(range(min = UPSTREAM_MS.min, max = UPSTREAM_MS.max))]
    pub write_ms: u64,
}

// === impl RawListen ===

impl Default for RawListen {
    fn default() -> Self {
        Self {
            data: "127.0.0.1:8080".into(),
            admin: "127.0.0.1:9901".into(),
        }
    }
}

// === impl RawDrain ===

impl Default for RawDrain {
    fn default() -> Self {
        Self {
            delay_ms: 3_000,
            grace_ms: 25_000,
        }
    }
}

// === impl RawLimits ===

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            read_timeout_ms: 10_000,
            keepalive_timeout_ms: 60_000,
            max_body_bytes: 64 * 1024 * 1024,
            replay_memory_bytes: 256 * 1024 * 1024,
        }
    }
}

// === impl RawUpstream ===

impl Default for RawUpstream {
    fn default() -> Self {
        Self {
            max_idle_connections: 1_024,
            idle_timeout_ms: 30_000,
        }
    }
}

// === impl RawModel ===

impl Default for RawModel {
    fn default() -> Self {
        Self {
            allow_pin: true,
            fallback: Vec::new(),
            versions: BTreeMap::new(),
            breaker: RawBreaker::default(),
            health_check: RawHealthCheck::default(),
            retry: RawRetry::default(),
            timeouts: RawTimeouts::default(),
        }
    }
}

// === impl RawBreaker ===

impl Default for RawBreaker {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
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

// === impl RawRetry ===

impl Default for RawRetry {
    fn default() -> Self {
        Self {
            max_retries: 2,
            replay_limit_bytes: 8 * 1024 * 1024,
        }
    }
}

// === impl RawTimeouts ===

impl Default for RawTimeouts {
    fn default() -> Self {
        Self {
            connect_ms: 250,
            read_ms: 30_000,
            write_ms: 30_000,
        }
    }
}
