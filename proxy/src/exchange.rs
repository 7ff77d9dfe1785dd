//! One request on its way: what it wants, where it is tried, what came of it.
//!
//! The phases of [`Shell`](crate::shell::Shell) are methods here. Everything
//! that must be given back (the permit of the running attempt, the memory of
//! the body) gives itself back when an exchange is dropped, which pingora does
//! without a word when a client leaves.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_policy::{ChosenBy, EndpointKey, RouteKind};
use aegis_protocol::{Reason, headers};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use pingora_core::{Error, ErrorSource, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::{
    answer::{Answer, Refusal, content_length},
    body::Body,
    clock,
    grpc::Call,
    lease::OpenVerdict,
    metrics::{STATIC_LABEL, Tracked},
    model::{Attempt, Version},
    request::{Action, Forward},
    shadow::Sample,
    state::Shared,
    uncased::edit_request,
};

mod admission;
mod attempt;
mod call;
pub mod failure;
mod hop;
mod note;
mod opening;
mod patience;
mod shadow;
mod traced;

use attempt::Progress;
use failure::Failure;
use note::{Ending, Note};
use opening::Opened;

/// A client that left before its answer, in metrics (nginx's code for it).
const CLIENT_GONE: u16 = 499;
/// Headers that an endpoint is told more than the client said, usually.
const USUALLY_ADDED: usize = 6;
/// An answer that the endpoint did not finish, in metrics.
const CUT_SHORT: u16 = 502;

/// The state of one request.
#[derive(Debug)]
pub struct Exchange {
    began: Instant,
    /// What its line in the log says; none before its header was looked at.
    note: Option<Note>,
    /// What is forwarded; none while unknown, or when the proxy answers itself.
    forward: Option<Forward>,
    body: Body,
    /// Bytes of a streamed body so far, and how many there may be.
    streamed: u64,
    max_body: u64,
    /// How long a body may take in all, and each piece of it.
    upload_within: Duration,
    silence: Duration,
    /// When the whole body must be there.
    upload_until: Option<Instant>,
    /// How long the attempt's connection may be kept when it is done.
    idle_timeout: Duration,
    /// The time that the client gives it in all; none where it does not say.
    patience: Option<Duration>,
    /// When the first byte of the answer must be there; none before the first
    /// attempt.
    deadline: Option<Instant>,
    /// The client was still sending when the first attempt was chosen, and what it sends has
    /// not been seen whole since; a stream never is.
    uploading: bool,
    /// When the whole request was there.
    received: Option<Instant>,
    /// Stands for the client, where it stays with one version.
    sticky: Option<u64>,
    /// What is particular to a gRPC call.
    call: Option<Box<Call>>,
    /// The running attempt.
    attempt: Option<Attempt>,
    progress: Progress,
    /// The attempt that was chosen when the last one failed.
    next: Option<Attempt>,
    /// Attempts that ended with a 500, until another endpoint has answered.
    suspects: Vec<OpenVerdict>,
    attempts: u32,
    tried: Vec<EndpointKey>,
    /// A reset on a kept-alive connection was taken for a stale one; once.
    forgave_stale: bool,
    /// Why the last attempt failed.
    last_failure: Option<Failure>,
    /// What the shadow is to be asked when the client has its answer.
    sample: Option<Sample>,
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
    by: ChosenBy,
    kind: RouteKind,
    /// Where the last attempt went; none where none was made.
    endpoint: Option<SocketAddr>,
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
        if self.route.is_some() || self.is_told() {
            self.settle(&Ending::unseen(CLIENT_GONE, clock::now()));
        }
    }
}

impl Exchange {
    /// A request whose header has just come in.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            note: None,
            forward: None,
            body: Body::default(),
            streamed: 0,
            max_body: u64::MAX,
            upload_within: Duration::ZERO,
            silence: Duration::ZERO,
            upload_until: None,
            idle_timeout: Duration::ZERO,
            patience: None,
            deadline: None,
            uploading: false,
            received: None,
            sticky: None,
            call: None,
            attempt: None,
            progress: Progress::default(),
            next: None,
            suspects: Vec::new(),
            attempts: 0,
            tried: Vec::new(),
            forgave_stale: false,
            last_failure: None,
            sample: None,
            route: None,
            refused: None,
            gave_up: None,
            in_flight: None,
            waiting: None,
        }
    }

    /// Identifies the request, reads its body and chooses its first attempt. True
    /// when it was answered here.
    ///
    /// # Errors
    /// The client's: it went away or stopped sending.
    pub async fn begin(&mut self, session: &mut Session, shared: &Shared) -> Result<bool> {
        let next = match self.open(session, shared)? {
            Opened::Unframed(refusal) => {
                session.set_keepalive(None);
                let answer = self.refuse(&refusal, shared);
                self.named(answer).send(session).await?;
                return Ok(true);
            }
            Opened::Call => self.begin_call(session, shared).await?,
            Opened::Other(Ok(Next::Forward)) => self.receive(session, shared).await?,
            Opened::Other(next) => next,
        };
        let answer = match next {
            Ok(Next::Forward) => match self.enter(session, shared).await? {
                None => return Ok(false),
                Some(answer) => answer,
            },
            Ok(Next::Answer(answer)) => answer,
            Err(refusal) => self.refuse(&refusal, shared),
        };
        self.named(answer).send(session).await?;
        Ok(true)
    }

    /// Counts a refusal and words it as the client can read it.
    fn refuse(&mut self, refusal: &Refusal, shared: &Shared) -> Answer {
        shared.metrics().rejected(refusal.reason);
        if let Some(note) = &mut self.note {
            note.refused = true;
        }
        if self.call.is_some() {
            refusal.answer_call()
        } else {
            refusal.answer()
        }
    }

    /// An answer of our own, with the request's name. A call ends with it, which its
    /// status, 200, does not tell.
    fn named(&mut self, answer: Answer) -> Answer {
        if let (Some(call), Some(code)) = (&mut self.call, answer.code()) {
            call.ends_here(code);
        }
        match &self.note {
            Some(note) => answer.with(headers::REQUEST_ID, note.id.value().clone()),
            None => answer,
        }
    }

    /// Writes the version that was chosen into the request that goes upstream.
    ///
    /// # Errors
    /// Never in practice: the values were checked when they were made.
    pub fn address_request(&mut self, request: &mut RequestHeader) -> Result<()> {
        if self.upgrades() {
            // It is whole with its header.
            self.sent();
        }
        let (Some(forward), Some(routed)) = (&self.forward, &self.route) else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        edit_request(request, |headers| {
            self.address_headers(headers, forward, routed);
        })?;
        if let Some(uri) = routed.version.uri(forward.action) {
            let uri = match request.uri.query() {
                None => uri.clone(),
                Some(query) => with_query(uri, query)?,
            };
            request.set_uri(uri);
        }
        Ok(())
    }

    /// Writes what the endpoint is told in headers.
    fn address_headers(&self, headers: &mut HeaderMap, forward: &Forward, routed: &Routed) {
        // Once, and not when the first and then again when another finds no room.
        headers.reserve(USUALLY_ADDED);
        if let Some(note) = &self.note {
            note.id.write(headers);
            note.origin.write(headers, note.seen.forwarded);
            if let Some(trace) = &note.trace {
                trace.write(headers);
            }
            if note.seen.version {
                headers.remove(headers::MODEL_VERSION);
            }
            if note.seen.expect {
                headers.remove(header::EXPECT);
            }
        }
        // The time for an answer begins when the whole request is there, so while
        // it is not, only the client's own patience is known.
        if let (None, Body::Kept(kept)) = (&self.call, &self.body)
            && !headers.contains_key(header::CONTENT_LENGTH)
        {
            // HTTP/2 needs none, and not every server reads chunks.
            headers.insert(header::CONTENT_LENGTH, kept.bytes().len().into());
        }
        if self.call.is_some() {
            self.address_call(headers, routed.version.header(), forward.action);
        } else if let Some(deadline) = self.deadline.filter(|_| !self.uploading) {
            let left = deadline.saturating_duration_since(clock::now());
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
            headers.insert(headers::REQUEST_TIMEOUT_MS, HeaderValue::from(left));
        }
        let attempt = self.attempt.as_ref();
        if attempt.is_some_and(|attempt| attempt.asks_load) {
            headers.insert(headers::LOAD_REPORT_FORMAT, headers::LOAD_REPORT_TEXT);
        }
        headers.insert(headers::ATTEMPT, attempt_number(self.attempts));
    }

    /// Puts a kept body in its place, or watches the size of a streamed one. At
    /// its end the time for the answer begins.
    ///
    /// # Errors
    /// When a streamed body is over the limit, or takes too long.
    pub fn send_body(&mut self, chunk: &mut Option<Bytes>, last: bool) -> Result<()> {
        self.body.fill(chunk);
        match self.body {
            Body::Streamed | Body::Begun(_) => {
                self.streamed += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
                if self.upload_until.is_some_and(|until| until <= clock::now()) {
                    self.refused = Some(self.too_slow());
                    return Err(Error::new_down(ErrorType::HTTPStatus(400)));
                }
                if self.streamed > self.max_body {
                    self.refused = Some(too_large(self.max_body));
                    return Err(Error::new_down(ErrorType::HTTPStatus(413)));
                }
            }
            Body::InPingora | Body::Kept(_) => {}
        }
        if let Some(call) = &mut self.call
            && let Err(error) = call.pass(chunk)
        {
            self.refused = Some(Refusal::new(Reason::BadRequest, error.to_string()));
            return Err(Error::new_down(ErrorType::HTTPStatus(400)));
        }
        // A stream is waited for from its first message on.
        let last = last || self.is_stream();
        // An answer that has begun already is not waited for.
        if last && self.progress.sent.is_none() && !self.progress.answered {
            self.sent();
        }
        Ok(())
    }

    /// Says on the answer what its request is called, which version gave it, and how
    /// that came about.
    fn sign_answer(&self, headers: &mut HeaderMap) {
        if let Some(note) = &self.note {
            note.id.sign(headers);
        }
        if let Some(routed) = &self.route {
            headers.insert(headers::MODEL_VERSION, routed.version.header().clone());
            let route = HeaderValue::from_static(routed.kind.label());
            headers.insert(headers::ROUTE, route);
        }
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
        let answer = if let Some(answer) = self.last_resort(failure) {
            answer
        } else {
            let refusal = self.refused.take();
            let refusal = refusal.unwrap_or_else(|| failure::refusal(failure, self.attempts));
            self.refuse(&refusal, shared)
        };
        let answer = self.named(answer);
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
            (None, None) => match (&self.call, written) {
                // A call that ends without a word on how has not ended well.
                (Some(call), Some(200)) => call.http_status().unwrap_or(CUT_SHORT),
                _ => written.unwrap_or(CLIENT_GONE),
            },
            (None, Some(ErrorSource::Downstream)) => CLIENT_GONE,
            (None, Some(_)) => CUT_SHORT,
        };
        if error.is_none()
            && self.call.is_none()
            && let Some(held) = self.progress.held.take()
        {
            held.kept_until(now + self.idle_timeout);
        }
        let ending = Ending::seen(code, now, session, self.is_told());
        self.settle(&ending);
        // A call may have failed after its answer.
        if let Some(sample) = self.sample.take()
            && error.is_none()
            && code == 200
        {
            sample.send();
        }
    }

    fn settle(&mut self, ending: &Ending) {
        self.progress.held = None;
        self.next = None;
        if let Some(attempt) = self.attempt.take() {
            attempt.lease.end(false, ending.now);
        }
        let routed = self.route.take();
        self.log(routed.as_ref(), ending);
        self.end_trace(routed.as_ref(), ending);
        if let Some(routed) = &routed {
            self.count(routed, ending);
        }
    }

    fn count(&self, routed: &Routed, ending: &Ending) {
        let Some(forward) = &self.forward else {
            return;
        };
        if !forward.action.is_inference() {
            return;
        }
        let model = &forward.model;
        let fell_back = match routed.kind {
            RouteKind::Fallback(reason) => Some((&**routed.version.name(), reason)),
            RouteKind::Static(reason) => Some((STATIC_LABEL, reason)),
            RouteKind::Split | RouteKind::Pinned | RouteKind::Sticky => None,
        };
        if let Some((to, reason)) = fell_back {
            let from = &routed.chosen;
            model.metrics().fell_back(model.name(), from, to, reason);
        }
        let took = ending.now.saturating_duration_since(self.began);
        let metrics = routed.version.metrics();
        metrics.answered(routed.kind, ending.code, took, self.first_byte_after());
    }

    /// From the request's last byte to the answer's first.
    fn first_byte_after(&self) -> Option<Duration> {
        let (begun, received) = (self.progress.first_byte?, self.received?);
        Some(begun.saturating_duration_since(received))
    }

    fn upgrades(&self) -> bool {
        let forward = self.forward.as_ref();
        forward.is_some_and(|forward| forward.action == Action::Upgrade)
    }

    fn is_stream(&self) -> bool {
        let forward = self.forward.as_ref();
        forward.is_some_and(|forward| forward.action.is_stream())
    }

    /// The refusal of a body that is not there in time: the client's own time, or
    /// ours.
    fn too_slow(&self) -> Refusal {
        let patience = self.patience.and_then(|own| self.began.checked_add(own));
        if patience.is_some_and(|until| until <= clock::now()) {
            let message = "the request's body did not arrive within the client's own time";
            return Refusal::new(Reason::Deadline, message);
        }
        failure::refusal(Some(Failure::SlowUpload), 0)
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
            // What follows the first message of a stream may be long in coming.
            Body::Begun(_) => self.is_stream(),
        }
    }
}

/// The number of an attempt, which is hardly ever above four.
fn attempt_number(number: u32) -> HeaderValue {
    match number {
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        3 => HeaderValue::from_static("3"),
        4 => HeaderValue::from_static("4"),
        number => HeaderValue::from(number),
    }
}

fn with_query(uri: &Uri, query: &str) -> Result<Uri> {
    Uri::try_from(format!("{}?{query}", uri.path()))
        .or_err(ErrorType::InvalidHTTPHeader, "the query makes no URI")
}

fn too_large(limit: u64) -> Refusal {
    let message = format!("the body is over the limit of {limit} bytes");
    Refusal::new(Reason::BodyTooLarge, message)
}
