//! What decisions are taken by, from what the file says.

use std::net::SocketAddr;

use aegis_policy::{
    BalanceBy, BalanceConfig, BreakerConfig, BudgetConfig, ConfigError, HealthConfig, ModelConfig,
    RetryConfig, Rules, VersionConfig,
};

use super::{Balance, BalanceWord, Breaker, HealthCheck, Model, Name, Retry};

// === impl Model ===

impl Model {
    /// What decisions about it depend on; `endpoints` says where each version
    /// runs at present.
    ///
    /// # Errors
    /// For no model that came out of [`parse`](super::parse) and endpoints that
    /// are each there once: both sides state the same rules, and a test holds
    /// them together.
    pub fn decided_by(
        &self,
        endpoints: impl Fn(&Name) -> Vec<SocketAddr>,
    ) -> Result<ModelConfig, ConfigError> {
        let versions = self.versions.iter().map(|(name, version)| VersionConfig {
            name: name.to_arc(),
            weight: version.weight,
            endpoints: endpoints(name),
        });
        ModelConfig::new(versions.collect(), &self.fallback, self.rules())
    }

    /// What its endpoints are judged and chosen by.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            breaker: (&self.breaker).into(),
            health: (&self.health_check).into(),
            balance: (&self.balance).into(),
            retry: (&self.retry).into(),
            pinned_fallback: self.pinned_fallback,
            max_queued: self.admission.max_queued as usize,
            static_answer: self.static_answer.is_some(),
        }
    }
}

impl From<&Breaker> for BreakerConfig {
    fn from(breaker: &Breaker) -> Self {
        Self {
            consecutive_failures: breaker.consecutive_failures.get(),
            failure_ratio: breaker.failure_ratio,
            consecutive_slow: breaker.consecutive_slow.get(),
            slow_ratio: breaker.slow_ratio,
            min_samples: breaker.min_samples.get(),
            window: breaker.window,
            sparse_window: breaker.sparse_window,
            latency_threshold: breaker.latency_threshold,
            relative_factor: breaker.relative_factor,
            relative_floor: breaker.relative_floor,
            open_base: breaker.open_base,
            open_max: breaker.open_max,
            half_open_max_probes: breaker.half_open_max_probes.get(),
            half_open_successes: breaker.half_open_successes.get(),
            probe_lease: breaker.probe_lease,
            enforce: breaker.enforce,
        }
    }
}

impl From<&Balance> for BalanceConfig {
    fn from(balance: &Balance) -> Self {
        Self {
            by: match balance.by {
                BalanceWord::ExpectedWait => BalanceBy::ExpectedWait,
                BalanceWord::LeastRequest => BalanceBy::LeastRequest,
                BalanceWord::RoundRobin => BalanceBy::RoundRobin,
            },
            decay: balance.decay,
            max_in_flight: balance.max_in_flight.get(),
            slow_start: balance.slow_start,
            slow_start_from: balance.slow_start_from,
        }
    }
}

impl From<&Retry> for RetryConfig {
    fn from(retry: &Retry) -> Self {
        Self {
            budget: BudgetConfig {
                ratio: retry.budget_ratio,
                per_second: retry.budget_per_second,
            },
            per_try_floor: retry.per_try_floor,
            per_try_factor: retry.per_try_factor,
        }
    }
}

impl From<&HealthCheck> for HealthConfig {
    fn from(check: &HealthCheck) -> Self {
        Self {
            healthy_after: check.healthy_after.get(),
            unhealthy_after: check.unhealthy_after.get(),
        }
    }
}
