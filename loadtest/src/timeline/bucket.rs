//! What happened in one span of time; two of them add up.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told from longer ones, in microseconds: an hour.
const MAX: u64 = 3_600_000_000;

/// One span.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Requests that became due.
    pub(super) due: u64,
    /// Answers that came and could be used.
    pub(super) answered: u64,
    /// Latencies of the requests that became due.
    pub(super) latency: Latency,
    /// Requests that became due and failed, by reason.
    pub(super) failed: Counts,
    /// Answers that came, by version.
    pub(super) versions: Counts,
}

/// Counts by the number of a name.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<u64>);

/// Latencies in microseconds, to two digits: a pixel. Takes no memory until the first, and some kilobytes then.
#[derive(Debug, Default)]
pub(super) struct Latency(Option<Histogram<u64>>);

// === impl Bucket ===

impl Bucket {
    pub(super) fn absorb(&mut self, other: &Self) {
        self.due += other.due;
        self.answered += other.answered;
        self.latency.absorb(&other.latency);
        self.failed.absorb(&other.failed);
        self.versions.absorb(&other.versions);
    }
}

// === impl Counts ===

impl Counts {
    pub(super) fn add(&mut self, name: usize) {
        self.at(name, 1);
    }

    pub(super) fn get(&self, name: usize) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    fn at(&mut self, name: usize, more: u64) {
        if self.0.len() <= name {
            self.0.resize(name + 1, 0);
        }
        if let Some(count) = self.0.get_mut(name) {
            *count += more;
        }
    }

    fn absorb(&mut self, other: &Self) {
        for (name, &count) in other.0.iter().enumerate() {
            self.at(name, count);
        }
    }
}

// === impl Latency ===

impl Latency {
    pub(super) fn record(&mut self, latency: Duration) {
        // It grows with the longest that it is shown, up to the bound of what it is shown.
        let histogram = self
            .0
            .get_or_insert_with(|| Histogram::new(2).expect("two digits are a precision"));
        let micros = u64::try_from(latency.as_micros()).unwrap_or(MAX);
        let _ = histogram.record(micros.clamp(1, MAX));
    }

    fn absorb(&mut self, other: &Self) {
        let Some(other) = &other.0 else { return };
        match &mut self.0 {
            // It grows as far as the other, which is of the same precision.
            Some(histogram) => drop(histogram.add(other)),
            none => *none = Some(other.clone()),
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// Milliseconds that a part of the requests did not exceed; none of nothing.
    pub(super) fn at(&self, quantile: f64) -> Option<f64> {
        let histogram = self.0.as_ref()?;
        Some(histogram.value_at_quantile(quantile) as f64 / 1000.0)
    }
}
