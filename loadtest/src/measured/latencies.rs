//! Durations in a high dynamic range histogram: microseconds, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::Quantiles;

/// The longest duration that is told from longer ones, in microseconds: an hour.
const MAX: u64 = 3_600_000_000;

/// Recorded durations. Takes no memory until the first.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Option<Histogram<u64>>);

/// Says that a histogram does not fit: it holds a duration of more than an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected durations up to an hour, got {micros} us")]
pub struct LatenciesError {
    /// The longest of them, in microseconds.
    pub micros: u64,
}

// === impl Latencies ===

impl Latencies {
    /// Counts a duration; one of more than an hour counts as an hour.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(MAX);
        self.histogram_mut().saturating_record(micros);
    }

    /// How many were recorded.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The usual quantiles; none of nothing.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        let histogram = self.histogram()?;
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        Some(Quantiles {
            mean_ms: histogram.mean() / 1000.0,
            p50_ms: at(0.50),
            p90_ms: at(0.90),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: millis(histogram.max()),
        })
    }

    /// Any quantile, in milliseconds; none of nothing.
    #[must_use]
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let histogram = self.histogram()?;
        Some(millis(histogram.value_at_quantile(quantile)))
    }

    /// The duration at a rank, in milliseconds: the shortest has rank 1. None where there are fewer.
    #[must_use]
    pub fn at_rank_ms(&self, rank: u64) -> Option<f64> {
        let histogram = self.histogram()?;
        let mut seen = 0;
        for step in histogram.iter_recorded() {
            seen += step.count_since_last_iteration();
            if seen >= rank {
                return Some(millis(
                    histogram.highest_equivalent(step.value_iterated_to()),
                ));
            }
        }
        None
    }

    /// How many are shorter than so many milliseconds, as far as three digits tell.
    #[must_use]
    pub fn below(&self, limit_ms: f64) -> u64 {
        let Some(histogram) = self.histogram() else {
            return 0;
        };
        let is_below = |micros| millis(histogram.highest_equivalent(micros)) < limit_ms;
        let steps = histogram.iter_recorded();
        steps
            .take_while(|step| is_below(step.value_iterated_to()))
            .map(|step| step.count_since_last_iteration())
            .sum()
    }

    /// Adds what another has recorded.
    ///
    /// # Errors
    ///
    /// When a duration of it is beyond the range.
    pub fn add(&mut self, other: &Self) -> Result<(), LatenciesError> {
        match other.histogram() {
            Some(other) => self.add_histogram(other),
            None => Ok(()),
        }
    }

    /// Adds what a histogram of microseconds has recorded.
    pub(crate) fn add_histogram(&mut self, other: &Histogram<u64>) -> Result<(), LatenciesError> {
        let added = self.histogram_mut().add(other);
        added.map_err(|_| LatenciesError {
            micros: other.max(),
        })
    }

    /// What was recorded since an earlier state of the same.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        if let (Some(now), Some(then)) = (since.0.as_mut(), earlier.histogram()) {
            // An earlier state has no count that is higher; another histogram's is no state of this.
            if now.subtract(then).is_err() {
                now.reset();
            }
        }
        since
    }

    /// The histogram; none where it is empty.
    pub(crate) fn histogram(&self) -> Option<&Histogram<u64>> {
        self.0.as_ref().filter(|histogram| !histogram.is_empty())
    }

    fn histogram_mut(&mut self) -> &mut Histogram<u64> {
        self.0.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, MAX, 3).expect("the bounds are constants that fit")
        })
    }
}

/// The same counts; whether memory was taken makes no difference.
impl PartialEq for Latencies {
    fn eq(&self, other: &Self) -> bool {
        self.histogram() == other.histogram()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an hour of microseconds is far below 2^53"
)]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        for millis in millis {
            latencies.record(Duration::from_millis(millis));
        }
        latencies
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        assert_eq!(Latencies::default().quantiles(), None);
        let quantiles = of(1..=1000).quantiles().unwrap();
        for (got, expected) in [
            (quantiles.mean_ms, 500.5),
            (quantiles.p50_ms, 500.0),
            (quantiles.p90_ms, 900.0),
            (quantiles.p99_ms, 990.0),
            (quantiles.p999_ms, 999.0),
            (quantiles.max_ms, 1000.0),
        ] {
            assert!(
                (got - expected).abs() <= expected / 1000.0,
                "{got} for {expected}"
            );
        }
    }

    #[test]
    fn what_is_beyond_the_range_counts_as_its_end() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::MAX);
        latencies.record(Duration::ZERO);
        let max = latencies.quantiles().unwrap().max_ms;
        assert!((max - 3_600_000.0).abs() < 3_600.0, "{max}");
    }

    #[test]
    fn a_rank_is_a_place_in_the_sorted_list() {
        let latencies = of([30, 10, 20, 20]);
        for (rank, expected) in [(1, 10.0), (2, 20.0), (3, 20.0), (4, 30.0)] {
            let got = latencies.at_rank_ms(rank).unwrap();
            assert!((got - expected).abs() <= expected / 1000.0, "{rank}: {got}");
        }
        assert_eq!(latencies.at_rank_ms(5), None);
        assert_eq!(Latencies::default().at_rank_ms(1), None);
        let below: Vec<_> = [5.0, 15.0, 25.0, 35.0]
            .map(|limit| latencies.below(limit))
            .into();
        assert_eq!(below, [0, 1, 3, 4]);
    }

    #[test]
    fn what_is_added_can_be_told_apart_again() {
        let (first, second) = (of([1, 5, 900]), of([5, 7_000]));
        let mut both = first.clone();
        both.add(&second).unwrap();
        assert_eq!(both, of([1, 5, 900, 5, 7_000]));
        assert_eq!(both.since(&first), second);
        assert_eq!(both.since(&both), Latencies::default());
        assert_eq!(first.since(&Latencies::default()), first);
    }

    #[test]
    fn a_histogram_beyond_the_range_is_not_added() {
        let mut other = Histogram::new_with_bounds(1, u64::MAX / 2, 3).unwrap();
        other.record(MAX * 1000).unwrap();
        let error = Latencies::default().add_histogram(&other).unwrap_err();
        assert!(error.micros > MAX, "{error}");
    }
}
