//! The only place that reads the clock.

use std::time::Instant;

/// The present.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the program's clock module"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
