//! `backend.toml` as serde reads it. The comments are the descriptions in the JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// The configuration of aegis-backend.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// Address and port of the REST API, health and metrics. Port 0 takes a free one.
    pub listen: String,
    /// A second address and port, for clients that expect gRPC on a port of its own, as Triton's 8001. Both
    /// serve all of it; none, when empty.
    pub grpc_listen: String,
    /// Folder of the models, one sub-folder each: `NAME/model.toml`, `NAME/VERSION/model.pt`.
    /// Relative to this file's folder.
    pub model_repository: String,
    /// On SIGTERM, how long to answer "not ready" while still serving, in milliseconds, so that
    /// proxies turn away before anything is refused. It is waited in full, because a server cannot
    /// see who would still come; 0 where nothing probes it.
    pub drain_delay_ms: u64,
    /// The longest drain in all, in milliseconds. It ends earlier, as soon as the delay is over and
    /// nothing is in flight.
    pub grace_ms: u64,
    /// The largest body of a request, in bytes; more is answered with 413.
    pub max_body_bytes: usize,
    /// The most bytes of bodies that are being read or decoded at one time, over all connections;
    /// more are answered with 429. At least `max_body_bytes`. What a body decodes to, up to four
    /// times as many, counts towards `max_queue_bytes`.
    pub max_upload_bytes: usize,
    /// The most requests that wait for one model version; more are answered with 429.
    pub max_queue_requests: usize,
    /// The most bytes of inputs that wait for one model version; more are answered with 429. One
    /// request of any size may wait alone.
    pub max_queue_bytes: usize,
    /// The most open connections; more wait to be accepted.
    pub max_connections: usize,
    /// The longest until a new connection has sent the head of its first request, in milliseconds.
    pub header_timeout_ms: u64,
    /// The longest between the head of a request and the end of its body, in milliseconds; more is
    /// answered with 408, or with 504 where the request's deadline is earlier.
    pub body_timeout_ms: u64,
    /// The longest that a connection may be idle between two requests, in milliseconds. Keep it
    /// above that of whatever holds connections open to here.
    pub idle_timeout_ms: u64,
    /// The longest that a request may take, in milliseconds; what is not answered by then gets 504.
    /// A client can ask for less with `x-request-timeout-ms` or `parameters.timeout`.
    pub request_timeout_ms: u64,
    /// How log lines are written to stderr.
    pub log_format: LogFormat,
    /// Whether metrics are kept and told at `/metrics`. Without them that path is not there.
    pub metrics: bool,
    /// Whether a model version must be as a trusted key signed it: `required` loads no other, `warn`
    /// loads it and says so, `off` does not look. What is verified is the folder `NAME/VERSION`, by
    /// the `model.sig` in it (OpenSSF Model Signing v1.0), with a `model.toml` of its own.
    pub verify: RawVerify,
    /// Files of the public keys that are trusted, in PEM; several while one replaces another. `/health`
    /// shows which one signed, by the name of its file. Relative to this file's folder.
    pub trusted_keys: Vec<String>,
    /// The most bytes of one model version, all its files together where it is verified, else
    /// `model.pt`; one with more is not loaded.
    pub max_model_bytes: u64,
    /// The folder where archives are kept that came over HTTP, by their digests. It may be deleted
    /// whenever nothing is being fetched. Relative to this file's folder.
    pub model_cache: String,
    /// The longest that the fetch of one archive may take, over all attempts, in milliseconds.
    pub fetch_timeout_ms: u64,
    /// Whether clients may load and unload models at run time (`POST /v2/repository/models/M/load`,
    /// `/unload`): `none` or `explicit`. What is configured is loaded at the start all the same.
    pub model_control: RawModelControl,
    /// The models to serve, by the names of their folders.
    pub models: BTreeMap<String, RawModel>,
}

/// A model to serve.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawModel {
    /// The versions to serve, by the names of their folders. The first answers requests that name
    /// no version.
    pub versions: Vec<String>,
    /// Where versions come from that are not in the repository, by the names of the versions.
    pub sources: BTreeMap<String, RawSource>,
}

/// Where a version comes from: an archive of what its folder would hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSource {
    /// A tar file, packed with gzip or not: an address that begins with `http://` or `https://`, or a
    /// path, relative to this file's folder.
    pub from: String,
    /// The SHA-256 of that file. Another file is not used.
    pub sha256: String,
}

/// Whether models are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawVerify {
    /// They are not.
    #[default]
    Off,
    /// They are; one that fails is loaded all the same, logged and counted.
    Warn,
    /// They are; one that fails is not loaded.
    Required,
}

/// Whether clients may load and unload models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawModelControl {
    /// They may not.
    #[default]
    None,
    /// They may.
    Explicit,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

// === impl RawConfig ===

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8000".to_owned(),
            grpc_listen: String::new(),
            model_repository: "models".to_owned(),
            drain_delay_ms: 3_000,
            grace_ms: 25_000,
            max_body_bytes: 64 << 20,
            max_upload_bytes: 512 << 20,
            max_queue_requests: 1_024,
            max_queue_bytes: 256 << 20,
            max_connections: 8_192,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            idle_timeout_ms: 75_000,
            request_timeout_ms: 30_000,
            log_format: LogFormat::Text,
            metrics: true,
            verify: RawVerify::Off,
            trusted_keys: Vec::new(),
            max_model_bytes: 8 << 30,
            model_cache: "model-cache".to_owned(),
            fetch_timeout_ms: 600_000,
            model_control: RawModelControl::None,
            models: BTreeMap::new(),
        }
    }
}
