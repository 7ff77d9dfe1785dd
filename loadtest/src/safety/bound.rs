//! How high a rate may be of which so many were seen: the one-sided Clopper-Pearson bound.
//!
//! With x misses among n cases, the largest rate p at which so few misses still have a chance of
//! 1 − confidence solves P(X ≤ x) = 1 − confidence for X binomial with n and p. By the relation of the
//! binomial to the beta distribution that is `I_p(x + 1, n − x) = confidence`, with I the regularised
//! incomplete beta function (Clopper and Pearson, Biometrika 26, 1934).

use statrs::function::beta::beta_reg;

/// Halvings of an interval: more than a double can tell apart.
const HALVINGS: u32 = 200;

/// The most cases that a search goes up to.
const MAX_CASES: u64 = 1 << 40;

/// The rate that is not exceeded, at this confidence, where `misses` of `cases` were seen.
#[must_use]
pub(crate) fn upper(misses: u64, cases: u64, confidence: f64) -> f64 {
    if misses >= cases {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if sure(misses, cases, middle) > confidence {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// Whether the rate is proved to be below `bound`.
#[must_use]
pub(crate) fn proves(misses: u64, cases: u64, bound: f64, confidence: f64) -> bool {
    misses < cases && sure(misses, cases, bound) >= confidence
}

/// The fewest cases that prove a bound with so many misses.
#[must_use]
pub(crate) fn needed(misses: u64, bound: f64, confidence: f64) -> u64 {
    let (mut low, mut high) = (misses, MAX_CASES);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if proves(misses, middle, bound, confidence) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// How sure so few misses make that the rate is below `rate`.
fn sure(misses: u64, cases: u64, rate: f64) -> f64 {
    beta_reg(misses as f64 + 1.0, (cases - misses) as f64, rate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tenth_of_a_percent_needs_thousands_of_cases() {
        for (misses, cases) in [(0, 2_995), (1, 4_742), (2, 6_294), (3, 7_752), (5, 10_511)] {
            assert_eq!(needed(misses, 0.001, 0.95), cases, "{misses} misses");
            assert!(proves(misses, cases, 0.001, 0.95));
            assert!(!proves(misses, cases - 1, 0.001, 0.95));
            assert!(!proves(misses + 1, cases, 0.001, 0.95));
        }
    }

    #[test]
    fn without_a_miss_it_is_the_formula_of_every_textbook() {
        let bound = upper(0, 100, 0.95);
        assert!(
            (bound - (1.0 - 0.05_f64.powf(0.01))).abs() < 1e-12,
            "{bound}"
        );
        assert!((upper(10, 10, 0.95) - 1.0).abs() < f64::EPSILON);
        assert!((upper(0, 0, 0.95) - 1.0).abs() < f64::EPSILON);
    }

    proptest! {
        /// The definition: at the bound, so few misses have a chance of 1 − confidence.
        #[test]
        fn at_the_bound_so_few_misses_are_just_as_unlikely_as_was_asked(
            cases in 1_u64..400,
            part in 0_u64..1_000,
            confidence in 0.5_f64..0.999,
        ) {
            let misses = part * cases / 1_000;
            let rate = upper(misses, cases, confidence);
            let mut term = cases as f64 * (1.0 - rate).ln();
            let mut chance = term.exp();
            for x in 1..=misses {
                term += ((cases - x + 1) as f64).ln() - (x as f64).ln()
                    + rate.ln() - (1.0 - rate).ln();
                chance += term.exp();
            }
            prop_assert!((chance - (1.0 - confidence)).abs() < 1e-8, "{chance}");
        }
    }
}
