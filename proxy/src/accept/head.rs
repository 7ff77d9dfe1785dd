//! A client's stream, on which the head of every request has bounds.
//!
//! pingora reads heads of up to 1 MiB, restarts its clock with every byte of
//! them, and answers what it cannot parse by itself, before any hook: without
//! our body, without our counter. So this stands between its parser and the
//! socket. While a head comes in,
//!
//! - no more is read than a head may have, nor for longer than it may take;
//! - whatever pingora writes is a refusal of its own, and is not let through.
//!   When pingora then shuts the stream down, the client gets ours in its place.
//!
//! To parse each head here first would tell the same, at the price of a second
//! parser on every request. Instead what comes in is copied aside (some hundred
//! bytes), and parsed again only when it was refused, to say why.
//!
//! Heads that lay in the buffer already when their turn came (pipelined ones)
//! pass by unseen; `framing.rs` measures the heads that were parsed, these too.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use memchr::memmem::Finder;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType, l4, raw_connect::ProxyDigest,
};
use pingora_proxy::Session;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep, sleep_until},
};

use super::{diagnosis, farewell::Farewell, outbox::Outbox};
use crate::{answer::Refusal, clock, metrics::Metrics};

/// What ends a head.
static HEAD_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// Room that a connection keeps for the heads to come.
const USUAL_HEAD: usize = 1024;

/// The bounds of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Its length.
    pub bytes: usize,
    /// From its first byte to its last.
    pub time: Duration,
}

/// A client's stream; see the module's head.
#[derive(Debug)]
pub struct Guarded {
    inner: l4::stream::Stream,
    limits: HeadLimits,
    metrics: Arc<Metrics>,
    /// A head is being read. Shared, as pingora lends its stream out only so.
    reading: AtomicBool,
    /// The last one was read to its end, so that `head` is of the past.
    was_read: bool,
    /// What has come in of the head, and perhaps some of a body behind it.
    head: Vec<u8>,
    /// Runs out with the head's time; set when a part of it has to be waited for.
    clock: Option<Pin<Box<Sleep>>>,
    /// How long the next head may be waited for, in milliseconds. Shared, as above.
    keepalive: AtomicU64,
    /// Since when it is waited for.
    idle_since: Option<Instant>,
    /// Made once a connection, and set anew only when it has run out too early: most
    /// requests come long before.
    idle: Option<Pin<Box<Sleep>>>,
    /// What waits to be written.
    outbox: Outbox,
    /// What the client is told when the stream is shut down.
    farewell: Option<Farewell>,
}

/// The head has been parsed: from here on the stream is the request's.
pub fn is_read(client: &Stream) {
    set_reading(client, false);
}

/// The connection may wait so long for its next request when this one is answered.
/// pingora would keep time itself, with a timer for every request.
pub fn keep(session: &mut Session, limit: Duration) {
    let guarded = session.stream().and_then(guarded);
    if let Some(guarded) = guarded {
        guarded.set_keepalive(limit);
    }
    // "As long as it likes", to pingora.
    session.set_keepalive(Some(0));
}

/// The next thing to come is a head.
pub fn comes_next(client: &Stream) {
    set_reading(client, true);
}

fn set_reading(client: &Stream, reading: bool) {
    if let Some(guarded) = guarded(client) {
        guarded.reading.store(reading, Ordering::Relaxed);
    }
}

fn guarded(client: &Stream) -> Option<&Guarded> {
    (**client).as_any().downcast_ref()
}

/// What is of the head, where it is plain that a body begins behind it. A client may
/// send empty lines before its head, which end nothing.
fn of_head(bytes: &[u8]) -> &[u8] {
    if matches!(bytes.first(), Some(b'\r' | b'\n')) {
        return bytes;
    }
    let end = HEAD_END.find(bytes).map(|at| at + HEAD_END.needle().len());
    end.and_then(|end| bytes.get(..end)).unwrap_or(bytes)
}

/// Ends pingora's reading. It writes nothing after this, and shuts down.
fn broken() -> Poll<io::Result<()>> {
    Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
}

// === impl Guarded ===

impl Guarded {
    /// Guards a stream whose first request is to come.
    #[must_use]
    pub fn new(
        inner: l4::stream::Stream,
        limits: HeadLimits,
        keepalive: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let guarded = Self {
            inner,
            limits,
            metrics,
            reading: AtomicBool::new(true),
            was_read: false,
            head: Vec::new(),
            clock: None,
            keepalive: AtomicU64::new(u64::MAX),
            idle_since: None,
            idle: None,
            outbox: Outbox::default(),
            farewell: None,
        };
        guarded.set_keepalive(keepalive);
        guarded
    }

    fn set_keepalive(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.keepalive.store(limit, Ordering::Relaxed);
    }

    /// Waits for a head of which nothing has come. Ready when it has been too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.idle_since.get_or_insert_with(clock::now);
        let limit = Duration::from_millis(*self.keepalive.get_mut());
        let Some(until) = since.checked_add(limit) else {
            return Poll::Pending;
        };
        let idle = self
            .idle
            .get_or_insert_with(|| Box::pin(sleep_until(until.into())));
        while idle.as_mut().poll(cx).is_ready() {
            if idle.deadline() >= until.into() {
                return Poll::Ready(());
            }
            // It was set for an earlier request.
            idle.as_mut().reset(until.into());
        }
        Poll::Pending
    }

    /// Whether a head is being read; forgets the one before.
    fn reading(&mut self) -> bool {
        let reading = *self.reading.get_mut();
        if reading && self.was_read {
            self.head.clear();
            self.head.shrink_to(USUAL_HEAD);
            self.clock = None;
        }
        self.was_read = !reading;
        reading
    }

    /// Reads a part of a head, or refuses it.
    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // pingora asks for more only when the head is not whole.
        if self.head.len() >= self.limits.bytes {
            self.refuse(&diagnosis::too_large(&self.head, self.limits.bytes));
            return broken();
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                self.idle_since = None;
                let came = &buf.filled()[before..];
                let first = self.head.is_empty();
                self.head
                    .extend_from_slice(if first { of_head(came) } else { came });
                Poll::Ready(Ok(()))
            }
            Poll::Pending if !self.head.is_empty() => {
                let time = self.limits.time;
                let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(time)));
                ready!(clock.as_mut().poll(cx));
                self.refuse(&diagnosis::too_slow(time));
                broken()
            }
            // The client has said nothing that it could be told about: it is closed.
            Poll::Pending => self.poll_idle(cx).map(Ok),
            ended @ Poll::Ready(_) => ended,
        }
    }

    /// Writes what waits, as far as the client takes it now. An error will show when
    /// more is written; and at the end nobody waits for a client that takes nothing.
    fn try_empty(&mut self, cx: &mut Context<'_>) {
        if !self.outbox.is_empty() {
            let _ = self.outbox.poll_empty(&mut self.inner, cx);
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.metrics.rejected(refusal.reason);
        self.farewell = Some(Farewell::new(refusal.answer().farewell()));
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.reading() {
            return this.poll_head(cx, buf);
        }
        // Whoever reads now waits.
        this.try_empty(cx);
        Pin::new(&mut this.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.reading() {
            if this.farewell.is_none() {
                this.refuse(&diagnosis::of(&this.head));
            }
            return Poll::Ready(Ok(bytes.len()));
        }
        this.outbox.poll_write(&mut this.inner, cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.reading() {
            let first = parts.iter().find(|part| !part.is_empty());
            return Pin::new(this).poll_write(cx, first.map_or(&[], |part| part));
        }
        this.outbox.poll_write_vectored(&mut this.inner, cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.outbox.poll_empty(&mut this.inner, cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(farewell) = &mut this.farewell {
            return farewell.poll(&mut this.inner, cx);
        }
        this.try_empty(cx);
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Guarded {
    async fn shutdown(&mut self) {
        poll_fn(|cx| {
            self.try_empty(cx);
            Poll::Ready(())
        })
        .await;
        Shutdown::shutdown(&mut self.inner).await;
    }
}

#[async_trait]
impl Peek for Guarded {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buf).await
    }
}

impl UniqueID for Guarded {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Guarded {}

impl GetTimingDigest for Guarded {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl GetProxyDigest for Guarded {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.inner.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Guarded {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.inner.set_socket_digest(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::of_head;

    #[test]
    fn a_head_is_told_from_the_body_behind_it() {
        let head = b"GET / HTTP/1.1\r\na: b\r\n\r\n";
        let with_body = [head, &b"x\r\n\r\nx"[..]].concat();
        assert_eq!(of_head(&with_body), head);
        assert_eq!(of_head(head), head);
    }

    #[test]
    fn what_may_not_be_the_end_is_not_taken_for_it() {
        for bytes in [
            &b""[..],
            b"GET / HTTP/1.1\r\na: b\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\nx",
            b"GET / HTTP/1.1\n\nx",
        ] {
            assert_eq!(of_head(bytes), bytes, "{}", bytes.escape_ascii());
        }
    }
}
