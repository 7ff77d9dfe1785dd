//! A request's body, kept so that it can be sent again.
//!
//! A retry needs the body a second time. pingora keeps what it reads while a
//! request is proxied, but never more than 64 KiB, and past that it sends
//! nothing at all. So bodies of a known length are read *before* an endpoint is
//! chosen: up to 64 KiB they lie in pingora's own buffer; beyond, here, in one
//! piece, and pingora's buffer holds only their tail, whose place the whole
//! body takes on its way upstream. Reading first has a second use: a slow
//! uploader holds no endpoint, and does not make one look slow.
//!
//! Bodies that are longer than the replay limit, that find no memory, or whose
//! length is not known (chunked) stream through; those may be sent again only
//! while pingora holds all that was read of them. HTTP/2 announces no length and
//! needs none (`body/h2.rs`).
//!
//! The memory for all bodies together is taken as they come in, and not as they
//! are announced: or who announces much and sends little would keep others from
//! being sent again. So it may run out in the middle of a body. Such a body goes on
//! as a stream: what was read of it first, in the place of its last read, which
//! pingora's buffer was made to hold, and then the rest as it comes in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pingora_core::{
    Result,
    protocols::http::{ServerSession, v2::server::HttpSession},
};

mod h2;
mod mention;

pub use mention::Mention;

/// What pingora itself keeps of a body (its `BODY_BUF_LIMIT`).
const PINGORA_KEEPS: u64 = 64 * 1024;

/// What a long body takes of [`ReplayMemory`] at first. It doubles as bytes come
/// in, up to the length that was announced, and is always ahead of the next read.
const FIRST_ROOM: u64 = 2 * PINGORA_KEEPS;

/// The memory that bodies of over 64 KiB may take, over all requests. Shorter
/// ones lie in pingora's buffers, one a request, also while the request waits in a
/// queue: 64 KiB times `limits.max_connections` at the most, and on connections of
/// HTTP/2 times `limits.max_h2_streams`.
#[derive(Debug)]
pub struct ReplayMemory {
    free: AtomicU64,
}

/// A part of [`ReplayMemory`], given back when dropped.
#[derive(Debug)]
struct Reserved {
    memory: Arc<ReplayMemory>,
    bytes: u64,
}

/// How the body of one request is sent.
#[derive(Debug, Default)]
pub enum Body {
    /// As it comes in; or there is none.
    #[default]
    Streamed,
    /// All of it lies in pingora's buffer.
    InPingora,
    /// All of it lies here; pingora's buffer holds its tail, or its head.
    Kept(Kept),
    /// What was read of it lies here; the rest follows as it comes in.
    Begun(Kept),
}

/// How far the body of an HTTP/2 request is read before an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To its end.
    End,
    /// Until the first message of a gRPC call is there.
    FirstMessage,
}

/// A body that was read whole.
#[derive(Debug)]
pub struct Kept {
    whole: Bytes,
    /// Whether the running attempt has been given the body.
    sent: bool,
    /// Whether more followed, which is not kept.
    followed: bool,
    reserved: Option<Reserved>,
}

// === impl ReplayMemory ===

impl ReplayMemory {
    /// Memory of that many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicU64::new(bytes),
        })
    }

    fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reserved> {
        let take = |free: u64| free.checked_sub(bytes);
        self.free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .ok()
            .map(|_| Reserved {
                memory: Arc::clone(self),
                bytes,
            })
    }
}

// === impl Reserved ===

impl Reserved {
    /// Takes more; false when there is not so much.
    fn grow(&mut self, bytes: u64) -> bool {
        let Some(mut more) = self.memory.reserve(bytes) else {
            return false;
        };
        self.bytes += std::mem::take(&mut more.bytes);
        true
    }

    /// Doubles, where the next read of a body of `length` bytes, of which `have` are
    /// there, might come to more; false when there is not so much.
    fn keep_ahead(&mut self, have: u64, length: u64) -> bool {
        let next = length.min(have.saturating_add(PINGORA_KEEPS));
        let missing = length.saturating_sub(self.bytes);
        next <= self.bytes || self.grow(missing.min(self.bytes.max(PINGORA_KEEPS)))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.free.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

// === impl Body ===

impl Body {
    /// Reads a body of `length` bytes, if it may be kept. What of it will lie in
    /// pingora's buffer is looked at by `mention`: it does not come out of there but
    /// as a copy. `silence` bounds each read of HTTP/2; a session of HTTP/1 has its own
    /// limit.
    ///
    /// # Errors
    /// The client's: it went away, or stopped sending.
    pub async fn read(
        session: &mut ServerSession,
        length: Option<u64>,
        limit: u64,
        memory: &Arc<ReplayMemory>,
        silence: Duration,
        mention: &mut Mention,
    ) -> Result<Self> {
        if let ServerSession::H2(session) = session {
            return h2::read(session, limit, Until::End, memory, silence).await;
        }
        match length {
            Some(length) if length <= PINGORA_KEEPS.min(limit) => {
                session.enable_retry_buffering();
                while let Some(piece) = session.read_request_body().await? {
                    mention.see(&piece);
                }
                Ok(Self::InPingora)
            }
            Some(length) if length <= limit => match memory.reserve(length.min(FIRST_ROOM)) {
                Some(reserved) => read_long(session, length, reserved).await,
                None => Ok(Self::Streamed),
            },
            _ => Ok(Self::Streamed),
        }
    }

    /// Reads the body of an HTTP/2 request; see [`Body::read`].
    ///
    /// # Errors
    /// The client's: it went away, or stopped sending.
    pub async fn read_http2(
        session: &mut HttpSession,
        limit: u64,
        until: Until,
        memory: &Arc<ReplayMemory>,
        silence: Duration,
    ) -> Result<Self> {
        h2::read(session, limit, until, memory, silence).await
    }

    /// What lies here of it: all, or its start.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        match self {
            Self::Streamed | Self::InPingora => &[],
            Self::Kept(kept) | Self::Begun(kept) => kept.bytes(),
        }
    }

    /// Whether the whole body can be sent (again), given what pingora lost of
    /// a streamed one.
    #[must_use]
    pub fn replayable(&self, pingora_truncated: bool) -> bool {
        match self {
            Self::Streamed | Self::InPingora => !pingora_truncated,
            Self::Kept(_) => true,
            Self::Begun(kept) => !kept.followed,
        }
    }

    /// All of it, where it was kept and has been sent.
    #[must_use]
    pub fn whole(&self, session: &ServerSession) -> Option<Bytes> {
        match self {
            Self::Streamed => None,
            Self::InPingora => session.get_retry_buffer(),
            Self::Kept(kept) => Some(kept.whole.clone()),
            Self::Begun(kept) => (!kept.followed).then(|| kept.whole.clone()),
        }
    }

    /// Makes the body ready for another attempt.
    pub fn rewind(&mut self) {
        if let Self::Kept(kept) | Self::Begun(kept) = self {
            kept.sent = false;
        }
    }

    /// Puts what is kept in the place of the part that pingora kept.
    pub fn fill(&mut self, chunk: &mut Option<Bytes>) {
        match self {
            Self::Streamed | Self::InPingora => {}
            Self::Begun(kept) if kept.sent => kept.forget(),
            Self::Kept(kept) | Self::Begun(kept) => {
                *chunk = (!kept.sent).then(|| kept.whole.clone());
                kept.sent = true;
            }
        }
    }
}

// === impl Kept ===

impl Kept {
    fn new(whole: Bytes, reserved: Option<Reserved>) -> Self {
        Self {
            whole,
            sent: false,
            followed: false,
            reserved,
        }
    }

    /// More followed, so that it cannot be sent again and its memory serves others.
    fn forget(&mut self) {
        self.followed = true;
        self.whole = Bytes::new();
        self.reserved = None;
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.whole
    }

    /// Changes what the next attempt is given; in place, unless an attempt before
    /// still holds the bytes.
    ///
    /// # Errors
    /// Those of `edit`.
    pub fn edit<E>(&mut self, edit: impl FnOnce(&mut BytesMut) -> Result<(), E>) -> Result<(), E> {
        let whole = std::mem::take(&mut self.whole);
        let whole = whole.try_into_mut();
        let mut whole = whole.unwrap_or_else(|shared| BytesMut::from(&*shared));
        let edited = edit(&mut whole);
        self.whole = whole.freeze();
        edited
    }
}

async fn read_long(
    session: &mut ServerSession,
    length: u64,
    mut reserved: Reserved,
) -> Result<Body> {
    let mut whole = BytesMut::with_capacity(usize::try_from(reserved.bytes).unwrap_or(0));
    loop {
        let left = length.saturating_sub(whole.len() as u64);
        let has_room = reserved.keep_ahead(whole.len() as u64, length);
        // A read never returns more than pingora's buffer, so there is always
        // a last one that starts with at most that much to come.
        if !has_room || left <= PINGORA_KEEPS {
            session.enable_retry_buffering();
        }
        match session.read_request_body().await? {
            Some(chunk) => whole.extend_from_slice(&chunk),
            None => return Ok(Body::Kept(Kept::new(whole.freeze(), Some(reserved)))),
        }
        if !has_room && (whole.len() as u64) < length {
            return Ok(Body::Begun(Kept::new(whole.freeze(), Some(reserved))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_and_never_overdrawn() {
        let memory = ReplayMemory::new(100);
        let first = memory.reserve(60).expect("60 of 100 are free");
        assert!(memory.reserve(41).is_none());
        let second = memory.reserve(40).expect("40 are left");
        drop(first);
        assert!(memory.reserve(61).is_none());
        assert!(memory.reserve(60).is_some());
        drop(second);
        assert!(memory.reserve(100).is_some());
    }

    #[test]
    fn a_kept_body_goes_out_once_an_attempt() {
        let memory = ReplayMemory::new(10);
        let mut body = Body::Kept(Kept::new(Bytes::from_static(b"whole"), memory.reserve(5)));
        for _ in 0..2 {
            let mut chunk = Some(Bytes::from_static(b"le"));
            body.fill(&mut chunk);
            assert_eq!(chunk.as_deref(), Some(&b"whole"[..]));
            body.fill(&mut chunk);
            assert_eq!(chunk, None);
            body.rewind();
        }
    }

    #[test]
    fn a_body_that_was_begun_is_sent_again_until_more_has_followed() {
        let memory = ReplayMemory::new(10);
        let mut body = Body::Begun(Kept::new(Bytes::from_static(b"begun"), memory.reserve(5)));
        for _ in 0..2 {
            let mut chunk = Some(Bytes::from_static(b"be"));
            body.fill(&mut chunk);
            assert_eq!(chunk.as_deref(), Some(&b"begun"[..]));
            assert!(body.replayable(false));
            body.rewind();
        }
        body.fill(&mut Some(Bytes::from_static(b"be")));
        let mut rest = Some(Bytes::from_static(b"rest"));
        body.fill(&mut rest);
        assert_eq!(rest.as_deref(), Some(&b"rest"[..]));
        assert!(!body.replayable(false));
        assert!(memory.reserve(10).is_some(), "its memory serves others");
    }

    #[test]
    fn a_share_is_ahead_of_the_next_read_and_far_from_what_was_announced() {
        let length = 8 * 1024 * 1024;
        let memory = ReplayMemory::new(length);
        let mut share = memory.reserve(FIRST_ROOM).expect("it is free");
        let mut have = 0;
        while have < length {
            assert!(share.keep_ahead(have, length));
            let next = length.min(have + PINGORA_KEEPS);
            let most = length.min(2 * have + FIRST_ROOM);
            assert!((next..=most).contains(&share.bytes), "{have}: {share:?}");
            have += 10_007;
        }
        assert_eq!(share.bytes, length);
        assert!(memory.reserve(1).is_none());
    }

    #[test]
    fn a_share_that_grew_is_given_back_whole() {
        let memory = ReplayMemory::new(100);
        let mut share = memory.reserve(0).expect("nothing is always free");
        assert!(share.grow(60) && share.grow(40) && !share.grow(1));
        drop(share);
        assert!(memory.reserve(100).is_some());
    }
}
