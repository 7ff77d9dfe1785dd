//! Each kind of failure is told from the others.

use std::process::{Command, Stdio};
use std::time::Duration;

use aegis_loadtest::{ErrorKind, Load, Plan, Report, Summary};
use http::Response;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::cli::{load_command, output, text};
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

/// A load of half a second, by a process that may open fewer connections than there are requests, on a server that
/// never answers.
async fn starved(load: &[&str]) -> Summary {
    let server = Server::start(async |_| std::future::pending().await).await;
    let folder = tempfile::tempdir().expect("a folder of our own");
    let json = folder.path().join("report.json");
    let mut program = load_command(folder.path(), &server.url, load);
    program.args(["--duration", "500ms", "--timeout", "3s"]);
    program.arg("--json").arg(&json);
    let mut command = Command::new("sh");
    // Some of these the program needs itself.
    command.args(["-c", "ulimit -n 48; exec \"$0\" \"$@\""]);
    command.arg(program.get_program()).args(program.get_args());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = output(command).await;
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("out of file descriptors"), "{stderr}");
    let report = std::fs::read(json).expect("it wrote a report");
    let report: Report = serde_json::from_slice(&report).expect("it wrote JSON");
    report.summary
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_out_of_descriptors_makes_the_run_invalid_and_the_server_no_worse() {
    let summary = starved(&["--rate", "200"]).await;
    assert!(summary.client.unsent > 0, "{summary}");
    assert_eq!(summary.errors(ErrorKind::Connect), 0, "{summary}");
    assert_eq!(
        summary.failed,
        summary.errors(ErrorKind::Timeout),
        "{summary}"
    );
    assert_eq!(
        summary.requests,
        summary.failed + summary.client.unsent,
        "{summary}"
    );
    let texts = &summary.failures;
    assert!(
        texts
            .iter()
            .any(|failure| failure.text.starts_with("not sent: ")),
        "{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_send_does_not_ask_again_and_again() {
    let summary = starved(&["--closed", "64"]).await;
    assert!(summary.client.unsent > 0, "{summary}");
    // Each of them once in 10 ms of the half second at the most.
    assert!(summary.client.unsent <= 64 * 51, "{summary}");
}
