//! The headers that our programs add to the protocol.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Asks for a version, and says which version answered.
pub const MODEL_VERSION: HeaderName = HeaderName::from_static("x-aegis-model-version");

/// Names the model of a gRPC request whose message cannot be read on the way,
/// because it is compressed.
pub const MODEL: HeaderName = HeaderName::from_static("x-aegis-model");

/// Says how the proxy came to that version: `split`, `pinned`, `fallback`, …
pub const ROUTE: HeaderName = HeaderName::from_static("x-aegis-route");

/// Says how long the JSON is that a body begins with; raw tensors follow it.
pub const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Says why a request was refused: one of [`Reason`](crate::Reason)'s names.
pub const REASON: HeaderName = HeaderName::from_static("x-aegis-reason");

/// Says what safety checks found: names, with commas between them.
pub const SAFETY_FLAGS: HeaderName = HeaderName::from_static("x-aegis-safety-flags");

/// Says which trace a request is a part of (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What vendors of tracing add to that.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Names one request, for every log that it comes by.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest [`REQUEST_ID`] that is taken from a client.
const MAX_REQUEST_ID: usize = 128;

/// The name that a request brings: one value of 1 to 128 visible ASCII characters, so that it fits into
/// any log. None where it brings another, or several.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let value = values.next()?;
    let bytes = value.as_bytes();
    let is_sane =
        (1..=MAX_REQUEST_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    (is_sane && values.next().is_none()).then_some(value)
}

/// Counts the proxy's attempts at one request, from 1.
pub const ATTEMPT: HeaderName = HeaderName::from_static("x-aegis-attempt");

/// Marks a copy whose answer no client sees.
pub const SHADOW: HeaderName = HeaderName::from_static("x-aegis-shadow");

/// Asks a server for its load beside the answer: [`LOAD_REPORT_TEXT`].
pub const LOAD_REPORT_FORMAT: HeaderName = HeaderName::from_static("endpoint-load-metrics-format");

/// The form that we read: see [`LoadReport`](crate::LoadReport).
pub const LOAD_REPORT_TEXT: HeaderValue = HeaderValue::from_static("text");

/// A server's load.
pub const LOAD_REPORT: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// The client's patience, as gRPC writes it: `250m`.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How a gRPC call ended: a number, in the trailers or in the headers of an answer
/// without a message.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Says more about [`GRPC_STATUS`], percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The client's patience in whole milliseconds.
pub const REQUEST_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-request-timeout-ms");
