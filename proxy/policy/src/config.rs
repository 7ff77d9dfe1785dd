//! What decisions are taken by: one model's versions, weights and limits.
//!
//! These are the policy's own types, valid by construction. The proxy's TOML is
//! another thing, with faults by key path; it is turned into these once it is
//! valid, and a simulation or a test builds them directly.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    health::Thresholds,
    split::{Split, SplitError},
};

/// When a breaker trips, for how long, and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerConfig {
    /// Failures in a row that open it (at least 1).
    pub consecutive_failures: u32,
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

/// When active checks change an endpoint's health.
pub type HealthConfig = Thresholds;

/// One version of a model and where it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionConfig {
    /// The version's name, as in `/v2/models/M/versions/NAME`.
    pub name: Arc<str>,
    /// Its part of the split, proportional; 0 takes no split traffic.
    pub weight: f64,
    /// Its pool.
    pub endpoints: Vec<SocketAddr>,
}

/// All that decisions about one model depend on.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    pub(crate) versions: Vec<VersionConfig>,
    pub(crate) split: Split,
    pub(crate) fallback: Vec<usize>,
    pub(crate) breaker: BreakerConfig,
    pub(crate) health: HealthConfig,
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
    /// A version runs nowhere.
    #[error("version {name:?} has no endpoint")]
    NoEndpoint {
        /// The version.
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
    /// A count that must be at least 1 is 0.
    #[error("{what} must be at least 1")]
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
            (self.half_open_max_probes, "half_open_max_probes"),
            (self.half_open_successes, "half_open_successes"),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero { what });
            }
        }
        Ok(())
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
        breaker: BreakerConfig,
        health: HealthConfig,
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
        breaker.check()?;
        let fallback = fallback
            .iter()
            .map(|name| index_of(&versions, name.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            versions,
            split,
            fallback,
            breaker,
            health,
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
        if self.endpoints.is_empty() {
            let name = Arc::clone(&self.name);
            return Err(ConfigError::NoEndpoint { name });
        }
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
