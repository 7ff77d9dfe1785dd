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

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt};

use crate::{
    breaker::{BreakerState, Threshold},
    config::{BalanceBy, BalanceConfig, BreakerConfig, Rules, VersionConfig},
    endpoint::{Endpoint, Endpoints},
    health::Health,
    model::EndpointKey,
    peers::Peers,
    running::RequestKey,
    status::VersionStatus,
    tripped::{Help, Tripped},
};

/// Draws that may be turned down before the pool is searched.
const DRAWS: usize = 8;
/// Endpoints that are searched then, from a random place on. Where none of so many
/// can take a request, one of thousands that could is not worth a look at all.
const SEARCHED: usize = 256;
/// Peers whose last answers are compared with a slow one.
const COMPARED: usize = 32;
/// Endpoints from which on the next pair is drawn ahead.
const FETCHED_FROM: usize = 64;
/// How far above the mean a warming endpoint's load may be.
const WARMING_LEAD: f64 = 1.0;

/// The pool of one version.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    pub(crate) by_address: HashMap<SocketAddr, EndpointKey>,
    /// In the order of the configuration: a map's own would differ from one run
    /// to the next.
    members: Vec<EndpointKey>,
    pub(crate) peers: Peers,
    /// Those that take traffic.
    serving: Vec<EndpointKey>,
    /// Breakers that are not closed.
    tripped: Tripped,
    /// Ready, with nothing against them: those that serve, less those that are
    /// only kept because too many are out.
    well: usize,
    /// Not checked yet: neither available nor missing.
    unknown: usize,
    /// Requests that are out at those that serve.
    in_flight: u32,
    /// Those that serve and have as many requests as they may, or more since that
    /// was lowered.
    full: usize,
    /// As many.
    max_in_flight: u32,
    /// Until when one of them at least wants to be left alone; others may for less.
    parked_until: Option<Instant>,
    /// Whose turn it is, where they take turns.
    turn: usize,
    /// The places that the next choice is between, in a large pool.
    ahead: Option<[usize; 2]>,
    /// The attempt that finds out how long one takes here, while nobody knows.
    pub(crate) explorer: Option<RequestKey>,
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
            members: Vec::new(),
            peers: Peers::default(),
            serving: Vec::new(),
            tripped: Tripped::default(),
            well: 0,
            unknown: 0,
            in_flight: 0,
            full: 0,
            max_in_flight: 0,
            parked_until: None,
            turn: 0,
            ahead: None,
            explorer: None,
        }
    }

    /// Takes the pool's new members; those that stay keep all that is known of them.
    pub(crate) fn reconfigure(
        &mut self,
        index: usize,
        config: &VersionConfig,
        max_in_flight: u32,
        breaker: &Arc<BreakerConfig>,
        endpoints: &mut Endpoints,
        now: Instant,
    ) {
        let mut old = std::mem::take(&mut self.by_address);
        self.members.clear();
        for &address in &config.endpoints {
            let key = old
                .remove(&address)
                .unwrap_or_else(|| endpoints.insert(Endpoint::new(address, index, breaker)));
            self.by_address.insert(address, key);
            self.members.push(key);
            endpoints[key].pool = index;
            endpoints[key].cold.breaker.reconfigure(Arc::clone(breaker));
        }
        for key in old.into_values() {
            endpoints.remove(key);
        }
        self.max_in_flight = max_in_flight;
        self.rebuild(endpoints, now);
    }

    /// Drops every endpoint of the pool.
    pub(crate) fn clear(&mut self, endpoints: &mut Endpoints) {
        self.by_address.clear();
        for key in self.members.drain(..) {
            endpoints.remove(key);
        }
    }

    /// The part of the pool that is ready and not tripped, from 0 to 1.
    /// Endpoints that were never checked count on neither side, so that adding
    /// some does not look like an outage.
    pub(crate) fn available(&self) -> f64 {
        let known = self.members.len() - self.unknown;
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

    /// Whether one could take a request now that is neither `but` nor was tried. While
    /// all want requests this reads no endpoint: in a large pool it would be in no cache.
    pub(crate) fn has_another(
        &self,
        but: EndpointKey,
        endpoints: &Endpoints,
        wish: Wish<'_>,
    ) -> bool {
        let all = self.serving.len();
        let none_is_parked = self.parked_until.is_none_or(|until| until <= wish.now);
        if none_is_parked && all > self.full + wish.tried.len() + 1 {
            return true;
        }
        let start = endpoints[but].serving_at.unwrap_or(0);
        (0..all.min(SEARCHED))
            .map(|i| (start + i) % all)
            .any(|at| self.serving[at] != but && self.is_usable(at, endpoints, wish))
    }

    /// An endpoint that wants a half-open probe, if one is due: the one that has
    /// waited for longest. One that refuses work is not asked before it said, and
    /// in a dry run none is preferred.
    pub(crate) fn probe(
        &self,
        endpoints: &Endpoints,
        balance: &BalanceConfig,
        now: Instant,
    ) -> Option<EndpointKey> {
        self.tripped.due(now, |key| {
            let endpoint = &endpoints[key];
            !endpoint.cold.breaker.lets_traffic_through() && endpoint.has_room(balance, now)
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
        if self.is_full() {
            return None;
        }
        if wish.balance.by == BalanceBy::RoundRobin {
            return self.next_in_turn(endpoints, wish);
        }
        if let Some(pair) = self.pair(endpoints, rng)
            && pair.iter().all(|&at| {
                self.is_usable(at, endpoints, wish) && self.is_keen(at, endpoints, wish, rng)
            })
        {
            return Some(self.better(pair, endpoints, wish));
        }
        let first = self.draw(None, endpoints, wish, rng);
        let first = first.or_else(|| self.search(endpoints, wish, rng))?;
        let Some(second) = self.draw(Some(first), endpoints, wish, rng) else {
            return Some(self.serving[first]);
        };
        Some(self.better([first, second], endpoints, wish))
    }

    /// As [`Self::pick`], with nothing to go by but the requests that are out.
    pub(crate) fn look(
        &self,
        endpoints: &Endpoints,
        wish: Wish<'_>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<EndpointKey> {
        if self.is_full() {
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
        if self.is_full() {
            return None;
        }
        let mut keys = some_of(self.serving.len(), rng).map(|at| self.serving[at]);
        keys.find(|&key| endpoints[key].in_flight < wish.balance.max_in_flight)
    }

    /// Chooses where nothing is well: the least bad one that was not tried; of
    /// those that are ready, while there are any, which all have a breaker that is
    /// not closed. Where something else can answer, only one that was never checked
    /// is worth the try.
    pub(crate) fn pick_in_panic(
        &self,
        endpoints: &Endpoints,
        wish: Wish<'_>,
        only_unknown: bool,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<EndpointKey> {
        let ready = self.tripped.ready();
        let members = if ready.is_empty() {
            &self.members
        } else {
            &ready
        };
        let usable = some_of(members.len(), rng)
            .map(|at| members[at])
            .filter(|&key| {
                let endpoint = &endpoints[key];
                !wish.tried.contains(&key)
                    && endpoint.in_flight < wish.balance.max_in_flight
                    && (!only_unknown || endpoint.is_unknown())
            });
        usable.min_by_key(|&key| (endpoints[key].panic_rank(), rng.random::<u32>()))
    }

    /// Takes note that an endpoint's health or breaker has changed.
    pub(crate) fn refresh(&mut self, key: EndpointKey, endpoints: &mut Endpoints, now: Instant) {
        let endpoint = &mut endpoints[key];
        if endpoint.cold.breaker.state() == BreakerState::Closed {
            endpoint.cold.protected = false;
        }
        let is_well = endpoint.is_well();
        let was_well = std::mem::replace(&mut endpoint.cold.counted_well, is_well);
        self.well = self.well + usize::from(is_well) - usize::from(was_well);
        self.tripped.refresh(key, endpoints, now);
        self.place(key, endpoints, now);
    }

    /// Keeps tripped endpoints in use where nobody else can take their traffic.
    pub(crate) fn protect(&mut self, help: Help, endpoints: &mut Endpoints, now: Instant) {
        for (key, spared) in self.tripped.protect(help, self.well) {
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
        if endpoint.serving_at.is_none() {
            return;
        }
        if more {
            self.in_flight = self.in_flight.wrapping_add(1);
            self.full += usize::from(endpoint.in_flight == self.max_in_flight);
        } else {
            self.in_flight = self.in_flight.wrapping_sub(1);
            let was_full = endpoint.in_flight + 1 == self.max_in_flight;
            self.full = self.full.saturating_sub(usize::from(was_full));
        }
    }

    /// Takes note that an endpoint wants to be left alone.
    pub(crate) fn parks(&mut self, until: Instant) {
        self.parked_until = self.parked_until.max(Some(until));
    }

    /// Learns what is usual now.
    pub(crate) fn compare(&mut self, endpoints: &mut Endpoints, now: Instant) {
        self.peers.compare(&self.serving, endpoints, now);
    }

    /// From when on an attempt at this endpoint is slow.
    pub(crate) fn threshold(&self, endpoint: &Endpoint, breaker: &BreakerConfig) -> Threshold {
        self.peers.threshold(&endpoint.cold, breaker)
    }

    /// Whether the last answer of more than half of the others took longer than that.
    /// Of a large pool some are asked, those that stand next to it.
    pub(crate) fn peers_exceed(
        &self,
        limit: Duration,
        of: EndpointKey,
        endpoints: &Endpoints,
    ) -> bool {
        let start = endpoints[of].serving_at.unwrap_or(0);
        let all = self.serving.len();
        let next = (start..start + all.min(COMPARED)).map(|at| self.serving[at % all]);
        let (mut peers, mut slow) = (0, 0);
        for key in next.filter(|&key| key != of) {
            peers += 1;
            slow += usize::from(endpoints[key].cold.recent.last() > limit);
        }
        slow * 2 > peers
    }

    pub(crate) fn status(
        &self,
        endpoints: &Endpoints,
        rules: &Rules,
        now: Instant,
    ) -> VersionStatus {
        let mut list: Vec<_> = self.members.iter().map(|&k| &endpoints[k]).collect();
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
    fn is_full(&self) -> bool {
        self.full >= self.serving.len()
    }

    fn next_in_turn(&mut self, endpoints: &Endpoints, wish: Wish<'_>) -> Option<EndpointKey> {
        for _ in 0..self.serving.len().min(SEARCHED) {
            self.turn = (self.turn + 1) % self.serving.len();
            if self.is_usable(self.turn, endpoints, wish) {
                return Some(self.serving[self.turn]);
            }
        }
        None
    }

    /// Draws two places. In a pool that no cache holds they were drawn at the last
    /// choice, and fetched since.
    fn pair(&mut self, endpoints: &Endpoints, rng: &mut (impl Rng + ?Sized)) -> Option<[usize; 2]> {
        let all = self.serving.len();
        if all < 2 {
            return None;
        }
        let mut draw = || {
            let first = rng.random_range(0..all);
            let second = rng.random_range(0..all - 1);
            [first, second + usize::from(second >= first)]
        };
        if all < FETCHED_FROM {
            return Some(draw());
        }
        let next = draw();
        for at in next {
            endpoints[self.serving[at]].fetch_for_choice();
        }
        let pair = self
            .ahead
            .replace(next)
            .filter(|pair| pair.iter().all(|&at| at < all));
        pair.or_else(|| Some(draw()))
    }

    /// The one of two where a request would wait for less.
    fn better(&self, pair: [usize; 2], endpoints: &Endpoints, wish: Wish<'_>) -> EndpointKey {
        let [first, second] = pair.map(|at| self.serving[at]);
        let usual = self.peers.usual();
        let better = endpoints[second].beats(&endpoints[first], usual, wish.balance, wish.now);
        let chosen = if better { second } else { first };
        if self.ahead.is_some() {
            endpoints[chosen].fetch_for_answer();
        }
        chosen
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
        some_of(self.serving.len(), rng).find(|&at| self.is_usable(at, endpoints, wish))
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
                self.full += usize::from(endpoint.in_flight >= self.max_in_flight);
                self.serving.push(key);
            }
            (false, Some(at)) => {
                endpoint.serving_at = None;
                self.in_flight = self.in_flight.wrapping_sub(endpoint.in_flight);
                self.full -= usize::from(endpoint.in_flight >= self.max_in_flight);
                self.serving.swap_remove(at);
                if let Some(&moved) = self.serving.get(at) {
                    endpoints[moved].serving_at = Some(at);
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn rebuild(&mut self, endpoints: &mut Endpoints, now: Instant) {
        self.serving.clear();
        self.tripped = Tripped::default();
        (self.well, self.unknown, self.in_flight, self.full) = (0, 0, 0, 0);
        for &key in &self.members {
            let endpoint = &mut endpoints[key];
            endpoint.cold.counted_well = endpoint.is_well();
            endpoint.serving_at = None;
            endpoint.cold.tripped_at = None;
            self.well += usize::from(endpoint.cold.counted_well);
            self.unknown += usize::from(endpoint.cold.health.health() == Health::Unknown);
            if endpoint.serves() {
                endpoint.serving_at = Some(self.serving.len());
                self.in_flight += endpoint.in_flight;
                self.full += usize::from(endpoint.in_flight >= self.max_in_flight);
                self.serving.push(key);
            }
            self.tripped.refresh(key, endpoints, now);
        }
    }
}

/// Places in a list of so many, from a random one on; at most [`SEARCHED`].
fn some_of<R: Rng + ?Sized>(all: usize, rng: &mut R) -> impl Iterator<Item = usize> + use<R> {
    let start = rng.random_range(0..all.max(1));
    (0..all.min(SEARCHED)).map(move |i| (start + i) % all)
}
