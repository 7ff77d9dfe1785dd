//! Calls of gRPC: what is particular to them on their way through the proxy.
//!
//! A call is a POST over HTTP/2 whose content type says so. Where it goes stands in
//! its first message ([`Target`]), so that is read before an endpoint is chosen; a
//! compressed one cannot be read, and its client names the model in the header
//! `x-aegis-model`. The chosen version is set in every message that goes upstream.
//!
//! Upstream a call has an HTTP/2 connection of its own, kept for the next one when
//! it ends, as HTTP/1.1 has it. Many calls on one connection would share its fate:
//! the sweep that ends overdue attempts ([`crate::rescue`]) shuts a socket, pingora
//! retires a connection on a read timeout, and one lost packet stops them all. The
//! price is no more connections than the same requests cost over HTTP/1.1.
//!
//! How a call ended is told in a header when there is no message, and in the
//! trailers otherwise. The former can still be tried elsewhere; the latter comes
//! when the message is out, and only teaches the breaker.

use std::{sync::Arc, time::Duration};

use aegis_policy::Excuse;
use aegis_protocol::{
    Reason,
    grpc::{self, Code, FrameError, Head, Method, PREFIX, Target, Versioner},
    headers,
    timeout::BadParameter,
};
use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;

use crate::{answer::Refusal, body::Body, request::Action};

mod own;

pub use own::answer;

/// The longest name of a model or version that is looked for.
const MAX_NAME: usize = 256;

/// The state of one call.
#[derive(Debug, Default)]
pub struct Call {
    /// What is read of its first message.
    first: Option<Head>,
    /// The version that a body which is kept whole names.
    names: Option<Arc<str>>,
    /// Sets the version in what is not kept whole.
    versioner: Option<Versioner>,
    /// How it ended, as the endpoint says, or the proxy in its place.
    ended: Option<Code>,
}

// === impl Call ===

impl Call {
    /// Whether a request is a call.
    #[must_use]
    pub fn is_one(head: &RequestHeader) -> bool {
        head.version == Version::HTTP_2
            && head.method == http::Method::POST
            && grpc::is_grpc(&head.headers)
    }

    /// Reads where the call goes, from what has come in of its body.
    ///
    /// # Errors
    /// When it does not say.
    pub fn target(&mut self, body: &[u8], headers: &HeaderMap) -> Result<Target, Refusal> {
        let bad = |message: String| Refusal::new(Reason::BadRequest, message);
        let head = Head::read(body).map_err(|error| bad(error.to_string()))?;
        let head = head.ok_or_else(|| bad("the call has no message".into()))?;
        self.first = Some(head);
        let named = headers.get(headers::MODEL);
        let named = named.and_then(|name| name.to_str().ok());
        if head.compressed {
            let named = named.ok_or_else(|| {
                let header = headers::MODEL;
                bad(format!(
                    "the message is compressed: name its model in {header}"
                ))
            })?;
            return Ok(Target {
                model: named.to_owned(),
                version: String::new(),
            });
        }
        let rest = &body[PREFIX..];
        let target = match rest.get(..head.length) {
            Some(message) => Target::of(message)
                .map_err(|error| bad(format!("the message does not name its model: {error}")))?,
            // It is too long to be kept. What stands before its tensors is here.
            None => Target::so_far(rest),
        };
        match target {
            Target { model, version } if model.len().max(version.len()) > MAX_NAME => {
                Err(bad(format!("a name is over {MAX_NAME} bytes long")))
            }
            Target { model, .. } if model.is_empty() => {
                Err(bad("the message does not name its model".into()))
            }
            target => match named {
                Some(named) if named != target.model => {
                    let header = headers::MODEL;
                    Err(bad(format!(
                        "the message and {header} name different models"
                    )))
                }
                _ => Ok(target),
            },
        }
    }

    /// The time that the parameters of an inference ask for, where all of it is there
    /// to be read.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn timeout(&self, body: &[u8]) -> Result<Option<Duration>, BadParameter> {
        let whole = self.first.filter(|head| !head.compressed).and_then(|head| {
            let message = body.get(PREFIX..)?;
            message.get(..head.length)
        });
        whole.map_or(Ok(None), grpc::timeout)
    }

    /// Refuses a body that is not the one message of a unary call.
    ///
    /// # Errors
    /// The refusal.
    pub fn refuse_more_than_one(&self, body: &Body) -> Result<(), Refusal> {
        let (Some(head), Body::Kept(kept)) = (self.first, body) else {
            return Ok(());
        };
        let (expected, got) = (PREFIX + head.length, kept.bytes().len());
        if expected == got {
            return Ok(());
        }
        let message = format!("expected one message, of {expected} bytes, got {got} bytes");
        Err(Refusal::new(Reason::BadRequest, message))
    }

    /// Makes an attempt go to this version.
    ///
    /// # Errors
    /// When the version cannot be set.
    pub fn aim(
        &mut self,
        version: &Arc<str>,
        body: &mut Body,
        peer: &mut HttpPeer,
    ) -> Result<(), FrameError> {
        peer.options.set_http_version(2, 2);
        peer.options.max_h2_streams = 1;
        self.ended = None;
        self.versioner = None;
        let Some(head) = self.first else {
            return Ok(());
        };
        match body {
            Body::Kept(_) if head.compressed || self.names.as_ref() == Some(version) => Ok(()),
            Body::Kept(kept) => {
                self.names = Some(Arc::clone(version));
                kept.edit(|bytes| grpc::retarget(bytes, PREFIX + head.length, version))
            }
            _ => {
                self.versioner = Some(Versioner::new(version));
                Ok(())
            }
        }
    }

    /// Sets the version in what passes.
    ///
    /// # Errors
    /// When that is no message.
    pub fn pass(&mut self, chunk: &mut Option<Bytes>) -> Result<(), FrameError> {
        if let Some(versioner) = &mut self.versioner
            && let Some(bytes) = chunk.take()
        {
            *chunk = Some(versioner.pass(bytes)?);
        }
        Ok(())
    }

    /// Takes note of how it ended, if these headers or trailers say so, and says it
    /// as an HTTP status.
    pub fn ended(&mut self, headers: &HeaderMap) -> Option<u16> {
        let code = headers.get(headers::GRPC_STATUS).map(Code::of_header)?;
        self.ended = Some(code);
        Some(code.http_status())
    }

    /// What it says for itself where it has ended badly: its status may say more than
    /// its headers.
    #[must_use]
    pub fn excuse(&self, told: Excuse) -> Excuse {
        match self.ended {
            Some(Code::DeadlineExceeded) => Excuse::Deadline,
            _ => told,
        }
    }

    /// Takes note of how the proxy itself has ended it.
    pub fn ends_here(&mut self, code: Code) {
        self.ended = Some(code);
    }

    /// How it ended; none while nobody has said.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.ended
    }

    /// How it ended, as an HTTP status; none while nobody has said.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        self.ended.map(Code::http_status)
    }
}

impl Action {
    /// What a call that is passed on asks a backend.
    #[must_use]
    pub fn of_call(method: Method) -> Option<Self> {
        match method {
            Method::ModelInfer => Some(Self::CallInfer),
            Method::ModelStreamInfer => Some(Self::CallStream),
            Method::ModelMetadata => Some(Self::CallMetadata),
            _ => None,
        }
    }
}
