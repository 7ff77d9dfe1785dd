//! How sure a statistic of a few numbers is: the percentile bootstrap.
//!
//! The numbers are sample from anew, with replacement, thousands of times, and the statistic of each draw is taken:
//! what lies in the middle of those is the interval (Efron, Annals of Statistics 7, 1979). It assumes nothing of how
//! the numbers are distributed, but that they are independent; of very few numbers it is a little too narrow.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Draws: the ends of an interval are known to about a percent of its confidence.
const DRAWS: usize = 10_000;

/// The interval of a statistic; none of no numbers. The same seed gives the same one.
#[must_use]
pub(crate) fn interval(
    numbers: &[f64],
    statistic: impl Fn(&mut [f64]) -> f64,
    confidence: f64,
    seed: u64,
) -> Option<(f64, f64)> {
    interval_of(numbers, statistic, confidence, seed, DRAWS)
}

fn interval_of(
    numbers: &[f64],
    statistic: impl Fn(&mut [f64]) -> f64,
    confidence: f64,
    seed: u64,
    draws: usize,
) -> Option<(f64, f64)> {
    if numbers.is_empty() {
        return None;
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut sample = vec![0.0; numbers.len()];
    let mut statistics: Vec<f64> = (0..draws)
        .map(|_| {
            for place in &mut sample {
                let index = random.random_range(0..numbers.len());
                *place = numbers.get(index).copied().unwrap_or(0.0);
            }
            statistic(&mut sample)
        })
        .collect();
    statistics.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some((at(&statistics, tail), at(&statistics, 1.0 - tail)))
}

/// The middle of numbers, which are sorted meanwhile.
#[must_use]
pub(crate) fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    at(numbers, 0.5)
}

/// The mean of numbers; 0 of none.
#[must_use]
pub(crate) fn mean(numbers: &mut [f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

/// A quantile of sorted numbers, between two where it lies between; 0 of none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a slice, from 0 to its last"
)]
fn at(sorted: &[f64], quantile: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = quantile.clamp(0.0, 1.0) * last as f64;
    let below = sorted.get(place.floor() as usize).copied().unwrap_or(0.0);
    let above = sorted.get(place.ceil() as usize).copied().unwrap_or(below);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, Exp, Normal};

    use super::*;

    #[test]
    fn medians_and_means_are_those_of_the_numbers() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        assert!((mean(&mut [1.0, 2.0, 6.0]) - 3.0).abs() < 1e-12);
        assert_eq!(interval(&[], median, 0.95, 1), None);
        assert_eq!(interval(&[2.0; 8], median, 0.95, 1), Some((2.0, 2.0)));
        let numbers = [1.0, 5.0, 2.0, 9.0, 4.0, 7.0];
        assert_eq!(
            interval(&numbers, mean, 0.9, 7),
            interval(&numbers, mean, 0.9, 7)
        );
    }

    /// How often an interval of 95 % holds the truth, of ten numbers, in four hundred tries.
    fn coverage(draw: impl Fn(&mut StdRng) -> f64, truth: f64, of: fn(&mut [f64]) -> f64) -> f64 {
        let mut random = StdRng::seed_from_u64(11);
        let mut held = 0;
        for seed in 0..400 {
            let numbers: Vec<_> = (0..10).map(|_| draw(&mut random)).collect();
            let (low, high) = interval_of(&numbers, of, 0.95, seed, 300).unwrap();
            held += u32::from((low..=high).contains(&truth));
        }
        f64::from(held) / 400.0
    }

    #[test]
    fn an_interval_holds_the_truth_about_as_often_as_it_says() {
        let normal = Normal::new(3.0, 2.0).unwrap();
        let skewed = Exp::new(1.0).unwrap();
        for (what, got) in [
            (
                "median, normal",
                coverage(|random| normal.sample(random), 3.0, median),
            ),
            (
                "median, skewed",
                coverage(|random| skewed.sample(random), 2_f64.ln(), median),
            ),
            (
                "mean, normal",
                coverage(|random| normal.sample(random), 3.0, mean),
            ),
        ] {
            assert!((0.88..=0.99).contains(&got), "{what}: {got}");
        }
    }
}
