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
            // It will not be made, but the breaker that it was to probe has moved.
            if let Some(transition) = &attempt.transition {
                self.model.moved(transition);
            }
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

#[cfg(test)]
mod tests {
    use aegis_policy::{Ask, CheckResult, Outcome, Purpose};

    use super::*;
    use crate::{config, metrics::Metrics, model::Entry, state::Shared};

    /// One endpoint with one slot, out for hardly any time after one failure.
    const CONFIG: &str = r#"
[models.m.versions.1]
weight = 1
endpoints = ["127.0.0.1:1"]
[models.m.balance]
max_in_flight = 1
[models.m.breaker]
consecutive_failures = 1
open_base_ms = 10
"#;

    #[test]
    fn a_breaker_that_moved_for_somebody_who_has_left_is_counted_all_the_same() {
        let config = config::parse("test", CONFIG).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let shared = Shared::new(config, Arc::clone(&metrics)).unwrap();
        let model = Arc::clone(shared.snapshot().model("m").unwrap());
        model.check("1", "127.0.0.1:1".parse().unwrap(), CheckResult::Up);
        let now = clock::now();
        let ask = Ask {
            version: None,
            sticky: None,
            replayable: true,
            uploading: false,
            retries_left: true,
            purpose: Purpose::Inference,
            deadline: now + Duration::from_mins(1),
        };
        let Ok(Entry::Go(attempt)) = model.admit(ask, now) else {
            panic!("it has a slot");
        };
        let Ok(Entry::Wait(place)) = model.admit(ask, now) else {
            panic!("it has one slot");
        };
        attempt.lease.judge(Outcome::Failure, now);
        // When the slot comes free, its time in open is over.
        let later = now + Duration::from_millis(50);
        while clock::now() < later {
            std::thread::yield_now();
        }
        attempt.lease.end(false, later);
        drop(place);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let moved = |to: &str| {
            let to = format!("to=\"{to}\"");
            let lines = text.lines().filter(|line| {
                line.starts_with("aegis_proxy_breaker_transitions_total") && line.contains(&to)
            });
            let counts = lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
            counts.sum::<f64>()
        };
        assert!((moved("open") - 1.0).abs() < 1e-9, "{text}");
        assert!((moved("half_open") - 1.0).abs() < 1e-9, "{text}");
    }
}
