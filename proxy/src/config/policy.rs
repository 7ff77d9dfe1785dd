//! What decisions are taken by, from what the file says.

use aegis_policy::{BreakerConfig, ConfigError, HealthConfig, ModelConfig, VersionConfig};

use super::{Breaker, HealthCheck, Model, Name, Version};

/// Fails for no model that came out of [`parse`](super::parse): both sides
/// state the same rules, and a test holds them together.
impl TryFrom<&Model> for ModelConfig {
    type Error = ConfigError;

    fn try_from(model: &Model) -> Result<Self, ConfigError> {
        let versions = model.versions.iter().map(version).collect();
        Self::new(
            versions,
            &model.fallback,
            (&model.breaker).into(),
            (&model.health_check).into(),
        )
    }
}

impl From<&Breaker> for BreakerConfig {
    fn from(breaker: &Breaker) -> Self {
        Self {
            consecutive_failures: breaker.consecutive_failures.get(),
            open_base: breaker.open_base,
            open_max: breaker.open_max,
            half_open_max_probes: breaker.half_open_max_probes.get(),
            half_open_successes: breaker.half_open_successes.get(),
            probe_lease: breaker.probe_lease,
            enforce: breaker.enforce,
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
