//! One request on its way: what it wants, where it is tried, what came of it.
//!
//! The phases of [`Shell`](crate::shell::Shell) are methods here. Everything
//! that must be given back (the permit of the running attempt, the memory of
//! the body) gives itself back when an exchange is dropped, which pingora does
//! without a word when a client leaves.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_policy::{Ask, Outcome, Refusal as NoAttempt, RouteKind, model::EndpointKey};
use aegis_protocol::{Reason, headers};
use bytes::Bytes;
use http::{HeaderValue, Uri, header};
use pingora_core::{
    Error, ErrorSource, ErrorType, OrErr, Result,
    upstreams::peer::{HttpPeer, PeerOptions},
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use crate::{
    answer::{Answer, Refusal, content_length, expects_continue},
    body::Body,
    clock,
    config::Timeouts,
    metrics::{RetryResult, Tracked},
    model::{Attempt, Version},
    own,
    request::{Action, Forward, Wanted, identify, refuse_framing},
    state::Shared,
};

pub mod failure;

use failure::{Failure, Stage};

/// A client that left before its answer, in metrics (nginx's code for it).
const CLIENT_GONE: u16 = 499;
/// An answer that the endpoint did not finish, in metrics.
const CUT_SHORT: u16 = 502;

/// The state of one request.
#[derive(Debug)]
pub struct Exchange {
    began: Instant,
    /// What is forwarded; none while unknown, or when the proxy answers itself.
    forward: Option<Forward>,
    body: Body,
    /// Bytes of a streamed body so far, and how many there may be.
    streamed: u64,
    max_body: u64,
    /// How long the attempt's connection may be kept when it is done.
    idle_timeout: Duration,
    /// The running attempt.
    attempt: Option<Attempt>,
    /// What the running attempt's answer says of its endpoint.
    verdict: Option<Outcome>,
    attempts: u32,
    tried: Vec<EndpointKey>,
    /// A reset on a kept-alive connection was taken for a stale one; once.
    forgave_stale: bool,
    /// Why the last attempt failed.
    last_failure: Option<Failure>,
    /// How the answer came about, kept after the attempt has ended.
    route: Option<Routed>,
    refused: Option<Refusal>,
    /// The status of the refusal that ended it after an attempt.
    gave_up: Option<u16>,
    /// Counts the request while it is served.
    in_flight: Option<Tracked>,
    /// Counts it while its version has not answered.
    waiting: Option<Tracked>,
}

/// Which version an attempt went to and why; outlives the attempt.
#[derive(Debug)]
struct Routed {
    version: Arc<Version>,
    chosen: Arc<str>,
    kind: RouteKind,
}

/// What [`Exchange::admit`] found.
enum Next {
    Forward,
    Answer(Answer),
}

// === impl Exchange ===

impl Drop for Exchange {
    /// pingora drops a request without a word when its client leaves.
    fn drop(&mut self) {
        if self.route.is_some() {
            self.settle(CLIENT_GONE, clock::now());
        }
    }
}

impl Exchange {
    /// A request whose header has just come in.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            forward: None,
            body: Body::default(),
            streamed: 0,
            max_body: u64::MAX,
            idle_timeout: Duration::ZERO,
            attempt: None,
            verdict: None,
            attempts: 0,
            tried: Vec::new(),
            forgave_stale: false,
            last_failure: None,
            route: None,
            refused: None,
            gave_up: None,
            in_flight: None,
            waiting: None,
        }
    }

    /// Identifies the request and reads its body. True when it was answered here.
    ///
    /// # Errors
    /// The client's: it went away or stopped sending.
    pub async fn begin(&mut self, session: &mut Session, shared: &Shared) -> Result<bool> {
        let answer = match self.admit(session, shared) {
            Ok(Next::Forward) => match self.receive(session, shared).await? {
                None => return Ok(false),
                Some(refusal) => refuse(&refusal, shared),
            },
            Ok(Next::Answer(answer)) => answer,
            Err(refusal) => refuse(&refusal, shared),
        };
        answer.send(session).await?;
        Ok(true)
    }

    /// Chooses where the next attempt goes.
    ///
    /// # Errors
    /// When no endpoint is left to try.
    pub fn choose(&mut self, session: &Session) -> Result<Box<HttpPeer>> {
        let Some(forward) = &self.forward else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let model = &forward.model;
        let chosen = match &self.route {
            None => model.start(Ask {
                version: forward.pinned.as_deref(),
                replayable: self.replayable(session),
            }),
            Some(routed) => model.again(&routed.chosen, forward.pinned.is_some(), &self.tried),
        };
        let timeouts = model.config().timeouts;
        let attempt = match chosen {
            Ok(attempt) => attempt,
            Err(refusal) => {
                self.nowhere(refusal);
                return Err(Error::new_in(ErrorType::InternalError));
            }
        };
        if let Some(failure) = self.last_failure {
            self.count_retry(failure, RetryResult::Made);
        }
        self.attempts += 1;
        self.verdict = None;
        self.streamed = 0;
        self.body.rewind();
        let mut peer = Box::new(HttpPeer::new(attempt.address, false, String::new()));
        set_timeouts(&mut peer.options, self.idle_timeout, timeouts);
        self.waiting = Some(attempt.version.metrics().waiting());
        self.route = Some(Routed {
            version: Arc::clone(&attempt.version),
            chosen: Arc::clone(&attempt.chosen),
            kind: attempt.kind,
        });
        self.attempt = Some(attempt);
        Ok(peer)
    }

    /// Takes note of why the running attempt failed, and says on the error
    /// whether another one is to be made.
    pub fn attempt_failed(&mut self, mut error: Box<Error>, stage: Stage) -> Box<Error> {
        let failure = Failure::of(&error, stage);
        let Some(attempt) = self.attempt.take() else {
            error.set_retry(false);
            return error;
        };
        let forgiven = failure == Failure::StaleConnection && !self.forgave_stale;
        if forgiven {
            self.forgave_stale = true;
        } else {
            self.tried.push(attempt.endpoint);
        }
        let outcome = if forgiven || !failure.is_the_endpoints() {
            Outcome::Neutral
        } else {
            Outcome::Failure
        };
        attempt.lease.settle(outcome);
        let retry = self.may_retry(failure, stage);
        self.waiting = None;
        tracing::debug!(endpoint = %attempt.address, attempt = self.attempts, retry, %error, "an attempt failed");
        self.last_failure = Some(failure);
        error.set_retry(retry);
        error
    }

    /// Writes the version that was chosen into the request that goes upstream.
    ///
    /// # Errors
    /// Never in practice: the values were checked when they were made.
    pub fn address_request(&self, request: &mut RequestHeader) -> Result<()> {
        let (Some(forward), Some(routed)) = (&self.forward, &self.route) else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let uri = routed.version.uri(forward.action);
        let uri = match request.uri.query() {
            None => uri.clone(),
            Some(query) => with_query(uri, query)?,
        };
        request.set_uri(uri);
        request.remove_header(&headers::MODEL_VERSION);
        request.remove_header(&header::EXPECT);
        request.insert_header(headers::ATTEMPT, HeaderValue::from(self.attempts))
    }

    /// Puts a kept body in its place, or watches the size of a streamed one.
    ///
    /// # Errors
    /// When a streamed body is over the limit.
    pub fn send_body(&mut self, chunk: &mut Option<Bytes>) -> Result<()> {
        match &mut self.body {
            Body::Streamed => {
                self.streamed += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
                if self.streamed > self.max_body {
                    self.refused = Some(too_large(self.max_body));
                    return Err(Error::new_down(ErrorType::HTTPStatus(413)));
                }
            }
            body @ (Body::InPingora | Body::Kept(_)) => body.fill(chunk),
        }
        Ok(())
    }

    /// Judges the endpoint by its answer's head.
    pub fn judge(&mut self, response: &ResponseHeader) {
        if response.status.is_informational() {
            return;
        }
        let refused = response.headers.contains_key(header::RETRY_AFTER)
            || response.headers.contains_key(headers::REASON);
        self.verdict = Some(Outcome::of_status(response.status.as_u16(), refused));
        self.waiting = None;
    }

    /// Says on the answer which version gave it, and how that came about.
    ///
    /// # Errors
    /// Never in practice: the values were checked when they were made.
    pub fn sign_answer(&self, response: &mut ResponseHeader) -> Result<()> {
        let Some(routed) = &self.route else {
            return Ok(());
        };
        response.insert_header(headers::MODEL_VERSION, routed.version.header())?;
        response.insert_header(
            headers::ROUTE,
            HeaderValue::from_static(routed.kind.label()),
        )
    }

    /// Answers a request that no attempt could answer. Returns the status, or 0
    /// where nothing could be written.
    pub async fn give_up(&mut self, session: &mut Session, error: &Error, shared: &Shared) -> u16 {
        let written = session.response_written();
        let answered = written.is_some_and(|head| !head.status.is_informational());
        let failure = match error.esource() {
            ErrorSource::Downstream => Some(Failure::of_client(error)),
            _ => self.last_failure,
        };
        // A refusal of our own comes as the client's error too.
        let gone = failure == Some(Failure::ClientGone) && self.refused.is_none();
        if answered || gone {
            return 0;
        }
        let refusal = self.refused.take();
        let refusal = refusal.unwrap_or_else(|| failure::refusal(failure, self.attempts));
        let answer = refuse(&refusal, shared);
        let status = answer.status().as_u16();
        // The request may be half read and the attempt half made.
        session.set_keepalive(None);
        match answer.send(session).await {
            Ok(()) => {
                self.gave_up = Some(status);
                status
            }
            Err(_) => 0,
        }
    }

    /// Settles the last attempt and counts the request.
    pub fn end(&mut self, session: &Session, error: Option<&Error>, now: Instant) {
        let written = session.response_written().map(|head| head.status.as_u16());
        let code = match (self.gave_up, error.map(Error::esource)) {
            (Some(status), _) => status,
            (None, None) => written.unwrap_or(CLIENT_GONE),
            (None, Some(ErrorSource::Downstream)) => CLIENT_GONE,
            (None, Some(_)) => CUT_SHORT,
        };
        self.settle(code, now);
    }

    fn settle(&mut self, code: u16, now: Instant) {
        if let Some(attempt) = self.attempt.take() {
            let verdict = self.verdict.take().unwrap_or(Outcome::Neutral);
            attempt.lease.settle(verdict);
        }
        let (Some(forward), Some(routed)) = (&self.forward, self.route.take()) else {
            return;
        };
        if forward.action != Action::Infer {
            return;
        }
        let model = &forward.model;
        if let RouteKind::Fallback(reason) = routed.kind {
            let (from, to) = (&routed.chosen, routed.version.name());
            model.metrics().fell_back(model.name(), from, to, reason);
        }
        let took = now.saturating_duration_since(self.began);
        routed.version.metrics().answered(routed.kind, code, took);
    }

    fn admit(&mut self, session: &Session, shared: &Shared) -> Result<Next, Refusal> {
        refuse_framing(session)?;
        let head = session.req_header();
        let snapshot = shared.snapshot();
        match identify(&head.method, head.uri.path(), &head.headers, &snapshot)? {
            Wanted::Own(question) => own::answer(&question, shared, &snapshot).map(Next::Answer),
            Wanted::Forward(forward) => {
                self.max_body = snapshot.config().limits.max_body_bytes;
                self.idle_timeout = snapshot.config().upstream.idle_timeout;
                self.in_flight = Some(shared.metrics().request_in_flight());
                self.forward = Some(forward);
                Ok(Next::Forward)
            }
        }
    }

    /// Reads the body, as far as it is to be kept.
    async fn receive(&mut self, session: &mut Session, shared: &Shared) -> Result<Option<Refusal>> {
        let Some(forward) = &self.forward else {
            return Ok(None);
        };
        let length = content_length(session);
        if length.is_some_and(|length| length > self.max_body) {
            return Ok(Some(too_large(self.max_body)));
        }
        if expects_continue(session) {
            session.write_continue_response().await?;
        }
        let limit = forward.model.config().retry.replay_limit_bytes;
        let body = Body::read(session, length, limit, shared.replay_memory()).await;
        self.body = body.map_err(Error::into_down)?;
        Ok(None)
    }

    fn replayable(&self, session: &Session) -> bool {
        match self.body {
            Body::Streamed => {
                session
                    .req_header()
                    .headers
                    .get(header::TRANSFER_ENCODING)
                    .is_none()
                    && content_length(session).unwrap_or(0) == 0
            }
            Body::InPingora | Body::Kept(_) => true,
        }
    }

    /// Whether a failed attempt is to be followed by another.
    fn may_retry(&self, failure: Failure, stage: Stage) -> bool {
        let Some(forward) = &self.forward else {
            return false;
        };
        if !failure.may_be_retried() || !stage.nothing_answered() {
            return false;
        }
        if !self.body.replayable(stage.body_lost()) {
            self.count_retry(failure, RetryResult::NotReplayable);
            return false;
        }
        let left = self.attempts <= forward.model.config().retry.max_retries;
        if !left {
            self.count_retry(failure, RetryResult::Exhausted);
        }
        left
    }

    fn count_retry(&self, failure: Failure, result: RetryResult) {
        if let Some(Forward { model, .. }) = &self.forward {
            let reason = failure.label();
            model.metrics().retried(model.name(), reason, result);
        }
    }

    /// No endpoint is left: keeps the reason for the answer. Where an attempt
    /// was made, its failure is the better one.
    fn nowhere(&mut self, refusal: NoAttempt) {
        let reason = match refusal {
            NoAttempt::UnknownVersion => Reason::UnknownVersion,
            NoAttempt::NoEndpoint => Reason::NoEndpoint,
        };
        match self.last_failure {
            Some(failure) => self.count_retry(failure, RetryResult::Exhausted),
            None => self.refused = Some(Refusal::new(reason, refusal.to_string())),
        }
    }
}

fn set_timeouts(options: &mut PeerOptions, idle: Duration, timeouts: Timeouts) {
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(timeouts.read);
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(idle);
}

fn with_query(uri: &Uri, query: &str) -> Result<Uri> {
    Uri::try_from(format!("{}?{query}", uri.path()))
        .or_err(ErrorType::InvalidHTTPHeader, "the query makes no URI")
}

fn refuse(refusal: &Refusal, shared: &Shared) -> Answer {
    shared.metrics().rejected(refusal.reason);
    refusal.answer()
}

fn too_large(limit: u64) -> Refusal {
    let message = format!("the body is over the limit of {limit} bytes");
    Refusal::new(Reason::BodyTooLarge, message)
}
