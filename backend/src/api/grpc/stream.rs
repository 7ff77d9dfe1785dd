//! Calls with many messages: each is answered in its order, as soon as the answer is there.
//!
//! `ModelStreamInfer` is inferences on one call; `ServerReflectionInfo` is questions about the services.
//!
//! What goes wrong with one message is told in its answer, and the next one is read; what is no
//! message ends the call, and its trailers say why. Only one is read at a time, so a client that sends
//! faster than it is answered waits, by HTTP/2's own flow control.
//!
//! A server that goes away answers the messages that have come in, and ends the call as unavailable, unless
//! the client has ended it: it cannot know what the client sends meanwhile, and a call that ended well would
//! say that all of it was answered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use aegis_protocol::grpc::{
    self as wire, CallError, ModelInferResponse, ModelStreamInferResponse, ReflectionError,
    ReflectionRequest, ReflectionResponse, Reply,
};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::super::body::BodyError;
use super::super::uploads::Reserved;
use super::super::{Answer, Refused, caller};
use super::unread::Unread;
use super::{
    MAX_WORDS, Upload, asked_for, compressed, decode, ended, patience, refused_early, run,
    streamed, target, went_well,
};
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
    /// The body has ended.
    is_whole: bool,
    unread: Unread,
}

/// Where answers go, and last how the call ended.
type Answers = mpsc::Sender<Frame<Bytes>>;

/// How a call ends that is not refused.
enum Over {
    /// The client has said all, and was answered.
    Said,
    /// The client is not there any more.
    Left,
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
        is_whole: false,
        unread: Unread::new(Reserved::none(&app.uploads)),
    };
    tokio::spawn(messages.converse(send));
    streamed(answers)
}

// === impl Messages ===

impl Messages {
    async fn converse(mut self, answers: Answers) {
        let trailers = match self.answer_each(&answers).await {
            Ok(Over::Said) => went_well(),
            Ok(Over::Left) => return,
            Err(refused) if refused.is_client_gone() => return,
            Err(refused) => {
                self.app.metrics.rejected(refused.reason());
                if !matches!(refused, Refused::Draining) {
                    let _ = answers.send(Frame::data(self.refuse(&refused))).await;
                }
                ended(&refused)
            }
        };
        let _ = answers.send(Frame::trailers(trailers)).await;
    }

    /// Answers one message after the other. When the server closes, those that are there are still answered.
    async fn answer_each(&mut self, answers: &Answers) -> Result<Over, Refused> {
        let app = Arc::clone(&self.app);
        let mut closes = false;
        loop {
            let next = if closes {
                self.here()?
            } else {
                tokio::select! {
                    next = self.next() => next?,
                    () = app.reached(Phase::Closing) => {
                        closes = true;
                        self.gather();
                        continue;
                    }
                    () = answers.closed() => return Ok(Over::Left),
                }
            };
            let Some(message) = next else {
                return Ok(Over::Said);
            };
            let answer = tokio::select! {
                answer = self.answer(message) => answer?,
                // What waits in a queue leaves it, and is counted as given up.
                () = answers.closed() => return Ok(Over::Left),
            };
            if answers.send(Frame::data(answer)).await.is_err() {
                return Ok(Over::Left);
            }
        }
    }

    /// The answer to a message, framed.
    ///
    /// # Errors
    ///
    /// When it is no message, which ends the call.
    async fn answer(&self, (is_compressed, message): (bool, Upload)) -> Result<Bytes, Refused> {
        let message = if is_compressed {
            compressed::read(&self.headers, message, self.limit()).await?
        } else {
            message
        };
        let answer = match self.talk {
            Talk::Inferences => self.infer(message).await.map(|response| {
                wire::frame(&ModelStreamInferResponse {
                    infer_response: Some(response),
                    ..ModelStreamInferResponse::default()
                })
            }),
            Talk::Reflection => decode::<ReflectionRequest>(&message.bytes)
                .map(|request| wire::frame(&request.answer())),
        };
        Ok(answer.unwrap_or_else(|refused| self.refuse(&refused)))
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
        let served = asked_for(app, &target(&call).await?)?;
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

    /// The longest message.
    fn limit(&self) -> usize {
        match self.talk {
            Talk::Inferences => self.app.http.body_bytes,
            Talk::Reflection => self.app.http.body_bytes.min(MAX_WORDS),
        }
    }

    /// The next message, and whether it is compressed; none at the end. Between messages a client may be
    /// silent for as long as it likes, and within one no longer than in a body.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost of what has come in.
    async fn next(&mut self) -> Result<Option<(bool, Upload)>, Refused> {
        let limits = self.app.http;
        let mut due = None;
        loop {
            if let Some(message) = self.unread.take(self.limit())? {
                return Ok(Some(message));
            }
            if self.is_whole {
                return self.end();
            }
            let frame = if self.unread.is_empty() {
                self.body.frame().await
            } else {
                let limit = limits.body_timeout;
                let due = *due.get_or_insert_with(|| clock::now() + limit);
                let frame = timeout_at(due.into(), self.body.frame()).await;
                frame.map_err(|_elapsed| BodyError::TooSlow { limit })?
            };
            self.put(frame)?;
        }
    }

    /// The next message of those that are there; none at the end.
    ///
    /// # Errors
    ///
    /// When it is no message, or the client has not ended the call: what it would still say is not heard.
    fn here(&mut self) -> Result<Option<(bool, Upload)>, Refused> {
        match self.unread.take(self.limit())? {
            None if self.is_whole => self.end(),
            None => Err(Refused::Draining),
            message => Ok(message),
        }
    }

    /// Takes in what has arrived, and waits for no more. A client that sends on and on is heard no longer
    /// than for a body of the largest size.
    fn gather(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        while !self.is_whole && self.unread.len() <= self.app.http.body_bytes {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(&mut context) else {
                return;
            };
            // What finds no room is not heard either.
            if self.put(frame).is_err() {
                return;
            }
        }
    }

    /// Takes in a piece of the body, or notes its end.
    fn put(&mut self, frame: Option<hyper::Result<Frame<Bytes>>>) -> Result<(), Refused> {
        let Some(frame) = frame else {
            self.is_whole = true;
            return Ok(());
        };
        if let Ok(data) = frame.map_err(BodyError::from)?.into_data() {
            self.unread.push(&data)?;
        }
        Ok(())
    }

    /// The client has ended the call: between two messages, or within one.
    fn end(&self) -> Result<Option<(bool, Upload)>, Refused> {
        match self.unread.len() {
            0 => Ok(None),
            got => Err(CallError::Count { got }.into()),
        }
    }
}
