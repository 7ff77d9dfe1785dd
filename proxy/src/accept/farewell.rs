//! The last answer on a connection whose client may still be sending.
//!
//! Closing a socket with bytes unread resets the connection, and a reset takes
//! along what the client has not read yet: the answer. So the answer goes out,
//! then the end of our side, and what the client still sends is thrown away
//! until it has seen both, or has had its time.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pingora_core::protocols::l4::stream::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// The longest that a client is given to take it.
const TIME: Duration = Duration::from_secs(1);
/// Thrown away at a time.
const SCRAP: usize = 4 * 1024;

/// An answer on its way out; see the module's head.
#[derive(Debug)]
pub(super) struct Farewell {
    answer: Vec<u8>,
    written: usize,
    /// Our side has ended.
    ended: bool,
    clock: Pin<Box<Sleep>>,
}

// === impl Farewell ===

impl Farewell {
    /// Begins to send these bytes.
    #[must_use]
    pub(super) fn new(answer: Vec<u8>) -> Self {
        Self {
            answer,
            written: 0,
            ended: false,
            clock: Box::pin(sleep(TIME)),
        }
    }

    /// Goes on, until the stream can be closed.
    ///
    /// # Errors
    /// The client's: it is gone.
    pub(super) fn poll(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.clock.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut stream = Pin::new(stream);
        while self.written < self.answer.len() {
            let rest = &self.answer[self.written..];
            match ready!(stream.as_mut().poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        if !self.ended {
            ready!(stream.as_mut().poll_shutdown(cx))?;
            self.ended = true;
        }
        loop {
            let mut scrap = [0; SCRAP];
            let mut scrap = ReadBuf::new(&mut scrap);
            ready!(stream.as_mut().poll_read(cx, &mut scrap))?;
            if scrap.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
