//! Sends letters and reads answers, over HTTP/1.1 or gRPC.

use std::sync::Arc;

use aegis_protocol::headers;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Uri};

use crate::outcome::{ErrorKind, Origin};

pub(crate) use self::grpc::GrpcClient;
pub(crate) use self::http1::HttpClient;

mod error;
mod grpc;
mod http1;

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 << 20;

/// What is sent, made once and sent again and again.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) method: Method,
    pub(crate) path: Uri,
    /// But for `host`.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status, or the one that says what a gRPC status says.
    pub(crate) status: u16,
    pub(crate) from: Origin,
    pub(crate) reason: Option<String>,
    /// What safety checks said of it.
    pub(crate) flags: Option<String>,
    /// Where the JSON ends, where something lies behind it.
    pub(crate) json_length: Option<usize>,
    /// What a gRPC status says beside its number.
    pub(crate) message: Option<String>,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct SendError {
    /// None where this machine was out of what it takes to send.
    pub(crate) kind: Option<ErrorKind>,
    /// The error and its causes, cut.
    pub(crate) text: String,
}

// === impl Answer ===

impl Answer {
    /// One whose headers and body are still to come.
    fn empty(status: u16) -> Self {
        Self {
            status,
            from: Origin::default(),
            reason: None,
            flags: None,
            json_length: None,
            message: None,
            body: Bytes::new(),
        }
    }

    fn new(status: u16, headers: &HeaderMap, body: Bytes) -> Self {
        let (mut answer, mut known) = (Self::empty(status), Origin::default());
        for (name, value) in headers {
            answer.hear(name.as_str(), value.as_bytes(), &mut known);
        }
        answer.body = body;
        answer
    }

    /// Takes what a header says, where it is one that is of interest. Of those that are there twice the first counts.
    /// `known` is where the last answer came from: nearly always, the next one says the same.
    fn hear(&mut self, name: &str, value: &[u8], known: &mut Origin) {
        let is = |header: HeaderName| name.eq_ignore_ascii_case(header.as_str());
        if is(headers::MODEL_VERSION) {
            again(&mut self.from.version, value, &mut known.version);
        } else if is(headers::ROUTE) {
            again(&mut self.from.route, value, &mut known.route);
        } else if is(headers::JSON_LENGTH) {
            self.json_length = self.json_length.or_else(|| number(value));
        } else if is(headers::REASON) && self.reason.is_none() {
            self.reason = text(value);
        } else if is(headers::SAFETY_FLAGS) && self.flags.is_none() {
            self.flags = text(value);
        }
    }
}

/// Takes a name, without copying it where it is the one that is known.
fn again(place: &mut Option<Arc<str>>, value: &[u8], known: &mut Option<Arc<str>>) {
    if place.is_some() {
        return;
    }
    let is_known = |known: &&Arc<str>| known.as_bytes() == value;
    *place = match known.as_ref().filter(is_known) {
        Some(known) => Some(Arc::clone(known)),
        None => text(value).map(Arc::from),
    };
    known.clone_from(place);
}

/// A number of digits alone.
fn number(value: &[u8]) -> Option<usize> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number)?;
    text.parse().ok()
}

/// A value of visible ASCII, cut.
fn text(value: &[u8]) -> Option<String> {
    let is_plain = value.iter().all(|byte| (b' '..=b'~').contains(byte));
    let text = std::str::from_utf8(value).ok().filter(|_| is_plain)?;
    Some(aegis_protocol::excerpt(text).to_string())
}
