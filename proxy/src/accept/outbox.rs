//! What is on its way to a client, held back until it is worth a system call.
//!
//! pingora says when an answer must go out: it flushes behind each event of a stream
//! and at the end of a body, and not between a head and a body whose length is known.
//! Its own listeners have a buffer for that. Ours did not, and sent every answer in
//! two pieces: a fourth of all writes, and a second wake-up for the client.
//!
//! What is held also goes out when pingora turns to the client to read: then it waits,
//! for the next piece of a slow answer, say, and the client should not.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// The most that is held, and the longest piece that is copied for it.
const ROOM: usize = 4 * 1024;
/// What an empty one keeps.
const KEPT: usize = 1024;

/// Bytes that wait; see the module's head.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// How many of them are out.
    sent: usize,
}

// === impl Outbox ===

impl Outbox {
    /// Whether nothing waits.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes bytes in, or writes them behind what waits.
    ///
    /// # Errors
    /// The stream's.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.takes(bytes.len()) {
            self.bytes.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !self.is_empty() {
            let waits = &self.bytes[self.sent..];
            let before = waits.len();
            let parts = [IoSlice::new(waits), IoSlice::new(bytes)];
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &parts))?;
            self.went(written.min(before))?;
            if written > before {
                return Poll::Ready(Ok(written - before));
            }
        }
        Pin::new(stream).poll_write(cx, bytes)
    }

    /// The same of bytes in several parts.
    ///
    /// # Errors
    /// The stream's.
    pub(super) fn poll_write_vectored<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        if self.takes(length) {
            for part in parts {
                self.bytes.extend_from_slice(part);
            }
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_empty(stream, cx))?;
        Pin::new(stream).poll_write_vectored(cx, parts)
    }

    /// Writes all that waits.
    ///
    /// # Errors
    /// The stream's.
    pub(super) fn poll_empty<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let waits = &self.bytes[self.sent..];
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, waits))?;
            self.went(written)?;
        }
        Poll::Ready(Ok(()))
    }

    fn takes(&self, length: usize) -> bool {
        self.bytes.len() + length <= ROOM
    }

    /// So many bytes are out.
    fn went(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sent += written;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// What is done with it.
    #[derive(Clone, Debug)]
    enum Act {
        Write(usize),
        Vectored(usize, usize),
        Flush,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let length = prop_oneof![0..300_usize, 3_000..9_000_usize];
        let act = prop_oneof![
            length.clone().prop_map(Act::Write),
            (length.clone(), length).prop_map(|(a, b)| Act::Vectored(a, b)),
            Just(Act::Flush),
        ];
        prop::collection::vec(act, 1..40)
    }

    /// Does it all over a pipe so narrow that writes are cut and have to wait, and
    /// returns what was to be written and what came out.
    async fn play(acts: Vec<Act>, pipe: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(pipe);
        let reading = tokio::spawn(async move {
            let mut came = Vec::new();
            far.read_to_end(&mut came).await.unwrap();
            came
        });
        let mut outbox = Outbox::default();
        let mut wanted = Vec::new();
        let mut next = 0_u32;
        let mut text = |length: usize| -> Vec<u8> {
            (0..length)
                .map(|_| {
                    next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (next >> 24) as u8
                })
                .collect()
        };
        for act in acts {
            match act {
                Act::Write(length) => {
                    let bytes = text(length);
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let write = poll_fn(|cx| outbox.poll_write(&mut near, cx, rest));
                        rest = &rest[write.await.unwrap()..];
                    }
                    wanted.extend(bytes);
                }
                Act::Vectored(a, b) => {
                    let bytes = text(a + b);
                    let mut done = 0;
                    while done < bytes.len() {
                        let cut = a.max(done);
                        let parts = [IoSlice::new(&bytes[done..cut]), IoSlice::new(&bytes[cut..])];
                        let write = poll_fn(|cx| outbox.poll_write_vectored(&mut near, cx, &parts));
                        done += write.await.unwrap();
                    }
                    wanted.extend(bytes);
                }
                Act::Flush => {
                    poll_fn(|cx| outbox.poll_empty(&mut near, cx))
                        .await
                        .unwrap();
                    assert!(outbox.is_empty());
                }
            }
            assert!(outbox.bytes.len() <= ROOM);
        }
        poll_fn(|cx| outbox.poll_empty(&mut near, cx))
            .await
            .unwrap();
        assert!(outbox.bytes.capacity() <= KEPT);
        drop(near);
        let came = tokio::time::timeout(Duration::from_secs(10), reading);
        (wanted, came.await.unwrap().unwrap())
    }

    proptest! {
        #[test]
        fn what_is_written_comes_out_whole_and_in_order(acts in acts(), pipe in 1..5_000_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let (wanted, came) = runtime.unwrap().block_on(play(acts, pipe));
            prop_assert_eq!(wanted, came);
        }
    }

    #[tokio::test]
    async fn a_head_waits_for_its_body_and_both_go_out_at_once() {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let mut outbox = Outbox::default();
        for piece in [&b"head "[..], b"body"] {
            let write = poll_fn(|cx| outbox.poll_write(&mut near, cx, piece));
            assert_eq!(write.await.unwrap(), piece.len());
        }
        let mut came = [0; 64];
        let early = tokio::time::timeout(Duration::ZERO, far.read(&mut came));
        assert!(early.await.is_err(), "nothing is out yet");
        poll_fn(|cx| outbox.poll_empty(&mut near, cx))
            .await
            .unwrap();
        assert_eq!(far.read(&mut came).await.unwrap(), 9);
        assert_eq!(&came[..9], b"head body");
    }
}
