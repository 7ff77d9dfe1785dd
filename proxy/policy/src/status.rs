//! What the policy knows, for people: a snapshot without secrets or handles.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    breaker::{BreakerState, TripReason},
    health::Health,
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
    /// Its breaker.
    pub breaker: BreakerState,
    /// Why the breaker last opened; none while it is closed.
    pub tripped_by: Option<TripReason>,
    /// How long it stays open; none when it is not, or when its time is up.
    pub open_for: Option<Duration>,
    /// Failures since the last success, while closed.
    pub failures_in_a_row: u32,
    /// Requests that are out now.
    pub in_flight: u32,
    /// Requests ever sent to it.
    pub attempts: u64,
    /// Those that failed.
    pub failures: u64,
}
