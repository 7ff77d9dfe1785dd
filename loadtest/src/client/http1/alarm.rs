//! Gives up at an instant, with one timer for all requests of a connection.
//!
//! A timer for each request would be set and taken back some tens of thousands of times a second, and hardly ever
//! go off. This one stays set for the deadline of an earlier request: it goes off once in a timeout, finds that a
//! later one counts, and is set anew.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::time::{Instant, Sleep};

/// A timer that is set when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

// === impl Alarm ===

impl Alarm {
    /// Waits for `work` until `deadline`; none where that came first.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the work.
    pub(super) async fn bounds<T>(
        &mut self,
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let set = || Box::pin(tokio::time::sleep_until(deadline));
            let sleep = self.0.get_or_insert_with(set);
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            while sleep.as_mut().poll(cx).is_ready() {
                if sleep.deadline() >= deadline {
                    return Poll::Ready(None);
                }
                sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_request_has_its_own_deadline_whatever_the_timer_was_set_for() {
        let mut alarm = Alarm::default();
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let at = |seconds: u32| start + seconds * second;
        // Set for 4 s, and not needed.
        let done = alarm.bounds(at(4), tokio::time::sleep_until(at(1))).await;
        assert_eq!(done, Some(()));
        // Goes off in the midst of it.
        let done = alarm.bounds(at(6), tokio::time::sleep_until(at(5))).await;
        assert_eq!((done, start.elapsed().as_secs()), (Some(()), 5));
        // Is the earlier of two.
        let never = std::future::pending::<()>();
        let done = alarm.bounds(at(8), never).await;
        assert_eq!((done, start.elapsed().as_secs()), (None, 8));
        // Is set for later than the next deadline.
        let done = alarm.bounds(at(30), tokio::time::sleep_until(at(9))).await;
        assert_eq!(done, Some(()));
        let never = std::future::pending::<()>();
        let done = alarm.bounds(at(10), never).await;
        assert_eq!((done, start.elapsed().as_secs()), (None, 10));
    }
}
