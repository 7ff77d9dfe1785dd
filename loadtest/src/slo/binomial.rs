//! How far a share and a quantile can be from what was measured: exact intervals.
//!
//! Both rest on the binomial distribution. Of n requests each fails with the same chance, whatever
//! became of the others: then the share that failed has the interval of Clopper and Pearson
//! (Biometrika 26, 1934). And each latency lies under the true quantile q with chance q, so that the
//! number of those that do is binomial, and two order statistics enclose the quantile with a chance
//! that depends on no distribution (David and Nagaraja, Order Statistics, 7.1).
//!
//! That requests know nothing of each other is an assumption. Where a server stalls now and then, those
//! that it stalled are one event and not many, and the true interval is wider.
//!
//! The distribution is summed term by term from the largest: the usual continued fraction needs more
//! terms than libraries allow it where counts reach millions.

use statrs::function::gamma::ln_gamma;

/// Halvings of an interval: as far as a double tells apart.
const HALVINGS: u32 = 60;

/// The largest number of requests that is proposed.
const MAX_NEEDED: u64 = 1 << 40;

/// The chance of at most `k` successes among `n`, each with chance `p`.
pub(crate) fn at_most(k: u64, n: u64, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    // From where the terms only fall.
    if (k as f64) < p * (n as f64) {
        falling(k, n, p)
    } else {
        1.0 - falling(n - k - 1, n, 1.0 - p)
    }
}

/// The sum of the terms from `k` downwards, with `k` under the mean.
fn falling(k: u64, n: u64, p: f64) -> f64 {
    let (ln_p, ln_q) = (p.ln(), (-p).ln_1p());
    let choose =
        ln_gamma(n as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((n - k) as f64 + 1.0);
    let mut term = (choose + k as f64 * ln_p + (n - k) as f64 * ln_q).exp();
    let odds = (1.0 - p) / p;
    let mut sum = term;
    for x in (1..=k).rev() {
        term *= x as f64 / (n - x + 1) as f64 * odds;
        sum += term;
        if term <= sum * f64::EPSILON {
            break;
        }
    }
    sum.min(1.0)
}

/// The interval of a share of which `k` of `n` were seen.
pub(crate) fn share(k: u64, n: u64, confidence: f64) -> (f64, f64) {
    let tail = (1.0 - confidence) / 2.0;
    // The least chance at which so many, or more, are not too surprising.
    let low = if k == 0 {
        0.0
    } else {
        solve(|p| 1.0 - at_most(k - 1, n, p) > tail)
    };
    let high = if k >= n {
        1.0
    } else {
        solve(|p| at_most(k, n, p) <= tail)
    };
    (low, high)
}

/// Where a rising condition becomes true.
fn solve(is_over: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if is_over(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The ranks of the two of `n` values, the least with rank 1, that enclose a quantile; none where
/// there are too few below, or above.
pub(crate) fn ranks(quantile: f64, n: u64, confidence: f64) -> (Option<u64>, Option<u64>) {
    let tail = (1.0 - confidence) / 2.0;
    // The highest rank that is above the quantile with a chance of at most `tail`.
    let low = first(0, n, |rank| at_most(rank, n, quantile) > tail);
    // The lowest that is not above it with a chance of at most `tail`.
    let high = first(1, n + 1, |rank| {
        1.0 - at_most(rank - 1, n, quantile) <= tail
    });
    (
        Some(low).filter(|&low| low > 0),
        Some(high).filter(|&high| high <= n),
    )
}

/// The first of `from..to` for which a condition holds that goes on to hold; `to` where it never does.
fn first(from: u64, to: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (from, to);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The fewest requests that show a share of at least `target` where all succeed.
pub(crate) fn least(target: f64, confidence: f64) -> u64 {
    let tail = (1.0 - confidence) / 2.0;
    let fewest = (tail.ln() / target.ln()).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and `as` saturates"
    )]
    let fewest = fewest as u64;
    fewest.max(1)
}

/// About how many requests decide whether a share is at least `target`, where `k` of `n` succeeded;
/// none where it would be more than anybody sends.
pub(crate) fn needed(k: u64, n: u64, target: f64, confidence: f64) -> Option<u64> {
    let observed = if n == 0 { 1.0 } else { k as f64 / n as f64 };
    let decides = |n: u64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of n"
        )]
        let k = (observed * n as f64).round() as u64;
        let tail = (1.0 - confidence) / 2.0;
        // Whether the interval lies above the target, or below: asked of its ends without solving for them.
        let is_above = k > 0 && 1.0 - at_most(k - 1, n, target) <= tail;
        let is_below = k < n && at_most(k, n, target) <= tail;
        is_above || is_below
    };
    let mut enough = n.max(1);
    while !decides(enough) {
        enough = enough
            .checked_mul(2)
            .filter(|&enough| enough <= MAX_NEEDED)?;
    }
    Some(first(n.max(1).min(enough / 2), enough, decides))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use statrs::function::beta::beta_reg;

    use super::*;

    proptest! {
        #[test]
        fn the_distribution_is_the_librarys(n in 1_u64..2_000, part in 0_u64..1_000, p in 0.001_f64..0.999) {
            let k = part * n / 1_000;
            let expected = beta_reg((n - k) as f64, k as f64 + 1.0, 1.0 - p);
            prop_assert!((at_most(k, n, p) - expected).abs() < 1e-9, "{} {expected}", at_most(k, n, p));
        }

        /// At each end of the interval, what was seen is as surprising as the confidence allows.
        #[test]
        fn a_share_is_enclosed(n in 1_u64..2_000, part in 0_u64..=1_000, confidence in 0.5_f64..0.999) {
            let k = part * n / 1_000;
            let tail = (1.0 - confidence) / 2.0;
            let (low, high) = share(k, n, confidence);
            prop_assert!(low <= k as f64 / n as f64 && k as f64 / n as f64 <= high);
            if k > 0 {
                prop_assert!((1.0 - at_most(k - 1, n, low) - tail).abs() < 1e-6);
            }
            if k < n {
                prop_assert!((at_most(k, n, high) - tail).abs() < 1e-6);
            }
        }

        /// The ranks' chance of missing the quantile is at most what is allowed on either side, and
        /// the next ranks inside would miss it more often.
        #[test]
        fn a_quantile_is_enclosed_by_the_nearest_ranks_that_do(n in 1_u64..5_000, q in 0.01_f64..0.999) {
            let tail = 0.025;
            let (low, high) = ranks(q, n, 0.95);
            if let Some(low) = low {
                prop_assert!(at_most(low - 1, n, q) <= tail);
                prop_assert!(at_most(low, n, q) > tail);
            }
            if let Some(high) = high {
                prop_assert!(1.0 - at_most(high - 1, n, q) <= tail);
                prop_assert!(high == 1 || 1.0 - at_most(high - 2, n, q) > tail);
            } else {
                prop_assert!(q.powf(n as f64) > tail);
            }
        }
    }

    #[test]
    fn the_fewest_are_those_of_the_textbook() {
        assert_eq!(least(0.995, 0.95), 736);
        assert_eq!(least(0.99, 0.95), 368);
        assert_eq!(least(0.5, 0.95), 6);
        for (target, n) in [(0.995, 736), (0.99, 368), (0.5, 6)] {
            assert!(share(n, n, 0.95).0 >= target, "{target}");
            assert!(share(n - 1, n - 1, 0.95).0 < target, "{target}");
            assert_eq!(needed(n / 2, n / 2, target, 0.95), Some(n), "{target}");
        }
    }

    #[test]
    fn what_is_at_the_target_itself_is_never_decided() {
        assert_eq!(needed(995, 1000, 0.995, 0.95), None);
        // Failures at half the rate that is allowed: 2,000 are too few, and some thousand do.
        let needs = needed(1995, 2000, 0.995, 0.95).unwrap();
        assert!((2_500..4_500).contains(&needs), "{needs}");
    }

    #[test]
    fn millions_are_no_trouble() {
        let (low, high) = share(99_000_000, 100_000_000, 0.95);
        // The normal approximation, which is exact enough at this size.
        let spread = 1.959_964 * (0.99_f64 * 0.01 / 1e8).sqrt();
        assert!((low - (0.99 - spread)).abs() < 1e-7, "{low}");
        assert!((high - (0.99 + spread)).abs() < 1e-7, "{high}");
        let (low, high) = ranks(0.5, 100_000_000, 0.95);
        let spread = 1.959_964 * 0.5 * 1e4;
        assert!(
            (low.unwrap() as f64 - (5e7 - spread)).abs() < 5.0,
            "{low:?}"
        );
        assert!(
            (high.unwrap() as f64 - (5e7 + spread)).abs() < 5.0,
            "{high:?}"
        );
    }
}
