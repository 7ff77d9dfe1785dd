//! What is done with a request before an endpoint is chosen: its head is looked at, and its
//! body read as far as it is to be kept.

use aegis_protocol::{Reason, timeout};
use http::{HeaderMap, Version as Protocol};
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::{Exchange, Next, note::Note, too_large};
use crate::{
    accept::head,
    answer::{Refusal, content_length, expects_continue},
    body::Body,
    grpc::Call,
    own,
    request::{Action, Forward, Seen, Wanted, identify, refuse_framing},
    state::{Shared, Snapshot},
    sticky,
    uncased::forget_case,
};

/// What [`Exchange::open`] found.
pub(super) enum Opened {
    /// Nobody knows where the next request would begin.
    Unframed(Refusal),
    /// A gRPC call, of which more has to be read.
    Call,
    Other(Result<Next, Refusal>),
}

impl Exchange {
    /// Looks at the head of a request, by one and the same configuration.
    pub(super) fn open(&mut self, session: &mut Session, shared: &Shared) -> Result<Opened> {
        let snapshot = shared.snapshot();
        self.note = Some(Note::of(session, shared, &snapshot, self.began));
        self.call = Call::is_one(session.req_header()).then(Box::default);
        let limits = &snapshot.config().limits;
        if let Err(refusal) = refuse_framing(session, limits.max_header_bytes.get() as usize) {
            return Ok(Opened::Unframed(refusal));
        }
        forget_case(session.req_header_mut())?;
        if session.get_keepalive().is_some() {
            // pingora has put what the client asks for in its place, or no limit at all.
            head::keep(session, limits.keepalive_timeout);
        }
        if self.call.is_some() {
            return Ok(Opened::Call);
        }
        Ok(Opened::Other(self.admit(session, shared, &snapshot)))
    }

    fn admit(
        &mut self,
        session: &Session,
        shared: &Shared,
        snapshot: &Snapshot,
    ) -> Result<Next, Refusal> {
        let head = session.req_header();
        let seen = self.note.as_ref().map(|note| note.seen);
        let seen = seen.unwrap_or_else(|| Seen::of(&head.headers));
        match identify(&head.method, head.uri.path(), &head.headers, seen, snapshot)? {
            Wanted::Own(question) => own::answer(&question, shared, snapshot).map(Next::Answer),
            Wanted::Forward(forward) => {
                if forward.action == Action::Upgrade && head.version != Protocol::HTTP_11 {
                    let message = "only HTTP/1.1 can be upgraded to another protocol";
                    return Err(Refusal::new(Reason::BadRequest, message));
                }
                if seen.timeout {
                    self.patience = timeout::from_headers(&head.headers)
                        .map_err(|bad| Refusal::new(Reason::BadRequest, bad.to_string()))?;
                }
                self.take_on(forward, &head.headers, shared, snapshot);
                Ok(Next::Forward)
            }
        }
    }

    /// Takes a request on that will be forwarded.
    pub(super) fn take_on(
        &mut self,
        forward: Forward,
        headers: &HeaderMap,
        shared: &Shared,
        snapshot: &Snapshot,
    ) {
        let by = forward.model.config().sticky.as_ref();
        self.sticky = by.and_then(|by| sticky::key(by, forward.model.name(), headers));
        let limits = &snapshot.config().limits;
        self.max_body = limits.max_body_bytes;
        self.upload_within = limits.upload_timeout;
        self.silence = limits.read_timeout;
        self.idle_timeout = snapshot.config().upstream.idle_timeout;
        self.in_flight = Some(shared.metrics().request_in_flight());
        self.forward = Some(forward);
    }

    /// Reads the body, as far as it is to be kept.
    pub(super) async fn receive(
        &mut self,
        session: &mut Session,
        shared: &Shared,
    ) -> Result<Result<Next, Refusal>> {
        let Some(forward) = &self.forward else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let length = content_length(session);
        if length.is_some_and(|length| length > self.max_body) {
            return Ok(Err(too_large(self.max_body)));
        }
        let expects = self.note.as_ref().is_some_and(|note| note.seen.expect);
        if expects && expects_continue(session) {
            let keepalive = session.get_keepalive();
            session.write_continue_response().await?;
            // pingora takes it for an answer that comes too early, and would close.
            session.set_keepalive(keepalive);
        }
        // What an endpoint says beforehand is for the proxy.
        session.set_ignore_info_resp(true);
        if forward.action == Action::Upgrade {
            // There is no body, and what follows passes as it comes.
            let idle = forward.model.config().timeouts.idle;
            session.set_read_timeout(Some(idle));
            self.max_body = u64::MAX;
            return Ok(Ok(Next::Forward));
        }
        let limit = forward.model.config().retry.replay_limit_bytes;
        let all = self.upload_within;
        let until = self.began + self.patience.map_or(all, |patience| all.min(patience));
        self.upload_until = Some(until);
        let mut mention = self.seek_timeout();
        let memory = shared.replay_memory();
        let reading = Body::read(session, length, limit, memory, self.silence, &mut mention);
        match tokio::time::timeout_at(until.into(), reading).await {
            Ok(body) => self.body = body.map_err(Error::into_down)?,
            Err(_) => return Ok(Err(self.too_slow())),
        }
        Ok(self.heed_timeout(mention, session).map(|()| Next::Forward))
    }
}
