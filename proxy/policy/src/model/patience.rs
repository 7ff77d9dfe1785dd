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
    ModelPolicy,
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
    /// How long an attempt gets.
    pub(super) fn patience(&mut self, route: Route, terms: Terms<'_>, now: Instant) -> Patience {
        let left = terms.deadline.saturating_duration_since(now);
        let retry = &self.config.rules.retry;
        let can_be_rescued = terms.rescue
            && self.has_elsewhere(route.version, terms.tried.len())
            && self.budget.left(retry.budget, now) >= 1.0;
        let relieved = self.chain_is_well(route.version);
        let peers = &self.pools[route.version].peers;
        let explores = can_be_rescued && relieved && terms.teaches && peers.p99().is_none() && {
            let explorer = self.pools[route.version].explorer;
            !explorer.is_some_and(|explorer| self.running.holds(explorer))
        };
        let fair = peers.fair(retry);
        let half = left / 2;
        let is_cut = can_be_rescued
            && half >= retry.per_try_floor
            && peers.p99().map_or(relieved && !explores, |p99| half >= p99);
        let within = if is_cut {
            fair.unwrap_or(half).min(half)
        } else {
            left
        };
        let given = Given {
            within,
            is_fair: fair.is_some_and(|fair| within >= fair),
            tells: !terms.tried.is_empty() && !relieved,
        };
        Patience { given, explores }
    }

    /// Whether there would be an endpoint for another attempt.
    fn has_elsewhere(&self, version: usize, tried: usize) -> bool {
        self.pools[version].serving() > tried + 1 || self.chain_is_well(version)
    }
}
