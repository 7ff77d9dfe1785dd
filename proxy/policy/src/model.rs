//! One model: which version answers a request, and where.
//!
//! The order is that of `house.md`: the version is pinned or drawn; then the
//! part of its traffic that its pool cannot carry leaves along the fallback
//! chain; then an endpoint is chosen; and when nothing in the chain serves, the
//! version's own pool is used whole ("panic") rather than failing everything.
//!
//! The part that leaves is `1 − min(1, 1.4 × available share)`: a pool that has
//! lost less than 29 % of its endpoints carries its traffic alone, one that has
//! lost all of them keeps none (the factor is Envoy's overprovisioning factor).
//!
//! A tripped endpoint whose time is up is probed by the next live request that
//! its version gets, before anything leaves: without that, a version whose
//! endpoints have all tripped would never be tried again.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use rand::{Rng, RngExt};
use slotmap::SlotMap;

use crate::{
    breaker::{Step, Ticket},
    config::ModelConfig,
    health::{CheckResult, Health},
    outcome::Outcome,
    pool::{Endpoints, Pick, Pool},
    status::VersionStatus,
};

/// How much more than its share each endpoint of a pool is trusted to carry.
const OVERPROVISIONING: f64 = 1.4;

slotmap::new_key_type! {
    /// Names one endpoint for as long as it is configured; stale afterwards.
    pub struct EndpointKey;
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The version that the client named, if it did.
    pub version: Option<&'a str>,
    /// Whether the request can be sent again, and so may probe a tripped endpoint.
    pub replayable: bool,
}

/// How the version of an attempt came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Drawn by weight.
    Split,
    /// Named by the client.
    Pinned,
    /// Another version could not answer.
    Fallback(FallbackReason),
}

/// Why a request left the version that was chosen for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FallbackReason {
    /// None of the version's endpoints serves.
    Unavailable,
    /// Some do, and cannot carry all of its traffic.
    Spill,
    /// The request was tried there and failed.
    AttemptsFailed,
}

/// One attempt to answer a request.
#[derive(Debug)]
pub struct Attempt {
    /// The version that answers.
    pub version: Arc<str>,
    /// The version that was chosen first.
    pub chosen: Arc<str>,
    /// How it came about.
    pub kind: RouteKind,
    /// Where to send it.
    pub address: SocketAddr,
    /// To be given back to [`ModelPolicy::record`].
    pub permit: Permit,
    /// What the choice moved: an open breaker that is probed now.
    pub transition: Option<Transition>,
}

/// The right to send one request to one endpoint.
#[derive(Debug)]
#[must_use = "a permit that is not recorded keeps its endpoint's slot"]
pub struct Permit {
    endpoint: EndpointKey,
    ticket: Ticket,
}

/// One breaker has moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The version of the endpoint.
    pub version: Arc<str>,
    /// The endpoint.
    pub address: SocketAddr,
    /// The new state, and why.
    pub step: Step,
}

/// Why there is no attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client named a version that the model does not have. Its fault.
    #[error("the model has no such version")]
    UnknownVersion,
    /// Every endpoint that could answer was tried.
    #[error("no endpoint is left to try")]
    NoEndpoint,
}

/// All that is decided and known about one model.
#[derive(Debug)]
pub struct ModelPolicy {
    config: ModelConfig,
    /// One a version, in the order of `config.versions`.
    pools: Vec<Pool>,
    endpoints: Endpoints,
}

// === impl Permit ===

impl Permit {
    /// The endpoint that it is for.
    #[must_use]
    pub fn endpoint(&self) -> EndpointKey {
        self.endpoint
    }

    /// Whether the attempt is a half-open probe.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.ticket.is_probe()
    }
}

// === impl ModelPolicy ===

impl ModelPolicy {
    /// Starts with every endpoint unknown: ready when its first check passes.
    #[must_use]
    pub fn new(config: ModelConfig, now: Instant) -> Self {
        let mut policy = Self {
            config: config.clone(),
            pools: Vec::new(),
            endpoints: SlotMap::with_key(),
        };
        policy.reconfigure(config, now);
        policy
    }

    /// Takes a new configuration whole. Endpoints that stay keep their health,
    /// breaker and requests in flight; permits of those that go turn stale.
    pub fn reconfigure(&mut self, config: ModelConfig, now: Instant) {
        let mut old = std::mem::take(&mut self.pools);
        for (index, version) in config.versions.iter().enumerate() {
            let mut pool = match old.iter().position(|p| p.name == version.name) {
                Some(at) => old.swap_remove(at),
                None => Pool::new(Arc::clone(&version.name)),
            };
            pool.reconfigure(index, version, config.breaker, &mut self.endpoints, now);
            self.pools.push(pool);
        }
        for mut gone in old {
            gone.clear(&mut self.endpoints);
        }
        self.config = config;
    }

    /// Chooses a version and an endpoint for a request's first attempt.
    ///
    /// # Errors
    /// [`Refusal::UnknownVersion`] for a version that is not there. There is
    /// always an endpoint to try first.
    pub fn start(
        &mut self,
        ask: Ask<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Attempt, Refusal> {
        let (chosen, kind) = match ask.version {
            Some(name) => (self.index_of(name)?, RouteKind::Pinned),
            None => (self.config.split.draw(rng), RouteKind::Split),
        };
        if ask.replayable
            && let Some(pick) = self.pools[chosen].probe(&mut self.endpoints, now)
        {
            return Ok(self.attempt(chosen, chosen, kind, pick, now));
        }
        if kind == RouteKind::Split
            && let Some(attempt) = self.leave(chosen, now, rng)
        {
            return Ok(attempt);
        }
        if let Some(pick) = self.pools[chosen].pick(&mut self.endpoints, &[], now, rng) {
            return Ok(self.attempt(chosen, chosen, kind, pick, now));
        }
        // Nothing better is left, so a request that cannot be sent again may
        // probe too: where all requests are such, no other ever would.
        if let Some(pick) = self.pools[chosen].probe(&mut self.endpoints, now) {
            return Ok(self.attempt(chosen, chosen, kind, pick, now));
        }
        self.panic(chosen, kind, &[], now, rng)
    }

    /// Chooses again after an attempt failed: another endpoint of the version
    /// that was `chosen`, then its fallback chain, then anything not `tried`.
    ///
    /// # Errors
    /// [`Refusal::NoEndpoint`] when all were tried, [`Refusal::UnknownVersion`]
    /// when a reload took away the version that the client had named. Where the
    /// version was drawn, it is drawn again.
    pub fn again(
        &mut self,
        chosen: &str,
        pinned: bool,
        tried: &[EndpointKey],
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Attempt, Refusal> {
        let chosen = match self.index_of(chosen) {
            Err(_) if !pinned => self.config.split.draw(rng),
            known => known?,
        };
        let kind = if pinned {
            RouteKind::Pinned
        } else {
            RouteKind::Split
        };
        if let Some(pick) = self.pools[chosen].pick(&mut self.endpoints, tried, now, rng) {
            return Ok(self.attempt(chosen, chosen, kind, pick, now));
        }
        let reason = FallbackReason::AttemptsFailed;
        if !pinned && let Some(attempt) = self.fall_back(chosen, reason, tried, now, rng) {
            return Ok(attempt);
        }
        self.panic(chosen, kind, tried, now, rng)
    }

    /// Takes a permit back with what was learnt of its endpoint.
    pub fn record(
        &mut self,
        permit: Permit,
        outcome: Outcome,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Transition> {
        let key = permit.endpoint;
        let endpoint = self.endpoints.get_mut(key)?;
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        endpoint.failures += u64::from(outcome == Outcome::Failure);
        let probe = permit.is_probe();
        let step = endpoint.breaker.record(permit.ticket, outcome, now, rng);
        if step.is_some() || probe {
            let pool = self.endpoints[key].pool;
            self.pools[pool].refresh(key, &mut self.endpoints, now);
        }
        step.map(|step| self.transition(key, step))
    }

    /// Takes the answer to an active check, and says what it changed.
    pub fn check(
        &mut self,
        version: &str,
        address: SocketAddr,
        result: CheckResult,
        now: Instant,
    ) -> Option<Health> {
        let pool = self.index_of(version).ok()?;
        let key = *self.pools[pool].by_address.get(&address)?;
        let tracker = &mut self.endpoints[key].health;
        let first = tracker.health() == Health::Unknown;
        let changed = tracker.check(result, self.config.health)?;
        if first {
            self.pools[pool].first_check();
        }
        self.pools[pool].refresh(key, &mut self.endpoints, now);
        Some(changed)
    }

    /// Whether a request that names no version might be answered: every version
    /// that it could be drawn for, or one of its fallbacks, has an endpoint that
    /// serves or that waits to be probed.
    #[must_use]
    pub fn can_serve(&self, now: Instant) -> bool {
        let might = |version: usize| self.pools[version].might_serve(&self.endpoints, now);
        (0..self.pools.len())
            .filter(|&v| self.config.split.share(v) > 0.0)
            .all(|v| {
                let mut chain = self.config.fallback.iter().copied();
                might(v) || chain.any(might)
            })
    }

    /// The part of a version's endpoints that serves, from 0 to 1.
    #[must_use]
    pub fn available(&self, version: &str) -> Option<f64> {
        Some(self.pools[self.index_of(version).ok()?].available())
    }

    /// The names of the versions, in the order of the configuration.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pools.iter().map(|p| &p.name)
    }

    /// All that is known, for people.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<VersionStatus> {
        let pools = self.pools.iter().enumerate();
        pools
            .map(|(i, pool)| VersionStatus {
                weight: self.config.versions[i].weight,
                share: self.config.split.share(i),
                ..pool.status(&self.endpoints, now)
            })
            .collect()
    }

    fn index_of(&self, version: &str) -> Result<usize, Refusal> {
        self.pools
            .iter()
            .position(|p| &*p.name == version)
            .ok_or(Refusal::UnknownVersion)
    }

    /// Sends the part that the chosen pool cannot carry along the chain.
    fn leave(
        &mut self,
        chosen: usize,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Attempt> {
        let pool = &self.pools[chosen];
        let stays = OVERPROVISIONING * pool.available();
        let reason = if pool.serves() {
            FallbackReason::Spill
        } else {
            FallbackReason::Unavailable
        };
        if stays >= 1.0 || rng.random::<f64>() < stays {
            return None;
        }
        self.fall_back(chosen, reason, &[], now, rng)
    }

    fn fall_back(
        &mut self,
        chosen: usize,
        reason: FallbackReason,
        tried: &[EndpointKey],
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Attempt> {
        for at in 0..self.config.fallback.len() {
            let version = self.config.fallback[at];
            if version == chosen {
                continue;
            }
            if let Some(pick) = self.pools[version].pick(&mut self.endpoints, tried, now, rng) {
                return Some(self.attempt(version, chosen, RouteKind::Fallback(reason), pick, now));
            }
        }
        None
    }

    fn panic(
        &mut self,
        chosen: usize,
        kind: RouteKind,
        tried: &[EndpointKey],
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Attempt, Refusal> {
        let pick = self.pools[chosen]
            .pick_in_panic(&self.endpoints, tried, rng)
            .ok_or(Refusal::NoEndpoint)?;
        Ok(self.attempt(chosen, chosen, kind, pick, now))
    }

    fn attempt(
        &mut self,
        version: usize,
        chosen: usize,
        kind: RouteKind,
        pick: Pick,
        now: Instant,
    ) -> Attempt {
        if pick.step.is_some() {
            let pool = self.endpoints[pick.key].pool;
            self.pools[pool].refresh(pick.key, &mut self.endpoints, now);
        }
        let endpoint = &mut self.endpoints[pick.key];
        endpoint.in_flight += 1;
        endpoint.attempts += 1;
        let address = endpoint.address;
        Attempt {
            version: Arc::clone(&self.pools[version].name),
            chosen: Arc::clone(&self.pools[chosen].name),
            kind,
            address,
            transition: pick.step.map(|step| self.transition(pick.key, step)),
            permit: Permit {
                endpoint: pick.key,
                ticket: pick.ticket,
            },
        }
    }

    fn transition(&self, key: EndpointKey, step: Step) -> Transition {
        let endpoint = &self.endpoints[key];
        Transition {
            version: Arc::clone(&self.pools[endpoint.pool].name),
            address: endpoint.address,
            step,
        }
    }
}

// === impl RouteKind ===

impl RouteKind {
    /// Every kind's label.
    pub const LABELS: [&'static str; 3] = ["split", "pinned", "fallback"];

    /// The kind as a header value and metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Split => Self::LABELS[0],
            Self::Pinned => Self::LABELS[1],
            Self::Fallback(_) => Self::LABELS[2],
        }
    }
}

// === impl FallbackReason ===

impl FallbackReason {
    /// Every reason's label.
    pub const LABELS: [&'static str; 3] = ["unavailable", "spill", "attempts_failed"];

    /// The reason as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unavailable => Self::LABELS[0],
            Self::Spill => Self::LABELS[1],
            Self::AttemptsFailed => Self::LABELS[2],
        }
    }
}

#[cfg(test)]
mod tests;
