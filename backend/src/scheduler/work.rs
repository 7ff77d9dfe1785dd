//! How busy the instances are, and how long a new request would wait: what the proxy chooses by, and
//! what admission goes by.
//!
//! **Wait.** Nothing where an instance is idle. Else what the running batches still have to do,
//! by what batches like them cost, and the queue in batches as large as may be, shared among the
//! instances.
//!
//! **Utilization.** The share of the last seconds in which instances ran, falling to 1/e in
//! [`MEMORY`]; a batch that still runs counts from its start, so that a hung model shows.

use std::time::{Duration, Instant};

use super::cost::Costs;
use crate::batcher::{Class, Tally};

/// In how long the memory of a busy time falls to 1/e.
const MEMORY: Duration = Duration::from_secs(5);
/// The longest wait that is told: more says no more.
const LONGEST_WAIT: f64 = 3_600.0;

/// What the instances do, have done, and what it cost.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) costs: Costs,
    running: Vec<Running>,
    busy: f64,
    busy_at: Instant,
    next: u64,
}

/// A batch that runs.
#[derive(Debug)]
struct Running {
    id: BatchId,
    since: Instant,
    rows: usize,
    class: Class,
}

/// Names a batch that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchId(u64);

/// What waits, and who could run it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    pub(super) tally: Tally,
    pub(super) max_rows: usize,
    /// Instances that work.
    pub(super) instances: usize,
}

// === impl Work ===

impl Work {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            costs: Costs::default(),
            running: Vec::new(),
            busy: 0.0,
            busy_at: now,
            next: 0,
        }
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, class: Class, rows: usize, now: Instant) -> BatchId {
        let id = BatchId(self.next);
        self.next += 1;
        self.running.push(Running {
            id,
            since: now,
            rows,
            class,
        });
        id
    }

    /// It has ended; its time counts for the cost when it did what it should.
    pub(super) fn end(&mut self, id: BatchId, whole: bool, now: Instant) {
        let Some(at) = self.running.iter().position(|batch| batch.id == id) else {
            return;
        };
        let batch = self.running.swap_remove(at);
        let took = now.saturating_duration_since(batch.since);
        self.busy = self.busy * faded(now.saturating_duration_since(self.busy_at)) + filled(took);
        self.busy_at = now;
        if whole {
            self.costs
                .observe(batch.class, batch.rows, took.as_secs_f64());
        }
    }

    /// Busy time over time, 1 being every instance all the time.
    pub(super) fn utilization(&self, instances: usize, now: Instant) -> f64 {
        let past = self.busy * faded(now.saturating_duration_since(self.busy_at));
        let present = self.running.iter();
        let present: f64 = present
            .map(|batch| filled(now.saturating_duration_since(batch.since)))
            .sum();
        ((past + present) / instances.max(1) as f64).min(1.0)
    }

    /// How long a new request would wait before it runs; none before anything is known.
    pub(super) fn expected_wait(&self, queued: Queued, now: Instant) -> Option<Duration> {
        if queued.tally.requests() == 0 && self.running.len() < queued.instances {
            return Some(Duration::ZERO);
        }
        let terms = self.costs.terms()?;
        let batches = queued.tally.batches(queued.max_rows);
        let queue = terms.queue_seconds(queued.tally.rows(), batches.count);
        let wait = (self.rest(now)? + queue) / queued.instances.max(1) as f64;
        Some(seconds(wait))
    }

    /// What the running batches still have to do, in seconds, by what batches like them cost.
    pub(super) fn rest(&self, now: Instant) -> Option<f64> {
        let rest = self.running.iter().map(|batch| {
            let elapsed = now.saturating_duration_since(batch.since).as_secs_f64();
            Some((self.costs.of(batch.class)?.seconds(batch.rows) - elapsed).max(0.0))
        });
        rest.sum()
    }

    /// Batches that run.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Takes out a batch that began before that time, and does not come back; it was busy so far.
    pub(super) fn give_up(
        &mut self,
        began_before: Instant,
        now: Instant,
    ) -> Option<(BatchId, usize)> {
        let hung = self.running.iter().find(|batch| batch.since < began_before);
        let (id, rows) = hung.map(|batch| (batch.id, batch.rows))?;
        self.end(id, false, now);
        Some((id, rows))
    }
}

/// So many, as far as it says anything.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.min(LONGEST_WAIT)).unwrap_or_default()
}

/// What is left of a level after a time.
fn faded(passed: Duration) -> f64 {
    (-passed.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

/// The level that being busy without a break for so long gives.
fn filled(busy: Duration) -> f64 {
    1.0 - faded(busy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    /// So many requests of one row.
    fn queued(requests: usize) -> Queued {
        let mut tally = Tally::default();
        (0..requests).for_each(|_| tally.add(1, 8));
        Queued {
            tally,
            max_rows: 8,
            instances: 1,
        }
    }

    /// One instance that has run batches of 1 and of 8 rows, of 2 and of 9 ms.
    fn experienced(now: Instant) -> Work {
        let mut work = Work::new(now);
        for _ in 0..50 {
            for (rows, took) in [(1, 2), (8, 9)] {
                let id = work.begin(Class(0), rows, now);
                work.end(id, true, now + took * MS);
            }
        }
        work
    }

    #[test]
    fn nobody_waits_for_an_idle_instance() {
        let now = clock::now();
        assert_eq!(
            Work::new(now).expected_wait(queued(0), now),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn the_wait_is_the_rest_of_the_running_batch_and_the_queue_in_batches() {
        let now = clock::now();
        let mut work = experienced(now);
        work.begin(Class(0), 8, now);
        let wait = |work: &Work, rows, at| {
            let wait: Duration = work.expected_wait(queued(rows), at).unwrap();
            wait.as_secs_f64() * 1e3
        };
        assert!((wait(&work, 0, now) - 9.0).abs() < 0.01);
        assert!((wait(&work, 0, now + 4 * MS) - 5.0).abs() < 0.01);
        assert!((wait(&work, 9, now + 4 * MS) - 5.0 - 11.0).abs() < 0.01);
        // A batch that hangs promises nothing.
        assert!(wait(&work, 0, now + 400 * MS).abs() < 0.01);
    }

    #[test]
    fn nothing_is_said_of_the_wait_while_the_first_batch_runs() {
        let now = clock::now();
        let mut work = Work::new(now);
        work.begin(Class(0), 1, now);
        assert_eq!(work.expected_wait(queued(3), now), None);
    }

    #[test]
    fn utilization_follows_the_busy_share_and_counts_what_still_runs() {
        let start = clock::now();
        let mut work = Work::new(start);
        assert!(work.utilization(1, start).abs() < 1e-9);
        for at in 0..1_000 {
            let id = work.begin(Class(0), 1, start + at * 100 * MS);
            work.end(id, true, start + (at * 100 + 25) * MS);
        }
        let now = start + 100_000 * MS;
        assert!((work.utilization(1, now) - 0.25).abs() < 0.02);
        assert!((work.utilization(2, now) - 0.125).abs() < 0.01);
        work.begin(Class(0), 1, now);
        assert!(work.utilization(1, now + 60_000 * MS) > 0.99);
    }

    #[test]
    fn what_failed_says_nothing_of_the_cost() {
        let now = clock::now();
        let mut work = Work::new(now);
        let id = work.begin(Class(0), 1, now);
        work.end(id, false, now + 5_000 * MS);
        assert_eq!(work.costs.terms(), None);
        assert!(work.running.is_empty());
    }
}
