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
    // The wait for the connection is said to be this side's.
    let lag = summary.client.lag.unwrap();
    assert!(
        lag.p90_ms > stall_ms / 2.0,
        "stalled for {stall_ms} ms:\n{summary}"
    );
}
