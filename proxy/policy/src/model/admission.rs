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
//! It stands in for inference only, and for requests that name their version only
//! where those may fall back. That the client's own deadline has passed before
//! anything was tried is not the version's failure, and is refused as ever.

use std::{sync::Arc, time::Instant};

use rand::Rng;

use super::{
    Ask, Attempt, ChosenBy, FallbackReason, ModelPolicy, Purpose, Refusal,
    request::{Route, Terms},
};

/// A request that has no attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// What is answered instead of a refusal: the static answer.
    pub stand_in: Option<StandIn>,
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

    /// As [`Self::start`]; a refusal comes with what is answered in its place.
    ///
    /// # Errors
    /// Those of [`Self::start`].
    pub fn admit(
        &mut self,
        ask: Ask<'_>,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Attempt, Refused> {
        let (chosen, by) = self.arrive(ask, now, rng)?;
        self.first(chosen, by, ask, now, rng)
            .map_err(|refusal| self.refused(refusal, chosen, by, ask.purpose))
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
        if ask.purpose == Purpose::Inference {
            self.budget.deposit(now);
        }
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
            && let Some(attempt) = self.leave(chosen, by, terms, now, rng)
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

    fn refused(&self, refusal: Refusal, chosen: usize, by: ChosenBy, purpose: Purpose) -> Refused {
        let can_be_answered = match refusal {
            Refusal::NoEndpoint | Refusal::NoRoom => true,
            Refusal::UnknownVersion | Refusal::NoBudget | Refusal::NoTime => false,
        };
        let answered = can_be_answered && self.stands_in(by, purpose == Purpose::Inference);
        Refused {
            refusal,
            stand_in: answered.then(|| StandIn {
                chosen: Arc::clone(&self.pools[chosen].name),
                by,
                reason: self.reason_to_leave(chosen),
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
