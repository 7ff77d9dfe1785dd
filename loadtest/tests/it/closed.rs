//! The closed loop: it lasts as long as was asked, and its rate is of what came in that time.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;
use std::time::Duration;

use aegis_loadtest::merge::Merged;
use aegis_loadtest::{ErrorKind, Load, Pattern, Plan, Report};
use tokio::sync::Semaphore;

use crate::cli::{command, load_command, output, text};
use crate::server::{Asked, Server, right};
use crate::{digits, target, until};

const CONNECTIONS: usize = 4;

/// Longer than a busy machine takes for a few requests.
const LASTS: Duration = Duration::from_secs(2);

fn plan(server: &Server, warmup: Duration) -> Plan {
    let pattern = Pattern::Closed {
        connections: CONNECTIONS,
        warmup,
        duration: LASTS,
    };
    let mut plan = Plan::new(target(&server.url), digits(), pattern);
    plan.timeout = Duration::from_secs(30);
    plan
}

/// A server that answers requests from this number on when there are permits.
async fn holding(from: u64, gate: &Arc<Semaphore>) -> Server {
    let gate = Arc::clone(gate);
    Server::start(move |asked: Asked| {
        let gate = Arc::clone(&gate);
        async move {
            if asked.number >= from {
                gate.acquire().await.unwrap().forget();
            }
            Some(right(&asked))
        }
    })
    .await
}

/// How many answers a rate is of.
fn came(rate: f64) -> f64 {
    rate * LASTS.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_does_not_stretch_the_second_that_answers_are_counted_by() {
    let server = Server::start(async |asked| {
        if asked.number == 0 {
            std::future::pending::<()>().await;
        }
        // A loop that asks as fast as it can takes the processors from the tests beside it.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some(right(&asked))
    })
    .await;
    let mut plan = plan(&server, Duration::ZERO);
    plan.timeout = 2 * LASTS;
    let mut load = Load::new(plan).unwrap().start();
    load.finished().await;
    let (measured, elapsed) = load.measured();
    let report = load.stop().await;
    let summary = &report.summary;
    assert!(!report.interrupted);
    assert_eq!(summary.errors(ErrorKind::Timeout), 1, "{summary}");
    assert_eq!(elapsed, LASTS);
    assert!(
        (summary.elapsed_seconds - LASTS.as_secs_f64()).abs() < 1e-9,
        "{summary}"
    );
    let all = summary.ok as f64;
    let others = (CONNECTIONS - 1) as f64;
    let came = came(summary.achieved_rate);
    assert!((all - others..=all).contains(&came), "{came} of {all}");
    assert!((measured.rate(elapsed) - summary.achieved_rate).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_when_its_time_is_up_is_none_of_its_rate() {
    let gate = Arc::new(Semaphore::new(0));
    let server = holding(6, &gate).await;
    let mut load = Load::new(plan(&server, Duration::ZERO)).unwrap().start();
    until("its time is up", || load.elapsed() == LASTS).await;
    gate.add_permits(CONNECTIONS);
    load.finished().await;
    let summary = load.stop().await.summary;
    assert_eq!((summary.requests, summary.ok), (10, 10), "{summary}");
    assert!(
        (came(summary.achieved_rate) - 6.0).abs() < 1e-6,
        "{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_the_warm_up_that_comes_in_its_time_is_of_its_rate() {
    let gate = Arc::new(Semaphore::new(0));
    let server = holding(0, &gate).await;
    let load = Load::new(plan(&server, Duration::from_millis(200)));
    let mut load = load.unwrap().start();
    until("the measurement has begun", || {
        load.elapsed() > Duration::ZERO && server.requests() == CONNECTIONS as u64
    })
    .await;
    gate.add_permits(CONNECTIONS - 1);
    until("these have sent again", || {
        load.snapshot().requests == (CONNECTIONS - 1) as u64
    })
    .await;
    until("its time is up", || load.elapsed() == LASTS).await;
    gate.add_permits(CONNECTIONS);
    load.finished().await;
    let (measured, _) = load.measured();
    let summary = load.stop().await.summary;
    assert_eq!(summary.ok, 3, "what the warm-up sent is not measured");
    assert_eq!((measured.early.len(), measured.late.len()), (3, 3));
    assert!(
        (came(summary.achieved_rate) - 3.0).abs() < 1e-6,
        "{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_says_the_rate_that_the_run_said() {
    // What is not answered at once is answered when the time is up.
    let server = Server::start(async |asked| {
        if asked.number >= 20 {
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        Some(right(&asked))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, hdr) = (path("report.json"), path("a.hlog"));
    let load = ["--closed", "4", "--duration", "500ms"];
    let load = [&load[..], &["--json", &json, "--hdr", &hdr]].concat();
    let run = output(load_command(folder.path(), &server.url, &load)).await;
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let report: Report = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let summary = report.summary;
    assert!((summary.elapsed_seconds - 0.5).abs() < 1e-9, "{summary}");
    assert!(
        summary.achieved_rate * 0.5 < summary.ok as f64 - 0.5,
        "some were under way: {summary}"
    );
    let merged = output(command(&[
        "merge",
        "--max-lag",
        "10s",
        "--json",
        &json,
        &hdr,
    ]))
    .await;
    assert_eq!(merged.status.code(), Some(0), "{}", text(&merged.stderr));
    let merged: Merged = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(merged.ok, summary.ok);
    assert!(
        (merged.achieved_rate - summary.achieved_rate).abs() < 1e-6,
        "{} and {}",
        merged.achieved_rate,
        summary.achieved_rate
    );
}
