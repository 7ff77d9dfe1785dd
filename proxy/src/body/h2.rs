//! Reads the body of an HTTP/2 request, so that it can be sent again.
//!
//! Its length is seldom announced (no client of gRPC does), so it cannot be known
//! which read is the last, and pingora's buffer cannot be made to hold the tail as
//! it does for HTTP/1.1. Here it holds the head: the first frame, of 16 KiB at
//! most, is read through it, and the rest past it. All that pingora needs is to
//! have something whose place the whole body takes.
//!
//! A body that proves too long to be kept goes on as a stream: what was read of it
//! first, and then the rest as it comes in.
//!
//! pingora has a time limit for each read of HTTP/1.1 and none here, so it is set
//! here.

use std::{future::poll_fn, sync::Arc, time::Duration};

use aegis_protocol::grpc::{Head, PREFIX};
use bytes::BytesMut;
use pingora_core::{ErrorType, OrErr, Result, protocols::http::v2::server::HttpSession};
use tokio::time::timeout;

use super::{Body, Kept, ReplayMemory, Until};

/// Reads until enough is there, `limit` bytes are exceeded or the memory is full.
/// The client may be silent for `silence`; not counted is the time before a stream's
/// first message, because a stream may be opened before there is anything to say.
///
/// # Errors
/// The client's: it went away, or stopped sending.
pub(super) async fn read(
    session: &mut HttpSession,
    limit: u64,
    until: Until,
    memory: &Arc<ReplayMemory>,
    silence: Duration,
) -> Result<Body> {
    session.enable_retry_buffering();
    let mut reserved = memory.reserve(0);
    let mut whole = BytesMut::new();
    let at_first = match until {
        Until::End => silence,
        Until::FirstMessage => Duration::MAX,
    };
    while whole.is_empty() {
        match within(at_first, session.read_body_bytes()).await?? {
            Some(chunk) => whole = BytesMut::from(chunk),
            None => return Ok(Body::InPingora),
        }
    }
    let mut new = whole.len() as u64;
    loop {
        let kept = reserved.as_mut().is_some_and(|reserved| reserved.grow(new));
        if !kept || whole.len() as u64 > limit || is_enough(&whole, until) {
            return Ok(Body::Begun(Kept::new(whole.freeze(), reserved)));
        }
        let reading = poll_fn(|context| session.poll_read_body_bytes(context));
        match within(silence, reading).await? {
            Some(chunk) => {
                let chunk = chunk.or_err(ErrorType::ReadError, "while reading a body")?;
                new = chunk.len() as u64;
                whole.extend_from_slice(&chunk);
            }
            None => return Ok(Body::Kept(Kept::new(whole.freeze(), reserved))),
        }
    }
}

async fn within<T>(silence: Duration, reading: impl Future<Output = T>) -> Result<T> {
    let read = timeout(silence, reading).await;
    read.or_err(ErrorType::ReadTimedout, "while reading a body")
}

fn is_enough(whole: &[u8], until: Until) -> bool {
    until == Until::FirstMessage
        && match Head::read(whole) {
            Ok(Some(head)) => whole.len() - PREFIX >= head.length,
            Ok(None) => false,
            // More of it would not help.
            Err(_) => true,
        }
}
