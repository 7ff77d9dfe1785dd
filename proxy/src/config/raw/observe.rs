//! What is told of requests while they pass; changes only with a restart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::ranges::{LOG_BUFFER_BYTES, MAX_TRUSTED, SAMPLE, SLOW_REQUEST_MS};

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
