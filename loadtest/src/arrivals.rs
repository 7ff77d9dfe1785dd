//! When requests are due: a Poisson process from a seed.
//!
//! Independent users arrive with exponential gaps. Even spacing would be kinder
//! than any real traffic: it never sends two requests at once, so it never
//! shows what a queue does.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Exp};

/// The most requests a second that one client is asked for.
const MAX_RATE: f64 = 1_000_000.0;

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

/// The instants at which requests are due, as time since the start, without end.
///
/// The same rate and seed give the same instants.
#[derive(Debug)]
pub struct Arrivals {
    gaps: Exp<f64>,
    random: StdRng,
    /// Seconds since the start, not a sum of rounded gaps.
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
    /// Draws instants at `rate` on average.
    ///
    /// # Panics
    ///
    /// Never: a [`Rate`] is one that the distribution takes.
    #[must_use]
    pub fn new(rate: Rate, seed: u64) -> Self {
        let gaps = Exp::new(rate.0).expect("a rate is positive and finite");
        Self {
            gaps,
            random: StdRng::seed_from_u64(seed),
            at: 0.0,
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
        self.at += self.gaps.sample(&mut self.random);
        // Centuries from now the sum leaves a duration's range, and it ends.
        Duration::try_from_secs_f64(self.at).ok()
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
