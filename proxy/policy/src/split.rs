//! The split: a version drawn by weight.
//!
//! Weights are proportional and need not add up to 100. A version of weight 0
//! is never drawn; it still serves pinned requests. Each draw is independent,
//! so over `n` requests the share of a version of probability `p` lies within
//! 5 · √(p(1−p)/n) of `p` all but once in 1.7 million times.

use rand::{
    Rng,
    distr::{Distribution, weighted::WeightedIndex},
};

/// The largest weight: far above any use, far below where sums lose shares.
pub const MAX_WEIGHT: f64 = 1e6;

/// Why weights make no split.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// There is nothing to draw from.
    #[error("a split needs at least one version")]
    Empty,
    /// A weight is negative, too large or not a number.
    #[error("a weight must be a number from 0 to {MAX_WEIGHT}, got {weight}")]
    BadWeight {
        /// The weight as given.
        weight: f64,
    },
    /// No version could ever be drawn.
    #[error("at least one weight must be above 0")]
    AllZero,
}

/// Draws an index by weight.
#[derive(Clone, Debug)]
pub struct Split {
    weights: Vec<f64>,
    sum: f64,
    index: WeightedIndex<f64>,
}

// === impl Split ===

impl Split {
    /// Prepares to draw `i` with probability `weights[i] / Σ weights`.
    ///
    /// # Errors
    /// Refuses an empty list, a weight outside 0 to [`MAX_WEIGHT`], and a list
    /// that is all zeros.
    pub fn new(weights: Vec<f64>) -> Result<Self, SplitError> {
        if weights.is_empty() {
            return Err(SplitError::Empty);
        }
        if let Some(&weight) = weights.iter().find(|w| !(0.0..=MAX_WEIGHT).contains(*w)) {
            return Err(SplitError::BadWeight { weight });
        }
        let sum = weights.iter().sum();
        let index = WeightedIndex::new(&weights).map_err(|_| SplitError::AllZero)?;
        Ok(Self {
            weights,
            sum,
            index,
        })
    }

    /// Draws an index.
    pub fn draw(&self, rng: &mut (impl Rng + ?Sized)) -> usize {
        self.index.sample(rng)
    }

    /// The share of index `i`, from 0 to 1.
    #[must_use]
    pub fn share(&self, i: usize) -> f64 {
        self.weights.get(i).map_or(0.0, |w| w / self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn draws(split: &Split, arms: usize, n: usize, seed: u64) -> Vec<usize> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut counts = vec![0; arms];
        for _ in 0..n {
            counts[split.draw(&mut rng)] += 1;
        }
        counts
    }

    #[test]
    fn twenty_thousand_draws_at_90_10_from_a_seed_are_exactly_these() {
        let split = Split::new(vec![90.0, 10.0]).unwrap();
        assert_eq!(draws(&split, 2, 20_000, 7), [17_928, 2_072]);
    }

    #[test]
    fn weight_zero_is_never_drawn_and_weights_need_not_add_up() {
        let split = Split::new(vec![0.0, 3.0, 0.0]).unwrap();
        assert_eq!(draws(&split, 3, 1_000, 1), [0, 1_000, 0]);
        assert!((split.share(1) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Split::new(vec![]).unwrap_err(), SplitError::Empty);
        assert_eq!(Split::new(vec![0.0, 0.0]).unwrap_err(), SplitError::AllZero);
        for weight in [-1.0, f64::INFINITY] {
            assert_eq!(
                Split::new(vec![1.0, weight]).unwrap_err(),
                SplitError::BadWeight { weight }
            );
        }
        assert!(Split::new(vec![f64::NAN]).is_err());
    }

    proptest! {
        #[test]
        fn every_share_is_drawn_within_five_sigma(
            weights in prop::collection::vec(0.0..100.0f64, 1..6),
            seed: u64,
        ) {
            prop_assume!(weights.iter().sum::<f64>() > 0.0);
            let n = 4_000;
            let arms = weights.len();
            let split = Split::new(weights).unwrap();
            for (i, count) in draws(&split, arms, n, seed).into_iter().enumerate() {
                let p = split.share(i);
                let sigma = (p * (1.0 - p) / n as f64).sqrt();
                let off = (count as f64 / n as f64 - p).abs();
                prop_assert!(off <= 5.0 * sigma + 1.0 / n as f64, "share {p}: off by {off}");
            }
        }
    }
}
