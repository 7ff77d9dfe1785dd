//! The endpoints of one version, and the choice among them.
//!
//! Two endpoints are drawn at random from those that serve, and the one where a
//! request would wait for less is taken ("the power of two choices",
//! Mitzenmacher 2001): the longest queue stays within O(log log n) of the mean,
//! at the cost of two draws, whatever the size of the pool. Which endpoints
//! serve is kept up to date when one changes, never worked out per request.
//!
//! An endpoint that has just become ready, or whose breaker has just closed,
//! takes a growing part of its share: it turns down draws. Dividing its cost by
//! its weight instead would keep it from every request as long as its peers are
//! idle, since then the costs differ by nothing else.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Instant};

use rand::{Rng, RngExt};

use crate::{
    breaker::{BreakerState, Threshold, TripReason},
    config::{BalanceBy, BalanceConfig, BreakerConfig, Rules, VersionConfig},
    endpoint::{Endpoint, Endpoints},
    health::Health,
    model::EndpointKey,
    peers::Peers,
    status::VersionStatus,
};

/// Draws that may be turned down before the pool is searched.
const DRAWS: usize = 8;
/// How far above the mean a warming endpoint's load may be.
const WARMING_LEAD: f64 = 1.0;

/// The pool of one version.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    pub(crate) by_address: HashMap<SocketAddr, EndpointKey>,
    pub(crate) peers: Peers,
    /// Those that take traffic.
    serving: Vec<EndpointKey>,
    /// Breakers that are not closed.
    tripped: Vec<EndpointKey>,
    /// Ready, with nothing against them: those that serve, less those that are
    /// only kept because too many are out.
    well: usize,
    /// Not checked yet: neither available nor missing.
    unknown: usize,
    /// Requests that are out at those that serve.
    in_flight: u32,
    /// No probe can be due before this.
    next_probe: Option<Instant>,
    /// Whose turn it is, where they take turns.
    turn: usize,
}

/// Who can take the traffic that a pool's tripped endpoints do not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Help {
    /// Another version: none of them needs to stay in use.
    Version,
    /// The static answer. It is better than an endpoint that fails; but it does
    /// no work, so it is no relief for endpoints that are overloaded.
    StaticAnswer,
    /// Nobody.
    None,
}

/// What a choice goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) tried: &'a [EndpointKey],
    pub(crate) balance: &'a BalanceConfig,
    pub(crate) now: Instant,
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            by_address: HashMap::new(),
            peers: Peers::default(),
            serving: Vec::new(),
            tripped: Vec::new(),
            well: 0,
            unknown: 0,
            in_flight: 0,
            next_probe: None,
            turn: 0,
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
            endpoints[key].cold.breaker.reconfigure(breaker);
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
            self.well as f64 / known as f64
        }
    }

    /// Whether an endpoint is ready and has nothing against it.
    pub(crate) fn is_well(&self) -> bool {
        self.well > 0
    }

    /// Whether an endpoint was checked at least once, whatever came of it.
    pub(crate) fn is_known(&self) -> bool {
        self.unknown < self.by_address.len()
    }

    /// Whether an endpoint takes traffic without a probe.
    pub(crate) fn serves(&self) -> bool {
        !self.serving.is_empty()
    }

    /// How many do.
    pub(crate) fn serving(&self) -> usize {
        self.serving.len()
    }

    /// An endpoint that wants a half-open probe, if one is due. One that refuses
    /// work is not asked before it said, and in a dry run none is preferred.
    pub(crate) fn probe(
        &self,
        endpoints: &Endpoints,
        balance: &BalanceConfig,
        now: Instant,
    ) -> Option<EndpointKey> {
        if self.next_probe.is_none_or(|due| due > now) {
            return None;
        }
        self.tripped.iter().copied().find(|&key| {
            let endpoint = &endpoints[key];
            let breaker = &endpoint.cold.breaker;
            endpoint.is_ready()
                && !breaker.lets_traffic_through()
                && endpoint.has_room(balance, now)
                && breaker.probe_due(now).is_some_and(|due| due <= now)
        })
    }

    /// Chooses among the endpoints that serve and have room, leaving out those
    /// tried.
    pub(crate) fn pick(
        &mut self,
        endpoints: &Endpoints,
        wish: Wish<'_>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<EndpointKey> {
        if self.is_full(wish.balance) {
            return None;
        }
        if wish.balance.by == BalanceBy::RoundRobin {
            return self.next_in_turn(endpoints, wish);
        }
        let first = self.draw(None, endpoints, wish, rng);
        let first = first.or_else(|| self.search(endpoints, wish, rng))?;
        let Some(second) = self.draw(Some(first), endpoints, wish, rng) else {
            return Some(self.serving[first]);
        };
        let usual = self.peers.usual();
        let [one, other] = [first, second].map(|at| &endpoints[self.serving[at]]);
        let better = other.beats(one, usual, wish.balance, wish.now);
        Some(self.serving[if better { second } else { first }])
    }

    /// As [`Self::pick`], with nothing to go by but the requests that are out.
    pub(crate) fn look(
        &self,
        endpoints: &Endpoints,
        wish: Wish<'_>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<EndpointKey> {
        if self.is_full(wish.balance) {
            return None;
        }
        let first = self.draw(None, endpoints, wish, rng);
        let first = first.or_else(|| self.search(endpoints, wish, rng))?;
        let second = self
            .draw(Some(first), endpoints, wish, rng)
            .unwrap_or(first);
        let keys = [first, second].map(|at| self.serving[at]);
        keys.into_iter().min_by_key(|&key| endpoints[key].in_flight)
    }

    /// Chooses one that serves although it asked to be left alone: there is no
    /// other.
    pub(crate) fn pick_parked(
        &self,
        endpoints: &Endpoints,
        wish: Wish<'_>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<EndpointKey> {
        let all = self.serving.len();
        let start = rng.random_range(0..all.max(1));
        let mut keys = (0..all).map(|i| self.serving[(start + i) % all]);
        keys.find(|&key| endpoints[key].in_flight < wish.balance.max_in_flight)
    }

    /// Chooses where nothing serves: the least bad one that was not tried; of
    /// those that are ready, while there are any. Where something else can
    /// answer, only one that was never checked is worth the try.
    pub(crate) fn pick_in_panic(
        &self,
        endpoints: &Endpoints,
        wish: Wish<'_>,
        only_unknown: bool,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<EndpointKey> {
        let members = || self.by_address.values().copied();
        let some_ready = members().any(|key| endpoints[key].is_ready());
        let usable = members().filter(|&key| {
            let endpoint = &endpoints[key];
            !wish.tried.contains(&key)
                && endpoint.in_flight < wish.balance.max_in_flight
                && (endpoint.is_ready() || !some_ready)
                && (!only_unknown || endpoint.is_unknown())
        });
        usable.min_by_key(|&key| (endpoints[key].panic_rank(), rng.random::<u32>()))
    }

    /// Takes note that an endpoint's health or breaker has changed.
    pub(crate) fn refresh(&mut self, key: EndpointKey, endpoints: &mut Endpoints, now: Instant) {
        let endpoint = &mut endpoints[key];
        let closed = endpoint.cold.breaker.state() == BreakerState::Closed;
        if closed {
            endpoint.cold.protected = false;
        }
        let is_well = endpoint.is_well();
        let was_well = std::mem::replace(&mut endpoint.cold.counted_well, is_well);
        self.well = self.well + usize::from(is_well) - usize::from(was_well);
        self.tripped.retain(|&k| k != key);
        if !closed {
            self.tripped.push(key);
        }
        self.place(key, endpoints, now);
        self.schedule_probe(endpoints, now);
    }

    /// Keeps tripped endpoints in use where nobody else can take their traffic:
    /// at most half of those that are ready are out, the first to trip; and
    /// when more than half are slow they are overloaded, not ill, and taking any
    /// of them out makes it worse.
    pub(crate) fn protect(&mut self, help: Help, endpoints: &mut Endpoints, now: Instant) {
        if self.tripped.is_empty() {
            return;
        }
        let mut out: Vec<EndpointKey> = Vec::new();
        for &key in &self.tripped {
            if endpoints[key].is_ready() && !endpoints[key].is_well() {
                out.push(key);
            }
        }
        out.sort_by_key(|&key| endpoints[key].cold.breaker.tripped_since());
        let ready = self.well + out.len();
        let is_slow = |key: EndpointKey| {
            let reason = endpoints[key].cold.breaker.tripped_by();
            reason.is_some_and(TripReason::is_slowness)
        };
        let overloaded = out.iter().filter(|&&key| is_slow(key)).count() * 2 > ready;
        let mut room = (ready / 2).max(1).min(ready.saturating_sub(1));
        let mut keep = Vec::with_capacity(out.len());
        for &key in &out {
            let spared = match help {
                Help::Version => false,
                Help::StaticAnswer => overloaded && is_slow(key),
                Help::None => (overloaded && is_slow(key)) || room == 0,
            };
            room -= usize::from(!spared && room > 0);
            keep.push((key, spared));
        }
        for (key, spared) in keep {
            endpoints[key].cold.protected = spared;
            self.place(key, endpoints, now);
        }
    }

    /// Takes note that an endpoint was checked for the first time.
    pub(crate) fn first_check(&mut self) {
        self.unknown = self.unknown.saturating_sub(1);
    }

    /// Counts a request out at one of its endpoints, or back.
    pub(crate) fn count_in_flight(&mut self, endpoint: &Endpoint, more: bool) {
        if endpoint.serving_at.is_some() {
            let change = if more {
                u32::wrapping_add
            } else {
                u32::wrapping_sub
            };
            self.in_flight = change(self.in_flight, 1);
        }
    }

    /// Learns what is usual now.
    pub(crate) fn compare(&mut self, endpoints: &mut Endpoints, now: Instant) {
        self.peers.compare(&self.serving, endpoints, now);
    }

    /// From when on an attempt at this endpoint is slow.
    pub(crate) fn threshold(&self, endpoint: &Endpoint, breaker: &BreakerConfig) -> Threshold {
        self.peers.threshold(&endpoint.cold, breaker)
    }

    pub(crate) fn status(
        &self,
        endpoints: &Endpoints,
        rules: &Rules,
        now: Instant,
    ) -> VersionStatus {
        let mut list: Vec<_> = self.by_address.values().map(|&k| &endpoints[k]).collect();
        list.sort_by_key(|e| e.address);
        let status =
            |e: &&Endpoint| e.status(self.threshold(e, &rules.breaker), &rules.balance, now);
        VersionStatus {
            name: Arc::clone(&self.name),
            weight: 0.0,
            share: 0.0,
            available: self.available(),
            endpoints: list.iter().map(status).collect(),
        }
    }

    /// Whether no endpoint that serves can take another request.
    pub(crate) fn is_full(&self, balance: &BalanceConfig) -> bool {
        let room = self.serving.len() as u64 * u64::from(balance.max_in_flight);
        u64::from(self.in_flight) >= room
    }

    fn next_in_turn(&mut self, endpoints: &Endpoints, wish: Wish<'_>) -> Option<EndpointKey> {
        for _ in 0..self.serving.len() {
            self.turn = (self.turn + 1) % self.serving.len();
            if self.is_usable(self.turn, endpoints, wish) {
                return Some(self.serving[self.turn]);
            }
        }
        None
    }

    /// Draws one that may be used and wants to be, other than `except`.
    fn draw(
        &self,
        except: Option<usize>,
        endpoints: &Endpoints,
        wish: Wish<'_>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<usize> {
        let choices = self.serving.len() - usize::from(except.is_some());
        if choices == 0 {
            return None;
        }
        for _ in 0..DRAWS {
            let mut at = rng.random_range(0..choices);
            at += usize::from(except.is_some_and(|except| at >= except));
            if self.is_usable(at, endpoints, wish) && self.is_keen(at, endpoints, wish, rng) {
                return Some(at);
            }
        }
        None
    }

    /// The first that may be used, from a random place on.
    fn search(
        &self,
        endpoints: &Endpoints,
        wish: Wish<'_>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<usize> {
        let all = self.serving.len();
        let start = rng.random_range(0..all);
        (0..all)
            .map(|i| (start + i) % all)
            .find(|&at| self.is_usable(at, endpoints, wish))
    }

    fn is_usable(&self, at: usize, endpoints: &Endpoints, wish: Wish<'_>) -> bool {
        let key = self.serving[at];
        endpoints[key].has_room(wish.balance, wish.now) && !wish.tried.contains(&key)
    }

    /// Whether it takes this draw: one that warms up takes part of them, and a
    /// retry goes rather to one that has not failed.
    fn is_keen(
        &self,
        at: usize,
        endpoints: &Endpoints,
        wish: Wish<'_>,
        rng: &mut (impl Rng + ?Sized),
    ) -> bool {
        let endpoint = &endpoints[self.serving[at]];
        if !wish.tried.is_empty() && endpoint.failed_lately(wish.now) {
            return false;
        }
        let warmth = endpoint.warmth(wish.balance, wish.now);
        if warmth >= 1.0 {
            return true;
        }
        let mean = f64::from(self.in_flight) / self.serving.len() as f64;
        f64::from(endpoint.in_flight) <= mean + WARMING_LEAD && rng.random::<f64>() < warmth
    }

    /// Puts an endpoint on the list of those that serve, or takes it off.
    fn place(&mut self, key: EndpointKey, endpoints: &mut Endpoints, now: Instant) {
        let endpoint = &mut endpoints[key];
        match (endpoint.serves(), endpoint.serving_at) {
            (true, None) => {
                // One that is only kept in use has not been away.
                if endpoint.is_well() {
                    endpoint.begin_to_serve(now);
                }
                endpoint.serving_at = Some(self.serving.len());
                self.in_flight = self.in_flight.wrapping_add(endpoint.in_flight);
                self.serving.push(key);
            }
            (false, Some(at)) => {
                endpoint.serving_at = None;
                self.in_flight = self.in_flight.wrapping_sub(endpoint.in_flight);
                self.serving.swap_remove(at);
                if let Some(&moved) = self.serving.get(at) {
                    endpoints[moved].serving_at = Some(at);
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Those that are not ready cannot be probed, and would make one look due
    /// for as long as they are away.
    fn schedule_probe(&mut self, endpoints: &Endpoints, now: Instant) {
        let ready = self.tripped.iter().filter(|&&k| endpoints[k].is_ready());
        self.next_probe = ready
            .filter_map(|&k| endpoints[k].cold.breaker.probe_due(now))
            .min();
    }

    fn rebuild(&mut self, endpoints: &mut Endpoints) {
        self.serving.clear();
        self.tripped.clear();
        (self.well, self.unknown, self.in_flight) = (0, 0, 0);
        for &key in self.by_address.values() {
            let endpoint = &mut endpoints[key];
            endpoint.cold.counted_well = endpoint.is_well();
            endpoint.serving_at = None;
            self.well += usize::from(endpoint.cold.counted_well);
            self.unknown += usize::from(endpoint.cold.health.health() == Health::Unknown);
            if endpoint.serves() {
                endpoint.serving_at = Some(self.serving.len());
                self.in_flight += endpoint.in_flight;
                self.serving.push(key);
            }
            if endpoint.cold.breaker.state() != BreakerState::Closed {
                self.tripped.push(key);
            }
        }
    }
}
