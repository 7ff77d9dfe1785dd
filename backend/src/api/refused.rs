//! Every way not to answer, and the one place that gives each its status, reason and text.

use aegis_protocol::grpc::{BoundsError, CallError, Code, ContentsError};
use aegis_protocol::{ChangeError, DecodeError, EncodeError, Reason, excerpt, headers};
use http::header::{ACCEPT_ENCODING, ALLOW, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::body::BodyError;
use super::{Answer, error};
use crate::batcher::BadPriority;
use crate::chain::Chain;
use crate::control::ControlError;
use crate::engine::InferError;
use crate::infer::TimeoutError;
use crate::safety::Blocked;
use crate::scheduler::Refusal;
use crate::served::NotFound;
use crate::signature::{Names, SignatureError};

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The path means nothing.
    #[error("no such path: `{path}`")]
    UnknownPath {
        /// The path, cut.
        path: String,
    },
    /// No such model.
    #[error("unknown model `{model}`; known: {known}")]
    UnknownModel {
        /// The name, cut.
        model: String,
        /// The models that there are.
        known: String,
    },
    /// No such version.
    #[error("model `{model}` has no version `{version}` here; known: {known}")]
    UnknownVersion {
        /// The model's name, cut.
        model: String,
        /// The version asked for, cut.
        version: String,
        /// The versions that are served here.
        known: String,
    },
    /// The path has another method.
    #[error("expected method {expected}, got {}", excerpt(.got.as_str()))]
    Method {
        /// The path's method.
        expected: Method,
        /// The request's.
        got: Method,
    },
    /// The process is going away.
    #[error("the server is draining")]
    Draining,
    /// The model cannot answer now.
    #[error("model `{model}` version `{version}` is not ready: {reason}")]
    NotReady {
        /// The model's name.
        model: String,
        /// Its version.
        version: String,
        /// Why.
        reason: String,
    },
    /// The body is of another type.
    #[error("content-type: expected application/json or application/octet-stream, got `{got}`")]
    ContentType {
        /// The header's value, cut.
        got: String,
    },
    /// The body is compressed in a way that is not understood.
    #[error("content-encoding: expected gzip, deflate or identity, got `{got}`")]
    ContentEncoding {
        /// The header's value, cut.
        got: String,
    },
    /// The body did not arrive whole.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is not what the protocol says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A call is not one message, or another.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A message is no inference.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// A message is compressed in a way that is not understood.
    #[error("grpc-encoding: expected identity or gzip, got `{got}`")]
    GrpcEncoding {
        /// The header's value, cut.
        got: String,
    },
    /// Its own name for itself is too long.
    #[error("id: expected at most {limit} bytes, got {got}")]
    IdTooLong {
        /// The most that it may have.
        limit: usize,
        /// How many it has.
        got: usize,
    },
    /// Work on it was cut off, because the process ends.
    #[error("the server stopped while it worked on the request")]
    CutOff,
    /// Work on it panicked; the request may be the cause.
    #[error("the server failed while it read the body or wrote the answer")]
    Panicked,
    /// Its deadline passed outside the engine.
    #[error("the deadline passed before the answer was there")]
    Late,
    /// The timeout makes no sense.
    #[error(transparent)]
    Timeout(#[from] TimeoutError),
    /// The priority makes no sense.
    #[error(transparent)]
    Priority(#[from] BadPriority),
    /// The inputs are not what the model takes.
    #[error(transparent)]
    Input(#[from] SignatureError),
    /// An output was asked for that the model does not have.
    #[error("outputs: expected {expected}, got `{got}`")]
    UnknownOutput {
        /// What the model returns.
        expected: Names,
        /// The name asked for, cut.
        got: String,
    },
    /// A safety check found something.
    #[error(transparent)]
    Unsafe(#[from] Blocked),
    /// It was not run, or failed.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The answer cannot be written.
    #[error("the model's answer cannot be written as JSON{}", no_nan(.0))]
    Encode(#[from] EncodeError),
    /// The body asks for a change of models that makes no sense.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Its JSON is wrong.
    #[error("body: {0}")]
    Json(#[from] serde_json::Error),
    /// A model was not loaded or unloaded.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The metrics cannot be written.
    #[error("the metrics cannot be written")]
    Metrics(#[source] prometheus::Error),
}

// === impl Refused ===

impl Refused {
    pub(super) fn unknown_path(path: &str) -> Self {
        Self::UnknownPath {
            path: excerpt(path).to_string(),
        }
    }

    pub(super) fn not_found(what: NotFound, model: &str, version: Option<&str>) -> Self {
        let model = excerpt(model).to_string();
        match what {
            NotFound::Model { known } => Self::UnknownModel { model, known },
            NotFound::Version { known } => {
                let version = excerpt(version.unwrap_or_default()).to_string();
                Self::UnknownVersion {
                    model,
                    version,
                    known,
                }
            }
        }
    }

    /// The reason, from the closed set.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownPath { .. }
            | Self::UnknownModel { .. }
            | Self::Control(ControlError::NoModel { .. } | ControlError::NotLoaded { .. }) => {
                Reason::UnknownModel
            }
            Self::Control(ControlError::Forbidden) => Reason::Forbidden,
            Self::UnknownVersion { .. } => Reason::UnknownVersion,
            Self::Method { .. } => Reason::MethodNotAllowed,
            Self::Draining | Self::CutOff | Self::Control(ControlError::Stopped) => {
                Reason::Draining
            }
            Self::NotReady { .. } | Self::Infer(InferError::Stopped) => Reason::NotReady,
            Self::ContentType { .. } | Self::ContentEncoding { .. } | Self::GrpcEncoding { .. } => {
                Reason::UnsupportedMediaType
            }
            Self::Body(BodyError::TooLarge { .. })
            | Self::Call(CallError::Bounds(BoundsError::TooLarge { .. })) => Reason::BodyTooLarge,
            Self::Unsafe(_) => Reason::Safety,
            Self::Body(BodyError::TooSlow { .. }) => Reason::RequestTimeout,
            Self::Body(
                BodyError::Coding { .. } | BodyError::Broken(_) | BodyError::ClientGone(_),
            )
            | Self::Decode(_)
            | Self::Call(_)
            | Self::Contents(_)
            | Self::IdTooLong { .. }
            | Self::Timeout(_)
            | Self::Priority(_)
            | Self::Input(_)
            | Self::UnknownOutput { .. }
            | Self::Change(_)
            | Self::Json(_)
            | Self::Control(ControlError::Versions { .. }) => Reason::BadRequest,
            Self::Infer(InferError::Refused(_))
            | Self::Body(BodyError::NoRoom(_))
            | Self::Control(ControlError::Full) => Reason::QueueFull,
            Self::Late | Self::Infer(InferError::Deadline) | Self::Body(BodyError::Deadline) => {
                Reason::Deadline
            }
            Self::Infer(
                InferError::Model(_) | InferError::InstanceDied | InferError::Hung { .. },
            )
            | Self::Panicked
            | Self::Control(ControlError::Failed { .. })
            | Self::Encode(_)
            | Self::Metrics(_) => Reason::ModelError,
        }
    }

    /// The status: that of the reason.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.reason().status()
    }

    /// Whether there is nobody left to tell.
    #[must_use]
    pub fn is_client_gone(&self) -> bool {
        matches!(self, Self::Body(BodyError::ClientGone(_)))
    }

    /// After how many seconds another like it would be taken, where that is known: what would be late
    /// now, once so much of the queue has gone.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Infer(InferError::Refused(Refusal::TooLate { expected, patience })) => {
                let over = expected.saturating_sub(*patience);
                Some(
                    over.as_millis()
                        .div_ceil(1_000)
                        .max(1)
                        .try_into()
                        .unwrap_or(u64::MAX),
                )
            }
            _ => None,
        }
    }

    /// How a call over gRPC ends.
    #[must_use]
    pub fn code(&self) -> Code {
        self.reason().into()
    }

    /// All of it in words.
    #[must_use]
    pub fn text(&self) -> String {
        Chain(self).to_string()
    }

    /// Says in the headers why, and when to come back.
    pub(super) fn explain(&self, headers: &mut HeaderMap) {
        explain(headers, self.reason());
        if let Some(wait) = self.retry_after() {
            headers.insert(RETRY_AFTER, wait.into());
        }
    }

    /// What the client gets.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let mut answer = error(self.status(), self.text());
        self.explain(answer.headers_mut());
        if let Self::ContentEncoding { .. } = self {
            let taken = HeaderValue::from_static("gzip, deflate");
            answer.headers_mut().insert(ACCEPT_ENCODING, taken);
        }
        if let Self::Method { expected, .. } = self {
            let allow = if expected == Method::GET {
                "GET, HEAD"
            } else {
                "POST"
            };
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }
}

/// What a caller whose check of answers is off must know.
fn no_nan(error: &EncodeError) -> &'static str {
    match error {
        EncodeError::NonFinite { .. } => ", which carries no NaN and no infinity",
        _ => "",
    }
}

/// Says in the headers why, and whether to come back.
pub(super) fn explain(headers: &mut HeaderMap, reason: Reason) {
    headers.insert(headers::REASON, HeaderValue::from_static(reason.name()));
    if reason.is_pushback() {
        // The least that the header can say.
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
}
