//! A request that has ended, and the spans that it is told as: one for the request,
//! and one below it for each attempt.
//!
//! Attributes have the names of OpenTelemetry's semantic conventions for HTTP and RPC
//! where there is one, and `aegis.*` else. Names of spans are of low cardinality, as
//! these conventions ask: the method, and the pattern of the path.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use aegis_protocol::grpc::Code;
use http::{HeaderValue, Uri, Version};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{AskedFor, Parent};
use crate::request::Action;

/// What stands for a method that HTTP does not know.
const OTHER_METHOD: &str = "_OTHER";

/// A request that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its place in the trace.
    pub own: Parent,
    /// The span above it.
    pub parent: Option<u64>,
    /// What was known of it when it began.
    pub asked: AskedFor,
    /// Its attempts, in their order.
    pub attempts: Vec<Attempted>,
    /// What became of it.
    pub served: Served,
}

/// What became of a request.
#[derive(Debug)]
pub struct Served {
    /// When it ended.
    pub ended: Instant,
    /// Its name in logs.
    pub request_id: HeaderValue,
    /// The model, and what was asked of it; none where it was not forwarded.
    pub asked_of: Option<(Arc<str>, Action)>,
    /// The version that the last attempt went to, and how that came about.
    pub routed: Option<(Arc<str>, &'static str)>,
    /// The status that the client got; 499 when it left before.
    pub status: u16,
    /// How a call ended, as its endpoint says.
    pub call: Option<Code>,
    /// Why it was refused.
    pub reason: Option<HeaderValue>,
}

/// One attempt.
#[derive(Debug)]
pub struct Attempted {
    /// Its span; what the endpoint does is below it.
    pub span: u64,
    /// Where it went.
    pub to: Destination,
    /// The status of its answer; for a call, the one that means the same.
    pub status: Option<u16>,
    /// Why it failed.
    pub failure: Option<&'static str>,
}

/// Where an attempt goes.
#[derive(Debug)]
pub struct Destination {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// The path; none where it is the request's own.
    pub uri: Option<Uri>,
    /// The version.
    pub version: Arc<str>,
    /// How that came about.
    pub route: &'static str,
    /// When it began.
    pub began: Instant,
}

/// The attributes of a span, as they come together.
struct Attributes(Vec<KeyValue>);

// === impl Finished ===

impl Finished {
    /// How many spans it makes.
    #[must_use]
    pub fn spans(&self) -> usize {
        1 + self.attempts.len()
    }

    /// Adds its spans.
    pub(super) fn add_to(&self, spans: &mut Vec<SpanData>, scope: &InstrumentationScope) {
        spans.push(self.request(scope));
        let ends = self.attempts.iter().skip(1).map(|next| next.to.began);
        let ends = ends.chain([self.served.ended]);
        for (number, (attempt, end)) in (1..).zip(self.attempts.iter().zip(ends)) {
            spans.push(self.attempt(attempt, number, end, scope));
        }
    }

    fn request(&self, scope: &InstrumentationScope) -> SpanData {
        let (asked, served) = (&self.asked, &self.served);
        let mut all = self.common();
        all.add("url.scheme", if asked.encrypted { "https" } else { "http" });
        all.add("url.path", asked.path.to_string());
        all.maybe("network.protocol.version", protocol(asked.protocol));
        all.maybe(
            "user_agent.original",
            asked.user_agent.as_deref().map(str::to_owned),
        );
        all.maybe(
            "client.address",
            asked.client.map(|client| client.to_string()),
        );
        all.maybe("http.route", self.route());
        all.add("aegis.request_id", text(&served.request_id));
        all.add("aegis.attempts", count(self.attempts.len()));
        all.maybe("aegis.reason", served.reason.as_ref().map(text));
        if let Some((version, route)) = &served.routed {
            all.add("aegis.model_version", Arc::clone(version));
            all.add("aegis.route", *route);
        }
        self.answered(&mut all, Some(served.status), served.call);
        // A server has failed when it is its fault: not on a 4xx.
        let status = if served.status >= 500 {
            all.add("error.type", served.status.to_string());
            Status::error("")
        } else {
            Status::Unset
        };
        SpanData {
            span_context: self.context(self.own.span),
            parent_span_id: id(self.parent.unwrap_or(0)),
            parent_span_is_remote: self.parent.is_some(),
            span_kind: SpanKind::Server,
            start_time: asked.began.1,
            end_time: self.calendar(served.ended),
            status,
            ..self.span(all, scope)
        }
    }

    fn attempt(
        &self,
        attempt: &Attempted,
        number: usize,
        ended: Instant,
        scope: &InstrumentationScope,
    ) -> SpanData {
        let to = &attempt.to;
        let mut all = self.common();
        let path = to.uri.as_ref().map_or(&*self.asked.path, Uri::path);
        all.add("server.address", to.endpoint.ip().to_string());
        all.add("server.port", i64::from(to.endpoint.port()));
        all.add("url.full", format!("http://{}{path}", to.endpoint));
        all.add("aegis.model_version", Arc::clone(&to.version));
        all.add("aegis.route", to.route);
        all.add("aegis.attempt", count(number));
        all.add("aegis.outcome", attempt.outcome());
        if number > 1 {
            all.add("http.request.resend_count", count(number - 1));
        }
        let last = number == self.attempts.len();
        self.answered(&mut all, attempt.status, self.served.call.filter(|_| last));
        let status = match attempt.error() {
            Some(error) => {
                let status = Status::error("");
                all.add("error.type", error);
                status
            }
            None => Status::Unset,
        };
        SpanData {
            span_context: self.context(attempt.span),
            parent_span_id: id(self.own.span),
            span_kind: SpanKind::Client,
            start_time: self.calendar(to.began),
            end_time: self.calendar(ended),
            status,
            ..self.span(all, scope)
        }
    }

    /// What all spans of the request say.
    fn common(&self) -> Attributes {
        let mut all = Attributes(Vec::with_capacity(20));
        all.add("http.request.method", self.method());
        if self.is_call() {
            all.add("rpc.system", "grpc");
            all.add(
                "rpc.method",
                self.asked.path.trim_start_matches('/').to_owned(),
            );
        }
        let model = self.served.asked_of.as_ref();
        all.maybe("aegis.model", model.map(|(model, _)| Arc::clone(model)));
        all
    }

    /// A call ends with a code, and its HTTP status says nothing.
    fn answered(&self, all: &mut Attributes, status: Option<u16>, call: Option<Code>) {
        if self.is_call() {
            all.maybe("rpc.grpc.status_code", call.map(|code| code as i64));
        } else {
            all.maybe("http.response.status_code", status.map(i64::from));
        }
    }

    fn span(&self, all: Attributes, scope: &InstrumentationScope) -> SpanData {
        SpanData {
            span_context: SpanContext::NONE,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: self.name(),
            start_time: self.asked.began.1,
            end_time: self.asked.began.1,
            attributes: all.0,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: scope.clone(),
        }
    }

    fn name(&self) -> Cow<'static, str> {
        match (self.is_call(), self.route()) {
            (true, _) => self.asked.path.trim_start_matches('/').to_owned().into(),
            (false, Some(route)) => format!("{} {route}", self.method()).into(),
            (false, None) if self.asked.method.is_none() => "HTTP".into(),
            (false, None) => self.method(),
        }
    }

    fn method(&self) -> Cow<'static, str> {
        match &self.asked.method {
            Some(method) => method.as_str().to_owned().into(),
            None => OTHER_METHOD.into(),
        }
    }

    fn route(&self) -> Option<&'static str> {
        let (_, action) = self.served.asked_of.as_ref()?;
        action.pattern()
    }

    /// Whether it is a call that was understood: of others the path is anything.
    fn is_call(&self) -> bool {
        let asked_of = self.served.asked_of.as_ref();
        asked_of.is_some_and(|(_, action)| action.pattern().is_none())
    }

    fn context(&self, span: u64) -> SpanContext {
        let trace = TraceId::from_bytes(self.own.trace.to_be_bytes());
        SpanContext::new(
            trace,
            id(span),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        )
    }

    /// A moment of the one clock, on the other.
    fn calendar(&self, at: Instant) -> SystemTime {
        let (began, on_calendar) = self.asked.began;
        on_calendar + at.saturating_duration_since(began)
    }
}

fn id(span: u64) -> SpanId {
    SpanId::from_bytes(span.to_be_bytes())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn protocol(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

// === impl Attempted ===

impl Attempted {
    /// How it ended, in a word: `success`, why it failed, whose fault an answer was
    /// that is passed on, or `cancelled` where nobody waited for it any more.
    fn outcome(&self) -> &'static str {
        match (self.failure, self.status) {
            (Some(failure), _) => failure,
            (None, Some(500..)) => "server_error",
            (None, Some(400..)) => "client_error",
            (None, Some(_)) => "success",
            (None, None) => "cancelled",
        }
    }

    /// A client sees an error in every answer from 400 on.
    fn error(&self) -> Option<Cow<'static, str>> {
        match (self.failure, self.status) {
            (_, Some(status @ 400..)) => Some(status.to_string().into()),
            (failure, _) => failure.map(Cow::Borrowed),
        }
    }
}

// === impl Attributes ===

impl Attributes {
    fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(name, value));
    }

    fn maybe(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

// === impl Action ===

impl Action {
    /// The pattern of the path that asks for it; none over gRPC.
    fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Infer => Some("/v2/models/{model}[/versions/{version}]/infer"),
            Self::Generate => Some("/v2/models/{model}[/versions/{version}]/generate"),
            Self::GenerateStream | Self::Upgrade => {
                Some("/v2/models/{model}[/versions/{version}]/generate_stream")
            }
            Self::Metadata => Some("/v2/models/{model}[/versions/{version}]"),
            Self::CallInfer | Self::CallStream | Self::CallMetadata => None,
        }
    }
}
