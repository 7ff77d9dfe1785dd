//! What goes upstream, what is recorded, and what is lost.

use std::time::Duration;

use opentelemetry::{InstrumentationScope, trace::Status};
use opentelemetry_sdk::trace::SpanData;
use rand::{SeedableRng, rngs::StdRng};
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::{clock, metrics::Metrics, request::Action};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn tracer(sample: f64) -> (Arc<Tracer>, Receiver<Finished>, SpanCounts) {
    let counts = Metrics::new().unwrap().trace_spans();
    let (exporter, queue) = Exporter::queue(2, 2, counts.clone());
    (Arc::new(Tracer::new(exporter, sample)), queue, counts)
}

fn head(traceparent: Option<&str>) -> RequestHeader {
    let mut head = RequestHeader::build("POST", b"/v2/models/m/infer?secret=1", None).unwrap();
    if let Some(value) = traceparent {
        head.insert_header(headers::TRACEPARENT, value).unwrap();
    }
    head
}

fn begin(tracer: &Arc<Tracer>, head: &RequestHeader, seed: u64) -> Trace {
    let asked = Asked {
        head,
        client: Some([127, 0, 0, 1].into()),
        encrypted: false,
        began: (clock::now(), clock::calendar()),
    };
    tracer.begin(asked, &mut StdRng::seed_from_u64(seed))
}

fn attempt(trace: &mut Trace, seed: u64) {
    trace.attempt(&mut StdRng::seed_from_u64(seed), || Destination {
        endpoint: "10.0.0.1:81".parse().unwrap(),
        uri: Some("/v2/models/m/versions/1/infer".parse().unwrap()),
        version: "1".into(),
        route: "split",
        began: clock::now(),
    });
}

fn served(status: u16) -> Served {
    Served {
        ended: clock::now() + Duration::from_secs(1),
        request_id: HeaderValue::from_static("id"),
        asked_of: Some(("m".into(), Action::Infer)),
        routed: Some(("1".into(), "split")),
        status,
        call: None,
        reason: None,
    }
}

fn spans(finished: &Finished) -> Vec<SpanData> {
    let mut spans = Vec::new();
    finished.add_to(&mut spans, &InstrumentationScope::default());
    spans
}

/// What an attempt carries upstream, and whether the vendors' part goes with it.
fn upstream(trace: &Trace) -> (Parent, bool) {
    let state = (headers::TRACESTATE, HeaderValue::from_static("vendor=1"));
    let mut request = HeaderMap::from_iter([state]);
    trace.write(&mut request);
    let parent = Parent::of(&request).unwrap();
    (parent, request.contains_key(headers::TRACESTATE))
}

fn value(span: &SpanData, name: &str) -> Option<String> {
    let mut all = span.attributes.iter();
    let found = all.find(|attribute| attribute.key.as_str() == name)?;
    Some(found.value.to_string())
}

#[test]
fn a_clients_trace_goes_on_and_each_attempt_has_a_name_of_its_own() {
    let (tracer, mut queue, _) = tracer(0.0);
    let asked = head(Some(SAMPLED));
    let clients = Parent::of(&asked.headers).unwrap();
    let mut trace = begin(&tracer, &asked, 1);
    attempt(&mut trace, 2);
    let (first, state) = upstream(&trace);
    assert!(state, "the state of a valid trace passes");
    trace.failed("connect");
    attempt(&mut trace, 3);
    let (second, _) = upstream(&trace);
    trace.answered(200);
    for parent in [first, second] {
        assert_eq!((parent.trace, parent.is_sampled()), (clients.trace, true));
        assert_ne!(parent.span, clients.span);
    }
    assert_ne!(first.span, second.span);

    trace.end(|| served(200));
    let spans = spans(&queue.try_recv().unwrap());
    let [request, failed, answered] = &spans[..] else {
        panic!("{} spans", spans.len());
    };
    assert_eq!(
        request.parent_span_id.to_bytes(),
        clients.span.to_be_bytes()
    );
    assert!(request.parent_span_is_remote);
    for (span, parent) in [(failed, first), (answered, second)] {
        let id = span.span_context.span_id();
        assert_eq!(id.to_bytes(), parent.span.to_be_bytes());
        assert_eq!(span.parent_span_id, request.span_context.span_id());
        assert!(span.start_time >= request.start_time && span.end_time <= request.end_time);
    }
    assert_eq!(failed.end_time, answered.start_time);
    assert_eq!(failed.status, Status::error(""));
    assert_eq!(answered.status, Status::Unset);
}

#[test]
fn spans_say_what_happened_in_the_words_of_the_conventions() {
    let (tracer, mut queue, _) = tracer(1.0);
    let mut asked = head(None);
    asked.insert_header("user-agent", "a".repeat(600)).unwrap();
    let mut trace = begin(&tracer, &asked, 1);
    attempt(&mut trace, 2);
    trace.failed("connect");
    attempt(&mut trace, 3);
    trace.answered(503);
    trace.end(|| Served {
        reason: Some(HeaderValue::from_static("draining")),
        ..served(503)
    });
    let spans = spans(&queue.try_recv().unwrap());
    let route = "/v2/models/{model}[/versions/{version}]/infer";
    assert_eq!(spans[0].name, format!("POST {route}"));
    for (name, expected) in [
        ("http.request.method", "POST"),
        ("http.route", route),
        ("http.response.status_code", "503"),
        ("error.type", "503"),
        ("url.path", "/v2/models/m/infer"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("aegis.model", "m"),
        ("aegis.model_version", "1"),
        ("aegis.route", "split"),
        ("aegis.reason", "draining"),
        ("aegis.request_id", "id"),
        ("aegis.attempts", "2"),
    ] {
        assert_eq!(value(&spans[0], name).as_deref(), Some(expected), "{name}");
    }
    let agent = value(&spans[0], "user_agent.original").unwrap();
    assert_eq!(agent.len(), MAX_TEXT);
    for (span, number, outcome, error) in [
        (&spans[1], "1", "connect", "connect"),
        (&spans[2], "2", "server_error", "503"),
    ] {
        for (name, expected) in [
            ("aegis.attempt", number),
            ("aegis.outcome", outcome),
            ("error.type", error),
            ("server.address", "10.0.0.1"),
            ("server.port", "81"),
            (
                "url.full",
                "http://10.0.0.1:81/v2/models/m/versions/1/infer",
            ),
        ] {
            assert_eq!(value(span, name).as_deref(), Some(expected), "{name}");
        }
    }
    assert_eq!(value(&spans[1], "http.request.resend_count"), None);
    let resent = value(&spans[2], "http.request.resend_count");
    assert_eq!(resent.as_deref(), Some("1"));
    for span in &spans {
        let all = format!("{span:?}");
        assert!(!all.contains("secret"), "queries stay here: {all}");
    }
}

#[test]
fn what_cannot_be_read_is_replaced_by_a_trace_of_its_own() {
    let (tracer, mut queue, _) = tracer(1.0);
    let trace = begin(&tracer, &head(Some("00-zz-b7ad6b7169203331-01")), 3);
    let (parent, state) = upstream(&trace);
    assert!(!state, "nobody knows whose state that is");
    let own = Parent::parse(trace.value().as_bytes()).unwrap();
    assert_eq!(parent.trace, own.trace);
    trace.end(|| served(503));
    let finished = queue.try_recv().unwrap();
    assert_eq!((finished.parent, finished.spans()), (None, 1));
}

#[test]
fn the_client_decides_for_its_traces_and_the_share_for_new_ones() {
    let (tracer, mut queue, _) = tracer(0.25);
    let silent = begin(&tracer, &head(Some(UNSAMPLED)), 4);
    assert!(!silent.is_recorded() && !upstream(&silent).0.is_sampled());
    silent.end(|| panic!("nobody wants to know"));
    assert!(queue.try_recv().is_err());
    assert!(begin(&tracer, &head(Some(SAMPLED)), 5).is_recorded());
    let recorded = (0..1_000).filter(|seed| begin(&tracer, &head(None), *seed).is_recorded());
    let recorded = recorded.count();
    // Five standard deviations of 250 ± 13.7.
    assert!((181..=319).contains(&recorded), "{recorded} of 1,000");
}

#[test]
fn what_finds_no_room_is_counted_span_by_span() {
    let (tracer, _queue, counts) = tracer(1.0);
    for _ in 0..3 {
        let mut trace = begin(&tracer, &head(None), 6);
        attempt(&mut trace, 7);
        trace.end(|| served(200));
    }
    assert_eq!(counts.full.get(), 2, "the third request and its attempt");
}
