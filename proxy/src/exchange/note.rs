//! What is remembered of a request for whoever looks at it later: its name, where it
//! comes from, its place in a trace, and, where there is a log, what its line says.
//!
//! pingora drops a request that its client left without another word, session
//! and all, so what a line needs of the session is noted at the beginning. It is
//! counted references and small values: nothing is copied.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_policy::RouteKind;
use aegis_protocol::headers;
use http::{HeaderValue, Method, StatusCode, Uri, Version};
use pingora_proxy::Session;
use rand::RngExt;

use super::{Exchange, Routed};
use crate::{
    access_log::{AccessLog, Line},
    clock,
    forwarded::Origin,
    request::Seen,
    request_id::RequestId,
    state::{Shared, Snapshot},
    trace::{Asked, Trace, trace_id},
};

/// What is remembered of a request.
#[derive(Debug)]
pub(super) struct Note {
    /// Its name.
    pub(super) id: RequestId,
    /// Where it comes from.
    pub(super) origin: Origin,
    /// Which of the rarer headers it has.
    pub(super) seen: Seen,
    /// The proxy refused it by itself.
    pub(super) refused: bool,
    /// Its place in a trace, where requests have one.
    pub(super) trace: Option<Box<Trace>>,
    logged: Option<Logged>,
}

/// What its line says.
#[derive(Debug)]
struct Logged {
    log: Arc<AccessLog>,
    /// It is written down even where nothing is remarkable.
    drawn: bool,
    method: Method,
    uri: Uri,
    protocol: Version,
    client: Option<IpAddr>,
    /// Its `traceparent`: its own where it has a place in a trace, else as it came.
    trace: Option<HeaderValue>,
}

/// How a request ended, as far as the session knows.
#[derive(Debug)]
pub(super) struct Ending {
    /// The status that the client got.
    pub(super) code: u16,
    pub(super) now: Instant,
    pub(super) reason: Option<HeaderValue>,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
}

// === impl Note ===

impl Note {
    /// Notes a request whose header has come in.
    pub(super) fn of(
        session: &Session,
        shared: &Shared,
        snapshot: &Snapshot,
        began: Instant,
    ) -> Self {
        let head = session.req_header();
        let trusted = &snapshot.config().forwarded.trusted;
        let seen = Seen::of(&head.headers);
        let origin = Origin::of(peer(session), is_encrypted(session), &head.headers, trusted);
        let mut rng = rand::rng();
        let trace = shared.tracer().map(|tracer| {
            let since = clock::now().saturating_duration_since(began);
            let asked = Asked {
                head,
                client: origin.client(),
                encrypted: is_encrypted(session),
                began: (began, clock::calendar() - since),
            };
            Box::new(tracer.begin(asked, &mut rng))
        });
        let logged = shared.access_log().map(|log| Logged {
            drawn: log.takes(rng.random()),
            log: Arc::clone(log),
            method: head.method.clone(),
            uri: head.uri.clone(),
            protocol: head.version,
            client: origin.client(),
            trace: match &trace {
                Some(trace) => Some(trace.value()),
                None => (seen.traceparent)
                    .then(|| head.headers.get(headers::TRACEPARENT).cloned())
                    .flatten(),
            },
        });
        Self {
            id: if seen.request_id {
                RequestId::of(&head.headers, &mut rng)
            } else {
                RequestId::new(&mut rng)
            },
            origin,
            seen,
            refused: false,
            trace,
            logged,
        }
    }
}

// === impl Ending ===

impl Ending {
    /// Nobody knows more than that.
    pub(super) fn unseen(code: u16, now: Instant) -> Self {
        Self {
            code,
            now,
            reason: None,
            bytes_in: None,
            bytes_out: None,
        }
    }

    /// What the session tells; `noted` says that anybody wants to know.
    pub(super) fn seen(code: u16, now: Instant, session: &Session, noted: bool) -> Self {
        if !noted {
            return Self::unseen(code, now);
        }
        let written = session.response_written();
        Self {
            code,
            now,
            // What went well was refused by nobody.
            reason: written
                .filter(|_| code != StatusCode::OK)
                .and_then(|head| head.headers.get(headers::REASON).cloned()),
            bytes_in: Some(session.body_bytes_read() as u64),
            bytes_out: Some(session.body_bytes_sent() as u64),
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// Whether anybody is to be told how it ends.
    pub(super) fn is_told(&self) -> bool {
        self.note.as_ref().is_some_and(|note| {
            let trace = note.trace.as_ref();
            note.logged.is_some() || trace.is_some_and(|trace| trace.is_recorded())
        })
    }

    /// Writes the line, if there is to be one.
    pub(super) fn log(&mut self, routed: Option<&Routed>, ending: &Ending) {
        let Some(note) = &mut self.note else {
            return;
        };
        let Some(logged) = note.logged.take() else {
            return;
        };
        let took = ending.now.saturating_duration_since(self.began);
        let refused = note.refused || self.gave_up.is_some();
        let fell_back = routed.is_some_and(|routed| {
            matches!(routed.kind, RouteKind::Fallback(_) | RouteKind::Static(_))
        });
        let remarkable = ending.code >= 500
            || refused
            || fell_back
            || self.attempts > 1
            || logged.log.is_slow(took);
        if logged.drawn || remarkable {
            let Some(note) = &self.note else { return };
            let line = self.line(&logged, note.id.value().as_bytes(), routed, ending, took);
            logged.log.write(&line);
        }
    }

    fn line<'a>(
        &'a self,
        logged: &'a Logged,
        id: &'a [u8],
        routed: Option<&'a Routed>,
        ending: &'a Ending,
        took: Duration,
    ) -> Line<'a> {
        let forward = self.forward.as_ref();
        let kind = routed.map(|routed| routed.kind);
        // A static answer came from nobody.
        let first_byte = match kind {
            Some(RouteKind::Static(_)) => None,
            _ => self.first_byte_after(),
        };
        Line {
            time: clock::calendar() - took,
            request_id: id,
            trace_id: logged
                .trace
                .as_ref()
                .and_then(|value| trace_id(value.as_bytes())),
            client: logged.client,
            method: logged.method.as_str().as_bytes(),
            path: logged.uri.path().as_bytes(),
            protocol: protocol(logged.protocol),
            model: forward.map(|forward| &**forward.model.name()),
            version_asked: forward.and_then(|forward| forward.pinned.as_deref()),
            version_chosen: routed.map(|routed| &*routed.chosen),
            model_version: routed.map(|routed| &**routed.version.name()),
            route: kind.map(RouteKind::label),
            endpoint: routed.and_then(|routed| routed.endpoint),
            attempts: self.attempts,
            status: ending.code,
            reason: ending.reason.as_ref().map(HeaderValue::as_bytes),
            failure: self.last_failure.map(super::Failure::label),
            bytes_in: ending.bytes_in,
            bytes_out: ending.bytes_out,
            first_byte,
            duration: took,
            sample: logged.log.sample(),
        }
    }
}

fn peer(session: &Session) -> Option<IpAddr> {
    Some(session.client_addr()?.as_inet()?.ip())
}

fn is_encrypted(session: &Session) -> bool {
    let digest = session.digest();
    digest.is_some_and(|digest| digest.ssl_digest.is_some())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
