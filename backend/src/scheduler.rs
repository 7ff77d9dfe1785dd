//! Whether, when and with whom a request runs: the queue and what batches cost, as one pure machine.
//!
//! **Admission.** A request says when it must be answered; what stands before it, and what that costs,
//! is known. So one that would be late is [refused at once](Refusal::TooLate), with the time to come
//! back after: its client can still ask elsewhere, which it cannot once it has waited for nothing.
//! Under a load of three times what the instances can do, the queue stays as long as can be answered
//! in time, and goodput at capacity. The prediction is
//!
//! ```text
//! (rest of the running batches + rows before it · α + batches of those · β) / instances + its own batch
//! ```
//!
//! and a tenth (`MARGIN`), because costs are means. How many batches those are, and whether it shares the
//! last of them, a [tally](crate::batcher::Tally) says. Nobody is refused while there is an idle instance
//! and nothing before it, whatever was predicted, or before anything was learned.
//!
//! **Promise.** Where all ask for the same time and have as many rows, nearly all who were admitted are
//! answered in time as long as the predictions hold: later ones come behind, and can only lengthen the
//! batch that they share. Requests of different rows may fill batches worse than their mean says, who asks for less time comes before, and so does who is
//! more important: an admitted request that is late for that is given up by the
//! [batcher](crate::batcher) before it runs.
//!
//! Nothing here reads a clock, waits or locks. The engine drives it with the real time, and
//! `tests/overload/` with a virtual one.

use std::time::{Duration, Instant};

use aegis_protocol::LoadReport;

use crate::batcher::{
    Batchable, Batcher, Batches, Class, Decision, Limits, Place, QueueFull, Rejected, Ticket,
};

pub mod cost;
#[cfg(test)]
mod tests;
mod work;

pub use cost::Terms;
pub use work::BatchId;
use work::{Queued, Work};

/// What is added to a prediction.
const MARGIN: f64 = 1.1;

/// The queue of one model version, and what its instances do.
#[derive(Debug)]
pub struct Scheduler<T> {
    batcher: Batcher<T>,
    work: Work,
    limits: Limits,
    /// Instances that work.
    instances: usize,
}

/// Why a request is not taken. A retry may help, later or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too much waits.
    #[error(transparent)]
    Full(#[from] QueueFull),
    /// It would be late.
    #[error(
        "expected to be answered after {} ms, and its deadline is in {} ms",
        .expected.as_millis(), .patience.as_millis()
    )]
    TooLate {
        /// When it would be answered, from now.
        expected: Duration,
        /// When it must be, from now.
        patience: Duration,
    },
}

// === impl Scheduler ===

impl<T: Batchable> Scheduler<T> {
    /// An empty queue before so many idle instances.
    #[must_use]
    pub fn new(limits: Limits, instances: usize, now: Instant) -> Self {
        Self {
            batcher: Batcher::new(limits),
            work: Work::new(now),
            limits,
            instances,
        }
    }

    /// Takes a request in.
    ///
    /// # Errors
    ///
    /// Why not, and the request.
    pub fn push(
        &mut self,
        request: T,
        place: impl Into<Place>,
        now: Instant,
    ) -> Result<Ticket, Rejected<T, Refusal>> {
        let place = place.into();
        if let Some(deadline) = place.deadline
            && let Some(expected) = self.expected(&request, place, now)
            && now + expected > deadline
        {
            let patience = deadline.saturating_duration_since(now);
            let why = Refusal::TooLate { expected, patience };
            return Err(Rejected { request, why });
        }
        let pushed = self.batcher.push(request, place, now);
        pushed.map_err(|Rejected { request, why }| Rejected {
            request,
            why: why.into(),
        })
    }

    /// How long until such a request would be answered there; none where it would be tried in any
    /// case, or before anything is known.
    fn expected(&self, request: &T, place: Place, now: Instant) -> Option<Duration> {
        let before = self.batcher.before(place);
        if before.requests() == 0 && self.work.running() < self.instances {
            return None;
        }
        let terms = self.work.costs.of(request.class())?;
        let rows = request.rows();
        let Batches { count, last } = before.batches(self.limits.max_rows);
        let together = last.saturating_add(rows);
        // It shares the last of the batches before it, unless it has too many rows for that.
        let (ahead, batches, own) = if last > 0 && together <= self.limits.max_rows {
            (before.rows() - last, count - 1, together)
        } else {
            (before.rows(), count, rows)
        };
        let ahead = self.work.rest(now)? + terms.queue_seconds(ahead, batches);
        let wait = ahead / self.instances.max(1) as f64;
        Some(work::seconds((wait + terms.seconds(own)) * MARGIN))
    }

    /// Takes a request out; see [`Batcher::cancel`].
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        self.batcher.cancel(ticket)
    }

    /// Takes everything out, in order.
    pub fn clear(&mut self) -> Vec<T> {
        self.batcher.clear()
    }

    /// Says what to do now, when so many instances are idle; see [`Batcher::poll`].
    pub fn poll(&mut self, now: Instant, idle: usize) -> Decision<T> {
        let costs = &self.work.costs;
        let takes = |request: &T, rows| {
            let terms = costs.of(request.class())?;
            Some(work::seconds(terms.seconds(rows)))
        };
        self.batcher.poll(now, idle, takes)
    }

    /// A batch begins to run.
    pub fn begin(&mut self, class: Class, rows: usize, now: Instant) -> BatchId {
        self.work.begin(class, rows, now)
    }

    /// It has ended; its time is learned from when it did what it should.
    pub fn end(&mut self, id: BatchId, whole: bool, now: Instant) {
        self.work.end(id, whole, now);
    }

    /// A run beside the queue, such as one at warm-up, took so long.
    pub fn learn(&mut self, class: Class, rows: usize, took: Duration) {
        self.work.costs.observe(class, rows, took.as_secs_f64());
    }

    /// The oldest batch that began before that time, which is forgotten, and its rows.
    pub fn give_up(&mut self, began_before: Instant, now: Instant) -> Option<(BatchId, usize)> {
        self.work.give_up(began_before, now)
    }

    /// An instance works no more.
    pub fn lose_instance(&mut self) {
        self.instances = self.instances.saturating_sub(1);
    }

    /// What a proxy wants to know before it sends another request here.
    #[must_use]
    pub fn load_report(&self, in_flight: f64, now: Instant) -> LoadReport {
        let queued = Queued {
            tally: self.batcher.tally(),
            max_rows: self.limits.max_rows,
            instances: self.instances,
        };
        LoadReport {
            queue_depth: Some(self.batcher.len() as f64),
            in_flight: Some(in_flight),
            expected_wait: self.work.expected_wait(queued, now),
            utilization: Some(self.work.utilization(self.instances, now)),
        }
    }

    /// What batches cost, of all shapes; none before the first.
    #[must_use]
    pub fn terms(&self) -> Option<Terms> {
        self.work.costs.terms()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batcher.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batcher.is_empty()
    }
}
