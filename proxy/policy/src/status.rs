//! What the policy knows, for people: a snapshot without secrets or handles.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    breaker::{Basis, BreakerState, Threshold, TripReason},
    health::Health,
    window::Counts,
};

/// One version of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its weight as configured.
    pub weight: f64,
    /// Its part of the split, from 0 to 1.
    pub share: f64,
    /// The part of its endpoints that is ready and not tripped, from 0 to 1.
    pub available: f64,
    /// Its pool, by address.
    pub endpoints: Vec<EndpointStatus>,
}

/// One endpoint of a version.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// What active checks say.
    pub health: Health,
    /// Whether an operator has taken it out.
    pub drained: bool,
    /// Its breaker.
    pub breaker: BreakerState,
    /// Why the breaker last opened; none while it is closed.
    pub tripped_by: Option<TripReason>,
    /// How long it stays open; none when it is not, or when its time is up.
    pub open_for: Option<Duration>,
    /// Its breaker is not closed, and it is used all the same: too much of the
    /// pool is out, and nobody else can take its traffic.
    pub protected: bool,
    /// Failures since the last answer, while closed.
    pub failures_in_a_row: u32,
    /// Slow attempts since the last success, while closed.
    pub slow_in_a_row: u32,
    /// The attempts that the breaker's ratios are taken of.
    pub window: Counts,
    /// From when on an attempt is slow there, and why.
    pub threshold: Threshold,
    /// The time to first byte that is expected there; none before the first answer.
    pub latency: Option<Duration>,
    /// How long it is left alone because it refused work.
    pub parked_for: Option<Duration>,
    /// The part of its share that it takes: below 1 in slow start.
    pub warmth: f64,
    /// Requests that are out now.
    pub in_flight: u32,
    /// Requests ever sent to it.
    pub attempts: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that took too long.
    pub slow: u64,
}

// === impl EndpointStatus ===

impl EndpointStatus {
    /// An endpoint of which nothing is known.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            health: Health::Unknown,
            drained: false,
            breaker: BreakerState::Closed,
            tripped_by: None,
            open_for: None,
            protected: false,
            failures_in_a_row: 0,
            slow_in_a_row: 0,
            window: Counts::default(),
            threshold: Threshold {
                limit: Duration::from_secs(1),
                basis: Basis::Absolute,
            },
            latency: None,
            parked_for: None,
            warmth: 1.0,
            in_flight: 0,
            attempts: 0,
            failures: 0,
            slow: 0,
        }
    }
}
