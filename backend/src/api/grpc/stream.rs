//! Calls with many messages: each is answered in its order, as soon as the answer is there.
//!
//! `ModelStreamInfer` is inferences on one call; `ServerReflectionInfo` is questions about the services.
//!
//! What goes wrong with one message is told in its answer, and the next one is read; what is no
//! message ends the call. Only one is read at a time, so a client that sends faster than it is
//! answered waits, by HTTP/2's own flow control.

use std::sync::Arc;
use std::time::Instant;

use aegis_protocol::grpc::{
    self as wire, CallError, ModelInferResponse, ModelStreamInferResponse, ReflectionError,
    ReflectionRequest, ReflectionResponse, Reply,
};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::super::body::BodyError;
use super::super::uploads::Reserved;
use super::super::{Answer, Payload, Refused, caller};
use super::unread::Unread;
use super::{Upload, asked_for, compressed, decode, patience, refused_early, respond, run};
use crate::app::{App, Phase};
use crate::clock;
use crate::infer::{self, InFlight, work};

/// Answers that wait for a client that does not read.
const UNREAD: usize = 4;

/// What the messages of a call are.
#[derive(Clone, Copy)]
pub(super) enum Talk {
    /// Inferences.
    Inferences,
    /// Questions about the services.
    Reflection,
}

/// Messages as they come in.
struct Messages {
    app: Arc<App>,
    talk: Talk,
    headers: HeaderMap,
    /// When the client gives the call up.
    ends: Option<Instant>,
    body: Incoming,
    unread: Unread,
}

/// Takes the call over: its body is read while it is answered.
pub(super) fn answer(app: &Arc<App>, parts: &Parts, body: Incoming, talk: Talk) -> Answer {
    let patience = match patience(&parts.headers) {
        Ok(patience) => patience,
        Err(refused) => return refused_early(app, &refused),
    };
    let (send, answers) = mpsc::channel(UNREAD);
    let messages = Messages {
        app: Arc::clone(app),
        talk,
        headers: parts.headers.clone(),
        ends: patience.map(|patience| clock::now() + patience),
        body,
        unread: Unread::new(Reserved::none(&app.uploads)),
    };
    tokio::spawn(messages.converse(send));
    respond(Payload::stream(answers))
}

// === impl Messages ===

impl Messages {
    async fn converse(mut self, answers: mpsc::Sender<Bytes>) {
        let app = Arc::clone(&self.app);
        loop {
            let next = tokio::select! {
                next = self.next() => next,
                // What is answered is answered; the client asks elsewhere for more.
                () = app.reached(Phase::Closing) => return,
                () = answers.closed() => return,
            };
            let (answer, goes_on) = match next {
                Ok(Some(call)) => {
                    let answer = tokio::select! {
                        answer = self.answer(call) => answer,
                        // What waits in a queue leaves it, and is counted as given up.
                        () = answers.closed() => return,
                    };
                    (answer, true)
                }
                Ok(None) => return,
                Err(refused) if refused.is_client_gone() => return,
                Err(refused) => {
                    app.metrics.rejected(refused.reason());
                    (self.refuse(&refused), false)
                }
            };
            if answers.send(answer).await.is_err() || !goes_on {
                return;
            }
        }
    }

    /// The answer to a message, framed.
    async fn answer(&self, call: Upload) -> Bytes {
        match self.talk {
            Talk::Inferences => match self.infer(call).await {
                Ok(response) => wire::frame(&ModelStreamInferResponse {
                    infer_response: Some(response),
                    ..ModelStreamInferResponse::default()
                }),
                Err(refused) => self.refuse(&refused),
            },
            Talk::Reflection => match decode::<ReflectionRequest>(&call.bytes) {
                Ok(request) => wire::frame(&request.answer()),
                Err(refused) => self.refuse(&refused),
            },
        }
    }

    /// What goes wrong with a message, in its place.
    fn refuse(&self, refused: &Refused) -> Bytes {
        match self.talk {
            Talk::Inferences => wire::frame(&ModelStreamInferResponse {
                error_message: refused.text(),
                ..ModelStreamInferResponse::default()
            }),
            Talk::Reflection => wire::frame(&ReflectionResponse {
                reply: Some(Reply::Error(ReflectionError {
                    code: refused.code().number(),
                    message: refused.text(),
                })),
                ..ReflectionResponse::default()
            }),
        }
    }

    async fn infer(&self, call: Upload) -> Result<ModelInferResponse, Refused> {
        let app = &self.app;
        let served = asked_for(app, &decode(&call.bytes)?)?;
        let mut in_flight = InFlight::new(&served.metrics, caller(&self.headers), clock::now());
        let left = |ends: Instant| ends.saturating_duration_since(clock::now());
        let patience = self.ends.map(left);
        let outcome = async {
            let answered = run(app, &served, patience, call, &mut in_flight).await?;
            let spec = Arc::clone(infer::loaded(&served)?.0);
            work(answered.size(), move || answered.response(&spec)).await
        };
        let outcome = outcome.await;
        match &outcome {
            Ok(_) => in_flight.end(StatusCode::OK),
            Err(refused) => {
                infer::count(app, &served, &in_flight, refused);
                in_flight.end(refused.status());
            }
        }
        Ok(outcome?.into())
    }

    /// The next message; none at the end. Between messages a client may be silent for as long as it
    /// likes, and within one no longer than in a body.
    async fn next(&mut self) -> Result<Option<Upload>, Refused> {
        let limits = self.app.http;
        let mut due = None;
        loop {
            if let Some((is_compressed, message)) = self.unread.take(limits.body_bytes)? {
                return Ok(Some(if is_compressed {
                    compressed::read(&self.headers, message, limits.body_bytes).await?
                } else {
                    message
                }));
            }
            let frame = if self.unread.is_empty() {
                self.body.frame().await
            } else {
                let limit = limits.body_timeout;
                let due = *due.get_or_insert_with(|| clock::now() + limit);
                let frame = timeout_at(due.into(), self.body.frame()).await;
                frame.map_err(|_elapsed| BodyError::TooSlow { limit })?
            };
            let Some(frame) = frame else {
                return if self.unread.is_empty() {
                    Ok(None)
                } else {
                    let got = self.unread.len();
                    Err(CallError::Count { got }.into())
                };
            };
            if let Ok(data) = frame.map_err(BodyError::from)?.into_data() {
                self.unread.push(&data)?;
            }
        }
    }
}
