//! What concerns the process as a whole, and changes only with a restart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::ranges::{
    BODY_BYTES, CLIENT_TIMEOUT_MS, CONNECTIONS, DNS_TIMEOUT_MS, DRAIN_MS, FORGET_AFTER, H2_STREAMS,
    HEADER_BYTES, IDLE_CONNECTIONS, IDLE_TIMEOUT_MS, MAX_DNS_SERVERS, REPLAY_MEMORY_BYTES, TTL_MS,
};

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
    /// Requests at once on one HTTP/2 connection of a client.
    #[schemars(range(min = H2_STREAMS.min, max = H2_STREAMS.max))]
    pub max_h2_streams: u64,
    /// The longest head of a request (its line and its headers), in bytes; longer
    /// ones get 431, or 414 where the line alone is too long.
    #[schemars(range(min = HEADER_BYTES.min, max = HEADER_BYTES.max))]
    pub max_header_bytes: u64,
    /// The longest that the head of a request may take from its first byte, in
    /// milliseconds; slower ones get 408.
    #[schemars(range(min = CLIENT_TIMEOUT_MS.min, max = CLIENT_TIMEOUT_MS.max))]
    pub header_timeout_ms: u64,
    /// The longest silence of a client in the middle of a request, or of an answer
    /// that it does not take, in milliseconds.
    #[schemars(range(min = CLIENT_TIMEOUT_MS.min, max = CLIENT_TIMEOUT_MS.max))]
    pub read_timeout_ms: u64,
    /// The longest that a request's body may take in all, in milliseconds.
    #[schemars(range(min = CLIENT_TIMEOUT_MS.min, max = CLIENT_TIMEOUT_MS.max))]
    pub upload_timeout_ms: u64,
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

/// How the host names of endpoints are resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Dns")]
pub struct RawDns {
    /// Name servers by address and port; empty for those of `/etc/resolv.conf`,
    /// with its search domains.
    #[schemars(length(max = MAX_DNS_SERVERS))]
    pub servers: Vec<String>,
    /// Which addresses of a name are endpoints. Where every pod has one of each
    /// family, choose one, or every pod is there twice.
    pub families: AddressFamilies,
    /// How long a name server may take, in milliseconds; it is asked twice.
    #[schemars(range(min = DNS_TIMEOUT_MS.min, max = DNS_TIMEOUT_MS.max))]
    pub lookup_timeout_ms: u64,
    /// A name is asked for again when its TTL is over, but not before this, in
    /// milliseconds, ± 10 %. After a failure too; each further one doubles it.
    #[schemars(range(min = TTL_MS.min, max = TTL_MS.max))]
    pub min_ttl_ms: u64,
    /// And not later than this, in milliseconds, ± 10 %.
    #[schemars(range(min = TTL_MS.min, max = TTL_MS.max))]
    pub max_ttl_ms: u64,
    /// Answers in a row without an address that take it out. More than a few where
    /// the name server answers with a changing part of the addresses.
    #[schemars(range(min = FORGET_AFTER.min, max = FORGET_AFTER.max))]
    pub forget_after: u64,
}

/// Which addresses of a name are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressFamilies {
    /// All of them.
    #[default]
    Both,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
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
            max_h2_streams: 100,
            max_header_bytes: 32 * 1024,
            header_timeout_ms: 5_000,
            read_timeout_ms: 10_000,
            upload_timeout_ms: 60_000,
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

// === impl RawDns ===

impl Default for RawDns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            families: AddressFamilies::default(),
            lookup_timeout_ms: 2_000,
            min_ttl_ms: 1_000,
            max_ttl_ms: 60_000,
            forget_after: 2,
        }
    }
}
