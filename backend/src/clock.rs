//! The program's one clock.
//!
//! Decisions take `now` as an argument; the edges of the program (a request that arrives, an
//! instance that frees) ask here. A lint bans the standard library's clocks everywhere else.

use std::time::{Duration, Instant};

/// The time now.
#[expect(clippy::disallowed_methods, reason = "this module is the clock")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Blocks this thread: the scripted model's work, on its instance's own thread.
#[expect(clippy::disallowed_methods, reason = "this module is the clock")]
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
