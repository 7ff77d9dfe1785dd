//! Sends letters and reads answers, over HTTP/1.1 or gRPC.

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
    pub(crate) kind: ErrorKind,
    /// The error and its causes, cut.
    pub(crate) text: String,
}

// === impl Answer ===

impl Answer {
    fn new(status: u16, headers: &HeaderMap, body: Bytes) -> Self {
        Self {
            status,
            from: Origin {
                version: text(headers, &headers::MODEL_VERSION),
                route: text(headers, &headers::ROUTE),
            },
            reason: text(headers, &headers::REASON),
            flags: text(headers, &headers::SAFETY_FLAGS),
            json_length: aegis_protocol::binary::json_length(headers).ok().flatten(),
            message: None,
            body,
        }
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(aegis_protocol::excerpt(value).to_string())
}
