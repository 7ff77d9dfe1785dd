//! Where a request stands in a trace, and what a collector is told of it.
//!
//! With `[traces]` on, every request belongs to a trace: its client's, where a valid
//! `traceparent` says so, and a new one otherwise (W3C Trace Context). Each attempt
//! goes upstream under a name of its own, so that a server's spans hang below the
//! attempt that reached it. Whether a trace is recorded is decided where it begins:
//! by the client's flag, or here for a share of new ones.
//!
//! With it off nothing is done: what a client sends passes through as it came, and
//! only the access log reads it.
//!
//! What a span is, its encoding and its sending are OpenTelemetry's. Its tracer and
//! its batch processor are not used: a tracer builds every span while the request
//! runs, a processor takes a channel and a wake-up for each, and says in its own log
//! how many it lost. Here a request that has ended is one value in a bounded queue,
//! and spans are made of it by the thread that sends them ([`Exporter`]).

mod context;
mod export;
mod span;

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use aegis_protocol::headers;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use pingora_http::RequestHeader;
use rand::{Rng, RngExt};

pub use context::{Parent, trace_id};
pub use export::{Exporter, SpanCounts, StartError};
pub use span::{Attempted, Destination, Finished, Served};

/// The longest path or user agent that is kept of a request, in bytes.
const MAX_TEXT: usize = 512;

/// Puts requests into traces, and sends those that are recorded.
#[derive(Debug)]
pub struct Tracer {
    exporter: Exporter,
    /// The part of new traces that is recorded, from 0 to 1.
    sample: f64,
}

/// A request that begins.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its head.
    pub head: &'a RequestHeader,
    /// Who asks.
    pub client: Option<IpAddr>,
    /// The connection is encrypted.
    pub encrypted: bool,
    /// When it began, on both clocks.
    pub began: (Instant, SystemTime),
}

/// One request's place in its trace.
#[derive(Debug)]
pub struct Trace {
    /// The span that it came from; none where it begins a trace.
    parent: Option<u64>,
    /// The trace, and the request in it.
    own: Parent,
    /// The span of the attempt that runs.
    attempt: u64,
    /// What is recorded; none where the trace is not.
    recorded: Option<Box<Recorded>>,
}

/// What is known of a recorded request while it runs.
#[derive(Debug)]
struct Recorded {
    tracer: Arc<Tracer>,
    asked: AskedFor,
    attempts: Vec<Attempted>,
}

/// What is kept of a head: small values, and texts that are cut to a bound, since
/// thousands of them may wait to be sent.
#[derive(Debug)]
pub struct AskedFor {
    /// The method; none for one that HTTP does not know.
    pub method: Option<Method>,
    /// The path.
    pub path: Box<str>,
    /// The protocol that the client speaks.
    pub protocol: Version,
    /// What the client calls itself.
    pub user_agent: Option<Box<str>>,
    /// Who asks.
    pub client: Option<IpAddr>,
    /// The connection is encrypted.
    pub encrypted: bool,
    /// When it began, on both clocks.
    pub began: (Instant, SystemTime),
}

// === impl Tracer ===

impl Tracer {
    /// Records `sample` of new traces.
    #[must_use]
    pub fn new(exporter: Exporter, sample: f64) -> Self {
        Self { exporter, sample }
    }

    /// Puts a request into a trace.
    pub fn begin(self: &Arc<Self>, asked: Asked<'_>, rng: &mut impl Rng) -> Trace {
        let parent = Parent::of(&asked.head.headers);
        let own = match parent {
            Some(parent) => parent.with_span(nonzero(|| rng.random())),
            None => Parent::new(rng, self.sample),
        };
        let recorded = own.is_sampled().then(|| {
            Box::new(Recorded {
                tracer: Arc::clone(self),
                asked: asked.into(),
                attempts: Vec::new(),
            })
        });
        Trace {
            parent: parent.map(|parent| parent.span),
            own,
            attempt: own.span,
            recorded,
        }
    }

    /// Sends what waits, and takes no more.
    pub fn close(&self) {
        self.exporter.close();
    }
}

// === impl AskedFor ===

impl From<Asked<'_>> for AskedFor {
    fn from(asked: Asked<'_>) -> Self {
        let head = asked.head;
        let agent = head.headers.get(header::USER_AGENT);
        Self {
            method: is_known(&head.method).then(|| head.method.clone()),
            path: cut(head.uri.path()),
            protocol: head.version,
            user_agent: agent.and_then(|agent| agent.to_str().ok()).map(cut),
            client: asked.client,
            encrypted: asked.encrypted,
            began: asked.began,
        }
    }
}

/// Whether HTTP knows the method: others can be made up without end.
fn is_known(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ]
    .contains(method)
}

fn cut(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(MAX_TEXT)].into()
}

// === impl Trace ===

impl Trace {
    /// Where the request stands, as its own `traceparent` would say it.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        self.own.value()
    }

    /// Whether anybody wants to know what becomes of the request.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// An attempt begins, to be named in what goes upstream.
    pub fn attempt(&mut self, rng: &mut impl Rng, tell: impl FnOnce() -> Destination) {
        self.attempt = nonzero(|| rng.random());
        if let Some(recorded) = &mut self.recorded {
            recorded.attempts.push(Attempted {
                span: self.attempt,
                to: tell(),
                status: None,
                failure: None,
            });
        }
    }

    /// Names the running attempt in a request that goes upstream. The state of a
    /// trace that cannot be read is not passed on.
    pub fn write(&self, request: &mut HeaderMap) {
        if self.parent.is_none() {
            request.remove(headers::TRACESTATE);
        }
        let attempt = self.own.with_span(self.attempt);
        request.insert(headers::TRACEPARENT, attempt.value());
    }

    /// The running attempt was answered with this status.
    pub fn answered(&mut self, status: u16) {
        if let Some(attempt) = self.running() {
            attempt.status = Some(status);
        }
    }

    /// The running attempt failed.
    pub fn failed(&mut self, failure: &'static str) {
        if let Some(attempt) = self.running() {
            attempt.failure = Some(failure);
        }
    }

    /// The last attempt. It ends where the next one begins, or with its request.
    fn running(&mut self) -> Option<&mut Attempted> {
        self.recorded.as_mut()?.attempts.last_mut()
    }

    /// The request has ended; `tell` says what became of it.
    pub fn end(self, tell: impl FnOnce() -> Served) {
        let Some(recorded) = self.recorded else {
            return;
        };
        let Recorded {
            tracer,
            asked,
            attempts,
        } = *recorded;
        tracer.exporter.send(Finished {
            own: self.own,
            parent: self.parent,
            asked,
            attempts,
            served: tell(),
        });
    }
}

/// Draws until it is not 0, which is no name.
fn nonzero<T: Default + PartialEq>(mut draw: impl FnMut() -> T) -> T {
    loop {
        let drawn = draw();
        if drawn != T::default() {
            return drawn;
        }
    }
}
