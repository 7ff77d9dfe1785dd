//! What a connection does: whether it has asked yet, and how long no stream of it is open.
//!
//! Over HTTP/1.1 hyper itself closes a connection that is idle: it waits for a head there. Over HTTP/2 it
//! has no such limit, and answers to its pings keep a connection for ever, so here streams are counted. Nothing
//! is woken for that: who waits for idleness looks again when it could be due.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{sleep, sleep_until};

use crate::api::Payload;
use crate::clock;

/// What a connection does.
#[derive(Debug, Default)]
pub(super) struct Activity {
    had_request: AtomicBool,
    streams: Mutex<Streams>,
}

/// Streams of HTTP/2.
#[derive(Debug, Default)]
struct Streams {
    open: usize,
    /// When the last one ended; none before the first one has.
    ended: Option<Instant>,
}

/// A stream that is open until this is dropped.
#[derive(Debug)]
pub(super) struct Stream(Arc<Activity>);

/// What is sent of an answer, which keeps its stream open.
#[derive(Debug)]
pub(super) struct Sent {
    payload: Payload,
    _stream: Option<Stream>,
}

// === impl Activity ===

impl Activity {
    /// Notes a request; says whether it is the first.
    pub(super) fn is_first(&self) -> bool {
        !self.had_request.swap(true, Ordering::Relaxed)
    }

    /// Whether there was a request.
    pub(super) fn had_request(&self) -> bool {
        self.had_request.load(Ordering::Relaxed)
    }

    /// Ends when the time is over and there was no request; otherwise never.
    pub(super) async fn silent_for(&self, time: Duration) {
        sleep(time).await;
        if self.had_request() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends when no stream has been open for so long from now on, or from the end of the last one. Never
    /// where there was none.
    pub(super) async fn idle_for(&self, time: Duration) {
        let begin = clock::now();
        loop {
            let now = clock::now();
            let due = self.idle_since().map(|since| since.max(begin) + time);
            match due {
                Some(due) if due <= now => return,
                Some(due) => sleep_until(due.into()).await,
                // If the last one ended at once, it would be due then.
                None => sleep_until((now + time).into()).await,
            }
        }
    }

    fn idle_since(&self) -> Option<Instant> {
        let streams = self.streams.lock();
        streams.ended.filter(|_| streams.open == 0)
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn open(activity: &Arc<Activity>) -> Self {
        activity.streams.lock().open += 1;
        Self(Arc::clone(activity))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let now = clock::now();
        let mut streams = self.0.streams.lock();
        streams.open -= 1;
        streams.ended = Some(now);
    }
}

// === impl Sent ===

impl Sent {
    pub(super) fn new(payload: Payload, stream: Option<Stream>) -> Self {
        Self {
            payload,
            _stream: stream,
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.payload).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.payload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.payload.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn it_is_idle_so_long_after_its_last_stream_and_never_before_its_first() {
        let activity = Arc::new(Activity::default());
        assert_eq!(activity.idle_since(), None, "it has had no stream");
        let (first, second) = (Stream::open(&activity), Stream::open(&activity));
        drop(first);
        assert_eq!(activity.idle_since(), None, "one is open");
        drop(second);
        assert!(activity.idle_since().is_some());
        let begin = clock::now();
        activity.idle_for(TIME).await;
        assert!(clock::now() - begin >= TIME);
        // Once more, it is as long again.
        let begin = clock::now();
        activity.idle_for(TIME).await;
        assert!(clock::now() - begin >= TIME);
    }
}
