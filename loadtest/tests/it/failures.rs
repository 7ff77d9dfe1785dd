//! Each kind of failure is told from the others.

use std::time::Duration;

use aegis_loadtest::{ErrorKind, Load, Plan, Summary};
use http::Response;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::{Server, right};
use crate::{closed_port, digits, target};

/// Sends six, each with more patience than a busy machine needs.
async fn run(url: &str) -> Summary {
    run_for(url, Duration::from_secs(30)).await
}

async fn run_for(url: &str, timeout: Duration) -> Summary {
    let mut plan = Plan::count(target(url), digits(), 6, 2);
    plan.timeout = timeout;
    let mut load = Load::new(plan).expect("a plan that can run").start();
    load.finished().await;
    load.stop().await.summary
}

/// Fails unless every request failed in that way, and says why in a text.
fn assert_all(summary: &Summary, kind: ErrorKind, text: &str) {
    assert_eq!((summary.failed, summary.errors(kind)), (6, 6), "{summary}");
    assert!(
        summary
            .failures
            .iter()
            .any(|failure| failure.text.contains(text)),
        "{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_a_listener() {
    let (_socket, url) = closed_port();
    assert_all(&run(&url).await, ErrorKind::Connect, "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_off() {
    let server = Server::start(async |_| None).await;
    assert_all(&run(&server.url).await, ErrorKind::Reset, "connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes() {
    let server = Server::start(async |_| std::future::pending().await).await;
    let summary = run_for(&server.url, Duration::from_millis(300)).await;
    assert_all(&summary, ErrorKind::Timeout, "no answer within 300ms");
    assert!(summary.latency.unwrap().p50_ms >= 299.0, "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_the_protocols() {
    let server = Server::start(async |_| Some(Response::new(Full::from("<html>")))).await;
    assert_all(
        &run(&server.url).await,
        ErrorKind::BadAnswer,
        "unreadable answer: body",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let babble = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"220 smtp ready\r\n").await;
        }
    });
    let summary = run(&url).await;
    babble.abort();
    assert_all(&summary, ErrorKind::BadAnswer, "invalid HTTP version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_between_leaves_the_rest_right() {
    let server = Server::start(async |asked| (asked.number != 3).then(|| right(&asked))).await;
    let summary = run(&server.url).await;
    assert_eq!(
        (summary.ok, summary.errors(ErrorKind::Reset)),
        (5, 1),
        "{summary}"
    );
}
