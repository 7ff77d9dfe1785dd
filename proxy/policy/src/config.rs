//! What decisions are taken by: one model's versions, weights and limits.
//!
//! These are the policy's own types, valid by construction. The proxy's TOML is
//! another thing, with faults by key path; it is turned into these once it is
//! valid, and a simulation or a test builds them directly.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    budget::BudgetConfig,
    health::Thresholds,
    split::{Split, SplitError},
    sticky,
    window::Span,
};

/// When a breaker trips, for how long, and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerConfig {
    /// Failures in a row that open it (at least 1).
    pub consecutive_failures: u32,
    /// The share of failures that opens it, of at least `min_samples` (above 0, at most 1).
    pub failure_ratio: f64,
    /// Slow attempts in a row that open it (at least 1).
    pub consecutive_slow: u32,
    /// The share of slow attempts that opens it, of at least `min_samples`
    /// (above 0, at most 1).
    pub slow_ratio: f64,
    /// Attempts that a share is taken of (at least 1).
    pub min_samples: u32,
    /// The recent past that a share is taken of.
    pub window: Duration,
    /// How far back a share looks for `min_samples` when the window holds fewer.
    pub sparse_window: Duration,
    /// An attempt is slow beyond this, whatever the others do.
    pub latency_threshold: Duration,
    /// And beyond this many times the median of the pool's other endpoints
    /// (at least 1).
    pub relative_factor: f64,
    /// But never under this.
    pub relative_floor: Duration,
    /// The first time in open; each further trip doubles it.
    pub open_base: Duration,
    /// The longest time in open, before jitter.
    pub open_max: Duration,
    /// Probes at once in half-open, after the first has succeeded (at least 1).
    pub half_open_max_probes: u32,
    /// Probes that must succeed to close it (at least 1).
    pub half_open_successes: u32,
    /// After this a probe without an outcome is given up for lost.
    pub probe_lease: Duration,
    /// False is a dry run: counted and shown, nothing taken out.
    pub enforce: bool,
}

/// How an endpoint is chosen among those that serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BalanceConfig {
    /// What is compared.
    pub by: BalanceBy,
    /// In how long the memory of a slow answer falls to 1/e (above 0).
    pub decay: Duration,
    /// Requests that may be out at one endpoint (at least 1).
    pub max_in_flight: u32,
    /// How long an endpoint takes to its full share, once it is ready and after
    /// its breaker has closed; 0 gives it its share at once.
    pub slow_start: Duration,
    /// The part of its share that it begins with (0.01 to 1).
    pub slow_start_from: f64,
}

/// What the choice between two endpoints goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BalanceBy {
    /// How long a request would wait there: latency times load.
    #[default]
    ExpectedWait,
    /// Requests that are out there.
    LeastRequest,
    /// Nothing: one after the other.
    RoundRobin,
}

/// How failed attempts are followed by others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryConfig {
    /// How many retries there may be in all.
    pub budget: BudgetConfig,
    /// The least time that an attempt gets before it is rescued.
    pub per_try_floor: Duration,
    /// An attempt gets so many times its pool's 99th percentile (at least 1).
    pub per_try_factor: f64,
}

/// What every endpoint of a model is judged and chosen by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rules {
    /// When an endpoint is left alone.
    pub breaker: BreakerConfig,
    /// When active checks change an endpoint's health.
    pub health: HealthConfig,
    /// Which endpoint is chosen.
    pub balance: BalanceConfig,
    /// What follows a failed attempt.
    pub retry: RetryConfig,
    /// How many requests may wait while every endpoint is full; 0 lets none wait.
    pub max_queued: usize,
    /// Whether a request that names its version may be answered by another.
    pub pinned_fallback: bool,
    /// Whether a static answer stands at the end of the fallback chain.
    pub static_answer: bool,
}

/// When active checks change an endpoint's health.
pub type HealthConfig = Thresholds;

/// One version of a model and where it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionConfig {
    /// The version's name, as in `/v2/models/M/versions/NAME`.
    pub name: Arc<str>,
    /// Its part of the split, proportional; 0 takes no split traffic.
    pub weight: f64,
    /// Its pool; empty while nobody knows where it runs.
    pub endpoints: Vec<SocketAddr>,
}

/// All that decisions about one model depend on.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    pub(crate) versions: Vec<VersionConfig>,
    pub(crate) split: Split,
    /// The hash of each version's name, for sticky clients.
    pub(crate) names: Vec<u64>,
    pub(crate) fallback: Vec<usize>,
    pub(crate) rules: Rules,
}

/// Why a model's configuration makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The weights make no split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Two versions have one name.
    #[error("version {name:?} is there twice")]
    DuplicateVersion {
        /// The name.
        name: Arc<str>,
    },
    /// A version has one endpoint twice.
    #[error("version {name:?} has endpoint {address} twice")]
    DuplicateEndpoint {
        /// The version.
        name: Arc<str>,
        /// The endpoint.
        address: SocketAddr,
    },
    /// The fallback chain names a version that is not there.
    #[error("fallback version {name:?} is not one of the versions")]
    UnknownFallback {
        /// The name.
        name: String,
    },
    /// A number is not in its range.
    #[error("{what} must be from {min} to {max}, got {value}")]
    OutOfRange {
        /// Which one.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The least that it may be.
        min: f64,
        /// The most.
        max: f64,
    },
    /// A count or a time that must be above 0 is 0.
    #[error("{what} must be above 0")]
    Zero {
        /// Which one.
        what: &'static str,
    },
}

// === impl BreakerConfig ===

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_ratio: 0.5,
            consecutive_slow: 5,
            slow_ratio: 0.5,
            min_samples: 20,
            window: Duration::from_secs(10),
            sparse_window: Duration::from_mins(5),
            latency_threshold: Duration::from_secs(1),
            relative_factor: 3.0,
            relative_floor: Duration::from_millis(50),
            open_base: Duration::from_secs(5),
            open_max: Duration::from_mins(5),
            half_open_max_probes: 3,
            half_open_successes: 3,
            probe_lease: Duration::from_secs(30),
            enforce: true,
        }
    }
}

impl BreakerConfig {
    /// Probes that may be out at once after `successes` of them: one until the
    /// first has succeeded.
    pub(crate) fn probes_at(&self, successes: u32) -> usize {
        if successes == 0 {
            1
        } else {
            self.half_open_max_probes as usize
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (value, what) in [
            (self.consecutive_failures, "consecutive_failures"),
            (self.consecutive_slow, "consecutive_slow"),
            (self.min_samples, "min_samples"),
            (self.half_open_max_probes, "half_open_max_probes"),
            (self.half_open_successes, "half_open_successes"),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero { what });
            }
        }
        within("failure_ratio", self.failure_ratio, f64::MIN_POSITIVE, 1.0)?;
        within("slow_ratio", self.slow_ratio, f64::MIN_POSITIVE, 1.0)?;
        within("relative_factor", self.relative_factor, 1.0, 1e6)
    }

    pub(crate) fn span(&self) -> Span {
        Span {
            window: self.window,
            reach: self.sparse_window.max(self.window),
            min_samples: self.min_samples,
        }
    }
}

// === impl BalanceConfig ===

impl Default for BalanceConfig {
    fn default() -> Self {
        Self {
            by: BalanceBy::ExpectedWait,
            decay: Duration::from_secs(10),
            max_in_flight: 256,
            slow_start: Duration::from_secs(10),
            slow_start_from: 0.1,
        }
    }
}

impl BalanceConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if self.max_in_flight == 0 {
            let what = "max_in_flight";
            return Err(ConfigError::Zero { what });
        }
        if self.decay.is_zero() {
            return Err(ConfigError::Zero { what: "decay" });
        }
        within("slow_start_from", self.slow_start_from, 0.01, 1.0)
    }
}

// === impl RetryConfig ===

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            budget: BudgetConfig::default(),
            per_try_floor: Duration::from_millis(50),
            per_try_factor: 3.0,
        }
    }
}

impl RetryConfig {
    fn check(&self) -> Result<(), ConfigError> {
        within("budget.ratio", self.budget.ratio, 0.0, 10.0)?;
        within("budget.per_second", self.budget.per_second, 0.0, 1e6)?;
        within("per_try_factor", self.per_try_factor, 1.0, 1e6)
    }
}

fn within(what: &'static str, value: f64, min: f64, max: f64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        let error = ConfigError::OutOfRange {
            what,
            value,
            min,
            max,
        };
        Err(error)
    }
}

// === impl HealthConfig ===

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            healthy_after: 2,
            unhealthy_after: 2,
        }
    }
}

// === impl ModelConfig ===

impl ModelConfig {
    /// Takes a model's versions and its fallback chain, in order.
    ///
    /// # Errors
    /// Refuses what [`ConfigError`] names.
    pub fn new<S: AsRef<str>>(
        versions: Vec<VersionConfig>,
        fallback: &[S],
        rules: Rules,
    ) -> Result<Self, ConfigError> {
        let split = Split::new(versions.iter().map(|v| v.weight).collect())?;
        let mut names = HashSet::new();
        for version in &versions {
            if !names.insert(&version.name) {
                let name = Arc::clone(&version.name);
                return Err(ConfigError::DuplicateVersion { name });
            }
            version.check()?;
        }
        rules.breaker.check()?;
        rules.balance.check()?;
        rules.retry.check()?;
        let fallback = fallback
            .iter()
            .map(|name| index_of(&versions, name.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            names: versions
                .iter()
                .map(|v| sticky::hash(v.name.as_bytes()))
                .collect(),
            versions,
            split,
            fallback,
            rules,
        })
    }
}

fn index_of(versions: &[VersionConfig], name: &str) -> Result<usize, ConfigError> {
    versions
        .iter()
        .position(|v| &*v.name == name)
        .ok_or_else(|| ConfigError::UnknownFallback { name: name.into() })
}

// === impl VersionConfig ===

impl VersionConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        match self.endpoints.iter().find(|a| !seen.insert(**a)) {
            None => Ok(()),
            Some(&address) => Err(ConfigError::DuplicateEndpoint {
                name: Arc::clone(&self.name),
                address,
            }),
        }
    }
}
