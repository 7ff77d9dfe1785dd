//! What runs next: a pure queue that hands out batches.
//!
//! **Rule.** An idle instance takes what is there at once. Waiting for company is only worth its
//! price while every instance is busy, and then it costs nothing, because the requests would wait
//! anyway. Timers lose to this rule twice: at low load they add their whole window to every
//! answer, and at high load the queue has filled a batch before they fire.
//!
//! **Order.** By [priority](Priority); within one, earliest deadline first, first come first served
//! among equals, and requests without a deadline behind those that have one. The head of that order
//! runs next; behind it, in the same order, whatever fits joins: requests [alike](Batchable::joins)
//! it, while the rows stay within `max_rows`. A request that has more rows than that runs alone.
//!
//! **In time.** What a batch takes is known beforehand, more or less. A request that would be late
//! even alone is [given up](Decision::Expire) before it runs: it would be thrown away, and what waits
//! behind it would be late too. A batch grows only as far as its earliest deadline allows. But where
//! more than one that could have joined would be late for that, the most urgent is given up instead: a
//! server that runs small batches for the sake of one loses the throughput that it needs to catch up.
//! The last request that waits is always tried, whatever was predicted: nobody else loses by it, and
//! predictions are learned from nothing else.
//!
//! **Mechanics.** The queue is a [`BTreeMap`] from place to entry, so that taking the head, finding
//! the expired ones (they are in front of their priority) and taking out a client that left are all
//! `O(log n)`. Nothing here reads a clock, waits or locks: `now` is an argument, and the answer to
//! [`Batcher::poll`] says what to do.
//!
//! **Invariants.** Never over `max_requests` or `max_bytes` queued (but for a lone request), never over `max_rows` in a
//! batch of several requests, never two shapes in one batch, never a request after its deadline,
//! and everything that was pushed is handed back exactly once: in a batch, as expired, or to the
//! one who cancels it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

mod priority;
mod tally;
#[cfg(test)]
mod tests;

pub use priority::{BadPriority, Priority};
pub use tally::{Batches, Tally};

/// What the batcher must know of a request.
pub trait Batchable {
    /// Rows on the batch axis; at least 1.
    fn rows(&self) -> usize;

    /// Bytes that it keeps in memory while it waits.
    fn bytes(&self) -> usize;

    /// Whether the two can run in one batch: equal shapes but for the batch axis.
    fn joins(&self, other: &Self) -> bool;

    /// What its cost is learned by: the same for all that [join](Self::joins).
    fn class(&self) -> Class;
}

/// Requests whose rows cost alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Class(pub u64);

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
    priority: Priority,
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

/// A request that was not taken in, and why. It is handed back, so that it is dropped where that may take
/// its time.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected<T, E> {
    /// The request.
    pub request: T,
    /// Why not.
    pub why: E,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// The deadlines of these have passed, or would before they had run: answer so. Poll again.
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

/// Where a request would stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How important it is.
    pub priority: Priority,
    /// When it must be answered.
    pub deadline: Option<Instant>,
}

/// What can be run now.
enum Choice {
    /// These, which have so many rows.
    Run(Vec<Ticket>, usize),
    /// This one would be late, or make more than it is worth late.
    GiveUp(Ticket),
}

/// The queue of one model version.
#[derive(Debug)]
pub struct Batcher<T> {
    limits: Limits,
    queue: BTreeMap<Ticket, Entry<T>>,
    bytes: usize,
    tally: Tally,
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
            tally: Tally::default(),
            next_number: 0,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Those that wait, added up.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
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
    /// [`QueueFull`], with the limit that it would break, and the request. A retry helps once others have
    /// run.
    pub fn push(
        &mut self,
        request: T,
        place: impl Into<Place>,
        now: Instant,
    ) -> Result<Ticket, Rejected<T, QueueFull>> {
        if let Err(why) = self.admit(request.bytes()) {
            return Err(Rejected { request, why });
        }
        let ticket = place.into().ticket(self.next_number);
        self.next_number += 1;
        self.bytes += request.bytes();
        self.tally.add(request.rows(), self.limits.max_rows);
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
        (self.bytes, self.tally) = (0, Tally::default());
        let queue = std::mem::take(&mut self.queue);
        queue.into_values().map(|entry| entry.request).collect()
    }

    /// The requests that stand before that place, added up.
    #[must_use]
    pub fn before(&self, place: Place) -> Tally {
        let mut before = self.tally;
        // Mostly deadlines are those of arrivals and a constant, and nobody is behind.
        let behind = place.ticket(self.next_number)..;
        for Entry { request, .. } in self.queue.range(behind).map(|(_, entry)| entry) {
            before.remove(request.rows(), self.limits.max_rows);
        }
        before
    }

    /// Says what to do now, when `idle_instances` could start a batch. `takes` predicts how long a
    /// batch of requests like this one, of so many rows, takes; it may not know.
    pub fn poll(
        &mut self,
        now: Instant,
        idle_instances: usize,
        takes: impl Fn(&T, usize) -> Option<Duration>,
    ) -> Decision<T> {
        if self.queue.is_empty() {
            return Decision::Idle;
        }
        let mut lost = self.take_expired(now);
        if !lost.is_empty() {
            return Decision::Expire(lost);
        }
        if idle_instances == 0 {
            return self.next_due().map_or(Decision::Idle, Decision::WakeAt);
        }
        loop {
            match self.choose(now, &takes) {
                Some(Choice::GiveUp(ticket)) => lost.extend(self.cancel(ticket)),
                _ if !lost.is_empty() => return Decision::Expire(lost),
                Some(Choice::Run(tickets, rows)) => return self.take_batch(now, tickets, rows),
                None => return Decision::Idle,
            }
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
        let mut next = self.queue.first_key_value().map(|(ticket, _)| *ticket);
        while let Some(ticket) = next {
            if matches!(ticket.due, Due::By(deadline) if deadline <= now) {
                expired.extend(self.cancel(ticket));
                next = self.queue.range(ticket..).next().map(|(next, _)| *next);
            } else {
                next = self.first_behind(ticket.priority);
            }
        }
        expired
    }

    /// The earliest deadline of all.
    fn next_due(&self) -> Option<Instant> {
        let mut earliest: Option<Instant> = None;
        let mut next = self.queue.first_key_value().map(|(ticket, _)| *ticket);
        while let Some(ticket) = next {
            if let Due::By(deadline) = ticket.due {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
            next = self.first_behind(ticket.priority);
        }
        earliest
    }

    /// The first place of the less important.
    fn first_behind(&self, priority: Priority) -> Option<Ticket> {
        let last = Ticket {
            priority,
            due: Due::Whenever,
            number: u64::MAX,
        };
        let behind = (Bound::Excluded(last), Bound::Unbounded);
        self.queue.range(behind).next().map(|(ticket, _)| *ticket)
    }

    fn take_batch(&mut self, now: Instant, tickets: Vec<Ticket>, rows: usize) -> Decision<T> {
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

    /// The head and, in order, all that fit beside it; or who has to go first.
    fn choose(
        &self,
        now: Instant,
        takes: &impl Fn(&T, usize) -> Option<Duration>,
    ) -> Option<Choice> {
        let mut queue = self.queue.iter();
        let (&first, Entry { request: head, .. }) = queue.next()?;
        let ends = |rows| Some(now + takes(head, rows)?);
        if first.is_late(ends(head.rows())) && self.queue.len() > 1 {
            return Some(Choice::GiveUp(first));
        }
        let most = self.queue.len().min(self.limits.max_rows);
        let mut tickets = Vec::with_capacity(most);
        tickets.push(first);
        let mut rows = head.rows();
        let (mut earliest, mut left, mut left_rows) = (first, Vec::new(), 0_usize);
        for (&ticket, Entry { request, .. }) in queue {
            if rows >= self.limits.max_rows || left.len() >= self.limits.max_rows {
                break;
            }
            // Saturated sums fit no limit but the largest.
            let together = usize::saturating_add(rows, request.rows());
            if together > self.limits.max_rows || !request.joins(head) {
                continue;
            }
            let end = ends(together);
            if earliest.is_late(end) {
                left.push(ticket);
                left_rows = left_rows.saturating_add(request.rows());
            } else if !ticket.is_late(end) {
                rows = together;
                tickets.push(ticket);
                earliest = earliest.min_due(ticket);
            }
        }
        let behind = left_rows.min(self.limits.max_rows);
        let after = ends(rows).and_then(|end| Some(end + takes(head, behind)?));
        let at_stake = |one: &Ticket| one.priority <= earliest.priority && one.is_late(after);
        if left.iter().filter(|one| at_stake(one)).count() > 1 {
            return Some(Choice::GiveUp(earliest));
        }
        Some(Choice::Run(tickets, rows))
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Entry<T>> {
        let entry = self.queue.remove(&ticket)?;
        self.bytes -= entry.request.bytes();
        self.tally
            .remove(entry.request.rows(), self.limits.max_rows);
        Some(entry)
    }
}

// === impl Place ===

impl Place {
    fn ticket(self, number: u64) -> Ticket {
        Ticket {
            priority: self.priority,
            due: self.deadline.map_or(Due::Whenever, Due::By),
            number,
        }
    }
}

/// Of the usual priority.
impl From<Option<Instant>> for Place {
    fn from(deadline: Option<Instant>) -> Self {
        Self {
            priority: Priority::default(),
            deadline,
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// Whether it must be answered before that.
    fn is_late(self, end: Option<Instant>) -> bool {
        end.is_some_and(|end| self.due < Due::By(end))
    }

    /// The one of the two that must be answered first.
    fn min_due(self, other: Self) -> Self {
        if other.due < self.due { other } else { self }
    }
}
