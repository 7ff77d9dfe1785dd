//! The open loop keeps its schedule, whatever becomes of the requests.

use std::sync::Arc;
use std::time::Duration;

use aegis_loadtest::{Arrivals, ErrorKind, Load, Pattern, Plan, Schedule};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::server::{Server, right};
use crate::{digits, rate, target, until};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_request_that_hangs() {
    let go_on = Arc::new(Notify::new());
    let server = {
        let go_on = Arc::clone(&go_on);
        Server::start(move |asked| {
            let go_on = Arc::clone(&go_on);
            async move {
                if asked.number == 0 {
                    go_on.notified().await;
                }
                Some(right(&asked))
            }
        })
        .await
    };
    let duration = Duration::from_millis(500);
    let mut plan = Plan::open(target(&server.url), digits(), rate(200.0), duration);
    plan.timeout = Duration::from_secs(30);
    let expected = Arrivals::new(rate(200.0), plan.seed)
        .until(duration)
        .count() as u64;
    let mut load = Load::new(plan).unwrap().start();
    until("all others were answered", || {
        load.snapshot().ok == expected - 1
    })
    .await;
    assert_eq!(load.snapshot().in_flight, 1);
    go_on.notify_one();
    load.finished().await;
    let report = load.stop().await;
    assert!(!report.interrupted);
    assert_eq!(
        (report.summary.requests, report.summary.ok),
        (expected, expected)
    );
    assert_eq!(report.summary.accuracy, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_straggler_does_not_stretch_the_second_that_answers_are_counted_by() {
    let server = Server::start(async |asked| {
        if asked.number == 0 {
            std::future::pending::<()>().await;
        }
        Some(right(&asked))
    })
    .await;
    let duration = Duration::from_millis(500);
    let mut plan = Plan::open(target(&server.url), digits(), rate(200.0), duration);
    plan.timeout = Duration::from_secs(6);
    let mut load = Load::new(plan).unwrap().start();
    load.finished().await;
    let (_, elapsed) = load.measured();
    let summary = load.stop().await.summary;
    assert_eq!(summary.errors(ErrorKind::Timeout), 1, "{summary}");
    // The schedule may end late on a busy machine, but not as late as who gave up.
    assert!(
        elapsed >= duration && elapsed < 4 * Duration::from_secs(1),
        "{elapsed:?}"
    );
    assert!(
        (summary.elapsed_seconds - elapsed.as_secs_f64()).abs() < 1e-9,
        "{summary}"
    );
    let expected = summary.ok as f64 / elapsed.as_secs_f64();
    assert!((summary.achieved_rate - expected).abs() < 1e-6, "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_limit_is_dropped_and_counted() {
    let gate = Arc::new(Semaphore::new(0));
    let server = {
        let gate = Arc::clone(&gate);
        Server::start(move |asked| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Some(right(&asked))
            }
        })
        .await
    };
    let hour = Duration::from_hours(1);
    let mut plan = Plan::open(target(&server.url), digits(), rate(500.0), hour);
    plan.max_in_flight = 4;
    plan.timeout = Duration::from_secs(30);
    let load = Load::new(plan).unwrap().start();
    until("20 were due", || load.snapshot().requests >= 20).await;
    let held = load.snapshot();
    assert_eq!((held.in_flight, held.finished), (4, 0), "{held}");
    assert_eq!(held.client.dropped, held.requests - 4);
    gate.add_permits(1_000_000);
    let report = load.stop().await;
    assert!(report.interrupted, "it had an hour to go");
    let summary = &report.summary;
    assert_eq!(
        summary.ok + summary.client.dropped,
        summary.requests,
        "{summary}"
    );
    assert!(summary.ok >= 4, "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_warm_up_is_sent_and_not_counted() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let (warmup, duration) = (Duration::from_millis(200), Duration::from_millis(300));
    let mut plan = Plan::open(target(&server.url), digits(), rate(200.0), duration);
    plan.pattern = Pattern::Open {
        schedule: Schedule::constant(rate(200.0), duration),
        warmup,
    };
    let due: Vec<_> = Arrivals::new(rate(200.0), plan.seed)
        .until(warmup + duration)
        .collect();
    let began = Instant::now();
    let mut load = Load::new(plan).unwrap().start();
    load.finished().await;
    let summary = load.stop().await.summary;
    let measured = due.iter().filter(|&&at| at >= warmup).count() as u64;
    assert_eq!((summary.requests, summary.ok), (measured, measured));
    assert_eq!(server.requests(), due.len() as u64);
    assert!(
        summary.elapsed_seconds >= duration.as_secs_f64(),
        "{summary}"
    );
    let without_warmup = began.elapsed().saturating_sub(warmup).as_secs_f64();
    assert!(summary.elapsed_seconds <= without_warmup, "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_window_counts_what_came_since_the_last() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let hour = Duration::from_hours(1);
    let plan = Plan::open(target(&server.url), digits(), rate(500.0), hour);
    let load = Load::new(plan).unwrap().start();
    let mut windows = Vec::new();
    for count in 1..=3 {
        until("30 more were answered", || load.snapshot().ok >= 30 * count).await;
        windows.push(load.window());
    }
    assert!(
        windows
            .iter()
            .all(|window| window.ok > 0 && window.share("1") > 0.99)
    );
    let so_far: u64 = windows.iter().map(|window| window.ok).sum();
    assert!(so_far >= 90 && load.snapshot().ok >= so_far);
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_dropped_stops() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let hour = Duration::from_hours(1);
    let plan = Plan::open(target(&server.url), digits(), rate(500.0), hour);
    let load = Load::new(plan).unwrap().start();
    until("it sends", || server.requests() >= 20).await;
    drop(load);
    // What keeps the schedule keeps the connections: they are closed when it has ended.
    until("nothing is left of it", || server.open() == 0).await;
}
