//! What runs next: a pure queue that hands out batches.
//!
//! **Rule.** An idle instance takes what is there at once. Waiting for company is only worth its
//! price while every instance is busy, and then it costs nothing, because the requests would wait
//! anyway. Timers lose to this rule twice: at low load they add their whole window to every
//! answer, and at high load the queue has filled a batch before they fire.
//!
//! **Order.** Earliest deadline first, first come first served among equals, and requests without
//! a deadline behind those that have one. The head of that order always runs next; behind it, in
//! the same order, whatever fits joins: requests [alike](Batchable::joins) it, while the rows stay
//! within `max_rows`. A request that has more rows than that runs alone.
//!
//! **Mechanics.** The queue is a [`BTreeMap`] from place to entry, so that taking the head,
//! finding the expired ones (they are always in front) and taking out a client that left are all
//! `O(log n)`. Nothing here reads a clock, waits or locks: `now` is an argument, and the answer to
//! [`Batcher::poll`] says what to do.
//!
//! **Invariants.** Never over `max_requests` or `max_bytes` queued (but for a lone request), never over `max_rows` in a
//! batch of several requests, never two shapes in one batch, never a request after its deadline,
//! and everything that was pushed is handed back exactly once: in a batch, as expired, or to the
//! one who cancels it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// What the batcher must know of a request.
pub trait Batchable {
    /// Rows on the batch axis; at least 1.
    fn rows(&self) -> usize;

    /// Bytes that it keeps in memory while it waits.
    fn bytes(&self) -> usize;

    /// Whether the two can run in one batch: equal shapes but for the batch axis.
    fn joins(&self, other: &Self) -> bool;
}

/// What bounds a queue and its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most rows of a batch that holds more than one request; at least 1.
    pub max_rows: usize,
    /// The most requests that wait.
    pub max_requests: usize,
    /// The most bytes that wait, but that one request of any size may wait alone.
    pub max_bytes: usize,
    /// The longest that a request may be held back for company. An idle instance spends none of
    /// it; who waited longer waited for an instance, and is counted in [`Batch::over_max_wait`].
    pub max_wait: Duration,
}

/// When a request must be answered. Sorts by urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    By(Instant),
    Whenever,
}

/// A request's place in the queue, good for [`Batcher::cancel`]. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    due: Due,
    number: u64,
}

/// Why a request was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    /// Too many wait.
    #[error("the queue is full: {limit} requests are waiting")]
    Requests {
        /// [`Limits::max_requests`].
        limit: usize,
    },
    /// Too much waits.
    #[error("the queue is full: with this request's {bytes} bytes it would hold more than {limit}")]
    Bytes {
        /// Bytes of the request that was refused.
        bytes: usize,
        /// [`Limits::max_bytes`].
        limit: usize,
    },
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// The deadlines of these have passed: answer so. Poll again.
    Expire(Vec<T>),
    /// Run this on an idle instance. Poll again while another is idle.
    Run(Batch<T>),
    /// Every instance is busy; the next deadline passes at this time.
    WakeAt(Instant),
    /// Nothing to do before the next push, or before an instance frees.
    Idle,
}

/// Requests that run together, in the order of the queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<T> {
    /// The requests, each with the time that it waited.
    pub requests: Vec<Waited<T>>,
    /// Their rows, added up.
    pub rows: usize,
    /// How many of them waited longer than [`Limits::max_wait`].
    pub over_max_wait: usize,
}

/// A request that left the queue to run.
#[derive(Debug, PartialEq, Eq)]
pub struct Waited<T> {
    /// The request.
    pub request: T,
    /// From its push to this batch.
    pub waited: Duration,
}

/// The queue of one model version.
#[derive(Debug)]
pub struct Batcher<T> {
    limits: Limits,
    queue: BTreeMap<Ticket, Entry<T>>,
    bytes: usize,
    rows: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Entry<T> {
    request: T,
    since: Instant,
}

// === impl Batcher ===

impl<T: Batchable> Batcher<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: BTreeMap::new(),
            bytes: 0,
            rows: 0,
            next_number: 0,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many rows those have in all.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes a request in.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], with the limit that it would break; the request is dropped. A retry helps
    /// once others have run.
    pub fn push(
        &mut self,
        request: T,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<Ticket, QueueFull> {
        self.admit(request.bytes())?;
        let ticket = Ticket {
            due: deadline.map_or(Due::Whenever, Due::By),
            number: self.next_number,
        };
        self.next_number += 1;
        self.bytes += request.bytes();
        // A client may say any number of rows; their sum is advice.
        self.rows = self.rows.saturating_add(request.rows());
        let since = now;
        self.queue.insert(ticket, Entry { request, since });
        Ok(ticket)
    }

    /// Takes a request out, because nobody waits for it any more. `None` when it has left the
    /// queue already.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        self.remove(ticket).map(|entry| entry.request)
    }

    /// Takes everything out, in order.
    pub fn clear(&mut self) -> Vec<T> {
        (self.bytes, self.rows) = (0, 0);
        let queue = std::mem::take(&mut self.queue);
        queue.into_values().map(|entry| entry.request).collect()
    }

    /// Says what to do now, when `idle_instances` could start a batch.
    pub fn poll(&mut self, now: Instant, idle_instances: usize) -> Decision<T> {
        let Some((head, _)) = self.queue.first_key_value() else {
            return Decision::Idle;
        };
        match head.due {
            Due::By(deadline) if deadline <= now => Decision::Expire(self.take_expired(now)),
            _ if idle_instances > 0 => self.take_batch(now),
            Due::By(deadline) => Decision::WakeAt(deadline),
            Due::Whenever => Decision::Idle,
        }
    }

    fn admit(&self, bytes: usize) -> Result<(), QueueFull> {
        if self.queue.len() >= self.limits.max_requests {
            let limit = self.limits.max_requests;
            return Err(QueueFull::Requests { limit });
        }
        let limit = self.limits.max_bytes;
        match self.bytes.checked_add(bytes) {
            Some(total) if total <= limit => Ok(()),
            // What is larger than the whole limit would otherwise be told to come back for ever.
            _ if self.queue.is_empty() => Ok(()),
            _ => Err(QueueFull::Bytes { bytes, limit }),
        }
    }

    fn take_expired(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some((&ticket, _)) = self.queue.first_key_value()
            && matches!(ticket.due, Due::By(deadline) if deadline <= now)
        {
            expired.extend(self.cancel(ticket));
        }
        expired
    }

    fn take_batch(&mut self, now: Instant) -> Decision<T> {
        let (tickets, rows) = self.choose();
        let mut batch = Batch {
            requests: Vec::with_capacity(tickets.len()),
            rows,
            over_max_wait: 0,
        };
        let max_wait = self.limits.max_wait;
        for Entry { request, since } in tickets.into_iter().filter_map(|at| self.remove(at)) {
            let waited = now.saturating_duration_since(since);
            batch.over_max_wait += usize::from(waited > max_wait);
            batch.requests.push(Waited { request, waited });
        }
        Decision::Run(batch)
    }

    /// The head, and in order all that fit beside it; and their rows.
    fn choose(&self) -> (Vec<Ticket>, usize) {
        let mut tickets = Vec::new();
        let mut rows = 0;
        let mut head: Option<&T> = None;
        for (&ticket, Entry { request, .. }) in &self.queue {
            // Saturated sums fit no limit but the largest, and the head runs in any case.
            let together = usize::saturating_add(rows, request.rows());
            let fits =
                head.is_none_or(|head| together <= self.limits.max_rows && request.joins(head));
            if fits {
                head = head.or(Some(request));
                rows = together;
                tickets.push(ticket);
            }
            if rows >= self.limits.max_rows {
                break;
            }
        }
        (tickets, rows)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Entry<T>> {
        let entry = self.queue.remove(&ticket)?;
        self.bytes -= entry.request.bytes();
        self.rows = self.rows.saturating_sub(entry.request.rows());
        Some(entry)
    }
}
