//! What attempts teach: by the head of an answer, by its absence, and by the age
//! of those that have none yet.
//!
//! An attempt may be slow in itself, or slow beside what its endpoint's peers usually
//! take. The second holds only while the peers are faster: when load triples
//! within a second, every endpoint of the pool gets slower than the pool was, and
//! breakers that open then, one after the other, take away what is needed
//! most. So where the last answer of more than half of its peers took about as long, or
//! will once it comes, being slower than usual charges nobody. The attempt stays out,
//! to be judged by `latency_threshold` and by its time per try, which hold whatever the
//! others do: an endpoint that hangs is found in an overload too.
//!
//! An endpoint that refuses a request wants to be left alone, and so it is. But a server
//! that knows how long its queue is also refuses a request that came with less time than that,
//! and has room for any other. So where a request had much less time than others have, and
//! little beside what an answer usually takes, its refusal says something of the request:
//! or one client in a hurry would park one endpoint after the other for all.

use std::time::{Duration, Instant};

use rand::Rng;

use super::{EndpointKey, ModelPolicy, Observed, Permit, Suspect, Transition};
use crate::{
    breaker::{Basis, Sample, Slowness, Threshold},
    outcome::Outcome,
    running::{Out, RequestKey, Running},
};

/// How many times longer than its peers an attempt may take by now and not be called
/// slower than they are.
const NEARLY: f64 = 1.5;
/// How many times what nearly all attempts take a request needs at least, for its refusal
/// to be about the endpoint: a line that doubles it is nothing out of the ordinary.
const UNHURRIED: u32 = 2;
/// And this part of the time that ordinary requests have: those of a slow model have not
/// much more than they need.
const ORDINARY: u32 = 2;

impl ModelPolicy {
    /// The whole request has been sent: from now on its age counts.
    pub fn sent(&mut self, permit: &Permit, now: Instant) {
        let out = self.running.get_mut(permit.request);
        if out.is_some_and(|out| out.teaches) {
            self.running.wait(permit.request, now);
        }
    }

    /// Takes what an attempt taught of its endpoint: at the head of its answer,
    /// or when there will be none. To be called once.
    pub fn judge(
        &mut self,
        permit: &Permit,
        observed: Observed,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Transition> {
        let out = self.running.get_mut(permit.request)?;
        let age = out.age(now);
        self.running.rest(permit.request);
        let endpoint = self.endpoints.get_mut(permit.endpoint)?;
        if let Some(report) = observed.report {
            endpoint.take_report(report, now);
        }
        let sample = self.sample(permit, observed.outcome, age, now);
        if let Outcome::Pushback { park } = observed.outcome
            && !self.was_hurried(permit)
        {
            let endpoint = self.endpoints.get_mut(permit.endpoint)?;
            let until = endpoint.park(park, now);
            self.pools[endpoint.pool].parks(until);
        }
        if let Some(out) = self.running.get_mut(permit.request) {
            out.counted = true;
        }
        self.record(permit.request, sample, now, rng)
    }

    /// Takes a permit back. `broke_off` says that an answer which had begun
    /// ended before its end. A permit that was never judged has taught nothing,
    /// unless it was out for too long.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is used once")]
    pub fn release(
        &mut self,
        permit: Permit,
        broke_off: bool,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Transition> {
        let out = self.running.get_mut(permit.request)?;
        let (judged, teaches) = (out.counted, out.teaches);
        let mut moved = None;
        if !judged {
            moved = self.judge(&permit, Outcome::Neutral.into(), now, rng);
        }
        let had_failed = |running: &Running| {
            let out = running.get(permit.request);
            out.is_some_and(|out| out.failed)
        };
        if broke_off && teaches && !had_failed(&self.running) {
            if let Some(endpoint) = self.endpoints.get_mut(permit.endpoint) {
                endpoint.count_failure(now);
            }
            let failed = self.record(permit.request, Sample::BrokeOff, now, rng);
            moved = failed.or(moved);
        }
        self.leave_slot(permit.request);
        moved
    }

    /// [`Self::judge`] and [`Self::release`] in one.
    pub fn settle(
        &mut self,
        permit: Permit,
        observed: impl Into<Observed>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Transition> {
        let moved = self.judge(&permit, observed.into(), now, rng);
        self.release(permit, false, now, rng).or(moved)
    }

    /// Takes a permit back whose verdict depends on what another endpoint makes
    /// of the same request. None when the endpoint is gone.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is used once")]
    pub fn suspect(&mut self, permit: Permit, now: Instant) -> Option<Suspect> {
        let out = self.leave_slot(permit.request)?;
        if out.teaches {
            // Whatever the verdict will be, others had better go elsewhere meanwhile.
            self.endpoints.get_mut(out.endpoint)?.suspected(now);
        }
        Some(Suspect {
            endpoint: out.endpoint,
            ticket: out.teaches.then_some(out.ticket),
        })
    }

    /// Ends a suspicion.
    pub fn resolve(
        &mut self,
        suspect: Suspect,
        guilty: bool,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Transition> {
        let mut ticket = suspect.ticket?;
        let endpoint = self.endpoints.get_mut(suspect.endpoint)?;
        let sample = if guilty {
            endpoint.count_failure(now);
            Sample::Failed
        } else {
            Sample::Nothing
        };
        let is_probe = ticket.is_probe();
        let step = endpoint.cold.breaker.record(&mut ticket, sample, now, rng);
        self.moved(suspect.endpoint, step, is_probe, now)
    }

    /// Looks for requests that have been out for too long, and learns what is
    /// usual. To be called a few dozen times a second.
    pub fn tick(&mut self, now: Instant, rng: &mut (impl Rng + ?Sized)) -> Vec<Transition> {
        for pool in &mut self.pools {
            pool.compare(&mut self.endpoints, now);
        }
        let breaker = &self.config.rules.breaker;
        let young = breaker.relative_floor.min(breaker.latency_threshold);
        let mut slow = Vec::new();
        for (request, out, waited) in self.running.older_than(young, now) {
            let Some(endpoint) = self.endpoints.get_mut(out.endpoint) else {
                continue;
            };
            let threshold = self.pools[endpoint.pool].threshold(endpoint, breaker);
            if waited > threshold.limit {
                // Of all it is known how long they wait before any is judged.
                endpoint.cold.recent.waits(waited);
                slow.push((request, Slowness { waited, threshold }));
            }
        }
        let mut moved = Vec::new();
        for (request, slowness) in slow {
            let Some(out) = self.running.get_mut(request) else {
                continue;
            };
            let (key, is_probe) = (out.endpoint, out.ticket.is_probe());
            if self.is_excused(key, slowness, is_probe) {
                continue;
            }
            self.running.rest(request);
            if let Some(out) = self.running.get_mut(request) {
                out.counted = true;
            }
            if let Some(endpoint) = self.endpoints.get_mut(key) {
                endpoint.count_slow();
                endpoint.cold.recent.push(slowness.waited);
            }
            moved.extend(self.record(request, Sample::Slow(slowness), now, rng));
        }
        moved
    }

    /// What an outcome says to the breaker; also takes note of how long it took.
    fn sample(&mut self, permit: &Permit, outcome: Outcome, age: Duration, now: Instant) -> Sample {
        let (Some(out), Some(endpoint)) = (
            self.running.get_mut(permit.request),
            self.endpoints.get_mut(permit.endpoint),
        ) else {
            return Sample::Nothing;
        };
        if !out.teaches {
            return Sample::Nothing;
        }
        let rules = &self.config.rules;
        let pool = &mut self.pools[endpoint.pool];
        let threshold = pool.threshold(endpoint, &rules.breaker);
        let given = out.given;
        if outcome == Outcome::TimedOut && given.tells {
            // One that was counted by its age has none any more; its time was up.
            let waited = if out.counted { given.within } else { age };
            pool.peers.observe_at_least(waited, now);
        }
        let late = |waited: Duration| {
            let slow = !out.counted && waited > threshold.limit;
            slow.then_some(Sample::Slow(Slowness { waited, threshold }))
        };
        let sample = match outcome {
            Outcome::Success { waited } => {
                endpoint.expected.observe(waited, rules.balance.decay, now);
                if !out.counted {
                    endpoint.cold.recent.push(waited);
                }
                let slow = late(waited);
                if slow.is_none() && !out.counted {
                    pool.peers.observe(waited, now);
                }
                let nothing_new = if out.counted {
                    Sample::Nothing
                } else {
                    Sample::Good
                };
                slow.unwrap_or(nothing_new)
            }
            Outcome::Early => Sample::Good,
            Outcome::Failure => Sample::Failed,
            // Slow, and not failed: a pool that slows down as a whole must look
            // like one that is overloaded.
            Outcome::TimedOut if given.is_fair && !out.counted => {
                let waited = age.max(given.within);
                let threshold = Threshold {
                    limit: given.within,
                    basis: Basis::PerTry,
                };
                endpoint.cold.recent.push(waited);
                Sample::Slow(Slowness { waited, threshold })
            }
            Outcome::TimedOut | Outcome::Neutral => late(age).unwrap_or(Sample::Nothing),
            Outcome::Pushback { .. } => Sample::Nothing,
        };
        match sample {
            Sample::Failed => {
                endpoint.count_failure(now);
                out.failed = true;
            }
            Sample::Slow(slowness) => {
                endpoint.count_slow();
                if self.is_excused(permit.endpoint, slowness, permit.is_probe) {
                    return Sample::Nothing;
                }
            }
            Sample::Good | Sample::BrokeOff | Sample::Nothing => {}
        }
        sample
    }

    /// Whether the request of an attempt had so little time that this may be why it was
    /// refused.
    fn was_hurried(&self, permit: &Permit) -> bool {
        let Some((out, endpoint)) = self
            .running
            .get(permit.request)
            .zip(self.endpoints.get(permit.endpoint))
        else {
            return false;
        };
        let left = out.given.left;
        let needs = match self.pools[endpoint.pool].peers.p99() {
            Some(p99) => p99 * UNHURRIED,
            None => self.config.rules.retry.per_try_floor,
        };
        left < needs && left < self.ordinary / ORDINARY
    }

    /// Whether an attempt was slow only beside what its peers were before they were as
    /// slow, or nearly: one of them is the first to be beyond any limit. A probe is not excused: one after the other at an endpoint that hangs
    /// would cost as many requests their time.
    fn is_excused(&self, of: EndpointKey, slowness: Slowness, is_probe: bool) -> bool {
        let pool = self.endpoints.get(of).map(|e| &self.pools[e.pool]);
        let nearly = slowness.waited.div_f64(NEARLY);
        !is_probe
            && slowness.threshold.basis.is_relative()
            && pool.is_some_and(|pool| pool.peers_exceed(nearly, of, &self.endpoints))
    }

    fn record(
        &mut self,
        request: RequestKey,
        sample: Sample,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Transition> {
        let out = self.running.get_mut(request)?;
        let key = out.endpoint;
        let is_probe = out.ticket.is_probe();
        let breaker = &mut self.endpoints.get_mut(key)?.cold.breaker;
        let step = breaker.record(&mut out.ticket, sample, now, rng);
        self.moved(key, step, is_probe, now)
    }

    /// Frees the slot of a request.
    fn leave_slot(&mut self, request: RequestKey) -> Option<Out> {
        let out = self.running.leave(request)?;
        let endpoint = self.endpoints.get_mut(out.endpoint)?;
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        self.pools[endpoint.pool].count_in_flight(endpoint, false);
        Some(out)
    }
}
