//! The median of a figure over the rounds of a bench.
//!
//! Of an odd number of rounds, which is the default nearly everywhere, it is the figure in the middle. Of an even
//! number two are in the middle, and [`of`] takes the larger: a figure that was measured, and the same rule for numbers,
//! counts and figures that may be missing. What is missing did not happen while it was looked for, and so is larger
//! than everything that did: the median is missing where it is in half of the rounds, or more. [`between`] takes the
//! mean of the two, for ratios of an even number of rounds that were run in turns, forwards and backwards.

use std::cmp::Ordering;

/// What a round says.
pub(crate) trait Figure: Copy {
    /// Which is smaller.
    fn order(&self, other: &Self) -> Ordering;
}

// === impl Figure ===

impl Figure for f64 {
    fn order(&self, other: &Self) -> Ordering {
        self.total_cmp(other)
    }
}

impl Figure for usize {
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
}

impl<F: Figure> Figure for Option<F> {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Some(one), Some(other)) => one.order(other),
            _ => self.is_none().cmp(&other.is_none()),
        }
    }
}

/// The median of a figure; the larger of two in the middle.
///
/// # Panics
///
/// Of no rounds.
pub(crate) fn of<R, F: Figure>(rounds: &[R], figure: impl Fn(&R) -> F) -> F {
    middle(rounds, figure)[1]
}

/// The median of a figure; the mean of two in the middle.
///
/// # Panics
///
/// Of no rounds.
pub(crate) fn between<R>(rounds: &[R], figure: impl Fn(&R) -> f64) -> f64 {
    let [less, more] = middle(rounds, figure);
    f64::midpoint(less, more)
}

/// The two in the middle, in order; of an odd number of rounds, the same twice.
fn middle<R, F: Figure>(rounds: &[R], figure: impl Fn(&R) -> F) -> [F; 2] {
    let mut figures: Vec<F> = rounds.iter().map(figure).collect();
    figures.sort_by(F::order);
    [(figures.len() - 1) / 2, figures.len() / 2].map(|at| figures[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median<F: Figure>(rounds: &[F]) -> F {
        of(rounds, |figure| *figure)
    }

    #[test]
    fn of_an_odd_number_it_is_the_one_in_the_middle() {
        assert_eq!(median(&[3, 1, 2_usize]), 2);
        let odd = [9.0, -1.0, 4.0];
        assert_eq!((median(&odd), between(&odd, |f| *f)), (4.0, 4.0));
        assert_eq!(median(&[7_usize]), 7);
    }

    #[test]
    fn of_an_even_number_it_is_the_larger_in_the_middle_or_the_mean_of_both() {
        let even = [4.0, 1.0, 2.0, 9.0];
        assert_eq!((median(&even), between(&even, |f| *f)), (4.0, 3.0));
        assert_eq!(median(&[1, 2_usize]), 2);
    }

    #[test]
    fn what_is_missing_is_larger_than_everything() {
        assert_eq!(median(&[None, Some(1.0), Some(2.0)]), Some(2.0));
        assert_eq!(median(&[Some(f64::INFINITY), None, None]), None);
        assert_eq!(median(&[Some(1.0), None]), None);
    }

    #[test]
    fn each_figure_has_its_own_middle() {
        let rounds = [(1.0, 30_usize), (2.0, 10), (3.0, 20)];
        assert_eq!((of(&rounds, |r| r.0), of(&rounds, |r| r.1)), (2.0, 20));
    }
}
