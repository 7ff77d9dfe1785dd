//! The way in and the last way out: where a request is tried first, and what it
//! is answered when no version can.
//!
//! The first attempt is chosen before pingora begins to proxy: an answer that
//! is written here keeps the client's connection, and a wave of refusals is no
//! wave of new connections. After an attempt pingora closes it in any case.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_policy::{Ask, Refusal as NoAttempt, Refused, RouteKind, StandIn};
use aegis_protocol::Reason;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::{Exchange, Routed, failure::Failure};
use crate::{
    answer::{Answer, Refusal},
    clock,
    model::{Attempt, Entry, Place},
    request::Forward,
    state::Shared,
};

impl Exchange {
    /// Chooses the first attempt, or what is answered in its place. Where every
    /// endpoint is full, the request waits here for its turn.
    ///
    /// # Errors
    /// The client's: it left while it waited.
    pub(super) async fn enter(
        &mut self,
        session: &mut Session,
        shared: &Shared,
    ) -> Result<Option<Answer>> {
        let Some(forward) = &self.forward else {
            return Ok(None);
        };
        self.uploading = !session.is_body_done();
        let config = forward.model.config();
        let now = clock::now();
        self.received = (!self.uploading).then_some(now);
        let deadline = self.deadline_from(now, config.timeouts.request);
        let ask = Ask {
            version: forward.pinned.as_deref(),
            sticky: self.sticky,
            replayable: self.replayable(session),
            uploading: self.uploading,
            retries_left: config.retry.max_retries > 0,
            purpose: forward.action.purpose(),
            deadline,
        };
        let entry = match forward.model.admit(ask, now) {
            Ok(Entry::Go(attempt)) => Ok(attempt),
            Ok(Entry::Wait(place)) => wait(place, deadline, session).await?,
            Err(refused) => Err(refused),
        };
        self.deadline = Some(deadline);
        Ok(match entry {
            Ok(attempt) => {
                self.next = Some(attempt);
                None
            }
            Err(refused) => Some(self.turn_away(refused, shared)),
        })
    }

    /// What a request is answered that no endpoint can take.
    fn turn_away(&mut self, refused: Refused, shared: &Shared) -> Answer {
        let answer = refused
            .stand_in
            .and_then(|stand_in| self.stand_in(&stand_in));
        answer.unwrap_or_else(|| self.refuse(&nowhere(refused.refusal), shared))
    }

    /// The static answer to a request whose attempts have failed, where there is one.
    pub(super) fn last_resort(&mut self, failure: Option<Failure>) -> Option<Answer> {
        if self.refused.is_some() || !failure.is_some_and(Failure::is_the_endpoints) {
            return None;
        }
        let (Some(forward), Some(routed)) = (&self.forward, &self.route) else {
            return None;
        };
        let purpose = forward.action.purpose();
        let stand_in = forward.model.give_up(&routed.chosen, routed.by, purpose)?;
        self.stand_in(&stand_in)
    }

    /// Whether the static answer would take the place of an endpoint's.
    pub(super) fn has_last_resort(&self) -> bool {
        let (Some(forward), Some(routed)) = (&self.forward, &self.route) else {
            return false;
        };
        if self.call.is_some() {
            return false;
        }
        let (model, purpose) = (&forward.model, forward.action.purpose());
        model.give_up(&routed.chosen, routed.by, purpose).is_some()
    }

    /// Takes the static answer, and takes note of it.
    fn stand_in(&mut self, stand_in: &StandIn) -> Option<Answer> {
        if self.call.is_some() {
            // It is written for clients of HTTP.
            return None;
        }
        let Forward { model, .. } = self.forward.as_ref()?;
        let answer = model.config().static_answer.as_ref()?;
        let endpoint = self.route.as_ref().and_then(|routed| routed.endpoint);
        // A reload may have taken the version away; then nothing is counted for it.
        self.route = model.version(&stand_in.chosen).map(|version| Routed {
            version: Arc::clone(version),
            chosen: Arc::clone(&stand_in.chosen),
            by: stand_in.by,
            kind: RouteKind::Static(stand_in.reason),
            endpoint,
        });
        Some(Answer::of_config(answer))
    }

    /// When the answer must have begun, for a request that we have had whole
    /// since `received`. The client's patience begins with its request; ours when
    /// we have it, or a slow uploader would be out of time before it was begun.
    pub(super) fn deadline_from(&self, received: Instant, ours: Duration) -> Instant {
        let ours = received + ours;
        let theirs = self
            .patience
            .and_then(|patience| self.began.checked_add(patience));
        theirs.map_or(ours, |theirs| ours.min(theirs))
    }
}

/// Waits for a slot. Nothing else looks at the connection meanwhile, so a client
/// that leaves is noticed here; what it sends ahead of its next request is kept
/// for that (pingora does so, since pipelining is on). While a body still comes
/// in, there is no telling its bytes from the end, and only the deadline counts.
async fn wait(
    mut place: Place,
    deadline: Instant,
    session: &mut Session,
) -> Result<Result<Attempt, Refused>> {
    if !session.is_body_done() {
        return Ok(place.turn(deadline).await);
    }
    let client = session.as_downstream_mut().read_body_or_idle(true);
    tokio::select! {
        biased;
        turn = place.turn(deadline) => Ok(turn),
        left = client => {
            let context = "the client left while its request waited for an endpoint";
            let error = Error::explain(ErrorType::ConnectionClosed, context).into_down();
            Err(match left {
                Ok(_) => error,
                Err(cause) => error.more_context(cause.to_string()),
            })
        }
    }
}

/// What a client is told whom no endpoint can take.
fn nowhere(refusal: NoAttempt) -> Refusal {
    let text = refusal.to_string();
    match refusal {
        NoAttempt::UnknownVersion => Refusal::new(Reason::UnknownVersion, text),
        NoAttempt::NoEndpoint | NoAttempt::NoBudget => Refusal::new(Reason::NoEndpoint, text),
        NoAttempt::NoTime => Refusal::new(Reason::Deadline, text),
        NoAttempt::NoRoom | NoAttempt::QueueFull => Refusal::overload(Reason::QueueFull, text),
        NoAttempt::WaitTooLong | NoAttempt::WaitedInVain => {
            Refusal::overload(Reason::Deadline, text)
        }
    }
}
