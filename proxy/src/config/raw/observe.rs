//! What is told of requests while they pass; changes only with a restart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::ranges::{
    BATCH_MS, BATCH_REQUESTS, EXPORT_TIMEOUT_MS, LOG_BUFFER_BYTES, MAX_TRUSTED, QUEUE_REQUESTS,
    SAMPLE, SLOW_REQUEST_MS,
};

/// One JSON object a line for every request. Those that end with 500 or more, that
/// the proxy refuses, that are retried, fall back or are slow are always written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "AccessLog")]
pub struct RawAccessLog {
    /// `stdout`, `stderr`, or a file that lines are added to; empty for no log. A
    /// file that is moved away or removed is made anew.
    pub path: String,
    /// The part of all other requests that is written.
    #[schemars(range(min = SAMPLE.min, max = SAMPLE.max))]
    pub sample: f64,
    /// A request that takes longer is slow, in milliseconds.
    #[schemars(range(min = SLOW_REQUEST_MS.min, max = SLOW_REQUEST_MS.max))]
    pub slow_ms: u64,
    /// Lines that wait to be written, in bytes; when they are as many, further ones
    /// are dropped and counted.
    #[schemars(range(min = LOG_BUFFER_BYTES.min, max = LOG_BUFFER_BYTES.max))]
    pub buffer_bytes: u64,
}

/// Traces (W3C Trace Context). A client's trace goes on, a new one begins where there
/// is none, and a collector is told of the requests and their attempts in those that
/// are recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Traces")]
pub struct RawTraces {
    /// The collector, which is sent OTLP over HTTP: `http://127.0.0.1:4318`. Without
    /// a path it is `/v1/traces`. Empty leaves the trace headers of clients alone.
    pub otlp_endpoint: String,
    /// The part of new traces that is recorded; for a client's, its flag decides.
    #[schemars(range(min = SAMPLE.min, max = SAMPLE.max))]
    pub sample: f64,
    /// Requests that have ended and wait to be sent; when they are as many, further
    /// ones are dropped and counted.
    #[schemars(range(min = QUEUE_REQUESTS.min, max = QUEUE_REQUESTS.max))]
    pub queue_requests: u64,
    /// The most requests that are sent at once; not above `queue_requests`.
    #[schemars(range(min = BATCH_REQUESTS.min, max = BATCH_REQUESTS.max))]
    pub batch_requests: u64,
    /// How long the first request of a batch waits for others, in milliseconds.
    #[schemars(range(min = BATCH_MS.min, max = BATCH_MS.max))]
    pub batch_interval_ms: u64,
    /// The longest that a batch may take on its way, tries included, in milliseconds.
    #[schemars(range(min = EXPORT_TIMEOUT_MS.min, max = EXPORT_TIMEOUT_MS.max))]
    pub export_timeout_ms: u64,
}

/// Other proxies in front, whose word on where a request comes from is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Forwarded")]
pub struct RawForwarded {
    /// Their networks or addresses: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`. At most
    /// 256. From all others, `X-Forwarded-*` and `Forwarded` are replaced.
    #[schemars(length(max = MAX_TRUSTED))]
    pub trusted: Vec<String>,
}

// === impl RawTraces ===

impl Default for RawTraces {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            sample: 1.0,
            queue_requests: 2_048,
            batch_requests: 512,
            batch_interval_ms: 1_000,
            export_timeout_ms: 10_000,
        }
    }
}

// === impl RawAccessLog ===

impl Default for RawAccessLog {
    fn default() -> Self {
        Self {
            path: String::new(),
            sample: 1.0,
            slow_ms: 1_000,
            buffer_bytes: 4 * 1024 * 1024,
        }
    }
}
