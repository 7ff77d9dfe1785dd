//! The headers that our programs add to the protocol.

use http::HeaderName;

/// Asks for a version, and says which version answered.
pub const MODEL_VERSION: HeaderName = HeaderName::from_static("x-aegis-model-version");

/// Says how the proxy came to that version: `split`, `pinned`, `fallback`, …
pub const ROUTE: HeaderName = HeaderName::from_static("x-aegis-route");

/// Says why a request was refused: one of [`Reason`](crate::Reason)'s names.
pub const REASON: HeaderName = HeaderName::from_static("x-aegis-reason");

/// Counts the proxy's attempts at one request, from 1.
pub const ATTEMPT: HeaderName = HeaderName::from_static("x-aegis-attempt");

/// The client's patience in whole milliseconds.
pub const REQUEST_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-request-timeout-ms");
