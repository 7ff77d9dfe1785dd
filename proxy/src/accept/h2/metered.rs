//! A client's stream of HTTP/2, whose frames are counted as they pass.
//!
//! When there are too many that carry nothing (`flood.rs`), no more is read, and whoever serves the
//! connection is told to end it. Nor is more read at a time than some dozens of frames: the library would
//! work off all that the client has sent before any other connection of the thread has its turn, and
//! tokio's own budget counts reads, of which one may hold hundreds. A client that is told why its connection ends, by us or by the h2
//! library, gets the time to read that (`farewell.rs`).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType, l4, raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::{super::farewell::Farewell, PREFACE, flood::Meter};
use crate::{clock, metrics::Metrics};

/// Frames that are worked off before others on the thread have their turn.
const TURN: u32 = 64;

/// A stream that begins with the preface of HTTP/2.
#[derive(Debug)]
pub(super) struct Metered {
    inner: l4::stream::Stream,
    meter: Meter,
    /// Frames that were read in this turn.
    turn: u32,
    metrics: Arc<Metrics>,
    /// Set when the client has sent too much.
    flooded: CancellationToken,
    /// The client was told that its connection ends for what it sent.
    given_up: bool,
    farewell: Option<Farewell>,
}

// === impl Metered ===

impl Metered {
    /// Counts from here on, and tells `flooded` when it is too much.
    pub(super) fn new(
        inner: l4::stream::Stream,
        metrics: Arc<Metrics>,
        flooded: CancellationToken,
    ) -> Self {
        Self {
            inner,
            meter: Meter::new(PREFACE.len(), clock::now()),
            turn: 0,
            metrics,
            flooded,
            given_up: false,
            farewell: None,
        }
    }

    fn went(&mut self, bytes: &[u8]) {
        if let Some(error) = self.meter.went(bytes) {
            self.metrics.h2_given_up(error);
            self.given_up = true;
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.flooded.is_cancelled() {
            return Poll::Pending;
        }
        if this.turn >= TURN {
            this.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, buf) else {
            this.turn = 0;
            return Poll::Pending;
        };
        read?;
        let came = buf.filled().get(before..).unwrap_or_default();
        match this.meter.came(came, clock::now()) {
            Ok(frames) => {
                this.turn += frames;
                Poll::Ready(Ok(()))
            }
            Err(flood) => {
                tracing::debug!(?flood, "a connection ends");
                buf.set_filled(before);
                // Whoever serves the connection waits for this, and polls no longer for bytes.
                this.flooded.cancel();
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
        this.went(bytes.get(..written).unwrap_or(bytes));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, parts))?;
        let mut left = written;
        for part in parts {
            let went = part.get(..left).unwrap_or(part);
            this.went(went);
            left -= went.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given_up {
            let farewell = this
                .farewell
                .get_or_insert_with(|| Farewell::new(Vec::new()));
            return farewell.poll(&mut this.inner, cx);
        }
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Metered {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut self.inner).await;
    }
}

#[async_trait]
impl Peek for Metered {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buf).await
    }
}

impl UniqueID for Metered {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Metered {}

impl GetTimingDigest for Metered {
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

impl GetProxyDigest for Metered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.inner.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Metered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.inner.set_socket_digest(digest);
    }
}
