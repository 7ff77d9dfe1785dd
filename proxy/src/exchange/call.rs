//! The phases of a gRPC call, where they differ from those of other requests.

use std::time::Duration;

use aegis_policy::{Excuse, Observed, Outcome};
use aegis_protocol::{
    Reason, excerpt,
    grpc::{Method, Target},
    headers,
    timeout::{self, BadTimeout},
};
use http::{HeaderMap, HeaderValue, header};
use pingora_core::{Error, ErrorType, Result, protocols::http::ServerSession};
use pingora_proxy::Session;

use super::{Exchange, Next, failure::Failure, hop, too_large};
use crate::{
    answer::Refusal,
    body::{Body, Until},
    clock, grpc,
    request::{Action, Forward, find_model, find_pinned},
    state::{Shared, Snapshot},
};

impl Exchange {
    /// Reads a call as far as it takes to know where it goes.
    ///
    /// # Errors
    /// The client's: it went away.
    pub(super) async fn begin_call(
        &mut self,
        session: &mut Session,
        shared: &Shared,
    ) -> Result<Result<Next, Refusal>> {
        let head = session.req_header();
        let path = head.uri.path();
        let Some(method) = Method::parse(path) else {
            let message = format!("no such method: `{}`", excerpt(path));
            return Ok(Err(Refusal::new(Reason::MethodNotAllowed, message)));
        };
        match patience(&head.headers) {
            Ok(patience) => self.patience = patience,
            Err(bad) => return Ok(Err(Refusal::new(Reason::BadRequest, bad.to_string()))),
        }
        let snapshot = shared.snapshot_owned();
        let action = Action::of_call(method);
        let body = match self.read_call(session, action, shared, &snapshot).await? {
            Ok(body) => body,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let headers = &session.req_header().headers;
        let Some(action) = action else {
            let answer = grpc::answer(method, body.start(), headers, shared, &snapshot);
            return Ok(answer.map(Next::Answer));
        };
        let forward = self.forward_call(&body, action, headers, &snapshot);
        Ok(forward.map(|forward| {
            self.take_on(forward, &session.req_header().headers, shared, &snapshot);
            self.body = body;
            if action.is_stream() {
                // What follows is not kept, and may take as long as it likes.
                self.upload_until = None;
                self.max_body = u64::MAX;
            }
            Next::Forward
        }))
    }

    async fn read_call(
        &mut self,
        session: &mut Session,
        action: Option<Action>,
        shared: &Shared,
        snapshot: &Snapshot,
    ) -> Result<Result<Body, Refusal>> {
        let ServerSession::H2(session) = &mut *session.downstream_session else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let limits = &snapshot.config().limits;
        let all = limits.upload_timeout;
        let time = self.patience.map_or(all, |patience| all.min(patience));
        let until = self.began + time;
        self.upload_until = Some(until);
        let enough = match action {
            Some(action) if action.is_stream() => Until::FirstMessage,
            _ => Until::End,
        };
        let limit = snapshot.longest_replay().min(limits.max_body_bytes);
        let (memory, silence) = (shared.replay_memory(), limits.read_timeout);
        let reading = Body::read_http2(session, limit, enough, memory, silence);
        match tokio::time::timeout_at(until.into(), reading).await {
            Ok(Ok(body)) if body.start().len() as u64 > limits.max_body_bytes => {
                Ok(Err(too_large(limits.max_body_bytes)))
            }
            Ok(body) => body.map(Ok).map_err(Error::into_down),
            Err(_) => Ok(Err(self.too_slow())),
        }
    }

    fn forward_call(
        &mut self,
        body: &Body,
        action: Action,
        headers: &HeaderMap,
        snapshot: &Snapshot,
    ) -> Result<Forward, Refusal> {
        let Some(call) = &mut self.call else {
            return Err(super::failure::refusal(Some(Failure::Internal), 0));
        };
        let Target { model, version } = call.target(body.start(), headers)?;
        let asked = match action {
            Action::CallInfer => call.timeout(body.start()),
            _ => Ok(None),
        };
        if !action.is_stream() {
            call.refuse_more_than_one(body)?;
        }
        self.heed(asked.map_err(|bad| Refusal::new(Reason::BadRequest, bad.to_string()))?);
        let model = find_model(snapshot, &model)?;
        let version = Some(&*version).filter(|version| !version.is_empty());
        let pinned = find_pinned(&model, version, Some(headers))?;
        Ok(Forward {
            model,
            pinned,
            action,
        })
    }

    /// Writes what the endpoint is told beside the message.
    pub(super) fn address_call(
        &self,
        request: &mut HeaderMap,
        version: &HeaderValue,
        action: Action,
    ) {
        // The version made the message longer, and a compressed one does not name it.
        request.remove(header::CONTENT_LENGTH);
        request.remove(headers::MODEL);
        request.insert(headers::MODEL_VERSION, version.clone());
        request.remove(headers::REQUEST_TIMEOUT_MS);
        if let Some(left) = self.time_left_for_call(action.is_stream()) {
            request.insert(headers::GRPC_TIMEOUT, timeout::to_grpc(left));
        }
    }

    /// What is left of the time that the client gave its call, for the endpoint.
    /// A stream has no other: ours covers only its first byte.
    fn time_left_for_call(&self, stream: bool) -> Option<Duration> {
        let theirs = self
            .patience
            .and_then(|patience| self.began.checked_add(patience));
        let until = if stream || self.uploading {
            theirs
        } else {
            self.deadline
        };
        until.map(|until| until.saturating_duration_since(clock::now()))
    }

    /// Whether the answer that has begun may still say that it failed. A stream is
    /// judged by how it begins.
    pub(super) fn awaits_trailers(&self) -> bool {
        let call = self.call.as_ref();
        call.is_some_and(|call| call.http_status().is_none()) && !self.is_stream()
    }

    /// Takes note of the trailers. What failed this late has been passed on
    /// already; it still says something about the endpoint.
    pub fn ends(&mut self, trailers: &HeaderMap) {
        let Some(status) = self.call.as_mut().and_then(|call| call.ended(trailers)) else {
            return;
        };
        self.trace(|trace| trace.answered(status));
        let Some(observed) = self.progress.pending.take() else {
            if status >= 500
                && let Some(attempt) = self.attempt.take()
            {
                attempt.lease.end(true, clock::now());
            }
            return;
        };
        if status == 200 {
            self.well(observed, clock::now());
            return;
        }
        let waited = match observed.outcome {
            Outcome::Success { waited } => Some(waited),
            _ => None,
        };
        let told = trailers.get(headers::REASON);
        let told = told.map_or(Excuse::None, hop::excuse);
        let call = self.call.as_ref();
        let excuse = call.map_or(told, |call| call.excuse(told));
        let outcome = Outcome::of_status(status, excuse, None, waited);
        let observed = Observed {
            outcome,
            ..observed
        };
        self.answered(observed, clock::now());
    }
}

/// The least of what the client says.
fn patience(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    let times = [timeout::of_grpc(headers)?, timeout::from_headers(headers)?];
    Ok(times.into_iter().flatten().min())
}
