//! `ModelStreamInfer`: inferences on one call, answered in order, each as soon as it is there.
//!
//! What goes wrong with one message is told in its answer, and the next one is read; what is no
//! message ends the call. Only one is read at a time, so a client that sends faster than it is
//! answered waits, by HTTP/2's own flow control.

use std::sync::Arc;
use std::time::Instant;

use aegis_protocol::grpc::{
    self as wire, CallError, Head, ModelInferResponse, ModelStreamInferResponse, PREFIX,
};
use bytes::{Buf, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::super::body::BodyError;
use super::super::uploads::Reserved;
use super::super::{Answer, Payload, Refused};
use super::{Call, asked_for, compressed, decode, patience, refused_call, respond, run};
use crate::app::{App, Phase};
use crate::clock;
use crate::infer::{self, InFlight, work};

/// Answers that wait for a client that does not read.
const UNREAD: usize = 4;

/// Messages as they come in.
struct Messages {
    app: Arc<App>,
    headers: HeaderMap,
    /// When the client gives the call up.
    ends: Option<Instant>,
    body: Incoming,
    unread: BytesMut,
}

/// Takes the call over: its body is read while it is answered.
pub(super) fn infer(app: &Arc<App>, parts: &Parts, body: Incoming) -> Answer {
    let patience = match patience(&parts.headers) {
        Ok(patience) => patience,
        Err(refused) => {
            app.metrics.rejected(refused.reason());
            return refused_call(&refused);
        }
    };
    let (send, answers) = mpsc::channel(UNREAD);
    let messages = Messages {
        app: Arc::clone(app),
        headers: parts.headers.clone(),
        ends: patience.map(|patience| clock::now() + patience),
        body,
        unread: BytesMut::new(),
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
            let (outcome, goes_on) = match next {
                Ok(Some(call)) => (self.answer(call).await, true),
                Ok(None) => return,
                Err(refused) => {
                    app.metrics.rejected(refused.reason());
                    (Err(refused), false)
                }
            };
            let message = match outcome {
                Ok(response) => ModelStreamInferResponse {
                    infer_response: Some(response),
                    ..ModelStreamInferResponse::default()
                },
                Err(refused) => ModelStreamInferResponse {
                    error_message: refused.text(),
                    ..ModelStreamInferResponse::default()
                },
            };
            if answers.send(wire::frame(&message)).await.is_err() || !goes_on {
                return;
            }
        }
    }

    async fn answer(&self, call: Call) -> Result<ModelInferResponse, Refused> {
        let app = &self.app;
        let served = asked_for(app, &decode(&call.message)?)?;
        let mut in_flight = InFlight::new(&served.metrics, clock::now());
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
                infer::count(app, &served, refused);
                in_flight.end(refused.status());
            }
        }
        Ok(outcome?.into())
    }

    /// The next message; none at the end.
    async fn next(&mut self) -> Result<Option<Call>, Refused> {
        let limit = self.app.http.body_bytes;
        let mut upload = Reserved::none(&self.app.uploads);
        loop {
            if let Some(head) = Head::read(&self.unread).map_err(CallError::from)? {
                if head.length > limit {
                    return Err(BodyError::TooLarge { limit }.into());
                }
                if self.unread.len() >= PREFIX + head.length {
                    self.unread.advance(PREFIX);
                    let message = self.unread.split_to(head.length).freeze();
                    upload.take(message.len()).map_err(BodyError::from)?;
                    let message = if head.compressed {
                        compressed::read(&self.headers, message, limit).await?
                    } else {
                        message
                    };
                    return Ok(Some(Call {
                        message,
                        _upload: upload,
                    }));
                }
            }
            let Some(frame) = self.body.frame().await else {
                return if self.unread.is_empty() {
                    Ok(None)
                } else {
                    let got = self.unread.len();
                    Err(CallError::Count { got }.into())
                };
            };
            if let Ok(data) = frame.map_err(BodyError::from)?.into_data() {
                self.unread.extend_from_slice(&data);
            }
        }
    }
}
