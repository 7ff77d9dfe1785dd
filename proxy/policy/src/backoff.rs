//! How long a breaker stays open: exponential, capped, jittered.
//!
//! `min(base · 2^(n−1), max) · (1 ± 20 %)`. Envoy's ejection time grows
//! linearly with the number of ejections; doubling leaves an endpoint that
//! keeps failing alone sooner, and the jitter keeps endpoints that tripped
//! together from being probed together.

use std::time::Duration;

use rand::{Rng, RngExt};

/// The part by which a back-off is moved at random, in either direction.
const JITTER: f64 = 0.2;

/// An exponential back-off between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// Takes the first delay and the longest. A `max` below `base` is raised to it.
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        Self {
            base,
            max: max.max(base),
        }
    }

    /// The first delay, before jitter.
    #[must_use]
    pub fn base(&self) -> Duration {
        self.base
    }

    /// The delay after the `trips`-th trip in a row (1 is the first), jittered.
    pub fn delay(&self, trips: u32, rng: &mut (impl Rng + ?Sized)) -> Duration {
        let doublings = trips.saturating_sub(1).min(31);
        let exact = self.base.saturating_mul(1 << doublings).min(self.max);
        exact.mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    const BASE: Duration = Duration::from_secs(5);
    const MAX: Duration = Duration::from_mins(5);

    #[test]
    fn the_delay_doubles_to_the_cap_and_stays_within_the_jitter() {
        let backoff = Backoff::new(BASE, MAX);
        let mut rng = StdRng::seed_from_u64(1);
        for (trips, seconds) in [
            (1, 5.0),
            (2, 10.0),
            (4, 40.0),
            (7, 300.0),
            (u32::MAX, 300.0),
        ] {
            for _ in 0..200 {
                let delay = backoff.delay(trips, &mut rng).as_secs_f64();
                assert!(
                    (seconds * 0.8..=seconds * 1.2).contains(&delay),
                    "trip {trips}: {delay} s is not within 20 % of {seconds} s"
                );
            }
        }
    }

    #[test]
    fn jitter_spreads_over_both_sides() {
        let backoff = Backoff::new(BASE, MAX);
        let mut rng = StdRng::seed_from_u64(2);
        let delays: Vec<_> = (0..100).map(|_| backoff.delay(1, &mut rng)).collect();
        assert!(delays.iter().any(|d| *d < BASE.mul_f64(0.9)));
        assert!(delays.iter().any(|d| *d > BASE.mul_f64(1.1)));
    }

    #[test]
    fn a_cap_below_the_base_is_raised_to_it() {
        let backoff = Backoff::new(BASE, Duration::from_secs(1));
        let delay = backoff.delay(9, &mut StdRng::seed_from_u64(3));
        assert!(delay >= BASE.mul_f64(0.8));
    }
}
