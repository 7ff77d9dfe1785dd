//! Coordinated omission: a stall must be seen by everyone who arrived in it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis_loadtest::{Load, Plan};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::server::{Server, right};
use crate::{digits, rate, target, until};

/// The request at which the server stalls.
const STALLED: u64 = 20;

/// Requests that come due while it does.
const MEANWHILE: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn everyone_who_was_due_during_a_stall_waited_for_its_end() {
    let go_on = Arc::new(Notify::new());
    let stall = Arc::new(Mutex::new(None));
    let server = {
        let (go_on, stall) = (Arc::clone(&go_on), Arc::clone(&stall));
        Server::start(move |asked| {
            let (go_on, stall) = (Arc::clone(&go_on), Arc::clone(&stall));
            async move {
                if asked.number == STALLED {
                    let began = Instant::now();
                    go_on.notified().await;
                    *stall.lock().unwrap() = Some(began.elapsed());
                }
                Some(right(&asked))
            }
        })
        .await
    };
    // On one connection nothing can be sent past the stalled request. Counted
    // from when each was really sent, one request of all would have been slow.
    let duration = Duration::from_millis(600);
    let mut plan = Plan::open(target(&server.url), digits(), rate(200.0), duration);
    plan.connections = Some(1);
    plan.timeout = Duration::from_secs(30);
    let mut load = Load::new(plan).unwrap().start();
    until("60 more requests were due", || {
        load.snapshot().requests >= STALLED + MEANWHILE
    })
    .await;
    go_on.notify_one();
    load.finished().await;
    let summary = load.stop().await.summary;

    let stall_ms = stall.lock().unwrap().unwrap().as_secs_f64() * 1000.0;
    let latency = summary.latency.unwrap();
    assert_eq!(
        (summary.ok, summary.failed),
        (summary.requests, 0),
        "{summary}"
    );
    assert_eq!(server.connections(), 1);
    // Those 60 arrived evenly over the stall, so half of them waited for more
    // than half of it: far more than a tenth of all that were sent.
    assert!(summary.requests < 10 * MEANWHILE / 2, "{summary}");
    assert!(
        latency.p90_ms > stall_ms / 2.0,
        "stalled for {stall_ms} ms:\n{summary}"
    );
    assert!(
        latency.max_ms > stall_ms * 0.9,
        "stalled for {stall_ms} ms:\n{summary}"
    );
    // The wait for the connection is told from this side's own lateness.
    let wait = summary.client.wait.unwrap();
    assert!(
        wait.p90_ms > stall_ms / 2.0,
        "stalled for {stall_ms} ms:\n{summary}"
    );
}

/// How long the server of the arithmetic serves, and stalls after the first half of it.
const SERVES: Duration = Duration::from_secs(3);
const STALLS: Duration = Duration::from_millis(600);

/// A server that answers at once, but for one stall in the middle, in which all wait for its end.
async fn stalling() -> Server {
    let began = Arc::new(Mutex::new(None));
    Server::start(move |asked| {
        let began = *began
            .lock()
            .expect("no panic")
            .get_or_insert_with(Instant::now);
        async move {
            let (from, to) = (began + SERVES / 2, began + SERVES / 2 + STALLS);
            if (from..to).contains(&Instant::now()) {
                tokio::time::sleep_until(to).await;
            }
            Some(right(&asked))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_has_the_quantiles_that_arithmetic_says_and_a_closed_loop_hides_it() {
    // Who comes during the stall waits for what is left of it: a fifth of all, evenly between nothing and
    // 600 ms. So 1 % of all wait longer than 0.95 of it.
    let stalled = STALLS.as_secs_f64() / SERVES.as_secs_f64();
    let expected = STALLS.as_secs_f64() * 1000.0 * (1.0 - 0.01 / stalled);
    let server = stalling().await;
    let mut plan = Plan::open(target(&server.url), digits(), rate(500.0), SERVES);
    plan.timeout = Duration::from_secs(30);
    let mut load = Load::new(plan).unwrap().start();
    load.finished().await;
    let summary = load.stop().await.summary;
    let p99 = summary.latency.unwrap().p99_ms;
    assert!(
        (p99 - expected).abs() < expected * 0.1,
        "expected {expected} ms\n{summary}"
    );

    // Two connections that wait for their answers send two requests in all that time.
    let server = stalling().await;
    let mut plan = Plan::count(target(&server.url), digits(), u64::MAX, 2);
    plan.timeout = Duration::from_secs(30);
    let load = Load::new(plan).unwrap().start();
    let over = (SERVES + STALLS).as_secs_f64();
    until("the stall is over", || {
        load.snapshot().elapsed_seconds > over
    })
    .await;
    let summary = load.stop().await.summary;
    let latency = summary.latency.unwrap();
    assert!(latency.max_ms > expected, "{summary}");
    assert!(latency.p99_ms < expected / 5.0, "{summary}");
}
