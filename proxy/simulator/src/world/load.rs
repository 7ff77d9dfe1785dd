//! How many requests come when.

use std::time::Duration;

use crate::{Scenario, time::Time};

/// The rate over time.
#[derive(Debug)]
pub(super) struct Rate {
    base: f64,
    /// From, until, factor.
    changes: Vec<(Time, Time, f64)>,
}

// === impl Rate ===

impl Rate {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let start = Time::from(scenario.warmup);
        let change = |load: &crate::scenario::Load| {
            let from = start + load.at;
            (from, from + load.lasts, load.factor)
        };
        Self {
            base: scenario.rate,
            changes: scenario.load.iter().map(change).collect(),
        }
    }

    /// The mean time to the next request.
    pub(super) fn gap(&self, now: Time) -> Duration {
        let factor: f64 = self
            .changes
            .iter()
            .filter(|(from, until, _)| (*from..*until).contains(&now))
            .map(|(.., factor)| factor)
            .product();
        Duration::from_secs_f64(1.0 / (self.base * factor))
    }
}
