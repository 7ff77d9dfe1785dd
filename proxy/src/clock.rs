//! The one place in the proxy that reads the clock.
//!
//! Decisions take `now` as an argument; this is where the shell gets it from.

use std::time::{Instant, SystemTime};

/// The present moment.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now() -> Instant {
    Instant::now()
}

/// The present moment by the calendar: for people, and for nothing that counts.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn calendar() -> SystemTime {
    SystemTime::now()
}
