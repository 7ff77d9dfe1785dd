//! What the differences within pairs say.

use serde::Serialize;

use super::bootstrap::{interval, mean, median};
use super::{Figures, Pair, least_pairs};
use crate::slo::binomial;

/// How much worse B may be and still count as no worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margins {
    /// Of latencies and of the rate, as a part of A's.
    pub relative: f64,
    /// Of the error rate, as it is.
    pub errors: f64,
}

/// By how much B differs from A in one figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// `p50_ms`, `p99_ms`, `error_rate` or `rate`.
    pub name: &'static str,
    /// A's, over all pairs: the median, and of the error rate the mean, since the median of rare errors is 0.
    pub a: f64,
    /// B's.
    pub b: f64,
    /// B's less A's within a pair, over all pairs.
    pub difference: f64,
    /// The interval of the difference, lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How much worse is no worse.
    pub margin: f64,
    /// Where B stands.
    pub standing: Standing,
}

/// Where B stands, in one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Better: none of the interval is on the bad side of A.
    Better,
    /// No worse: none of the interval is beyond the margin.
    NoWorse,
    /// Worse: all of the interval is beyond the margin.
    Worse,
    /// The interval holds the margin.
    Undecided,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// B is no worse in any figure.
    NoWorse,
    /// B is worse in one.
    Worse,
    /// It is not known: the pairs are too few, or were broken off.
    Undecided,
}

/// Both ends of an interval.
type Interval = (f64, f64);

/// A figure of a run: its name, itself, whether more is worse, and how it is averaged over the pairs.
struct Kind {
    name: &'static str,
    of: fn(&Figures) -> f64,
    is_more_worse: bool,
    average: fn(&mut [f64]) -> f64,
    margin: fn(Margins, f64) -> f64,
    /// The least that the interval has to span, by other means than the pairs' own spread.
    least: fn(&[Pair], f64) -> Option<Interval>,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "p50_ms",
        of: |figures| figures.p50_ms,
        is_more_worse: true,
        average: median,
        margin: |margins, a| margins.relative * a,
        least: |_, _| None,
    },
    Kind {
        name: "p99_ms",
        of: |figures| figures.p99_ms,
        is_more_worse: true,
        average: median,
        margin: |margins, a| margins.relative * a,
        least: |_, _| None,
    },
    Kind {
        name: "error_rate",
        of: |figures| figures.error_rate,
        is_more_worse: true,
        average: mean,
        margin: |margins, _| margins.errors,
        least: errors_at_least,
    },
    Kind {
        name: "rate",
        of: |figures| figures.rate,
        is_more_worse: false,
        average: median,
        margin: |margins, a| margins.relative * a,
        least: |_, _| None,
    },
];

/// Each figure, and by how much B differs; none of no pairs.
pub(super) fn differences(
    pairs: &[Pair],
    confidence: f64,
    margins: Margins,
    seed: u64,
) -> Vec<Difference> {
    let kinds = KINDS.iter();
    kinds
        .filter_map(|kind| kind.difference(pairs, confidence, margins, seed))
        .collect()
}

/// Where no request of any pair failed, the pairs do not differ, however few requests they were: what B's
/// error rate may be all the same, by all of its requests together, less A's.
fn errors_at_least(pairs: &[Pair], confidence: f64) -> Option<Interval> {
    let sum = |of: fn(&Pair) -> u64| pairs.iter().map(of).sum::<u64>();
    let (a_failed, a_due) = (sum(|pair| pair.a.failed), sum(|pair| pair.a.due));
    let (failed, due) = (sum(|pair| pair.b.failed), sum(|pair| pair.b.due));
    if a_due == 0 || due == 0 {
        return None;
    }
    let a = a_failed as f64 / a_due as f64;
    let (low, high) = binomial::share(failed, due, confidence);
    Some((low - a, high - a))
}

// === impl Kind ===

impl Kind {
    fn difference(
        &self,
        pairs: &[Pair],
        confidence: f64,
        margins: Margins,
        seed: u64,
    ) -> Option<Difference> {
        let all = |of: &dyn Fn(&Pair) -> f64| pairs.iter().map(of).collect::<Vec<f64>>();
        let a = (self.average)(&mut all(&|pair| (self.of)(&pair.a)));
        let b = (self.average)(&mut all(&|pair| (self.of)(&pair.b)));
        let mut differences = all(&|pair| (self.of)(&pair.b) - (self.of)(&pair.a));
        let (low, high) = interval(&differences, self.average, confidence, seed)?;
        let (low, high) = match (self.least)(pairs, confidence) {
            Some((least_low, least_high)) => (low.min(least_low), high.max(least_high)),
            None => (low, high),
        };
        let margin = (self.margin)(margins, a);
        let (best, worst) = if self.is_more_worse {
            (low, high)
        } else {
            (-high, -low)
        };
        let standing = if best > margin {
            Standing::Worse
        } else if worst < 0.0 {
            Standing::Better
        } else if worst <= margin {
            Standing::NoWorse
        } else {
            Standing::Undecided
        };
        Some(Difference {
            name: self.name,
            a,
            b,
            difference: (self.average)(&mut differences),
            low,
            high,
            margin,
            standing,
        })
    }
}

// === impl Verdict ===

impl Verdict {
    pub(super) fn of(
        figures: &[Difference],
        pairs: usize,
        confidence: f64,
        is_partial: bool,
    ) -> Self {
        let any = |standing| figures.iter().any(|figure| figure.standing == standing);
        if pairs < least_pairs(confidence) {
            Self::Undecided
        } else if any(Standing::Worse) {
            Self::Worse
        } else if is_partial || any(Standing::Undecided) {
            Self::Undecided
        } else {
            Self::NoWorse
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGINS: Margins = Margins {
        relative: 0.1,
        errors: 0.005,
    };

    fn figures(p50_ms: f64, failed: u32) -> Figures {
        Figures {
            p50_ms,
            p99_ms: 10.0 * p50_ms,
            error_rate: f64::from(failed) / 1000.0,
            failed: failed.into(),
            due: 1000,
            rate: 200.0,
        }
    }

    /// Pairs whose A changes from pair to pair much more than B differs from it.
    fn pairs(count: u32, b: impl Fn(f64) -> f64, failed: u32) -> Vec<Pair> {
        let pair = |index: u32| {
            let drift = 10.0 + f64::from(index);
            Pair {
                a_first: index.is_multiple_of(2),
                a: figures(drift, 0),
                b: figures(b(drift), failed),
            }
        };
        (0..count).map(pair).collect()
    }

    fn standings(pairs: &[Pair]) -> (Vec<Standing>, Verdict) {
        let differences = differences(pairs, 0.95, MARGINS, 1);
        let verdict = Verdict::of(&differences, pairs.len(), 0.95, false);
        (
            differences
                .into_iter()
                .map(|difference| difference.standing)
                .collect(),
            verdict,
        )
    }

    #[test]
    fn a_small_difference_is_seen_under_a_large_drift() {
        use Standing::{Better, NoWorse, Worse};
        let (standings_of, verdict) = standings(&pairs(10, |a| a + 5.0, 0));
        assert_eq!(standings_of, [Worse, Worse, NoWorse, NoWorse]);
        assert_eq!(verdict, Verdict::Worse);
        let (standings_of, verdict) = standings(&pairs(10, |a| a + 0.2, 0));
        assert_eq!(standings_of, [NoWorse; 4]);
        assert_eq!(verdict, Verdict::NoWorse);
        let (standings_of, _) = standings(&pairs(10, |a| a - 0.2, 0));
        assert_eq!(standings_of, [Better, Better, NoWorse, NoWorse]);
    }

    #[test]
    fn what_is_now_better_and_now_worse_is_undecided() {
        let swing = |a: f64| if a % 2.0 < 1.0 { a * 1.5 } else { a * 0.7 };
        let (standings_of, verdict) = standings(&pairs(10, swing, 0));
        assert_eq!(standings_of[0], Standing::Undecided);
        assert_eq!(verdict, Verdict::Undecided);
    }

    #[test]
    fn errors_are_held_to_a_margin_of_their_own_and_less_rate_is_worse() {
        let (standings_of, verdict) = standings(&pairs(10, |a| a, 20));
        assert_eq!(standings_of[2], Standing::Worse);
        assert_eq!(verdict, Verdict::Worse);
        let mut slow = pairs(10, |a| a, 1);
        for pair in &mut slow {
            pair.b.rate = 150.0;
        }
        let (standings_of, _) = standings(&slow);
        assert_eq!(standings_of[2..], [Standing::NoWorse, Standing::Worse]);
    }

    #[test]
    fn that_nothing_failed_shows_little_of_a_few_requests() {
        let mut few = pairs(10, |a| a, 0);
        for pair in &mut few {
            (pair.a.due, pair.b.due) = (4, 4);
        }
        let (standings_of, verdict) = standings(&few);
        assert_eq!(standings_of[2], Standing::Undecided);
        assert_eq!(verdict, Verdict::Undecided);
    }

    #[test]
    fn a_higher_confidence_takes_more_pairs() {
        let least = [0.5, 0.95, 0.97, 0.99, 0.9999].map(least_pairs);
        assert_eq!(least, [6, 6, 7, 8, 15]);
    }

    #[test]
    fn too_few_pairs_and_a_broken_off_comparison_show_nothing_good() {
        let few = pairs(5, |a| a, 0);
        assert_eq!(standings(&few).1, Verdict::Undecided);
        let some = pairs(7, |a| a, 0);
        let figures = differences(&some, 0.95, MARGINS, 1);
        assert_eq!(Verdict::of(&figures, 7, 0.95, true), Verdict::Undecided);
        let worse = differences(&pairs(7, |a| a + 9.0, 0), 0.95, MARGINS, 1);
        assert_eq!(
            Verdict::of(&worse, 7, 0.95, true),
            Verdict::Worse,
            "it is, all the same"
        );
        assert_eq!(differences(&[], 0.95, MARGINS, 1), []);
    }
}
