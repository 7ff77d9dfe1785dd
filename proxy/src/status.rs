//! What the proxy says of itself on `/status`: plain data, ready for JSON.
//!
//! The shapes here are a promise to whoever reads `/status`; the policy's own
//! types may change under them. Whoever runs the models implements
//! [`StatusSource`]; the admin port adds what it knows itself (reloads,
//! connections) and sends it.

mod kubernetes;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use aegis_policy::{
    BreakerState, Health, TripReason,
    status::{EndpointStatus as PolicyEndpoint, VersionStatus as PolicyVersion},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Place, Version},
    dns::HostStatus,
    kubernetes::Condition,
    pools::{Origin, Pool},
    reload::Report,
    shadow::ShadowStatus,
};

pub use kubernetes::{KubernetesStatus, ServicePool, ServiceStatus};

/// Tells the running state.
pub trait StatusSource: Send + Sync + 'static {
    /// The state at this moment. With thousands of endpoints that takes a while.
    fn running(&self) -> Running;

    /// Whether every request can be answered, and no drain is on: that nothing could be
    /// said against sending requests here, which is known at once.
    fn serves_all(&self) -> bool;
}

/// The answer to `GET /status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What runs.
    #[serde(flatten)]
    pub running: Running,
    /// Where the configuration comes from.
    pub config: ConfigStatus,
    /// Requests that are being served.
    pub in_flight: i64,
    /// Client connections that are open.
    pub connections: i64,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// The number of the running configuration; 1 is the one of the start.
    pub generation: u64,
    /// Whether the proxy is going away.
    pub draining: bool,
    /// Whether requests are to be sent here: until the first time only when every model can
    /// be answered, from then on when any can; never with a drain.
    pub ready: bool,
    /// Every model, by name.
    pub models: BTreeMap<String, ModelStatus>,
    /// The names of endpoints.
    #[serde(default)]
    pub dns: DnsStatus,
    /// The Kubernetes services of endpoints.
    #[serde(default)]
    pub kubernetes: KubernetesStatus,
}

/// What the names of endpoints stand for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DnsStatus {
    /// Every name.
    pub names: BTreeMap<String, NameStatus>,
    /// Addresses that are not used because there are too many.
    pub addresses_left_out: usize,
}

/// One name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NameStatus {
    /// How many addresses it has, those that are about to go included.
    pub addresses: usize,
    /// Those among them that the last answer lacked.
    pub missing: usize,
    /// How long ago the last answer came; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_seconds_ago: Option<f64>,
    /// Lookups that failed since.
    pub failures: u32,
    /// Why the last one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file.
    pub origin: String,
    /// The last reload that found anything new, or was asked for.
    pub last_reload: Option<Report>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Whether a request that names no version finds an endpoint that serves.
    pub ready: bool,
    /// The versions that answer when the chosen one cannot, in order.
    pub fallback: Vec<String>,
    /// Whether there is a static answer behind them.
    #[serde(default)]
    pub static_answer: bool,
    /// Requests that wait because every endpoint is full.
    #[serde(default)]
    pub queued: usize,
    /// How many may.
    #[serde(default)]
    pub max_queued: usize,
    /// What is asked beside, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowStatus>,
    /// Every version, by name.
    pub versions: BTreeMap<String, VersionStatus>,
}

/// One version of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionStatus {
    /// Its weight, as configured.
    pub weight: f64,
    /// Its part of the split, 0 to 100.
    pub share_percent: f64,
    /// The part of its endpoints that is ready and not tripped, 0 to 1.
    pub available_ratio: f64,
    /// The Kubernetes service that it is served by; none where it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServicePool>,
    /// Its pool.
    pub endpoints: Vec<EndpointStatus>,
}

/// One endpoint of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of its own in JSON"
)]
pub struct EndpointStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// The name that it is an address of, as in the file; none where the file
    /// lists the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The Kubernetes service that it is a pod of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether it is a pod that is going away, and is used because there is no other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminating: bool,
    /// Whether it is a pod that Kubernetes calls unready, and is used because all are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unready: bool,
    /// The file has it no more, and it stays until this name is first answered, or this
    /// service has given its first pod that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_for: Option<String>,
    /// Its zone, as in the file or in Kubernetes; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What active checks say.
    pub health: HealthWord,
    /// What the last check found, when it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_detail: Option<String>,
    /// Whether an operator has taken it out.
    #[serde(default)]
    pub drained: bool,
    /// Its breaker.
    pub breaker: BreakerWord,
    /// Why the breaker opened; none while it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tripped_by: Option<Trip>,
    /// How long it stays open, in seconds; none when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_for_seconds: Option<f64>,
    /// It is used although its breaker is not closed: too much of the pool is
    /// out, and no other version can take its traffic.
    #[serde(default)]
    pub protected: bool,
    /// Failures since the last answer, while closed.
    pub failures_in_a_row: u32,
    /// Slow attempts since the last success, while closed.
    #[serde(default)]
    pub slow_in_a_row: u32,
    /// The attempts that the breaker's ratios are taken of.
    #[serde(default)]
    pub recent: Recent,
    /// From how long on an attempt is slow there, and why.
    #[serde(default)]
    pub slow_beyond: SlowBeyond,
    /// The time to first byte that is expected there, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_seconds: Option<f64>,
    /// How long it is left alone because it refused work, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_for_seconds: Option<f64>,
    /// The part of its share that it takes, 0 to 1: below 1 in slow start.
    #[serde(default)]
    pub warmth: f64,
    /// Requests that are out now.
    pub in_flight: u32,
    /// Requests ever sent to it.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that took too long.
    #[serde(default)]
    pub slow: u64,
}

/// Attempts in the recent past, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// Well and in time.
    pub good: u32,
    /// Too late.
    pub slow: u32,
    /// Not at all.
    pub failed: u32,
}

/// From how long on an attempt is slow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlowBeyond {
    /// The time to first byte that is just not slow.
    pub seconds: f64,
    /// Where it comes from, in words.
    pub because: String,
}

/// The rule that opened a breaker, and its figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// The rule, as in the metrics' label `reason`.
    pub rule: String,
    /// What it saw, in words.
    pub detail: String,
}

/// What active checks say of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthWord {
    /// Not checked yet.
    Unknown,
    /// Takes traffic.
    Ready,
    /// Failed its checks.
    NotReady,
    /// Said that it is shutting down.
    Draining,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerWord {
    /// Traffic flows.
    Closed,
    /// A few probes decide.
    HalfOpen,
    /// No traffic.
    Open,
}

// === impl Running ===

impl Running {
    /// What keeps requests from being answered, one line a reason; empty when all can be.
    #[must_use]
    pub fn shortcomings(&self) -> Vec<String> {
        let draining = self.draining.then(|| "draining".to_owned());
        let models = self.models.iter().filter(|(_, model)| !model.ready);
        let mut reasons: Vec<String> = draining
            .into_iter()
            .chain(models.map(|(name, model)| model.not_ready_because(name)))
            .collect();
        // A name alone makes nothing unready; where something is, it may be why.
        if self.models.values().any(|model| !model.ready) {
            let names = self.dns.names.iter();
            reasons.extend(names.filter_map(|(name, status)| status.unanswered_because(name)));
            let services = self.kubernetes.services.iter();
            reasons.extend(services.filter_map(|(name, status)| status.unlisted_because(name)));
            let versions = self
                .models
                .values()
                .flat_map(|model| model.versions.values());
            let pools = versions.filter_map(|version| version.service.as_ref());
            reasons.extend(pools.filter_map(ServicePool::empty_because));
        }
        reasons
    }
}

// === impl NameStatus ===

impl NameStatus {
    /// Why nothing is known of the name, where nothing ever was.
    fn unanswered_because(&self, name: &str) -> Option<String> {
        if self.answered_seconds_ago.is_some() {
            return None;
        }
        let why = self.error.as_deref().unwrap_or("no answer yet");
        Some(format!("name {name} was never resolved ({why})"))
    }
}

// === impl ModelStatus ===

impl ModelStatus {
    fn not_ready_because(&self, name: &str) -> String {
        let versions: Vec<String> = self
            .versions
            .iter()
            .map(|(version, status)| {
                let all = status.endpoints.len();
                let ready = status
                    .endpoints
                    .iter()
                    .filter(|endpoint| endpoint.serves())
                    .count();
                format!("version {version}: {ready} of {all} endpoints")
            })
            .collect();
        format!("model {name} cannot be answered ({})", versions.join(", "))
    }
}

// === impl VersionStatus ===

impl VersionStatus {
    /// Says of every endpoint which name or service it comes from, and what zone it is in.
    pub fn add_origins(&mut self, pool: &Pool, version: &Version) {
        let zones = version.zones();
        let zone = |place: &Place| zones.get(place).map(ToString::to_string);
        for endpoint in &mut self.endpoints {
            match pool.get(&endpoint.address) {
                Some(Origin::Listed) => endpoint.zone = zone(&Place::Address(endpoint.address)),
                Some(Origin::Named(place)) => {
                    endpoint.name = Some(place.to_string());
                    endpoint.zone = zone(place);
                }
                Some(Origin::Pod {
                    service,
                    zone,
                    condition,
                }) => {
                    endpoint.service = Some(service.to_string());
                    endpoint.zone = zone.as_ref().map(ToString::to_string);
                    endpoint.terminating = *condition == Condition::Leaving;
                    endpoint.unready = *condition == Condition::Unready;
                }
                Some(Origin::KeptFor(place)) => endpoint.kept_for = Some(place.to_string()),
                None => {}
            }
        }
    }
}

// === impl EndpointStatus ===

impl EndpointStatus {
    /// Whether traffic goes there.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.health == HealthWord::Ready && self.breaker == BreakerWord::Closed
    }
}

impl From<&PolicyVersion> for VersionStatus {
    fn from(version: &PolicyVersion) -> Self {
        Self {
            weight: version.weight,
            share_percent: 100.0 * version.share,
            available_ratio: version.available,
            service: None,
            endpoints: version.endpoints.iter().map(EndpointStatus::from).collect(),
        }
    }
}

impl From<&PolicyEndpoint> for EndpointStatus {
    fn from(endpoint: &PolicyEndpoint) -> Self {
        Self {
            address: endpoint.address,
            name: None,
            service: None,
            terminating: false,
            unready: false,
            kept_for: None,
            zone: None,
            health: endpoint.health.into(),
            health_detail: None,
            breaker: endpoint.breaker.into(),
            tripped_by: endpoint.tripped_by.map(Trip::from),
            open_for_seconds: endpoint.open_for.as_ref().map(Duration::as_secs_f64),
            drained: endpoint.drained,
            protected: endpoint.protected,
            failures_in_a_row: endpoint.failures_in_a_row,
            slow_in_a_row: endpoint.slow_in_a_row,
            recent: Recent {
                good: endpoint.window.good,
                slow: endpoint.window.slow,
                failed: endpoint.window.failed,
            },
            slow_beyond: SlowBeyond {
                seconds: endpoint.threshold.limit.as_secs_f64(),
                because: endpoint.threshold.to_string(),
            },
            latency_seconds: endpoint.latency.as_ref().map(Duration::as_secs_f64),
            parked_for_seconds: endpoint.parked_for.as_ref().map(Duration::as_secs_f64),
            warmth: endpoint.warmth,
            in_flight: endpoint.in_flight,
            requests: endpoint.attempts,
            failures: endpoint.failures,
            slow: endpoint.slow,
        }
    }
}

impl From<&HostStatus> for NameStatus {
    fn from(host: &HostStatus) -> Self {
        Self {
            addresses: host.addresses,
            missing: host.missing,
            answered_seconds_ago: host.answered.as_ref().map(Duration::as_secs_f64),
            failures: host.failures,
            error: host.error.as_ref().map(ToString::to_string),
        }
    }
}

impl From<TripReason> for Trip {
    fn from(reason: TripReason) -> Self {
        Self {
            rule: reason.label().to_owned(),
            detail: reason.to_string(),
        }
    }
}

impl From<Health> for HealthWord {
    fn from(health: Health) -> Self {
        match health {
            Health::Unknown => Self::Unknown,
            Health::Ready => Self::Ready,
            Health::NotReady => Self::NotReady,
            Health::Draining => Self::Draining,
        }
    }
}

impl From<BreakerState> for BreakerWord {
    fn from(state: BreakerState) -> Self {
        match state {
            BreakerState::Closed => Self::Closed,
            BreakerState::HalfOpen => Self::HalfOpen,
            BreakerState::Open => Self::Open,
        }
    }
}

impl BreakerWord {
    /// The state as a gauge: 0 closed, 1 half-open, 2 open.
    #[must_use]
    pub fn gauge(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        config::{self, HostName},
        pools::Pools,
    };

    #[test]
    fn an_endpoint_says_its_zone_also_where_it_is_an_address_of_a_name() {
        let text = r#"
[models.m.versions.1]
weight = 1
endpoints = [{ address = "10.0.0.1:1", zone = "a" }, "10.0.0.2:1", { address = "pods:1", zone = "b" }]
"#;
        let config = config::parse("test.toml", text).unwrap();
        let pools = Pools::of(
            &config,
            &|_: &HostName| Some(vec![IpAddr::from([10, 0, 0, 3])]),
            None,
        );
        let endpoints = pools.addresses("m", "1");
        let mut status = VersionStatus::from(&PolicyVersion {
            name: "1".into(),
            weight: 1.0,
            share: 1.0,
            available: 1.0,
            endpoints: endpoints.into_iter().map(PolicyEndpoint::new).collect(),
        });
        let pool = pools.pool("m", "1").unwrap();
        status.add_origins(pool, &config.models["m"].versions["1"]);
        let said: Vec<_> = status
            .endpoints
            .iter()
            .map(|at| at.zone.as_deref())
            .collect();
        assert_eq!(said, [Some("a"), None, Some("b")]);
        assert_eq!(status.endpoints[2].name.as_deref(), Some("pods:1"));
        let json = serde_json::to_string(&status.endpoints[1]).unwrap();
        assert!(!json.contains("zone"), "{json}");
    }
}
