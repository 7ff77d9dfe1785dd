//! A place in a model's queue, and how its turn comes.
//!
//! Who waits is known to the policy, in its order; what is kept here is how to
//! wake each of them. A slot that comes free is turned into the attempt of the
//! request that gets it, under the same lock, and sent to that request alone:
//! nothing is woken that has nothing to do, and nobody can take the slot in
//! between. A request that vanishes takes itself out under that lock too, so one
//! that is still in the queue is always there to receive; what was sent to it in
//! the last moment is given back.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_policy::{Refused, Waiter};
use tokio::sync::oneshot;

use super::{Attempt, Decider, Model, Version};
use crate::clock;

/// What a request that waits is sent: its attempt, or that there will be none.
type Turn = Result<(aegis_policy::Attempt, Option<Arc<Version>>), Refused>;

/// Those that wait, by their names in the policy.
#[derive(Debug, Default)]
pub(super) struct Waiters(HashMap<Waiter, oneshot::Sender<Turn>>);

/// A place in the queue, given up when dropped.
#[derive(Debug)]
#[must_use = "a place that is dropped is given up"]
pub struct Place {
    model: Arc<Model>,
    waiter: Waiter,
    turn: oneshot::Receiver<Turn>,
    since: Instant,
}

// === impl Place ===

impl Place {
    /// A place for a request that the policy has put in line.
    pub(super) fn new(
        model: &Arc<Model>,
        decider: &mut Decider,
        waiter: Waiter,
        since: Instant,
    ) -> Self {
        let (wake, turn) = oneshot::channel();
        decider.waiters.0.insert(waiter, wake);
        Self {
            model: Arc::clone(model),
            waiter,
            turn,
            since,
        }
    }

    /// Waits for its turn, until `deadline` at most.
    ///
    /// # Errors
    /// Why the turn never came.
    ///
    /// # Cancel safety
    /// Nothing is lost: the place stands, and may be waited for again.
    pub async fn turn(&mut self, deadline: Instant) -> Result<Attempt, Refused> {
        let turn = match tokio::time::timeout_at(deadline.into(), &mut self.turn).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => match self.model.expire(self.waiter) {
                Some(refused) => Err(refused),
                // It came between the two.
                None => self
                    .turn
                    .try_recv()
                    .unwrap_or_else(|_| Err(aegis_policy::Refusal::WaitedInVain.into())),
            },
        };
        let (attempt, version) = turn?;
        self.model.begin(attempt, version)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let stood = clock::now().saturating_duration_since(self.since);
        self.model.leave_queue(self.waiter, stood);
        // The lock has been taken in between: what comes comes before this.
        self.turn.close();
        if let Ok(Ok((attempt, _))) = self.turn.try_recv() {
            self.model.release(attempt.permit, false, clock::now());
        }
    }
}

// === impl Model ===

impl Model {
    /// A request's deadline has passed while it waited; none when its turn has come.
    fn expire(&self, waiter: Waiter) -> Option<Refused> {
        let now = clock::now();
        let mut decider = self.decider.lock();
        decider.waiters.0.remove(&waiter);
        decider.policy.expire(waiter, now)
    }

    /// Whoever stood there is gone, or has had its turn.
    fn leave_queue(&self, waiter: Waiter, stood: Duration) {
        let now = clock::now();
        let mut decider = self.decider.lock();
        decider.waiters.0.remove(&waiter);
        decider.policy.abandon(waiter, now);
        drop(decider);
        self.queue_seconds.observe(stood.as_secs_f64());
    }
}

// === impl Decider ===

impl Decider {
    /// Hands out the slots that have come free.
    pub(super) fn serve_queue(&mut self) {
        if self.policy.queued() == 0 {
            return;
        }
        let now = clock::now();
        let rng = &mut rand::rng();
        while let Some((waiter, outcome)) = self.policy.serve(now, rng) {
            let turn = outcome.map(|attempt| {
                let version = self.version(&attempt.version);
                (attempt, version)
            });
            let Some(wake) = self.waiters.0.remove(&waiter) else {
                continue;
            };
            if let Err(Ok((attempt, _))) = wake.send(turn) {
                // Whoever waits leaves under this lock, so there is always somebody.
                self.policy.release(attempt.permit, false, now, rng);
            }
        }
    }
}
