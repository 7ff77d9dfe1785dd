//! What decisions are taken by, from what the file says.

use aegis_policy::{
    BalanceBy, BalanceConfig, BreakerConfig, BudgetConfig, ConfigError, HealthConfig, ModelConfig,
    RetryConfig, Rules, VersionConfig,
};

use super::{Balance, BalanceWord, Breaker, HealthCheck, Model, Name, Retry, Version};

/// Fails for no model that came out of [`parse`](super::parse): both sides
/// state the same rules, and a test holds them together.
impl TryFrom<&Model> for ModelConfig {
    type Error = ConfigError;

    fn try_from(model: &Model) -> Result<Self, ConfigError> {
        let versions = model.versions.iter().map(version).collect();
        let rules = Rules {
            breaker: (&model.breaker).into(),
            health: (&model.health_check).into(),
            balance: (&model.balance).into(),
            retry: (&model.retry).into(),
            pinned_fallback: model.pinned_fallback,
            static_answer: model.static_answer.is_some(),
        };
        Self::new(versions, &model.fallback, rules)
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

fn version((name, version): (&Name, &Version)) -> VersionConfig {
    VersionConfig {
        name: name.to_arc(),
        weight: version.weight,
        endpoints: version.endpoints.clone(),
    }
}
