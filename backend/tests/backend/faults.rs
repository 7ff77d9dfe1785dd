//! Models that fail, answer NaN or hang, and what it costs the others.

use futures::future::join;
use tokio::task::JoinHandle;

use crate::support::{Backend, Client, ECHO, LONG, echo_body, infer, until};

const DEPTH: &str = "aegis_inference_queue_depth{model=\"m\",model_version=\"1\"}";

/// Requests that have begun to run.
const RAN: &str = "aegis_inference_queue_seconds_count{model=\"m\",model_version=\"1\"}";

fn scripted(lines: &str) -> String {
    format!("{ECHO}\nbatch_ms = 20\n{lines}")
}

#[tokio::test]
async fn a_poisoned_row_costs_only_its_own_request() {
    let model = scripted("fail_on = 666");
    let backend = Backend::ready(&[("m", &model)]).await;
    let split = "aegis_inference_batches_split_total{model=\"m\",model_version=\"1\"}";
    // Until the two have met in a batch; they do at once, when the first finds the model busy.
    while backend.metric(split).await < 1.0 {
        let busy = backend.infer("m", echo_body(&[0.0]));
        let pair = join(
            backend.infer("m", echo_body(&[1.0])),
            backend.infer("m", echo_body(&[666.0])),
        );
        let (busy, (good, bad)) = join(busy, pair).await;
        assert_eq!(busy.output(0), [0.0, 0.0]);
        assert_eq!(good.output(0), [1.0, 1.0]);
        assert_eq!(bad.status, 500);
        assert_eq!(bad.header("x-aegis-reason"), Some("model_error"));
        assert_eq!(bad.error(), "scripted to fail on the value 666");
    }
}

#[tokio::test]
async fn nan_in_one_row_blocks_only_its_own_request() {
    let model = scripted("nan_on = 667");
    let backend = Backend::ready(&[("m", &model)]).await;
    let busy = backend.infer("m", echo_body(&[0.0]));
    let pair = join(
        backend.infer("m", echo_body(&[1.0])),
        backend.infer("m", echo_body(&[2.0, 667.0])),
    );
    let (_, (good, bad)) = join(busy, pair).await;
    assert_eq!(good.output(0), [1.0, 1.0]);
    assert_eq!(bad.status, 422);
    assert_eq!(bad.header("x-aegis-reason"), Some("safety"));
    assert_eq!(bad.header("x-aegis-model-version"), Some("1"));
    assert_eq!(
        bad.error(),
        "output `y`: expected finite numbers, got NaN at element 2"
    );
    let flags = "aegis_safety_flags_total{action=\"block\",model=\"m\",model_version=\"1\",\
                 reason=\"nan_inf_output\"}";
    assert!((backend.metric(flags).await - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn a_check_that_is_off_counts_nothing_and_json_still_carries_no_nan() {
    let model = scripted("nan_every = 1\n[safety]\nnan_inf_output = \"off\"");
    let backend = Backend::ready(&[("m", &model)]).await;
    let reply = backend.infer("m", echo_body(&[1.0])).await;
    assert_eq!(reply.status, 500);
    assert!(
        reply
            .error()
            .contains("cannot be written as JSON, which carries no NaN and no infinity: "),
        "{}",
        reply.error()
    );
    let flags = "aegis_safety_flags_total{action=\"block\",model=\"m\",model_version=\"1\",\
                 reason=\"nan_inf_output\"}";
    assert!(backend.metric(flags).await < 0.5);
}

#[tokio::test]
async fn every_nth_run_fails_as_scripted() {
    let model = scripted("fail_every = 3");
    let backend = Backend::ready(&[("m", &model)]).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(backend.infer("m", echo_body(&[1.0])).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 500, 200, 200, 500]);
}

#[tokio::test]
async fn a_model_that_hangs_costs_504s_at_the_deadline_and_health_still_answers() {
    let model = scripted("hang_every = 1");
    let backend = Backend::ready(&[("m", &model)]).await;
    for _ in 0..2 {
        let mut request = infer("m", echo_body(&[1.0]));
        request
            .headers_mut()
            .insert("x-request-timeout-ms", "50".parse().unwrap());
        let reply = backend.send(request).await;
        assert_eq!(reply.status, 504);
        assert_eq!(reply.header("x-aegis-reason"), Some("deadline"));
    }
    assert_eq!(backend.get("/health").await.status, 200);
    assert!(backend.metric(DEPTH).await < 0.5);
}

#[tokio::test]
async fn the_least_timeout_counts() {
    let model = scripted("hang_every = 1");
    let backend = Backend::ready_with("request_timeout_ms = 100", &[("m", &model)]).await;
    // Neither says anything: the server's own.
    assert_eq!(backend.infer("m", echo_body(&[1.0])).await.status, 504);
    // The parameter says less than the header.
    let mut request = infer(
        "m",
        r#"{"parameters":{"timeout":10000},"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#,
    );
    request
        .headers_mut()
        .insert("x-request-timeout-ms", "60000".parse().unwrap());
    let reply = tokio::time::timeout(LONG, backend.send(request))
        .await
        .unwrap();
    assert_eq!(reply.status, 504);
}

#[tokio::test]
async fn a_client_that_leaves_is_taken_out_of_the_queue_and_counted() {
    let model = scripted("hang_every = 1");
    let backend = Backend::ready(&[("m", &model)]).await;
    let runs = ask(&backend);
    until(|| async { backend.metric(RAN).await > 0.5 }).await;
    let waits = ask(&backend);
    until(|| async { backend.metric(DEPTH).await > 0.5 }).await;
    // The task owns the connection's sender: without it the connection closes.
    waits.abort();
    until(|| async { backend.metric(DEPTH).await < 0.5 }).await;
    let left = "aegis_inference_requests_total{code=\"499\",model=\"m\",model_version=\"1\"}";
    until(|| async { backend.metric(left).await > 0.5 }).await;
    runs.abort();
}

#[tokio::test]
async fn a_full_queue_is_429_with_a_time_to_come_back() {
    let model = scripted("hang_every = 1");
    let backend = Backend::ready_with("max_queue_requests = 1", &[("m", &model)]).await;
    let runs = ask(&backend);
    until(|| async { backend.metric(RAN).await > 0.5 }).await;
    let waits = ask(&backend);
    until(|| async { backend.metric(DEPTH).await > 0.5 }).await;
    let reply = backend.infer("m", echo_body(&[1.0])).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("x-aegis-reason"), Some("queue_full"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(
        reply.error().contains("1 requests are waiting"),
        "{}",
        reply.error()
    );
    runs.abort();
    waits.abort();
}

#[tokio::test]
async fn what_would_be_late_behind_others_is_refused_at_once_with_the_time_to_come_back() {
    let backend = Backend::ready(&[("m", &scripted("row_ms = 1000.0"))]).await;
    // It learns what a run takes.
    assert_eq!(backend.infer("m", echo_body(&[1.0])).await.status, 200);
    let runs = ask(&backend);
    until(|| async { backend.metric(RAN).await > 1.5 }).await;
    let mut request = infer("m", echo_body(&[1.0]));
    let patience = "20".parse().unwrap();
    request
        .headers_mut()
        .insert("x-request-timeout-ms", patience);
    let reply = backend.send(request).await;
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert_eq!(reply.header("x-aegis-reason"), Some("queue_full"));
    // A second that runs, in part, and one of its own, and a tenth.
    let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((2..=3).contains(&wait), "{wait}");
    assert!(
        reply.error().contains("its deadline is in"),
        "{}",
        reply.error()
    );
    runs.abort();
}

#[tokio::test]
async fn a_priority_is_taken_and_one_that_is_none_is_refused_by_name() {
    let backend = Backend::ready(&[("m", &scripted(""))]).await;
    let body = |priority: &str| {
        let tensor = r#"{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}"#;
        format!(r#"{{"parameters":{{"priority":{priority}}},"inputs":[{tensor}]}}"#)
    };
    for priority in ["0", "1", "10"] {
        assert_eq!(backend.infer("m", body(priority)).await.status, 200);
    }
    let reply = backend.infer("m", body("11")).await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.error().starts_with("parameters.priority: expected"),
        "{}",
        reply.error()
    );
}

/// Asks on a connection of its own, which closes when the task is aborted.
fn ask(backend: &Backend) -> JoinHandle<()> {
    let address = backend.address;
    tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        let _ = client.try_send(infer("m", echo_body(&[1.0]))).await;
    })
}
