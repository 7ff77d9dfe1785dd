//! The only place that reads the clock.

use std::time::{Instant, SystemTime};

/// The present.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the program's clock module"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The present on the calendar: for files, and never for measuring.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the program's clock module"
)]
pub(crate) fn calendar() -> SystemTime {
    SystemTime::now()
}
