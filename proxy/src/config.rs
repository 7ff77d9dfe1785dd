//! What the proxy is told: a TOML file, taken whole or refused whole.
//!
//! A text becomes [`RawConfig`] (any value that the TOML types allow), and that
//! becomes [`Config`], whose types cannot hold what makes no sense: an interval
//! is a [`Duration`] within its range, a name fits into a path and a label, a
//! weight is a finite number, and every fallback exists. Validation looks at the
//! final values, defaults included, and reports every fault with key path and
//! line.
//!
//! All of `[models]` can change while the proxy runs. Everything else is bound at
//! start (see [`reload`]): a file that changes it is refused whole, since taking
//! the rest would leave the running configuration different from every file.

mod diff;
mod effective;
mod endpoint;
mod fixed;
mod leaves;
mod name;
mod observe;
mod place;
mod policy;
mod ranges;
mod raw;
mod service;
mod validate;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, StatusCode};

pub use aegis_config::Rejected;
pub use name::{MAX_NAME_BYTES, Name, NameError};
pub use observe::{AccessLog, Forwarded, LogTarget, Traces};
pub use place::{HostName, HostNameError, Place};
pub use ranges::MAX_ENDPOINTS;
pub use raw::{AddressFamilies, BalanceWord, LogFormat, RawConfig};
pub use service::{Label, LabelError, ServiceName, ServicePort};
pub(crate) use validate::is_itself;

/// A configuration that is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the proxy listens.
    pub listen: Listen,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// One line for every request.
    pub access_log: AccessLog,
    /// Who is told of the traces that requests are a part of.
    pub traces: Traces,
    /// Other proxies in front.
    pub forwarded: Forwarded,
    /// How the proxy goes away.
    pub drain: Drain,
    /// What one client, or all of them, can take.
    pub limits: Limits,
    /// Connections to endpoints that wait for the next request.
    pub upstream: Upstream,
    /// How the names of endpoints are resolved.
    pub dns: Dns,
    /// How the Kubernetes API server is asked.
    pub kubernetes: Kubernetes,
    /// What is served; at least one.
    pub models: BTreeMap<Name, Model>,
}

/// Where the proxy listens; bound at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For clients.
    pub data: SocketAddr,
    /// For operators; never the same as `data`.
    pub admin: SocketAddr,
}

/// How the proxy goes away after SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Not ready, but still accepting: as long as load balancers need to see it.
    pub delay: Duration,
    /// The longest drain in all, `delay` included.
    pub grace: Duration,
}

/// Bounds on what clients can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at once.
    pub max_connections: NonZeroU32,
    /// Requests at once on one HTTP/2 connection.
    pub max_h2_streams: NonZeroU32,
    /// The longest head of a request.
    pub max_header_bytes: NonZeroU32,
    /// The longest that a head may take from its first byte.
    pub header_timeout: Duration,
    /// The longest silence of a client in the middle of a request, or of an answer
    /// that it does not take.
    pub read_timeout: Duration,
    /// The longest that a request's body may take in all.
    pub upload_timeout: Duration,
    /// A client connection without a request is closed after this.
    pub keepalive_timeout: Duration,
    /// The longest request body.
    pub max_body_bytes: u64,
    /// Bodies kept for a retry, over all requests.
    pub replay_memory_bytes: u64,
}

/// Connections to endpoints that wait for the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// How many may wait, over all endpoints.
    pub max_idle_connections: NonZeroU32,
    /// How long each may wait.
    pub idle_timeout: Duration,
}

/// How the names of endpoints are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Who is asked; empty for those that the system names.
    pub servers: Vec<SocketAddr>,
    /// Which addresses of a name are endpoints.
    pub families: AddressFamilies,
    /// How long one question may take.
    pub lookup_timeout: Duration,
    /// The shortest time until a name is asked for again, whatever its TTL; also
    /// the first one after a failure.
    pub min_ttl: Duration,
    /// The longest; not below `min_ttl`.
    pub max_ttl: Duration,
    /// Answers in a row without an address that take it out.
    pub forget_after: NonZeroU32,
}

/// How the Kubernetes API server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// Who it is and with what credentials; none for what a pod is given.
    pub kubeconfig: Option<PathBuf>,
    /// How long it may take to answer.
    pub api_timeout: Duration,
    /// A watch is asked for again after this.
    pub renew_after: Duration,
    /// The first wait after a failure; doubles with each further one.
    pub retry_base: Duration,
    /// The longest; not below `retry_base`.
    pub retry_max: Duration,
}

/// One model and how it is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Whether a client may name the version.
    pub allow_pin: bool,
    /// What answers when the chosen version cannot, in order; all are in `versions`.
    pub fallback: Vec<Name>,
    /// Whether a request that names its version may be answered by another.
    pub pinned_fallback: bool,
    /// By what a client stays with one version; none draws for every request.
    pub sticky: Option<Sticky>,
    /// At least one, of which at least one has a weight above 0.
    pub versions: BTreeMap<Name, Version>,
    /// When an endpoint is left alone.
    pub breaker: Breaker,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// How endpoints are asked whether they are ready.
    pub health_check: HealthCheck,
    /// What happens when every endpoint is full.
    pub admission: Admission,
    /// What happens when an attempt fails.
    pub retry: Retry,
    /// How long an answer may take.
    pub timeouts: Timeouts,
    /// What is asked beside; none for nothing.
    pub shadow: Option<Shadow>,
    /// What is answered when no version can; none where that is an error.
    pub static_answer: Option<Arc<StaticAnswer>>,
}

/// One version of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Its part of the split, proportional; finite and not negative.
    pub weight: f64,
    /// Where it runs; at least one, each place once.
    pub endpoints: Vec<Endpoint>,
}

/// Where a version runs, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// One address, or all those of a name or of a service.
    pub place: Place,
    /// What it would go down with: a label for people, and for faults in simulations.
    /// Nothing is chosen by it. Pods of a service have theirs from Kubernetes.
    pub zone: Option<Name>,
}

/// By what a client stays with one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// The value of this header.
    Header(HeaderName),
    /// The value of this cookie.
    Cookie(String),
    /// A claim of the token that this header carries; its signature is not verified.
    Jwt {
        /// The header.
        header: HeaderName,
        /// The claim's name.
        claim: String,
    },
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// What is compared.
    pub by: BalanceWord,
    /// In how long the memory of a slow answer fades.
    pub decay: Duration,
    /// Requests that may be out at one endpoint.
    pub max_in_flight: NonZeroU32,
    /// How long an endpoint takes to its full share.
    pub slow_start: Duration,
    /// The part of its share that it begins with.
    pub slow_start_from: f64,
}

/// When an endpoint's circuit breaker opens, and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Failures in a row that open it.
    pub consecutive_failures: NonZeroU32,
    /// The share of failures that opens it.
    pub failure_ratio: f64,
    /// Slow attempts in a row that open it.
    pub consecutive_slow: NonZeroU32,
    /// The share of slow attempts that opens it.
    pub slow_ratio: f64,
    /// Attempts that a share is taken of.
    pub min_samples: NonZeroU32,
    /// The recent past that a share is taken of.
    pub window: Duration,
    /// How far back it looks when that holds too few; not below `window`.
    pub sparse_window: Duration,
    /// An attempt is slow beyond this.
    pub latency_threshold: Duration,
    /// And beyond this many times what its peers take.
    pub relative_factor: f64,
    /// But never under this.
    pub relative_floor: Duration,
    /// The first time in open; doubles with each trip.
    pub open_base: Duration,
    /// The longest time in open; not below `open_base`.
    pub open_max: Duration,
    /// Probes at once in half-open.
    pub half_open_max_probes: NonZeroU32,
    /// Probes that must succeed to close it.
    pub half_open_successes: NonZeroU32,
    /// A probe without an outcome is lost after this.
    pub probe_lease: Duration,
    /// False counts and shows, and ejects nothing.
    pub enforce: bool,
}

/// How endpoints are asked whether they are ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for, with `{model}` and `{version}` to be filled in.
    pub path: String,
    /// From one check to the next, ± 10 %.
    pub interval: Duration,
    /// The longest that one check may take.
    pub timeout: Duration,
    /// Passing checks in a row that make an endpoint ready.
    pub healthy_after: NonZeroU32,
    /// Failing checks in a row that make it not ready.
    pub unhealthy_after: NonZeroU32,
}

/// What happens when every endpoint that could answer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Requests that may wait; 0 lets none.
    pub max_queued: u32,
}

/// What happens when an attempt fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Attempts after the first.
    pub max_retries: u32,
    /// Whether a 500 is tried elsewhere too.
    pub on_500: bool,
    /// Retries per first attempt, over ten seconds.
    pub budget_ratio: f64,
    /// And so many a second whatever the traffic.
    pub budget_per_second: f64,
    /// The least time that an attempt gets before it is tried elsewhere.
    pub per_try_floor: Duration,
    /// An attempt gets so many times its pool's 99th percentile.
    pub per_try_factor: f64,
    /// Larger request bodies are sent once.
    pub replay_limit_bytes: u64,
}

/// A version that part of the inferences is asked of too, to compare the answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// The version; one of the model's.
    pub version: Name,
    /// Of how many in a hundred; above 0.
    pub percent: f64,
    /// Longer bodies are not kept.
    pub max_kept_bytes: u64,
    /// Requests that are kept or out at once.
    pub max_at_once: NonZeroU32,
    /// How long its answer may take.
    pub answer_timeout: Duration,
    /// How far two numbers may be apart, in parts of the primary's.
    pub rtol: f64,
    /// And beside that.
    pub atol: f64,
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request's last byte to the first byte of the answer, over all
    /// attempts.
    pub request: Duration,
    /// Until the connection stands.
    pub connect: Duration,
    /// Between any two reads of an answer that has begun.
    pub idle: Duration,
    /// Between any two writes of the request.
    pub write: Duration,
}

/// Reads a text.
///
/// `origin` is the file's name in messages.
///
/// # Errors
///
/// [`Rejected`], with every fault.
pub fn parse(origin: &str, text: &str) -> Result<Config, Rejected> {
    aegis_config::load(origin, text, |raw: RawConfig, faults| {
        validate::config(&raw, faults)
    })
}

/// Reads a text that is to replace a running configuration.
///
/// # Errors
///
/// As [`parse`]; also when it changes what is bound at start, which is
/// everything outside `[models]`.
pub fn reload(origin: &str, text: &str, running: &Config) -> Result<Config, Rejected> {
    aegis_config::load(origin, text, |raw: RawConfig, faults| {
        let config = validate::config(&raw, faults)?;
        fixed::check(running, &config, faults);
        Some(config)
    })
}

/// The JSON Schema of the file, as shipped in `config/proxy.schema.json`.
#[must_use]
pub fn schema() -> String {
    aegis_config::schema::<RawConfig>("aegis-proxy configuration")
}

/// An answer that no endpoint gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticAnswer {
    /// Its status; not informational.
    pub status: StatusCode,
    /// Its headers, in the order of the file; none that the proxy writes itself.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body; empty where the status allows none.
    pub body: String,
}

// === impl Config ===

impl Config {
    /// What a change from `old` to this means, one line a fact, in words for
    /// the audit log; empty when nothing changes.
    #[must_use]
    pub fn diff(&self, old: &Self) -> Vec<String> {
        diff::lines(old, self)
    }

    /// How many (version, endpoint) pairs there are, a name or a service counting as one.
    #[must_use]
    pub fn endpoint_count(&self) -> usize {
        self.places().count()
    }

    /// The host names among the endpoints, each once.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<&HostName> {
        self.places().filter_map(Place::host).collect()
    }

    /// The Kubernetes services among the endpoints, each once.
    #[must_use]
    pub fn services(&self) -> BTreeSet<&ServiceName> {
        let services = self.places().filter_map(Place::service);
        services.map(|(service, _)| service).collect()
    }

    /// Every place of every version.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        let versions = self
            .models
            .values()
            .flat_map(|model| model.versions.values());
        versions.flat_map(Version::places)
    }
}

// === impl Model ===

impl Model {
    /// The part of the split that goes to `version`, from 0 to 1.
    #[must_use]
    pub fn share(&self, version: &str) -> f64 {
        let sum: f64 = self.versions.values().map(|version| version.weight).sum();
        self.versions
            .get(version)
            .map_or(0.0, |version| version.weight / sum)
    }
}

// === impl Version ===

impl Version {
    /// Where it runs.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.endpoints.iter().map(|endpoint| &endpoint.place)
    }

    /// The zones of those places that have one.
    #[must_use]
    pub fn zones(&self) -> HashMap<&Place, &Name> {
        let endpoints = self.endpoints.iter();
        let zoned = endpoints.filter_map(|at| Some((&at.place, at.zone.as_ref()?)));
        zoned.collect()
    }
}

// === impl HealthCheck ===

impl HealthCheck {
    /// The path to ask for, for one version.
    #[must_use]
    pub fn path_for(&self, model: &str, version: &str) -> String {
        self.path
            .replace("{model}", model)
            .replace("{version}", version)
    }
}
