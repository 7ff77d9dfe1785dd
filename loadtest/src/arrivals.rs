//! When requests are due: a Poisson process from a seed, at a rate that may change.
//!
//! Independent users arrive with exponential gaps. Even spacing is kinder than any
//! real traffic: it never sends two requests at once, so it never shows what a queue
//! does. It is there for comparison with tools that know nothing else.
//!
//! Where the rate changes, gaps are drawn in expected requests and not in seconds, and
//! then looked up in the profile: that is a Poisson process of exactly that rate.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Exp1};

use crate::profile::{Profile, Walk};

/// The most requests a second that one client is asked for.
const MAX_RATE: f64 = 1_000_000.0;

/// Longer than any run.
const LONG: Duration = Duration::from_hours(24 * 365);

/// Requests a second: positive and at most a million.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

/// Says that a number is no rate.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("expected a rate above 0 and at most {MAX_RATE} requests a second, got {got}")]
pub struct RateError {
    /// The number that was given.
    pub got: f64,
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// As independent users come.
    Poisson,
    /// Each as long after the last as the rate says.
    Even,
}

/// The instants at which requests are due, as time since the start.
///
/// The same rates and seed give the same instants.
#[derive(Debug)]
pub struct Arrivals {
    walk: Walk,
    spacing: Spacing,
    random: StdRng,
    /// Requests that are expected by now: not a sum of rounded gaps.
    at: f64,
}

// === impl Rate ===

impl Rate {
    /// Takes requests a second.
    ///
    /// # Errors
    ///
    /// When it is zero, negative, not finite or over a million.
    pub fn new(per_second: f64) -> Result<Self, RateError> {
        if per_second > 0.0 && per_second <= MAX_RATE {
            Ok(Self(per_second))
        } else {
            Err(RateError { got: per_second })
        }
    }

    /// Requests a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.0
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text
            .parse()
            .map_err(|_| format!("expected a number, got `{text}`"))?;
        Self::new(number).map_err(|error| error.to_string())
    }
}

// === impl Arrivals ===

impl Arrivals {
    /// Draws instants at `rate` on average, for years.
    #[must_use]
    pub fn new(rate: Rate, seed: u64) -> Self {
        Self::of(&Profile::constant(rate, LONG), Spacing::Poisson, seed)
    }

    /// Draws instants to the end of a profile.
    #[must_use]
    pub fn of(profile: &Profile, spacing: Spacing, seed: u64) -> Self {
        let at = match spacing {
            Spacing::Poisson => 0.0,
            // So that the first one is due at the start.
            Spacing::Even => -1.0,
        };
        Self {
            walk: profile.walk(),
            spacing,
            random: StdRng::seed_from_u64(seed),
            at,
        }
    }

    /// The instants before `end`.
    pub fn until(self, end: Duration) -> impl Iterator<Item = Duration> {
        self.take_while(move |&at| at < end)
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.at += match self.spacing {
            Spacing::Poisson => Exp1.sample(&mut self.random),
            Spacing::Even => 1.0,
        };
        Duration::try_from_secs_f64(self.walk.when(self.at)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gaps(rate: f64, seed: u64, count: usize) -> Vec<f64> {
        let arrivals = Arrivals::new(Rate::new(rate).unwrap(), seed);
        let at: Vec<_> = arrivals.take(count).map(|at| at.as_secs_f64()).collect();
        std::iter::once(at[0])
            .chain(at.windows(2).map(|pair| pair[1] - pair[0]))
            .collect()
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for got in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e6] {
            assert!(Rate::new(got).is_err(), "{got}");
        }
        let error = "-3".parse::<Rate>().unwrap_err();
        let text = "expected a rate above 0 and at most 1000000 requests a second, got -3";
        assert_eq!(error, text);
    }

    #[test]
    fn gaps_have_the_mean_and_spread_of_a_poisson_process() {
        let gaps = gaps(500.0, 7, 100_000);
        let count = 100_000.0;
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        // An exponential's deviation is its mean; 1 % is more than three of the
        // estimates' own deviations.
        assert!((mean * 500.0 - 1.0).abs() < 0.01, "mean {mean}");
        assert!(
            (variance.sqrt() * 500.0 - 1.0).abs() < 0.015,
            "deviation {}",
            variance.sqrt()
        );
        // Memoryless: a share of 1/e of the gaps is longer than the mean.
        let longer = gaps
            .iter()
            .map(|&gap| f64::from(u8::from(gap > 0.002)))
            .sum::<f64>();
        assert!(
            (longer / count - (-1.0_f64).exp()).abs() < 0.005,
            "{longer}"
        );
    }

    #[test]
    fn a_ramp_has_as_many_arrivals_in_each_part_as_its_rate_says() {
        let (from, to) = (Rate::new(100.0).unwrap(), Rate::new(900.0).unwrap());
        let profile = Profile::ramp(from, to, Duration::from_secs(100));
        let arrivals = Arrivals::of(&profile, Spacing::Poisson, 5);
        let mut parts = [0_i32; 4];
        for at in arrivals {
            parts[usize::try_from(at.as_secs() / 25).unwrap()] += 1;
        }
        // Means of 5,000 to 20,000, each within five deviations.
        for (got, expected) in parts
            .into_iter()
            .zip([5_000.0_f64, 10_000.0, 15_000.0, 20_000.0])
        {
            assert!(
                (f64::from(got) - expected).abs() < 5.0 * expected.sqrt(),
                "{parts:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_seed_gives_the_same_instants_again(seed in any::<u64>(), rate in 0.1_f64..1e5) {
            prop_assert_eq!(gaps(rate, seed, 50), gaps(rate, seed, 50));
            prop_assert_ne!(gaps(rate, seed, 50), gaps(rate, seed.wrapping_add(1), 50));
        }

        #[test]
        fn instants_never_go_back_and_end_before_the_end(seed in any::<u64>()) {
            let end = Duration::from_secs(2);
            let rate = Rate::new(100.0).unwrap();
            let at: Vec<_> = Arrivals::new(rate, seed).until(end).collect();
            prop_assert!(at.is_sorted());
            prop_assert!(at.iter().all(|&at| at < end));
            // Six deviations around the 200 that are expected.
            prop_assert!((115..285).contains(&at.len()), "{}", at.len());
        }
    }
}
