//! Requests belong to traces, and a collector is told of those that are recorded.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fmt::Write as _;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aegis_e2e::{CANARY, Hammer, Play, STABLE, Scene, SceneSetup, Seen, Signal, until};
use aegis_protocol::headers::{self, TRACEPARENT, TRACESTATE};
use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const SPANS: &str = "aegis_proxy_trace_spans_total";

/// What a collector does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It keeps it.
    Keep,
    /// It never answers.
    Hang,
}

/// A collector of traces.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    manner: Manner,
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
}

// === impl Collector ===

impl Collector {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            manner,
            spans: Arc::default(),
            services: Arc::default(),
        };
        let served = collector.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let collector = served.clone();
                let take = service_fn(move |request| collector.clone().take(request));
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tcp), take);
                tokio::spawn(serving);
            }
        });
        collector
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        ensure!(request.uri().path() == "/v1/traces", "{request:?}");
        ensure!(request.headers()["content-type"] == "application/x-protobuf");
        let body = request.into_body().collect().await?.to_bytes();
        if self.manner == Manner::Hang {
            return pending().await;
        }
        for resource in ExportTraceServiceRequest::decode(body)?.resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let name = attributes.iter().find(|a| a.key == "service.name");
            let name = name.map(|name| format!("{:?}", name.value));
            self.services.lock().extend(name);
            for scope in resource.scope_spans {
                self.spans.lock().extend(scope.spans);
            }
        }
        Ok(Response::new(Full::default()))
    }

    /// Waits for so many spans of a trace.
    async fn spans(&self, trace: &str, count: usize) -> Vec<Span> {
        until(&format!("{count} spans of {trace}"), async || {
            let all = self.spans.lock();
            let spans = all.iter().filter(|span| hex(&span.trace_id) == trace);
            let spans: Vec<Span> = spans.cloned().collect();
            ensure!(spans.len() == count, "there are {}: {all:?}", spans.len());
            Ok(spans)
        })
        .await
        .unwrap()
    }

    /// A scene whose proxy sends its traces here.
    async fn scene(&self, stable: usize, sample: f64, more: &[(&str, i64)]) -> Scene {
        let setup = SceneSetup::new(stable, 1).await.unwrap().with(|proxy| {
            let proxy = proxy
                .set("traces.otlp_endpoint", format!("http://{}", self.address))
                .set("traces.sample", sample)
                .set("traces.batch_interval_ms", 10)
                .set("drain.delay_ms", 0);
            more.iter()
                .fold(proxy, |proxy, (key, value)| proxy.set(key, *value))
        });
        setup.start().await.unwrap()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The value of an attribute, as text; empty when it is not there.
fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|a| a.key == name);
    match found.and_then(|a| a.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => panic!("{name}: {other:?}"),
        None => String::new(),
    }
}

fn of_kind(spans: &[Span], kind: SpanKind) -> impl Iterator<Item = &Span> {
    spans.iter().filter(move |span| span.kind == kind as i32)
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// Asks version 1 with these headers.
async fn ask(scene: &Scene, more: &[(HeaderName, &str)]) {
    let mut all = vec![(headers::MODEL_VERSION, STABLE)];
    all.extend_from_slice(more);
    let answer = scene.proxy.infer_with("{}", &all).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

/// The parts of the `traceparent` that an endpoint was sent.
fn sent(seen: &Seen) -> [String; 4] {
    let value = seen.headers[TRACEPARENT].to_str().unwrap();
    let parts: Vec<String> = value.split('-').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

/// Waits until so many spans are counted under this result.
async fn until_counted(scene: &Scene, result: &str, least: u64) {
    until(&format!("{least} spans that are {result}"), async || {
        let metrics = scene.proxy.metrics().await?;
        let count = metrics.count(SPANS, &[("result", result)])?;
        ensure!(count >= least, "{count} are");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_collector_gets_the_request_and_each_attempt_below_the_clients_span() {
    // Nothing of our own is recorded, but the client's trace is.
    let collector = Collector::start(Manner::Keep).await;
    let scene = collector.scene(2, 0.0, &[]).await;
    for endpoint in &scene.stable {
        endpoint.play_first_attempts(Play::Reset);
    }
    ask(
        &scene,
        &[(TRACEPARENT, &parent("01")), (TRACESTATE, "vendor=1")],
    )
    .await;
    let spans = collector.spans(TRACE, 3).await;
    let request = of_kind(&spans, SpanKind::Server).next().unwrap();
    assert_eq!(hex(&request.parent_span_id), PARENT);
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("aegis.model", "m"),
        ("aegis.model_version", STABLE),
        ("aegis.route", "pinned"),
        ("aegis.attempts", "2"),
        ("client.address", "127.0.0.1"),
        ("url.path", "/v2/models/m/infer"),
    ] {
        assert_eq!(attribute(request, name), value, "{name} of {request:?}");
    }
    let mut attempts: Vec<&Span> = of_kind(&spans, SpanKind::Client).collect();
    attempts.sort_by_key(|span| attribute(span, "aegis.attempt"));
    assert_eq!(attribute(attempts[0], "aegis.outcome"), "reset");
    assert_eq!(attribute(attempts[0], "error.type"), "reset");
    assert_eq!(attribute(attempts[1], "aegis.outcome"), "success");
    assert_eq!(attribute(attempts[1], "http.response.status_code"), "200");
    for attempt in attempts {
        assert_eq!(attempt.parent_span_id, request.span_id);
        assert!(attempt.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(attempt.end_time_unix_nano <= request.end_time_unix_nano);
        // The endpoint was told the name of this attempt, and no other.
        let port = attribute(attempt, "server.port");
        let at = |endpoint: &&aegis_e2e::Upstream| endpoint.address().port().to_string() == port;
        let seen = scene.stable.iter().find(at).unwrap().take_seen();
        let [_, trace, span, flags] = sent(&seen[0]);
        assert_eq!((&*trace, &*flags), (TRACE, "01"));
        assert_eq!(span, hex(&attempt.span_id));
        assert_eq!(seen[0].headers[TRACESTATE], "vendor=1");
    }
    assert!(collector.services.lock()[0].contains("aegis-proxy"));
    until_counted(&scene, "exported", 3).await;
}

#[tokio::test]
async fn a_clients_flag_is_obeyed_and_an_invalid_parent_is_replaced_with_its_state() {
    let collector = Collector::start(Manner::Keep).await;
    let mut scene = collector.scene(1, 1.0, &[]).await;
    // The client does not want to be recorded, and says so to the endpoint too.
    ask(&scene, &[(TRACEPARENT, &parent("00"))]).await;
    let seen = scene.stable[0].take_seen();
    let [_, trace, span, flags] = sent(&seen[0]);
    assert_eq!((&*trace, &*flags), (TRACE, "00"));
    assert_ne!(span, PARENT);

    let nonsense = (TRACEPARENT, "00-nonsense-b7ad6b7169203331-01");
    ask(&scene, &[nonsense, (TRACESTATE, "vendor=1")]).await;
    let seen = scene.stable[0].take_seen();
    assert!(!seen[0].headers.contains_key(TRACESTATE));
    let [version, trace, span, flags] = sent(&seen[0]);
    assert_eq!((&*version, &*flags), ("00", "01"));

    // What waits is sent before the process ends.
    scene.proxy.process.signal(Signal::TERM).unwrap();
    scene.proxy.process.exited().await.unwrap();
    let spans = collector.spans(&trace, 2).await;
    assert!(spans.iter().any(|of| hex(&of.span_id) == span));
    let begins = |of: &Span| of.parent_span_id.is_empty() && of.kind == SpanKind::Server as i32;
    assert!(spans.iter().any(begins), "{spans:?}");
    collector.spans(TRACE, 0).await;
}

#[tokio::test]
async fn a_request_that_is_refused_is_a_span_without_attempts() {
    let collector = Collector::start(Manner::Keep).await;
    let scene = collector.scene(1, 1.0, &[]).await;
    let asked = [
        (TRACEPARENT, &*parent("01")),
        (headers::MODEL_VERSION, "nine"),
    ];
    let answer = scene.proxy.infer_with("{}", &asked).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let spans = collector.spans(TRACE, 1).await;
    assert_eq!(spans[0].name, "POST");
    assert_eq!(attribute(&spans[0], "http.response.status_code"), "404");
    assert_eq!(attribute(&spans[0], "aegis.reason"), "unknown_version");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_spans() {
    let collector = Collector::start(Manner::Keep).await;
    let scene = collector.scene(1, 1.0, &[]).await;
    scene.stable[0].play(Play::Hang);
    let flags = parent("01");
    let asked = [(TRACEPARENT, &*flags), (headers::MODEL_VERSION, STABLE)];
    tokio::select! {
        answer = scene.proxy.infer_with("{}", &asked) => panic!("{answer:?}"),
        begun = until("the request to arrive", async || {
            ensure!(scene.stable[0].asked() > 0);
            Ok(())
        }) => begun.unwrap(),
    }
    let spans = collector.spans(TRACE, 2).await;
    let request = of_kind(&spans, SpanKind::Server).next().unwrap();
    assert_eq!(attribute(request, "http.response.status_code"), "499");
    let attempt = of_kind(&spans, SpanKind::Client).next().unwrap();
    let outcome = attribute(attempt, "aegis.outcome");
    assert!(
        ["cancelled", "client_gone"].contains(&&*outcome),
        "{outcome}"
    );
}

#[tokio::test]
async fn without_a_collector_what_a_client_sends_passes_untouched() {
    let scene = Scene::start(1, 1).await.unwrap();
    for value in [&*parent("01"), "nonsense"] {
        ask(&scene, &[(TRACEPARENT, value), (TRACESTATE, "vendor=1")]).await;
        let seen = scene.stable[0].take_seen();
        assert_eq!(seen[0].headers[TRACEPARENT], value);
        assert_eq!(seen[0].headers[TRACESTATE], "vendor=1");
    }
    ask(&scene, &[]).await;
    let seen = scene.stable[0].take_seen();
    assert!(!seen[0].headers.contains_key(TRACEPARENT));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_requests_nothing_and_is_counted() {
    // Nobody listens where it was.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let away = Collector {
        address,
        manner: Manner::Keep,
        spans: Arc::default(),
        services: Arc::default(),
    };
    let scene = away
        .scene(1, 1.0, &[("traces.export_timeout_ms", 200)])
        .await;
    let answer = scene.proxy.infer_pinned(CANARY, "{}").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    until_counted(&scene, "failed", 2).await;
}

#[tokio::test]
async fn a_collector_that_hangs_loses_spans_and_holds_up_neither_requests_nor_the_end() {
    let collector = Collector::start(Manner::Hang).await;
    let few = [
        ("traces.queue_requests", 8),
        ("traces.batch_requests", 4),
        ("traces.export_timeout_ms", 60_000),
    ];
    let mut scene = collector.scene(1, 1.0, &few).await;
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", 4);
    load.ask(200).await.unwrap();
    load.stop().await.all_ok().unwrap();
    until_counted(&scene, "full", 2 * 150).await;
    scene.proxy.process.signal(Signal::TERM).unwrap();
    let exit = scene.proxy.process.exited().await.unwrap();
    assert_eq!(exit.code, Some(0), "{exit}");
    assert!(exit.after < Duration::from_secs(10), "{exit:?}");
}
