//! The backend's queue, simulated: Poisson arrivals, instances that take what waits, batches that cost α·b + β.
//!
//! An idle instance takes what is there at once, up to a full batch, and nobody waits for company: the rule of the
//! backend. So small loads run in small batches, and only the cost of a full one bounds what can be served.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1};

use super::Costs;
use crate::slo::Bound;

/// A backend with one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Queue {
    pub(super) costs: Costs,
    pub(super) instances: usize,
    pub(super) batch: usize,
    /// How much single runs differ: 0.2 for 20 % more or less.
    pub(super) jitter: f64,
}

// === impl Queue ===

impl Queue {
    /// Requests a second of batches that are all full.
    pub(super) fn capacity(&self) -> f64 {
        let Costs { alpha, beta } = self.costs;
        let batch = self.batch as f64;
        batch * self.instances as f64 / (alpha * batch + beta).max(f64::MIN_POSITIVE)
    }

    /// The seconds that so many requests took, sorted.
    pub(super) fn latencies(&self, rate: f64, requests: usize, seed: u64) -> Vec<f64> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut at = 0.0;
        let gaps = (0..requests).map(|_| {
            let gap: f64 = Exp1.sample(&mut random);
            at += gap / rate;
            at
        });
        let arrivals: Vec<f64> = gaps.collect();
        let mut free = vec![0.0_f64; self.instances.max(1)];
        let mut latencies = Vec::with_capacity(requests);
        let mut waiting = arrivals.as_slice();
        while let Some(first) = waiting.first() {
            let Some(instance) = free.iter_mut().min_by(|a, b| a.total_cmp(b)) else {
                break;
            };
            let start = instance.max(*first);
            let here = waiting.iter().take(self.batch.max(1));
            let taken = here.take_while(|arrival| **arrival <= start).count();
            let (batch, rest) = waiting.split_at(taken);
            let noise = 1.0 + self.jitter * (2.0 * random.random::<f64>() - 1.0);
            let end = start + (self.costs.alpha * taken as f64 + self.costs.beta) * noise;
            latencies.extend(batch.iter().map(|arrival| end - arrival));
            *instance = end;
            waiting = rest;
        }
        latencies.sort_by(f64::total_cmp);
        latencies
    }

    /// Whether latencies stay below their bounds at a rate.
    pub(super) fn keeps(&self, bounds: &[Bound], rate: f64, requests: usize, seed: u64) -> bool {
        let latencies = self.latencies(rate, requests, seed);
        bounds.iter().all(|bound| {
            let rank = bound.quantile * latencies.len() as f64;
            latencies
                .get(index(rank))
                .is_none_or(|seconds| seconds * 1000.0 < bound.below_ms)
        })
    }

    /// The highest rate at which they do, at most `part` of the capacity.
    pub(super) fn sustained(&self, bounds: &[Bound], part: f64, requests: usize, seed: u64) -> f64 {
        let highest = self.capacity() * part;
        if self.keeps(bounds, highest, requests, seed) {
            return highest;
        }
        let (mut low, mut high) = (0.0, highest);
        for _ in 0..8 {
            let middle = f64::midpoint(low, high);
            if self.keeps(bounds, middle, requests, seed) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank of a list, not negative"
)]
fn index(rank: f64) -> usize {
    rank.floor() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: Queue = Queue {
        costs: Costs {
            alpha: 0.001,
            beta: 0.004,
        },
        instances: 1,
        batch: 4,
        jitter: 0.0,
    };

    #[test]
    fn a_request_that_comes_alone_takes_what_a_batch_of_one_costs() {
        let latencies = QUEUE.latencies(0.1, 200, 1);
        assert!((latencies[100] - 0.005).abs() < 1e-9);
    }

    #[test]
    fn latencies_of_a_batch_of_one_are_those_of_an_m_d_1_queue() {
        let queue = Queue { batch: 1, ..QUEUE };
        let (rate, service) = (100.0, 0.005);
        let load = rate * service;
        let expected = service + load * service / (2.0 * (1.0 - load));
        let latencies = queue.latencies(rate, 200_000, 1);
        let mean = latencies.iter().sum::<f64>() / latencies.len() as f64;
        assert!((mean / expected - 1.0).abs() < 0.02, "{mean} {expected}");
    }

    #[test]
    fn capacity_is_where_latencies_begin_to_grow_without_end() {
        assert!((QUEUE.capacity() - 500.0).abs() < 1e-9);
        let longest = |part: f64| {
            let latencies = QUEUE.latencies(QUEUE.capacity() * part, 20_000, 1);
            *latencies.last().unwrap()
        };
        assert!(longest(0.8) < 0.2);
        assert!(longest(1.2) > 5.0);
    }

    #[test]
    fn no_rate_is_sustained_below_what_one_run_takes() {
        let bound = |below_ms| {
            [Bound {
                quantile: 0.99,
                below_ms,
            }]
        };
        assert!(QUEUE.sustained(&bound(4.9), 0.95, 2000, 1) < 2.0);
        let (tight, loose) = (bound(12.0), bound(60.0));
        let tight = QUEUE.sustained(&tight, 0.95, 4000, 1);
        let loose = QUEUE.sustained(&loose, 0.95, 4000, 1);
        assert!(
            10.0 < tight && tight < loose && loose <= 475.0,
            "{tight} {loose}"
        );
    }
}
