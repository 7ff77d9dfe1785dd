//! What a proxy is told of the load.

use std::time::Duration;

use aegis_protocol::LoadReport;
use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde_json::Value;

use crate::support::{Backend, Client, ECHO, Reply, echo_body, infer};

const REPORT: &str = "endpoint-load-metrics";

fn asking(form: &'static str) -> Request<Full<Bytes>> {
    let mut request = infer("echo", echo_body(&[1.0]));
    request.headers_mut().insert(
        "endpoint-load-metrics-format",
        HeaderValue::from_static(form),
    );
    request
}

fn read(reply: &Reply) -> LoadReport {
    LoadReport::parse(reply.header(REPORT).unwrap()).unwrap()
}

#[tokio::test]
async fn a_report_comes_in_the_form_that_was_asked_for_and_only_then() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let silent = backend.infer("echo", echo_body(&[1.0])).await;
    assert_eq!(silent.header(REPORT), None);
    let unknown = backend.send(asking("bin")).await;
    assert_eq!(unknown.header(REPORT), None);

    let text = backend.send(asking("text")).await;
    let report = read(&text);
    assert_eq!(report.queue_depth, Some(0.0));
    assert_eq!(report.in_flight, Some(1.0));
    assert_eq!(report.expected_wait, Some(Duration::ZERO));
    assert!(
        report
            .utilization
            .is_some_and(|part| (0.0..=1.0).contains(&part))
    );

    let json = backend.send(asking("json")).await;
    let json = json.header(REPORT).unwrap().strip_prefix("JSON ").unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["named_metrics"]["in_flight"], 1.0);
}

#[tokio::test]
async fn a_busy_server_tells_of_its_queue_and_of_the_wait_and_learns_the_cost() {
    // The keys of the file stand before its tables; the scripted model's is the last.
    let slow = format!("max_batch_size = 1\n{ECHO}\nbatch_ms = 20");
    let backend = Backend::ready(&[("echo", &slow)]).await;
    let address = backend.address;
    let clients = (0..8).map(|_| async move {
        let reply = Client::connect(address).await.send(asking("text")).await;
        read(&reply)
    });
    let reports = join_all(clients).await;
    let most = |of: fn(&LoadReport) -> Option<f64>| {
        let values = reports.iter().map(|report| of(report).unwrap_or(0.0));
        values.fold(0.0, f64::max)
    };
    assert!(most(|report| report.queue_depth) >= 3.0, "{reports:?}");
    assert!(most(|report| report.in_flight) >= 4.0, "{reports:?}");
    let wait = most(|report| Some(report.expected_wait?.as_secs_f64()));
    assert!(wait >= 0.04, "{reports:?}");
    let cost = "aegis_inference_batch_cost_seconds{model=\"echo\",model_version=\"1\",term=";
    let alpha = backend.metric(&format!("{cost}\"alpha\"}}")).await;
    let beta = backend.metric(&format!("{cost}\"beta\"}}")).await;
    assert!(alpha + beta >= 0.02, "{alpha} {beta}");
}
