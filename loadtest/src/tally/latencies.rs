//! Durations in a high dynamic range histogram: microseconds, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::Quantiles;

/// The longest duration that is told from longer ones, in microseconds: an hour.
const MAX: u64 = 3_600_000_000;

/// Recorded durations. Takes no memory until the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies(Option<Histogram<u64>>);

// === impl Latencies ===

impl Latencies {
    pub(super) fn record(&mut self, duration: Duration) {
        let histogram = self.0.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, MAX, 3).expect("the bounds are constants that fit")
        });
        let micros = u64::try_from(duration.as_micros()).unwrap_or(MAX);
        histogram.saturating_record(micros);
    }

    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        let histogram = self.0.as_ref()?;
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

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantiles(), None);
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        let quantiles = latencies.quantiles().unwrap();
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
}
