//! What is usual in a pool, and so what is slow at one of its endpoints.
//!
//! An endpoint is slow beyond `latency_threshold` whatever the others do, and
//! beyond what its peers take whatever the limit says: a pod that answers in
//! 200 ms where seven others answer in 5 is ill long before it is at 1 s.
//!
//! The relative limit is the largest of a floor, `factor` times the median of
//! the *other* endpoints' medians, and 1.5 times the median of their 95th
//! percentiles. The last is there for inputs of several sizes: where one in
//! twenty takes ten times the median everywhere, five in a row at a healthy
//! endpoint are a matter of minutes by the median alone, and no evidence.
//!
//! The medians are taken again every tenth of a second, not for every request,
//! and of at most [`SAMPLED`] endpoints at a time.

use std::time::{Duration, Instant};

use crate::{
    breaker::{Basis, Threshold},
    config::{BreakerConfig, RetryConfig},
    endpoint::{Cold, Endpoints},
    latency::Lately,
    model::EndpointKey,
};

/// Endpoints whose medians are compared at a time.
const SAMPLED: usize = 256;
/// From one comparison to the next.
const EVERY: Duration = Duration::from_millis(100);
/// How far beyond its peers' 95th percentile an attempt is slow.
const TAIL_FACTOR: f64 = 1.5;

/// What the endpoints of one pool usually take.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Seconds, sorted.
    medians: Vec<f64>,
    tails: Vec<f64>,
    /// The middles of both.
    median: Option<f64>,
    tail: Option<f64>,
    /// Numbers the comparisons: says whose figures are among them.
    round: u32,
    compared: Option<Instant>,
    /// Where the next comparison of a large pool begins.
    offset: usize,
    lately: Lately,
    p99: Option<Duration>,
}

// === impl Peers ===

impl Peers {
    /// Takes the time of an attempt that was not slow.
    pub(crate) fn observe(&mut self, waited: Duration, now: Instant) {
        self.lately.push(waited, now);
        // The first is all that is known, and that is a lot more than nothing.
        if self.p99.is_none() {
            self.p99 = self.lately.p99();
        }
    }

    /// Takes the time after which an attempt was given up: it would have taken longer.
    /// One that had less than nearly all take says nothing.
    pub(crate) fn observe_at_least(&mut self, waited: Duration, now: Instant) {
        if self.p99.is_some_and(|p99| waited >= p99) {
            self.lately.push(waited, now);
        }
    }

    /// Compares again, if it is time.
    pub(crate) fn compare(
        &mut self,
        serving: &[EndpointKey],
        endpoints: &mut Endpoints,
        now: Instant,
    ) {
        let due = self
            .compared
            .is_none_or(|at| now.saturating_duration_since(at) >= EVERY);
        if !due {
            return;
        }
        self.compared = Some(now);
        self.round = self.round.wrapping_add(1);
        self.medians.clear();
        self.tails.clear();
        let start = self.offset;
        for i in 0..serving.len().min(SAMPLED) {
            let key = serving[(start + i) % serving.len()];
            let cold = &mut endpoints[key].cold;
            cold.usual = cold.recent.usual().map(|usual| (usual, self.round));
            if let Some((usual, _)) = cold.usual {
                self.medians.push(usual.median);
                self.tails.push(usual.p95);
            }
        }
        self.offset = if serving.is_empty() {
            0
        } else {
            (start + SAMPLED) % serving.len()
        };
        self.medians.sort_unstable_by(f64::total_cmp);
        self.tails.sort_unstable_by(f64::total_cmp);
        self.median = middle(&self.medians, None);
        self.tail = middle(&self.tails, None);
        self.p99 = self.lately.p99();
    }

    /// What an endpoint without samples is expected to take, in seconds.
    pub(crate) fn usual(&self) -> f64 {
        self.median.unwrap_or(1e-3)
    }

    /// What an endpoint takes; none while too little is known.
    pub(crate) fn median(&self) -> Option<Duration> {
        middle(&self.medians, None).and_then(|s| Duration::try_from_secs_f64(s).ok())
    }

    /// What an attempt fairly gets before it is tried elsewhere; none while
    /// too little is known.
    pub(crate) fn fair(&self, retry: &RetryConfig) -> Option<Duration> {
        let known = self.p99.filter(|_| self.lately.is_enough());
        let fair = known?.mul_f64(retry.per_try_factor);
        Some(fair.max(retry.per_try_floor))
    }

    /// What nearly all attempts take at the most; none before the first answer.
    pub(crate) fn p99(&self) -> Option<Duration> {
        self.p99
    }

    /// From when on an attempt at this endpoint is slow.
    pub(crate) fn threshold(&self, of: &Cold, breaker: &BreakerConfig) -> Threshold {
        let absolute = Threshold {
            limit: breaker.latency_threshold,
            basis: Basis::Absolute,
        };
        let own = of
            .usual
            .filter(|(_, round)| *round == self.round)
            .map(|(own, _)| own);
        // In a large pool most are not among those that were compared.
        let (median, tail) = match own {
            None => (self.median, self.tail),
            Some(own) => (
                middle(&self.medians, Some(own.median)),
                middle(&self.tails, Some(own.p95)),
            ),
        };
        let (Some(median), Some(tail)) = (median, tail) else {
            return absolute;
        };
        let relative = relative(median, tail, breaker);
        if relative.limit < absolute.limit {
            relative
        } else {
            absolute
        }
    }
}

fn relative(median: f64, tail: f64, breaker: &BreakerConfig) -> Threshold {
    let factor = breaker.relative_factor;
    let floor = breaker.relative_floor.as_secs_f64();
    let (by_median, by_tail) = (factor * median, TAIL_FACTOR * tail);
    let (limit, basis) = if floor >= by_median && floor >= by_tail {
        (floor, Basis::Floor)
    } else if by_median >= by_tail {
        let of = Duration::from_secs_f64(median);
        (by_median, Basis::Median { factor, of })
    } else {
        let of = Duration::from_secs_f64(tail);
        (
            by_tail,
            Basis::Tail {
                factor: TAIL_FACTOR,
                of,
            },
        )
    };
    Threshold {
        limit: Duration::from_secs_f64(limit),
        basis,
    }
}

/// The lower median of a sorted list, without one of its values.
fn middle(sorted: &[f64], without: Option<f64>) -> Option<f64> {
    let Some(own) = without else {
        return sorted.get(sorted.len().checked_sub(1)? / 2).copied();
    };
    let at = sorted.len().checked_sub(2)? / 2;
    let own = sorted.partition_point(|value| *value < own);
    sorted.get(if own <= at { at + 1 } else { at }).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn leaving_one_out_is_the_median_of_the_rest(
            mut values in prop::collection::vec(0.0..1.0f64, 1..40),
            which in 0..40usize,
        ) {
            values.sort_unstable_by(f64::total_cmp);
            let which = which % values.len();
            let mut rest = values.clone();
            let own = rest.remove(which);
            let expected = rest.get(rest.len().wrapping_sub(1) / 2).copied();
            prop_assert_eq!(middle(&values, Some(own)), expected);
        }
    }

    #[test]
    fn the_middle_of_all_is_the_lower_of_two() {
        assert_eq!(middle(&[], None), None);
        assert_eq!(middle(&[1.0], None), Some(1.0));
        assert_eq!(middle(&[1.0, 2.0], None), Some(1.0));
        assert_eq!(middle(&[1.0, 2.0, 3.0], None), Some(2.0));
        assert_eq!(middle(&[1.0, 2.0, 3.0, 4.0, 5.0], None), Some(3.0));
    }

    #[test]
    fn in_a_large_pool_each_has_its_turn_to_be_compared() {
        let breaker = std::sync::Arc::new(BreakerConfig::default());
        let mut endpoints = Endpoints::with_key();
        let serving: Vec<EndpointKey> = (0..600)
            .map(|port| {
                let at = ([127, 0, 0, 1], port).into();
                let mut endpoint = crate::endpoint::Endpoint::new(at, 0, &breaker);
                for _ in 0..8 {
                    endpoint.cold.recent.push(Duration::from_millis(5));
                }
                endpoints.insert(endpoint)
            })
            .collect();
        let mut peers = Peers::default();
        for (round, compared) in [(1, 256), (2, 512), (3, 600)] {
            let now = crate::tests::origin() + EVERY * round;
            peers.compare(&serving, &mut endpoints, now);
            let known = serving
                .iter()
                .filter(|key| endpoints[**key].cold.usual.is_some());
            assert_eq!(known.count(), compared, "after round {round}");
        }
    }

    #[test]
    fn a_limit_that_holds_anyway_is_not_put_down_to_the_peers() {
        let breaker = BreakerConfig {
            relative_floor: Duration::from_secs(1),
            latency_threshold: Duration::from_secs(1),
            ..BreakerConfig::default()
        };
        let peers = Peers {
            median: Some(0.005),
            tail: Some(0.005),
            ..Peers::default()
        };
        let at = ([127, 0, 0, 1], 1).into();
        let endpoint = crate::endpoint::Endpoint::new(at, 0, &breaker.into());
        let basis = peers.threshold(&endpoint.cold, &breaker).basis;
        assert_eq!(basis, Basis::Absolute);
    }

    #[test]
    fn the_largest_of_the_three_is_the_limit_and_says_which() {
        let breaker = BreakerConfig::default();
        let ms = |ms: u64| Duration::from_millis(ms);
        let floor = relative(0.005, 0.010, &breaker);
        assert_eq!((floor.limit, floor.basis), (ms(50), Basis::Floor));
        let median = relative(0.050, 0.060, &breaker);
        assert_eq!(median.limit, ms(150));
        assert_eq!(
            median.to_string(),
            "150 ms is the limit (3 × 50.0 ms, its peers' median)"
        );
        let tail = relative(0.050, 0.400, &breaker);
        assert_eq!(tail.limit, ms(600));
        assert!(matches!(tail.basis, Basis::Tail { .. }));
    }
}
