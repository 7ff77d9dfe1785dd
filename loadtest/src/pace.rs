//! Waits for instants to some tens of microseconds, within the runtime.
//!
//! Tokio's timers tick in milliseconds; at 30,000 requests a second that is thirty of them. A thread that waits on
//! a condition variable is as precise as this, but on one core its waking and sleeping took a tenth of what a
//! request costs in all. A `timerfd` is one more descriptor in the poll that brings the answers.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::clock;

/// Waits for one instant after the other.
#[derive(Debug)]
pub(crate) struct Pace {
    /// None where the system gave no descriptor for it: then it ticks as tokio does, and is late.
    timer: Option<AsyncFd<OwnedFd>>,
}

// === impl Pace ===

impl Pace {
    /// Of the runtime that this is called in.
    pub(crate) fn new() -> Self {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok();
        // SAFETY: it is the only owner of an open descriptor, which nobody replaces or closes while it has it.
        let timer = timer.and_then(|timer| unsafe { AsyncFd::register(timer) }.ok());
        Self { timer }
    }

    /// Waits until an instant, and lets others run in any case.
    ///
    /// # Cancel safety
    ///
    /// Dropping it waits no more; the next wait is as good as any.
    pub(crate) async fn until(&self, due: Instant) {
        let Some(timer) = &self.timer else {
            return tokio::time::sleep_until(due.into()).await;
        };
        loop {
            let left = due.saturating_duration_since(clock::now());
            if left.is_zero() {
                return tokio::task::yield_now().await;
            }
            if !set(timer, left) {
                return tokio::time::sleep_until(due.into()).await;
            }
            // Setting it anew is all that is needed before the next wait: what has expired need not be read.
            match timer.readable().await {
                Ok(mut guard) => guard.clear_ready(),
                // The runtime ends: who waits in a loop has to be where it can be ended, too.
                Err(_) => return tokio::task::yield_now().await,
            }
            if clock::now() >= due {
                return;
            }
        }
    }
}

fn set(timer: &AsyncFd<OwnedFd>, left: Duration) -> bool {
    let Ok(it_value) = Timespec::try_from(left) else {
        return false;
    };
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_due_before_its_instant_and_everything_comes() {
        let pace = Pace::new();
        assert!(pace.timer.is_some());
        let start = clock::now();
        for micros in [0, 1, 50, 300, 300, 2_000, 5_000] {
            let due = start + Duration::from_micros(micros);
            pace.until(due).await;
            assert!(clock::now() >= due, "{micros}");
        }
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_does_not_end_the_next() {
        let pace = Pace::new();
        let start = clock::now();
        let hour = start + Duration::from_hours(1);
        let soon = pace.until(start + Duration::from_millis(2));
        tokio::select! {
            () = pace.until(hour) => panic!("an hour is not over"),
            () = tokio::task::yield_now() => {}
        }
        soon.await;
        assert!(clock::now() >= start + Duration::from_millis(2));
    }

    #[tokio::test]
    async fn without_a_descriptor_it_still_waits() {
        let pace = Pace { timer: None };
        let due = clock::now() + Duration::from_millis(2);
        pace.until(due).await;
        assert!(clock::now() >= due);
    }
}
