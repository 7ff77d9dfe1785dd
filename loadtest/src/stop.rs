//! A wait that can be cut short, for the thread that keeps the schedule.
//!
//! Tokio's timers tick in milliseconds; at 500 requests a second that is half a
//! gap. A thread that waits on a condition variable wakes within some tens of
//! microseconds, and a stop wakes it at once.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Whether a run should end, and who waits to hear of it.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    set: Mutex<bool>,
    changed: Condvar,
}

// === impl Stop ===

impl Stop {
    /// Asks for the end.
    pub(crate) fn set(&self) {
        *self.set.lock() = true;
        self.changed.notify_all();
    }

    /// Whether the end was asked for.
    pub(crate) fn is_set(&self) -> bool {
        *self.set.lock()
    }

    /// Blocks until `due`, and says whether the run goes on.
    pub(crate) fn wait_until(&self, due: Instant) -> bool {
        let mut set = self.set.lock();
        while !*set {
            if self.changed.wait_until(&mut set, due).timed_out() {
                break;
            }
        }
        !*set
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn a_stop_cuts_a_wait_short() {
        let stop = Arc::new(Stop::default());
        let waiter = Arc::clone(&stop);
        let day = clock::now() + Duration::from_hours(24);
        let thread = std::thread::spawn(move || waiter.wait_until(day));
        stop.set();
        assert!(!thread.join().unwrap());
        assert!(stop.is_set());
    }

    #[test]
    fn a_due_instant_goes_on() {
        assert!(Stop::default().wait_until(clock::now()));
    }
}
