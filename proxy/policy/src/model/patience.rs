//! How long an attempt gets for the first byte of its answer.
//!
//! One that can be rescued gets what is fair in its pool, some times the 99th
//! percentile, and at most half of the time that is left, so that its rescue has the
//! other half. That is worth it only where it ends nothing but what takes longer than
//! usual. Where half of the time is less than the 99th percentile, healthy endpoints
//! would be given up too, and after them each rescue, which has less: a model that takes
//! 900 ms of 1,500 would never answer, at any load. There an attempt gets all of it. It
//! is the percentile that counts and not the median, since what a healthy pool would be cut short
//! of are the same inputs every time, the large ones; what hangs meanwhile costs a few
//! requests their time, until its breaker opens.
//!
//! An attempt that is given up has no answer to learn from, so a pool that has become
//! slower than it was would be given up for ever. What tells it from an endpoint that
//! hangs is the next attempt: if that is given up as well, at another endpoint, it is taken
//! for one that would have been answered later ([`Peers::observe_at_least`]). Where
//! another version can answer instead it is not: nobody is without an answer, and it
//! may well be all of a version that hangs.
//!
//! Where nothing is known, because nothing was ever answered, any limit would be a guess
//! that may turn out to be too short each time. So an attempt gets all of the time, but
//! not every one at once where another version can answer: one finds out, and the others
//! get half.
//!
//! [`Peers::observe_at_least`]: crate::peers::Peers::observe_at_least

use std::time::Instant;

use super::{
    EndpointKey, ModelPolicy,
    request::{Route, Terms},
};
use crate::running::Given;

/// What an attempt gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) given: Given,
    /// It finds out how long one takes.
    pub(super) explores: bool,
}

impl ModelPolicy {
    /// How long an attempt at an endpoint gets.
    pub(super) fn patience(
        &mut self,
        route: Route,
        key: EndpointKey,
        terms: Terms<'_>,
        now: Instant,
    ) -> Patience {
        let left = terms.deadline.saturating_duration_since(now);
        let budget = self.config.rules.retry.budget;
        let can_be_rescued = terms.rescue
            && (self.has_another(route.version, key, terms, now)
                || self.is_relieved(route, key, terms, now))
            && self.budget_of(terms.teaches).left(budget, now) >= 1.0;
        let retry = &self.config.rules.retry;
        let pool = &self.pools[route.version];
        let (fair, half) = (pool.peers.fair(retry), left / 2);
        let mut explores = false;
        let is_long = match pool.peers.p99() {
            Some(p99) => half >= p99,
            None if !can_be_rescued || !self.is_relieved(route, key, terms, now) => false,
            None => {
                let is_explored = pool.explorer.is_some_and(|by| self.running.holds(by));
                explores = terms.teaches && !is_explored;
                !explores
            }
        };
        let within = if can_be_rescued && is_long && half >= retry.per_try_floor {
            fair.unwrap_or(half).min(half)
        } else {
            left
        };
        let given = Given {
            left,
            within,
            is_fair: fair.is_some_and(|fair| within >= fair),
            tells: !terms.tried.is_empty() && !self.is_relieved(route, key, terms, now),
        };
        Patience { given, explores }
    }

    /// Whether another version could take over from an attempt: the one that was chosen,
    /// which every next attempt goes to first, or one of the chain where that may be taken.
    fn is_relieved(&self, route: Route, key: EndpointKey, terms: Terms<'_>, now: Instant) -> bool {
        let chain = self.config.fallback.iter().copied();
        std::iter::once(route.chosen)
            .chain(chain.filter(|_| self.may_fall_back(route.by)))
            .any(|version| version != route.version && self.has_another(version, key, terms, now))
    }

    /// Whether a version has an endpoint for another attempt after the one at `but`.
    fn has_another(
        &self,
        version: usize,
        but: EndpointKey,
        terms: Terms<'_>,
        now: Instant,
    ) -> bool {
        let wish = terms.wish(&self.config.rules.balance, now);
        self.pools[version].has_another(but, &self.endpoints, wish)
    }
}
