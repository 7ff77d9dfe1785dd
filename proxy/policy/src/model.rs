//! One model: which version answers a request, and where.
//!
//! The order is that of `house.md`: the version is pinned, follows from the
//! client's sticky key, or is drawn; then the part of its traffic that its pool
//! cannot carry leaves along the fallback chain; then an endpoint is chosen; and
//! when nothing in the chain serves, the static answer is given, or without one
//! the version's own pool is used whole ("panic") rather than failing everything.
//!
//! The part that leaves is `1 − min(1, 1.4 × available share)`: a pool that has
//! lost less than 29 % of its endpoints carries its traffic alone, one that has
//! lost all of them keeps none (the factor is Envoy's overprovisioning factor).
//! Sticky clients leave by their keys: who has left stays away until it is better.
//!
//! A tripped endpoint whose time is up is probed by the next live request that
//! its version gets, before anything leaves: without that, a version whose
//! endpoints have all tripped would never be tried again.
//!
//! The life of a permit: [`ModelPolicy::start`] gives it; [`ModelPolicy::sent`]
//! says when the request had gone out, for those that were still being uploaded;
//! [`ModelPolicy::judge`] takes what the answer's head, or its absence, taught;
//! [`ModelPolicy::release`] frees the slot, and [`ModelPolicy::serve`] says which
//! of those that wait gets it. [`ModelPolicy::tick`] looks in between
//! at those that have been out for too long.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt};
use slotmap::DenseSlotMap;

use crate::{
    breaker::Step,
    budget::Budget,
    config::ModelConfig,
    endpoint::Endpoints,
    health::{CheckResult, Health},
    pool::Pool,
    queue::Queue,
    running::{Out, Running},
    status::VersionStatus,
    sticky,
    tripped::Help,
};

mod admission;
mod learning;
mod look;
mod patience;
mod request;

use admission::Waits;
pub use admission::{Admitted, Refused, StandIn};
pub use request::{
    Again, Ask, Attempt, ChosenBy, FallbackReason, Observed, Permit, Purpose, Refusal, RouteKind,
    Suspect, Transition,
};
use request::{Route, Terms};

/// How much more than its share each endpoint of a pool is trusted to carry.
const OVERPROVISIONING: f64 = 1.4;

slotmap::new_key_type! {
    /// Names one endpoint for as long as it is configured; stale afterwards.
    pub struct EndpointKey;
}

/// All that is decided and known about one model.
#[derive(Debug)]
pub struct ModelPolicy {
    config: ModelConfig,
    /// One a version, in the order of `config.versions`.
    pools: Vec<Pool>,
    endpoints: Endpoints,
    running: Running,
    /// The most time that a request has come with since the last configuration.
    ordinary: Duration,
    budget: Budget,
    /// That of what is not the work: it must not use up what the work is rescued by.
    others_budget: Budget,
    /// Requests that wait for a slot.
    queue: Queue<Waits>,
}

// === impl ModelPolicy ===

impl ModelPolicy {
    /// Starts with every endpoint unknown: ready when its first check passes.
    #[must_use]
    pub fn new(config: ModelConfig, now: Instant) -> Self {
        let mut policy = Self {
            config: config.clone(),
            pools: Vec::new(),
            endpoints: DenseSlotMap::with_key(),
            running: Running::default(),
            ordinary: Duration::ZERO,
            budget: Budget::default(),
            others_budget: Budget::default(),
            queue: Queue::default(),
        };
        policy.reconfigure(config, now);
        policy
    }

    /// Takes a new configuration whole. Endpoints that stay keep their health,
    /// breaker, estimates and requests in flight; permits of those that go turn
    /// stale.
    pub fn reconfigure(&mut self, config: ModelConfig, now: Instant) {
        let mut old = std::mem::take(&mut self.pools);
        let breaker = Arc::new(config.rules.breaker);
        let max = config.rules.balance.max_in_flight;
        for (index, version) in config.versions.iter().enumerate() {
            let mut pool = match old.iter().position(|p| p.name == version.name) {
                Some(at) => old.swap_remove(at),
                None => Pool::new(Arc::clone(&version.name)),
            };
            pool.reconfigure(index, version, max, &breaker, &mut self.endpoints, now);
            self.pools.push(pool);
        }
        for mut gone in old {
            gone.clear(&mut self.endpoints);
        }
        self.running.retain(|key| self.endpoints.contains_key(key));
        self.config = config;
        self.ordinary = Duration::ZERO;
        self.queue.forget_paces();
        self.protect(now);
    }

    /// Chooses again after an attempt failed: another endpoint of the version
    /// that was `chosen`, then its fallback chain, then anything not `tried`.
    /// The last attempt goes to the fallback chain first: what failed at every
    /// endpoint of a version so far may be the version's fault. The retry is
    /// paid for here.
    ///
    /// # Errors
    /// [`Refusal::NoTime`], [`Refusal::NoBudget`], [`Refusal::NoEndpoint`] when
    /// all were tried, [`Refusal::NoRoom`] when the rest is full, and
    /// [`Refusal::UnknownVersion`] when a reload took away the version that the
    /// client had named. Where the version was drawn, it is drawn again.
    pub fn again(
        &mut self,
        again: Again<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Attempt, Refusal> {
        let chosen = match self.index_of(again.chosen) {
            Err(_) if again.by != ChosenBy::Pinned => self.config.split.draw(rng),
            known => known?,
        };
        if again.deadline <= now {
            return Err(Refusal::NoTime);
        }
        let is_inference = again.purpose == Purpose::Inference;
        let budget = self.config.rules.retry.budget;
        if self.budget_of(is_inference).left(budget, now) < 1.0 {
            return Err(Refusal::NoBudget);
        }
        let terms = Terms {
            tried: again.tried,
            uploading: again.uploading,
            rescue: again.retries_left,
            teaches: is_inference,
            deadline: again.deadline,
        };
        let attempt = self.elsewhere(Route::own(chosen, again.by), terms, now, rng)?;
        self.budget_of(is_inference).withdraw(budget, now);
        Ok(attempt)
    }

    /// Takes the answer to an active check, and says what it changed.
    pub fn check(
        &mut self,
        version: &str,
        address: SocketAddr,
        result: CheckResult,
        now: Instant,
    ) -> (Option<Health>, Option<Transition>) {
        let Some(key) = self.find(version, address) else {
            return (None, None);
        };
        let endpoint = &mut self.endpoints[key];
        let first = endpoint.cold.health.health() == Health::Unknown;
        let changed = endpoint.cold.health.check(result, self.config.rules.health);
        let step = match result {
            CheckResult::Up => endpoint.cold.breaker.check_passed(now),
            CheckResult::Down | CheckResult::Draining => None,
        };
        if first && changed.is_some() {
            let pool = endpoint.pool;
            self.pools[pool].first_check();
        }
        if changed.is_some() && step.is_none() {
            self.refresh(key, now);
        }
        (changed, self.moved(key, step, false, now))
    }

    /// Takes an endpoint out, or back in, on an operator's word. False when
    /// there is no such endpoint.
    pub fn set_drained(
        &mut self,
        version: &str,
        address: SocketAddr,
        drained: bool,
        now: Instant,
    ) -> bool {
        let Some(key) = self.find(version, address) else {
            return false;
        };
        self.endpoints[key].cold.drained = drained;
        self.refresh(key, now);
        true
    }

    /// Whether a request that names no version might be answered: every version
    /// that it could be drawn for, or one of its fallbacks, has an endpoint that
    /// serves; or there is a static answer, once it is known that they do not. A version that nobody can stand in for keeps some of its
    /// endpoints whatever their breakers say, so it never waits in vain for a
    /// request to probe it.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        let serves = |version: usize| self.pools[version].serves();
        (0..self.pools.len())
            .filter(|&v| self.config.split.share(v) > 0.0)
            .all(|v| {
                let mut chain = self.config.fallback.iter().copied();
                let answered = self.config.rules.static_answer && self.pools[v].is_known();
                serves(v) || chain.any(serves) || answered
            })
    }

    /// The part of a version's endpoints that is ready and not tripped, from 0 to 1.
    #[must_use]
    pub fn available(&self, version: &str) -> Option<f64> {
        Some(self.pools[self.index_of(version).ok()?].available())
    }

    /// How many retries of inferences the budget has left now.
    pub fn retries_left(&mut self, now: Instant) -> f64 {
        self.budget.left(self.config.rules.retry.budget, now)
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
                ..pool.status(&self.endpoints, &self.config.rules, now)
            })
            .collect()
    }

    fn choose(
        &self,
        ask: Ask<'_>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<(usize, ChosenBy), Refusal> {
        if let Some(name) = ask.version {
            return Ok((self.index_of(name)?, ChosenBy::Pinned));
        }
        let weights = self.config.versions.iter().map(|v| v.weight);
        let by_key = |key| sticky::choose(key, self.config.names.iter().copied().zip(weights));
        Ok(match ask.sticky.and_then(by_key) {
            Some(version) => (version, ChosenBy::Sticky),
            None => (self.config.split.draw(rng), ChosenBy::Split),
        })
    }

    fn budget_of(&mut self, is_inference: bool) -> &mut Budget {
        if is_inference {
            &mut self.budget
        } else {
            &mut self.others_budget
        }
    }

    fn index_of(&self, version: &str) -> Result<usize, Refusal> {
        self.pools
            .iter()
            .position(|p| &*p.name == version)
            .ok_or(Refusal::UnknownVersion)
    }

    fn find(&self, version: &str, address: SocketAddr) -> Option<EndpointKey> {
        let pool = &self.pools[self.index_of(version).ok()?];
        pool.by_address.get(&address).copied()
    }

    fn may_fall_back(&self, by: ChosenBy) -> bool {
        by != ChosenBy::Pinned || self.config.rules.pinned_fallback
    }

    fn reason_to_leave(&self, chosen: usize) -> FallbackReason {
        if self.pools[chosen].is_well() {
            FallbackReason::Spill
        } else {
            FallbackReason::Unavailable
        }
    }

    /// Sends the part that the chosen pool cannot carry along the chain. Of sticky
    /// clients it is always the same part, or each would go back and forth.
    fn leave(
        &mut self,
        own: Route,
        sticky: Option<u64>,
        terms: Terms<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Attempt> {
        let stays = OVERPROVISIONING * self.pools[own.chosen].available();
        if stays >= 1.0 {
            return None;
        }
        let drawn = match sticky.filter(|_| own.by == ChosenBy::Sticky) {
            Some(key) => sticky::stance(key),
            None => rng.random(),
        };
        if drawn < stays {
            return None;
        }
        let reason = self.reason_to_leave(own.chosen);
        self.fall_back(own, reason, terms, now, rng)
    }

    fn elsewhere(
        &mut self,
        own: Route,
        terms: Terms<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Attempt, Refusal> {
        let may_leave = self.may_fall_back(own.by);
        let reason = FallbackReason::AttemptsFailed;
        let last = !terms.rescue;
        if last
            && may_leave
            && let Some(attempt) = self.fall_back(own, reason, terms, now, rng)
        {
            return Ok(attempt);
        }
        if let Some(attempt) = self.pick(own, terms, now, rng) {
            return Ok(attempt);
        }
        if !last
            && may_leave
            && let Some(attempt) = self.fall_back(own, reason, terms, now, rng)
        {
            return Ok(attempt);
        }
        self.panic(own, terms, now, rng)
    }

    fn fall_back(
        &mut self,
        own: Route,
        reason: FallbackReason,
        terms: Terms<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Attempt> {
        for at in 0..self.config.fallback.len() {
            let version = self.config.fallback[at];
            if version == own.chosen {
                continue;
            }
            let kind = RouteKind::Fallback(reason);
            let route = Route {
                version,
                kind,
                ..own
            };
            if let Some(attempt) = self.pick(route, terms, now, rng) {
                return Some(attempt);
            }
        }
        None
    }

    fn probe(&mut self, own: Route, terms: Terms<'_>, now: Instant) -> Option<Attempt> {
        if !terms.teaches {
            return None;
        }
        let balance = &self.config.rules.balance;
        let key = self.pools[own.chosen].probe(&self.endpoints, balance, now)?;
        Some(self.attempt(own, key, terms, now))
    }

    fn pick(
        &mut self,
        route: Route,
        terms: Terms<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Attempt> {
        let balance = &self.config.rules.balance;
        let wish = terms.wish(balance, now);
        let key = self.pools[route.version].pick(&self.endpoints, wish, rng)?;
        Some(self.attempt(route, key, terms, now))
    }

    fn panic(
        &mut self,
        own: Route,
        terms: Terms<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Attempt, Refusal> {
        let pool = &self.pools[own.chosen];
        let wish = terms.wish(&self.config.rules.balance, now);
        let is_retry = !terms.tried.is_empty();
        let chain_is_full = self.may_fall_back(own.by) && self.chain_is_well(own.chosen);
        let answered = self.stands_in(own.by, terms.teaches);
        // While some are well, they are full or want to be left alone, or were
        // tried. What the others would answer is no better than what there is.
        let key = match (pool.is_well(), is_retry) {
            (true, true) => None,
            (true, false) => pool.pick_parked(&self.endpoints, wish, rng),
            (false, false) if chain_is_full => None,
            (false, _) => pool.pick_in_panic(&self.endpoints, wish, answered, rng),
        };
        match key {
            Some(key) => Ok(self.attempt(own, key, terms, now)),
            None if !is_retry && (pool.serves() || chain_is_full) => Err(Refusal::NoRoom),
            None => Err(Refusal::NoEndpoint),
        }
    }

    fn attempt(
        &mut self,
        route: Route,
        key: EndpointKey,
        terms: Terms<'_>,
        now: Instant,
    ) -> Attempt {
        let patience = self.patience(route, key, terms, now);
        let endpoint = &mut self.endpoints[key];
        let (ticket, step) = if terms.teaches {
            endpoint.cold.breaker.acquire(now)
        } else {
            (None, None)
        };
        let ticket = ticket.unwrap_or_else(|| endpoint.cold.breaker.acquire_in_panic());
        let is_probe = ticket.is_probe();
        let asks_load = endpoint.begin_attempt(now);
        let (address, pool) = (endpoint.address, endpoint.pool);
        self.pools[pool].count_in_flight(endpoint, true);
        let out = Out::new(key, ticket, patience.given, terms.teaches);
        let request = self.running.enter(out);
        if patience.explores {
            self.pools[route.version].explorer = Some(request);
        }
        if terms.teaches && !terms.uploading {
            self.running.wait(request, now);
        }
        Attempt {
            version: Arc::clone(&self.pools[route.version].name),
            chosen: Arc::clone(&self.pools[route.chosen].name),
            by: route.by,
            kind: route.kind,
            address,
            first_byte_within: patience.given.within,
            asks_load,
            transition: self.moved(key, step, is_probe, now),
            permit: Permit {
                endpoint: key,
                request,
                is_probe,
            },
        }
    }

    /// Whether another version can take over from this one.
    fn chain_is_well(&self, version: usize) -> bool {
        let mut chain = self.config.fallback.iter();
        chain.any(|&v| v != version && self.pools[v].is_well())
    }

    /// Takes note that a breaker may have moved.
    fn moved(
        &mut self,
        key: EndpointKey,
        step: Option<Step>,
        is_probe: bool,
        now: Instant,
    ) -> Option<Transition> {
        if step.is_some() || is_probe {
            self.refresh(key, now);
        }
        let endpoint = self.endpoints.get(key)?;
        step.map(|step| Transition {
            version: Arc::clone(&self.pools[endpoint.pool].name),
            address: endpoint.address,
            step,
        })
    }

    fn refresh(&mut self, key: EndpointKey, now: Instant) {
        let pool = self.endpoints[key].pool;
        self.pools[pool].refresh(key, &mut self.endpoints, now);
        self.protect(now);
    }

    /// Decides anew which tripped endpoints cannot be spared.
    fn protect(&mut self, now: Instant) {
        for version in 0..self.pools.len() {
            let help = match self.config.rules.static_answer {
                _ if self.chain_is_well(version) => Help::Version,
                true => Help::StaticAnswer,
                false => Help::None,
            };
            self.pools[version].protect(help, &mut self.endpoints, now);
        }
    }
}

#[cfg(test)]
mod tests;
