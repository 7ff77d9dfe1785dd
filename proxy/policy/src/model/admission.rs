//! A request's first attempt: where it goes, and what is answered when it can go
//! nowhere.
//!
//! A static answer is the end of the fallback chain, and ranks there:
//!
//! 1. Whatever may take the request comes first: an endpoint that is due for a
//!    probe, the chosen version, its fallback versions, and of the chosen version
//!    also those that want to be left alone, were never checked, or are only kept
//!    in use because they may be overloaded and not ill.
//! 2. It stands in for panic: with it, no request is sent to endpoints that are
//!    known to be down, and since it takes the traffic of a version, the ejection
//!    caps of that version do not hold.
//! 3. It stands in for the refusal of a request that can go nowhere, and for the
//!    error that would end one whose attempts have all failed.
//!
//! A request whose version and fallbacks are all full waits for a slot before it
//! is refused or answered so: a real answer is better than a canned one. It is
//! turned away at once where too many wait already, or where by its place in line
//! it would not be served in time; "in time" leaves what an endpoint usually
//! takes, or in an overload that lasts every request would be sent just before its
//! deadline, and every answer would come too late. A slot that comes free is given
//! away in the same moment ([`ModelPolicy::serve`]), so nobody who arrives later
//! takes it first, and each wakes one request. Retries do not wait: their time is
//! half gone, and their endpoints are failing.
//!
//! It stands in for inference only, and for requests that name their version only
//! where those may fall back. That the client's own deadline has passed before
//! anything was tried is not the version's failure, and is refused as ever.

use std::{sync::Arc, time::Instant};

use rand::Rng;

use super::{
    Ask, Attempt, ChosenBy, FallbackReason, ModelPolicy, Purpose, Refusal,
    request::{Route, Terms},
};
use crate::queue::{LaneKey, Waiter};

/// A request that has no attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// What is answered instead of a refusal: the static answer.
    pub stand_in: Option<StandIn>,
}

/// A request that is not refused.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request is the large one, and a box is an allocation"
)]
pub enum Admitted {
    /// It goes to an endpoint now.
    Now(Attempt),
    /// It waits until [`ModelPolicy::serve`] names it.
    Queued(Waiter),
}

/// What a request that waits asks for.
#[derive(Debug)]
pub(super) struct Waits {
    by: ChosenBy,
    /// Without the version that it named: that is chosen.
    ask: Ask<'static>,
}

/// The static answer, in the place of a version's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The version that was chosen.
    pub chosen: Arc<str>,
    /// How that came about.
    pub by: ChosenBy,
    /// Why it does not answer.
    pub reason: FallbackReason,
}

// === impl ModelPolicy ===

impl ModelPolicy {
    /// Chooses a version and an endpoint for a request's first attempt.
    ///
    /// # Errors
    /// [`Refusal::UnknownVersion`] for a version that is not there,
    /// [`Refusal::NoTime`] for a deadline that has passed, [`Refusal::NoRoom`]
    /// when all endpoints are full, [`Refusal::NoEndpoint`] when there are none.
    pub fn start(
        &mut self,
        ask: Ask<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Attempt, Refusal> {
        let (chosen, by) = self.arrive(ask, now, rng)?;
        self.first(chosen, by, ask, now, rng)
    }

    /// As [`Self::start`]; but a request that finds all endpoints full may wait,
    /// and a refusal comes with what is answered in its place.
    ///
    /// # Errors
    /// Those of [`Self::start`]; also [`Refusal::QueueFull`] and
    /// [`Refusal::WaitTooLong`].
    pub fn admit(
        &mut self,
        ask: Ask<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Admitted, Refused> {
        let (chosen, by) = self.arrive(ask, now, rng)?;
        let refusal = match self.first(chosen, by, ask, now, rng) {
            Ok(attempt) => return Ok(Admitted::Now(attempt)),
            Err(Refusal::NoRoom) => match self.enqueue(chosen, by, ask, now) {
                Ok(waiter) => return Ok(Admitted::Queued(waiter)),
                Err(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        Err(self.refused(refusal, &self.pools[chosen].name, by, ask.purpose))
    }

    /// Gives a slot to the most urgent of those that wait and can use one; or
    /// turns away one that has waited in vain. To be called until there is none
    /// when slots may have come free: after a release, a check, a reload, and with
    /// every tick, since endpoints that want to be left alone come back with time.
    pub fn serve(
        &mut self,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<(Waiter, Result<Attempt, Refused>)> {
        let mut stuck = None;
        while let Some((rank, waiter)) = self.queue.first(stuck) {
            if let Some(outcome) = self.serve_one(waiter, now, rng) {
                return Some((waiter, outcome));
            }
            // Its lane has no slot; those behind it need not be asked.
            stuck = Some(rank);
        }
        None
    }

    /// Takes a request out of the queue: its deadline has passed. None when it
    /// does not wait.
    pub fn expire(&mut self, waiter: Waiter, now: Instant) -> Option<Refused> {
        let (lane, waits) = self.queue.get(waiter)?;
        let (by, purpose) = (waits.by, waits.ask.purpose);
        let refused = self.refused(Refusal::WaitedInVain, &lane.version, by, purpose);
        self.abandon(waiter, now);
        Some(refused)
    }

    /// Takes a request out of the queue: its client has left.
    pub fn abandon(&mut self, waiter: Waiter, now: Instant) {
        self.queue.leave(waiter, false, now);
    }

    /// How many requests wait for a slot.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// What is answered for a version whose attempts at a request have failed.
    #[must_use]
    pub fn give_up(&self, chosen: &Arc<str>, by: ChosenBy, purpose: Purpose) -> Option<StandIn> {
        self.stands_in(by, purpose == Purpose::Inference)
            .then(|| StandIn {
                chosen: Arc::clone(chosen),
                by,
                reason: FallbackReason::AttemptsFailed,
            })
    }

    /// Whether there is a static answer for such a request.
    pub(super) fn stands_in(&self, by: ChosenBy, is_inference: bool) -> bool {
        self.config.rules.static_answer && is_inference && self.may_fall_back(by)
    }

    /// A request has come: it counts, and it has a version.
    fn arrive(
        &mut self,
        ask: Ask<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<(usize, ChosenBy), Refusal> {
        let chosen = self.choose(ask, rng)?;
        if ask.deadline <= now {
            return Err(Refusal::NoTime);
        }
        self.ordinary = self.ordinary.max(ask.deadline - now);
        self.budget_of(ask.purpose == Purpose::Inference)
            .deposit(now);
        Ok(chosen)
    }

    fn first(
        &mut self,
        chosen: usize,
        by: ChosenBy,
        ask: Ask<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Attempt, Refusal> {
        let terms = Terms {
            tried: &[],
            uploading: ask.uploading,
            rescue: ask.replayable && ask.retries_left,
            teaches: ask.purpose == Purpose::Inference,
            deadline: ask.deadline,
        };
        let own = Route::own(chosen, by);
        if ask.replayable
            && let Some(attempt) = self.probe(own, terms, now)
        {
            return Ok(attempt);
        }
        if by != ChosenBy::Pinned
            && let Some(attempt) = self.leave(own, ask.sticky, terms, now, rng)
        {
            return Ok(attempt);
        }
        if let Some(attempt) = self.pick(own, terms, now, rng) {
            return Ok(attempt);
        }
        // Nothing better is left, so a request that cannot be sent again may
        // probe too: where all requests are such, no other ever would.
        if let Some(attempt) = self.probe(own, terms, now) {
            return Ok(attempt);
        }
        let reason = self.reason_to_leave(chosen);
        if self.may_fall_back(by)
            && let Some(attempt) = self.fall_back(own, reason, terms, now, rng)
        {
            return Ok(attempt);
        }
        self.panic(own, terms, now, rng)
    }

    /// Puts a request in line, unless that is in vain.
    fn enqueue(
        &mut self,
        chosen: usize,
        by: ChosenBy,
        ask: Ask<'_>,
        now: Instant,
    ) -> Result<Waiter, Refusal> {
        match self.config.rules.max_queued {
            0 => return Err(Refusal::NoRoom),
            most if self.queue.len() >= most => return Err(Refusal::QueueFull),
            _ => {}
        }
        let lane = LaneKey {
            version: Arc::clone(&self.pools[chosen].name),
            may_leave: self.may_fall_back(by),
        };
        let wait = self.queue.expected_wait(&lane, ask.deadline, now);
        let served = now + wait.unwrap_or_default();
        if self.is_too_late(chosen, ask.deadline, served) {
            return Err(Refusal::WaitTooLong);
        }
        let ask = Ask {
            version: None,
            ..ask
        };
        let waits = Waits { by, ask };
        Ok(self.queue.enter(lane, ask.deadline, waits, now))
    }

    /// What becomes of one that waits; none when it goes on waiting.
    fn serve_one(
        &mut self,
        waiter: Waiter,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Result<Attempt, Refused>> {
        let (lane, &Waits { by, ask }) = self.queue.get(waiter)?;
        let version = Arc::clone(&lane.version);
        let chosen = match self.index_of(&version) {
            Ok(chosen) => chosen,
            // A reload took it away. Where it was drawn, it is drawn again.
            Err(_) if by != ChosenBy::Pinned => self.config.split.draw(rng),
            Err(refusal) => {
                self.abandon(waiter, now);
                return Some(Err(refusal.into()));
            }
        };
        let outcome = if self.is_too_late(chosen, ask.deadline, now) {
            Err(Refusal::WaitedInVain)
        } else {
            self.first(chosen, by, ask, now, rng)
        };
        if outcome.as_ref().err() == Some(&Refusal::NoRoom) {
            return None;
        }
        self.queue.leave(waiter, outcome.is_ok(), now);
        Some(outcome.map_err(|refusal| self.refused(refusal, &version, by, ask.purpose)))
    }

    /// Whether an attempt that begins then would most likely miss the deadline.
    fn is_too_late(&self, chosen: usize, deadline: Instant, then: Instant) -> bool {
        let takes = self.pools[chosen].peers.median().unwrap_or_default();
        then + takes >= deadline
    }

    fn refused(
        &self,
        refusal: Refusal,
        chosen: &Arc<str>,
        by: ChosenBy,
        purpose: Purpose,
    ) -> Refused {
        let reason = match refusal {
            Refusal::NoEndpoint => Some(FallbackReason::Unavailable),
            Refusal::NoRoom | Refusal::QueueFull | Refusal::WaitTooLong | Refusal::WaitedInVain => {
                Some(FallbackReason::Spill)
            }
            Refusal::UnknownVersion | Refusal::NoBudget | Refusal::NoTime => None,
        };
        let reason = reason.filter(|_| self.stands_in(by, purpose == Purpose::Inference));
        Refused {
            refusal,
            stand_in: reason.map(|reason| StandIn {
                chosen: Arc::clone(chosen),
                by,
                reason,
            }),
        }
    }
}

// === impl Refused ===

impl From<Refusal> for Refused {
    /// A refusal that nothing stands in for.
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            stand_in: None,
        }
    }
}
