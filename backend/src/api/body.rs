//! Reading a body within bounds of size, of time, and of what all bodies may hold.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout_at;

use super::coding::Coding;
use super::uploads::{Reserved, UploadsFull};
use crate::app::App;

/// The most that is reserved on a client's word.
const MAX_RESERVED: usize = 1 << 20;

/// The longest that a refused body is read for.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// A body that is there, and its part of the budget.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) bytes: Bytes,
    /// Held while the bytes are.
    reserved: Reserved,
}

/// Why a body is not there.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Larger than the limit.
    #[error("body: expected at most {limit} bytes, got more")]
    TooLarge {
        /// `max_body_bytes`.
        limit: usize,
    },
    /// Not there in time.
    #[error("body: expected to arrive within {} ms", .limit.as_millis())]
    TooSlow {
        /// `body_timeout_ms`.
        limit: Duration,
    },
    /// The request's deadline passed first.
    #[error("the deadline passed before the body was there")]
    Deadline,
    /// Too much is being read already.
    #[error(transparent)]
    NoRoom(#[from] UploadsFull),
    /// It does not expand.
    #[error(
        "body: expected {coding}, as content-encoding says (or grpc-encoding), got what is none or not all of it"
    )]
    Coding {
        /// What it should be.
        coding: &'static str,
    },
    /// The framing is wrong.
    #[error("body: it did not arrive whole")]
    Broken(#[source] hyper::Error),
    /// The client left before it had sent it all.
    #[error("body: the client left")]
    ClientGone(#[source] hyper::Error),
}

// === impl Upload ===

impl Upload {
    pub(super) fn new(bytes: Bytes, reserved: Reserved) -> Self {
        Self { bytes, reserved }
    }

    /// Its part of the budget, for who has the bytes already.
    pub(super) fn into_reserved(self) -> Reserved {
        self.reserved
    }

    /// Takes so many bytes more of the budget.
    ///
    /// # Errors
    ///
    /// When there is no room.
    pub(super) fn take(&mut self, more: usize) -> Result<(), BodyError> {
        Ok(self.reserved.take(more)?)
    }

    /// Takes a body for what it was compressed from, which has its part of the budget too.
    ///
    /// # Errors
    ///
    /// When it is larger than the limit, finds no room, or is not what its coding says.
    pub(super) fn expand(self, coding: Coding, limit: usize) -> Result<Self, BodyError> {
        let Self {
            bytes,
            mut reserved,
        } = self;
        let bytes = coding.expand(&bytes, limit, |more| reserved.take(more))?;
        Ok(Self::new(bytes.into(), reserved))
    }
}

// === impl BodyError ===

impl From<hyper::Error> for BodyError {
    /// Bytes that make no sense are the only fault that a client which is still there causes.
    fn from(error: hyper::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput};
        let source = std::error::Error::source(&error);
        let kind = source.and_then(|source| source.downcast_ref::<io::Error>());
        match kind.map(io::Error::kind) {
            Some(InvalidData | InvalidInput) => Self::Broken(error),
            _ => Self::ClientGone(error),
        }
    }
}

/// Reads a body whole. One that arrives in a single frame is not copied.
pub(super) async fn read(
    body: &mut Incoming,
    app: &App,
    arrived: Instant,
    deadline: Instant,
) -> Result<Upload, BodyError> {
    let limits = app.http;
    let claimed = body.size_hint().lower();
    if claimed > limits.body_bytes as u64 {
        return Err(BodyError::TooLarge {
            limit: limits.body_bytes,
        });
    }
    let limit = limits.body_timeout;
    let too_slow = arrived + limit;
    let reserved = Reserved::none(&app.uploads);
    let whole = collect(body, limits.body_bytes, reserved);
    match timeout_at(deadline.min(too_slow).into(), whole).await {
        Ok(result) => result,
        Err(_elapsed) if deadline < too_slow => Err(BodyError::Deadline),
        Err(_elapsed) => Err(BodyError::TooSlow { limit }),
    }
}

async fn collect(
    body: &mut Incoming,
    limit: usize,
    mut reserved: Reserved,
) -> Result<Upload, BodyError> {
    let first = next(body).await?.unwrap_or_default();
    reserved.take(first.len())?;
    if body.is_end_stream() && first.len() <= limit {
        return Ok(Upload::new(first, reserved));
    }
    let rest = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = BytesMut::with_capacity(first.len() + rest.min(MAX_RESERVED));
    whole.extend_from_slice(&first);
    drop(first);
    while whole.len() <= limit {
        let Some(data) = next(body).await? else {
            return Ok(Upload::new(whole.freeze(), reserved));
        };
        reserved.take(data.len())?;
        whole.extend_from_slice(&data);
    }
    Err(BodyError::TooLarge { limit })
}

/// The next piece of data, past trailers.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Reads on after a refusal, so that a client that is still sending sees the answer and not a
/// reset. Time is the bound, after which the connection is closed: what is read is kept nowhere.
pub(super) async fn discard(mut body: Incoming) {
    let read = async { while let Ok(Some(_)) = next(&mut body).await {} };
    let _ = tokio::time::timeout(DISCARD_TIME, pin!(read)).await;
}
