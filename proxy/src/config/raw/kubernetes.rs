//! Kubernetes: whose pods a version runs in, and how the API server is asked.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Unexpected, Visitor},
};

use super::super::ranges::{KUBE_RENEW_MS, KUBE_REQUEST_MS, KUBE_RETRY_MS};

/// What a name in Kubernetes is made of; empty for none.
const LABEL_PATTERN: &str = "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$";

/// How the Kubernetes API server is asked, where a version's endpoints are those of a
/// service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "KubernetesApi")]
pub struct RawKubernetesApi {
    /// A kubeconfig file, for outside a cluster. Empty inside: the pod's service
    /// account is used, and where there is none, `$KUBECONFIG` or `~/.kube/config`.
    pub kubeconfig: String,
    /// How long the API server may take to answer, in milliseconds.
    #[schemars(range(min = KUBE_REQUEST_MS.min, max = KUBE_REQUEST_MS.max))]
    pub api_timeout_ms: u64,
    /// A watch is asked for again after this, in milliseconds, ± 10 %; one that has
    /// died in silence is found out `api_timeout_ms` later at the latest.
    #[schemars(range(min = KUBE_RENEW_MS.min, max = KUBE_RENEW_MS.max))]
    pub renew_after_ms: u64,
    /// The first wait after a failure, in milliseconds, ± 50 %; each further one
    /// doubles it.
    #[schemars(range(min = KUBE_RETRY_MS.min, max = KUBE_RETRY_MS.max))]
    pub retry_base_ms: u64,
    /// The longest wait between two tries, in milliseconds, ± 50 %.
    #[schemars(range(min = KUBE_RETRY_MS.min, max = KUBE_RETRY_MS.max))]
    pub retry_max_ms: u64,
}

/// The Kubernetes service whose pods are endpoints of the version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Kubernetes")]
pub struct RawKubernetes {
    /// Its name; empty for none.
    #[schemars(regex(pattern = LABEL_PATTERN))]
    pub service: String,
    /// Its namespace; empty for the one that the proxy is in.
    #[schemars(regex(pattern = LABEL_PATTERN))]
    pub namespace: String,
    /// The port's name in the service, or the number that pods listen on (not the
    /// service's own); empty where the service has only one.
    pub port: RawPort,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Port")]
pub enum RawPort {
    /// By its name.
    Name(#[schemars(regex(pattern = LABEL_PATTERN))] String),
    /// By its number.
    Number(#[schemars(range(min = 1, max = 65_535))] u64),
}

/// Takes either.
struct Either;

// === impl RawKubernetesApi ===

impl Default for RawKubernetesApi {
    fn default() -> Self {
        Self {
            kubeconfig: String::new(),
            api_timeout_ms: 10_000,
            renew_after_ms: 60_000,
            retry_base_ms: 500,
            retry_max_ms: 30_000,
        }
    }
}

// === impl RawPort ===

impl Default for RawPort {
    fn default() -> Self {
        Self::Name(String::new())
    }
}

impl<'de> Deserialize<'de> for RawPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

impl Visitor<'_> for Either {
    type Value = RawPort;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a port or its number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawPort, E> {
        Ok(RawPort::Name(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<RawPort, E> {
        Ok(RawPort::Number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<RawPort, E> {
        let number = u64::try_from(number)
            .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
        self.visit_u64(number)
    }
}
