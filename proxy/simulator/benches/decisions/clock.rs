//! The only place that reads clocks: the wall's, and this thread's share of a processor.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The present.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the program's clock module"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The processor time that this thread has had. On a machine that does other
/// things, too, the wall's clock would measure those.
pub(crate) fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}
