//! The one place of this crate that reads the clock.

use std::time::Instant;

/// Reads the monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the clock module")]
pub fn now() -> Instant {
    Instant::now()
}
