//! The file as TOML has it: every key optional, nothing checked but its type.
//!
//! The doc comments are the descriptions in the JSON Schema, which editors
//! show; ranges and defaults come from the same constants as the checks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::NAME_PATTERN;

mod endpoint;
mod kubernetes;
mod model;
mod observe;
mod process;
mod shadow;

pub(super) use endpoint::*;
pub(super) use kubernetes::*;
pub use model::*;
pub(super) use observe::*;
pub use process::*;
pub(super) use shadow::RawShadow;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Config")]
pub struct RawConfig {
    /// Where the proxy listens. A change needs a restart.
    pub listen: RawListen,
    /// How log lines are written, to stderr. A change needs a restart.
    pub log_format: LogFormat,
    /// One JSON object a line for every request. A change needs a restart.
    pub access_log: RawAccessLog,
    /// Who is told of the traces that requests are a part of. A change needs a
    /// restart.
    pub traces: RawTraces,
    /// Other proxies in front. A change needs a restart.
    pub forwarded: RawForwarded,
    /// How the proxy goes away after SIGTERM. A change needs a restart.
    pub drain: RawDrain,
    /// What clients can take. A change needs a restart.
    pub limits: RawLimits,
    /// Connections to endpoints that wait for the next request. A change needs a
    /// restart.
    pub upstream: RawUpstream,
    /// How the host names of endpoints are resolved. A change needs a restart.
    pub dns: RawDns,
    /// How the Kubernetes API server is asked for the endpoints of services. A change
    /// needs a restart.
    pub kubernetes: RawKubernetesApi,
    /// What is served, by model name; all of it can change while the proxy runs.
    /// At least one. A name has 1 to 128
    /// characters of `A-Z a-z 0-9 . _ -`.
    #[schemars(extend("propertyNames" = serde_json::json!({"pattern": NAME_PATTERN})))]
    pub models: BTreeMap<String, RawModel>,
}
