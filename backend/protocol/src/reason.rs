//! Why a request was refused: a closed set, so that it can label a counter.
//!
//! A refusal carries its reason in the header `x-aegis-reason`. The proxy reads
//! it to tell an endpoint that pushes back from one that fails.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;

use crate::text::excerpt;

/// Names the reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The body or a header is not what the protocol or the signature says.
    BadRequest,
    /// No model of that name, or no such path.
    UnknownModel,
    /// The model has no such version.
    UnknownVersion,
    /// It is not allowed here, whoever asks.
    Forbidden,
    /// The path exists, for another method.
    MethodNotAllowed,
    /// The body is in no encoding that is understood.
    UnsupportedMediaType,
    /// The body is over the limit.
    BodyTooLarge,
    /// The request line is over the limit.
    UriTooLong,
    /// The head is over the limit, or has too many fields.
    HeaderTooLarge,
    /// The request did not come in in time.
    RequestTimeout,
    /// The request expects what is not done here.
    ExpectationFailed,
    /// The request is in a transfer coding that is not understood.
    NotImplemented,
    /// The request is in a version of HTTP that is not spoken.
    HttpVersion,
    /// The model is not loaded or not yet warm.
    NotReady,
    /// The process is going away.
    Draining,
    /// Too many requests wait already.
    QueueFull,
    /// The request's deadline passed, or could not be met.
    Deadline,
    /// The model failed on this request.
    ModelError,
    /// A safety check blocked it.
    Safety,
    /// No endpoint can take it.
    NoEndpoint,
    /// The endpoint broke off or answered what makes no sense.
    UpstreamError,
}

/// Says that a text names no reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason `{}`", excerpt(.got))]
pub struct UnknownReason {
    /// The text that was given.
    pub got: String,
}

// === impl Reason ===

impl Reason {
    /// Every reason, so that counters can exist at 0 from the start.
    pub const ALL: [Self; 21] = [
        Self::BadRequest,
        Self::UnknownModel,
        Self::UnknownVersion,
        Self::Forbidden,
        Self::MethodNotAllowed,
        Self::UnsupportedMediaType,
        Self::BodyTooLarge,
        Self::UriTooLong,
        Self::HeaderTooLarge,
        Self::RequestTimeout,
        Self::ExpectationFailed,
        Self::NotImplemented,
        Self::HttpVersion,
        Self::NotReady,
        Self::Draining,
        Self::QueueFull,
        Self::Deadline,
        Self::ModelError,
        Self::Safety,
        Self::NoEndpoint,
        Self::UpstreamError,
    ];

    /// The name on the wire and in labels, such as `queue_full`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownModel => "unknown_model",
            Self::UnknownVersion => "unknown_version",
            Self::Forbidden => "forbidden",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::BodyTooLarge => "body_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::HeaderTooLarge => "header_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::ExpectationFailed => "expectation_failed",
            Self::NotImplemented => "not_implemented",
            Self::HttpVersion => "http_version",
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
            Self::QueueFull => "queue_full",
            Self::Deadline => "deadline",
            Self::ModelError => "model_error",
            Self::Safety => "safety",
            Self::NoEndpoint => "no_endpoint",
            Self::UpstreamError => "upstream_error",
        }
    }

    /// The status that a refusal for this reason has.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::UnknownModel | Self::UnknownVersion => StatusCode::NOT_FOUND,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Safety => StatusCode::UNPROCESSABLE_ENTITY,
            Self::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            Self::ModelError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UpstreamError => StatusCode::BAD_GATEWAY,
            Self::NotReady | Self::Draining | Self::NoEndpoint => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Whether the same request may succeed a little later, so that the
    /// refusal carries `Retry-After`.
    #[must_use]
    pub const fn is_pushback(self) -> bool {
        matches!(
            self,
            Self::QueueFull | Self::NotReady | Self::Draining | Self::NoEndpoint
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.name() == text)
            .ok_or_else(|| UnknownReason {
                got: excerpt(text).to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
        assert_eq!(
            "tired".parse::<Reason>().unwrap_err().to_string(),
            "unknown reason `tired`"
        );
    }

    #[test]
    fn every_reason_is_an_error_status_and_pushback_is_429_or_503() {
        for reason in Reason::ALL {
            let status = reason.status();
            assert!(status.is_client_error() || status.is_server_error());
            assert_eq!(
                reason.is_pushback(),
                matches!(status.as_u16(), 429 | 503),
                "{reason}"
            );
        }
    }
}
