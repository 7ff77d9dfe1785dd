//! Whether a run should end.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Set once, from anywhere; waited for by whoever keeps the schedule.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    set: AtomicBool,
    changed: Notify,
}

// === impl Stop ===

impl Stop {
    /// Asks for the end.
    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::Relaxed);
        // Kept for who begins to wait only now.
        self.changed.notify_one();
    }

    /// Whether the end was asked for.
    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }

    /// Waits until it is; for one at a time.
    pub(crate) async fn wait(&self) {
        while !self.is_set() {
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_is_heard_by_who_waits_and_by_who_comes_later() {
        let stop = Stop::default();
        assert!(!stop.is_set());
        tokio::join!(stop.wait(), async {
            tokio::task::yield_now().await;
            stop.set();
        });
        assert!(stop.is_set());
        stop.wait().await;
    }
}
