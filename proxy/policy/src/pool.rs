//! The endpoints of one version, and the choice among them.
//!
//! Two endpoints are drawn at random from those that serve, and the one with
//! fewer requests in flight is taken ("the power of two choices", Mitzenmacher
//! 2001): the longest queue stays within O(log log n) of the mean, at the cost
//! of two draws, whatever the size of the pool. Which endpoints serve is kept
//! up to date when one changes, never worked out per request.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt};
use slotmap::SlotMap;

use crate::{
    breaker::{Breaker, BreakerState, Step, Ticket},
    config::{BreakerConfig, VersionConfig},
    health::{Health, HealthTracker},
    model::EndpointKey,
    status::{EndpointStatus, VersionStatus},
};

/// Draws that may hit an endpoint already tried before the pool is scanned.
const DRAWS: usize = 8;

pub(crate) type Endpoints = SlotMap<EndpointKey, Endpoint>;

/// One address of one version, and all that is known of it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// The index of its pool; kept right when versions come and go.
    pub(crate) pool: usize,
    pub(crate) health: HealthTracker,
    pub(crate) breaker: Breaker,
    pub(crate) in_flight: u32,
    pub(crate) attempts: u64,
    pub(crate) failures: u64,
    /// Where it stands in the pool's list of those that serve.
    serving_at: Option<usize>,
}

/// The pool of one version.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    pub(crate) by_address: HashMap<SocketAddr, EndpointKey>,
    /// Ready, and let through by their breakers.
    serving: Vec<EndpointKey>,
    /// Breakers that are not closed.
    tripped: Vec<EndpointKey>,
    /// Not checked yet: neither available nor missing.
    unknown: usize,
    /// No probe can be due before this.
    next_probe: Option<Instant>,
}

/// An endpoint that was chosen, and the right to use it.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) key: EndpointKey,
    pub(crate) ticket: Ticket,
    pub(crate) step: Option<Step>,
}

// === impl Endpoint ===

impl Endpoint {
    fn new(address: SocketAddr, pool: usize, breaker: BreakerConfig) -> Self {
        Self {
            address,
            pool,
            health: HealthTracker::default(),
            breaker: Breaker::new(breaker),
            in_flight: 0,
            attempts: 0,
            failures: 0,
            serving_at: None,
        }
    }

    fn is_ready(&self) -> bool {
        self.health.health() == Health::Ready
    }

    /// How bad a choice it is when nothing serves: smaller is better.
    fn panic_rank(&self) -> (u8, u32) {
        let rank = match self.health.health() {
            Health::Ready => 0,
            Health::Draining => 1,
            Health::Unknown => 2,
            Health::NotReady => 3,
        };
        (rank, self.in_flight)
    }
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            by_address: HashMap::new(),
            serving: Vec::new(),
            tripped: Vec::new(),
            unknown: 0,
            next_probe: None,
        }
    }

    /// Takes the pool's new members; those that stay keep all that is known of them.
    pub(crate) fn reconfigure(
        &mut self,
        index: usize,
        config: &VersionConfig,
        breaker: BreakerConfig,
        endpoints: &mut Endpoints,
        now: Instant,
    ) {
        let mut old = std::mem::take(&mut self.by_address);
        for &address in &config.endpoints {
            let key = old
                .remove(&address)
                .unwrap_or_else(|| endpoints.insert(Endpoint::new(address, index, breaker)));
            self.by_address.insert(address, key);
        }
        for key in old.into_values() {
            endpoints.remove(key);
        }
        for &key in self.by_address.values() {
            endpoints[key].pool = index;
            endpoints[key].breaker.reconfigure(breaker);
        }
        self.rebuild(endpoints);
        self.schedule_probe(endpoints, now);
    }

    /// Drops every endpoint of the pool.
    pub(crate) fn clear(&mut self, endpoints: &mut Endpoints) {
        for key in std::mem::take(&mut self.by_address).into_values() {
            endpoints.remove(key);
        }
    }

    /// The part of the pool that is ready and not tripped, from 0 to 1.
    /// Endpoints that were never checked count on neither side, so that adding
    /// some does not look like an outage.
    pub(crate) fn available(&self) -> f64 {
        let known = self.by_address.len() - self.unknown;
        if known == 0 {
            0.0
        } else {
            self.serving.len() as f64 / known as f64
        }
    }

    /// Whether an endpoint takes traffic without a probe.
    pub(crate) fn serves(&self) -> bool {
        !self.serving.is_empty()
    }

    /// Whether a request might be answered: an endpoint serves, or one that is
    /// ready would take a probe. A pool that is only waiting for a request to
    /// probe it must count, or nobody would send one.
    pub(crate) fn might_serve(&self, endpoints: &Endpoints, now: Instant) -> bool {
        let may_recover = |&key: &EndpointKey| {
            let endpoint = &endpoints[key];
            endpoint.is_ready()
                && endpoint
                    .breaker
                    .open_until()
                    .is_none_or(|until| until <= now)
        };
        self.serves() || self.tripped.iter().any(may_recover)
    }

    /// Takes a half-open probe, if one is due.
    pub(crate) fn probe(&mut self, endpoints: &mut Endpoints, now: Instant) -> Option<Pick> {
        if self.next_probe.is_none_or(|due| due > now) {
            return None;
        }
        let due = self.tripped.iter().copied().find(|&key| {
            let endpoint = &endpoints[key];
            endpoint.is_ready() && endpoint.breaker.probe_due(now).is_some_and(|d| d <= now)
        });
        let pick = due.and_then(|key| {
            let (ticket, step) = endpoints[key].breaker.acquire(now);
            let ticket = ticket?;
            Some(Pick { key, ticket, step })
        });
        self.schedule_probe(endpoints, now);
        pick
    }

    /// Chooses among the endpoints that serve, leaving out those tried.
    pub(crate) fn pick(
        &self,
        endpoints: &mut Endpoints,
        tried: &[EndpointKey],
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Pick> {
        let first = self.draw(tried, rng)?;
        let second = self.draw(tried, rng)?;
        let key = if endpoints[second].in_flight < endpoints[first].in_flight {
            second
        } else {
            first
        };
        let (ticket, step) = endpoints[key].breaker.acquire(now);
        let ticket = ticket?;
        Some(Pick { key, ticket, step })
    }

    /// Chooses among all endpoints, whatever is known of them: the least bad
    /// one that was not tried.
    pub(crate) fn pick_in_panic(
        &self,
        endpoints: &Endpoints,
        tried: &[EndpointKey],
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Pick> {
        let untried = self.by_address.values().filter(|k| !tried.contains(k));
        let key = *untried.min_by_key(|&&k| (endpoints[k].panic_rank(), rng.random::<u32>()))?;
        let ticket = endpoints[key].breaker.acquire_in_panic();
        let step = None;
        Some(Pick { key, ticket, step })
    }

    /// Takes note that an endpoint's health or breaker has changed.
    pub(crate) fn refresh(&mut self, key: EndpointKey, endpoints: &mut Endpoints, now: Instant) {
        let endpoint = &endpoints[key];
        let serves = endpoint.is_ready() && endpoint.breaker.lets_traffic_through();
        match (serves, endpoint.serving_at) {
            (true, None) => {
                endpoints[key].serving_at = Some(self.serving.len());
                self.serving.push(key);
            }
            (false, Some(at)) => {
                endpoints[key].serving_at = None;
                self.serving.swap_remove(at);
                if let Some(&moved) = self.serving.get(at) {
                    endpoints[moved].serving_at = Some(at);
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
        let closed = endpoints[key].breaker.state() == BreakerState::Closed;
        self.tripped.retain(|&k| k != key);
        if !closed {
            self.tripped.push(key);
        }
        self.schedule_probe(endpoints, now);
    }

    /// Takes note that an endpoint was checked for the first time.
    pub(crate) fn first_check(&mut self) {
        self.unknown = self.unknown.saturating_sub(1);
    }

    pub(crate) fn status(&self, endpoints: &Endpoints, now: Instant) -> VersionStatus {
        let mut list: Vec<_> = self.by_address.values().map(|&k| &endpoints[k]).collect();
        list.sort_by_key(|e| e.address);
        VersionStatus {
            name: Arc::clone(&self.name),
            weight: 0.0,
            share: 0.0,
            available: self.available(),
            endpoints: list.into_iter().map(|e| e.status(now)).collect(),
        }
    }

    fn draw(&self, tried: &[EndpointKey], rng: &mut (impl Rng + ?Sized)) -> Option<EndpointKey> {
        if self.serving.is_empty() {
            return None;
        }
        for _ in 0..DRAWS {
            let key = self.serving[rng.random_range(0..self.serving.len())];
            if !tried.contains(&key) {
                return Some(key);
            }
        }
        self.serving.iter().copied().find(|k| !tried.contains(k))
    }

    fn schedule_probe(&mut self, endpoints: &Endpoints, now: Instant) {
        self.next_probe = self
            .tripped
            .iter()
            .filter_map(|&k| endpoints[k].breaker.probe_due(now))
            .min();
    }

    fn rebuild(&mut self, endpoints: &mut Endpoints) {
        self.serving.clear();
        self.tripped.clear();
        self.unknown = 0;
        for &key in self.by_address.values() {
            let endpoint = &mut endpoints[key];
            endpoint.serving_at = None;
            if endpoint.health.health() == Health::Unknown {
                self.unknown += 1;
            }
            if endpoint.is_ready() && endpoint.breaker.lets_traffic_through() {
                endpoint.serving_at = Some(self.serving.len());
                self.serving.push(key);
            }
            if endpoint.breaker.state() != BreakerState::Closed {
                self.tripped.push(key);
            }
        }
    }
}

impl Endpoint {
    fn status(&self, now: Instant) -> EndpointStatus {
        EndpointStatus {
            address: self.address,
            health: self.health.health(),
            breaker: self.breaker.state(),
            tripped_by: self.breaker.tripped_by(),
            open_for: self
                .breaker
                .open_until()
                .map(|until| until.saturating_duration_since(now))
                .filter(|left| *left > Duration::ZERO),
            failures_in_a_row: self.breaker.failures_in_a_row(),
            in_flight: self.in_flight,
            attempts: self.attempts,
            failures: self.failures,
        }
    }
}
