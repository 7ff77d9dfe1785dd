//! A gauge that is one higher for as long as its guard lives.
//!
//! pingora drops what belongs to a request without a word when its client
//! leaves; a guard counts down all the same.

use prometheus::IntGauge;

/// Counts one until it is dropped.
#[derive(Debug)]
#[must_use = "it counts for as long as it lives"]
pub struct Tracked(IntGauge);

// === impl Tracked ===

impl Tracked {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.0.dec();
    }
}
