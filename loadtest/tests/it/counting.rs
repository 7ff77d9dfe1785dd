//! The counted mode: exactly so many requests, each accounted for.

use std::time::Duration;

use aegis_loadtest::{Load, LoadError, Pattern, Plan, Report, Schedule};
use aegis_protocol::headers;
use http::StatusCode;

use crate::server::{Server, label, refusal, right};
use crate::{digits, rate, target};

async fn run(plan: Plan) -> Report {
    let mut load = Load::new(plan).expect("a plan that can run").start();
    load.finished().await;
    load.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_sent_as_often_as_every_other() {
    // Wrong about the 7, and right about all else.
    let server = Server::start(async |asked| {
        Some(if asked.digit > 6.5 && asked.digit < 7.5 {
            label(0)
        } else {
            right(&asked)
        })
    })
    .await;
    let report = run(Plan::count(target(&server.url), digits(), 500, 8)).await;
    assert!(!report.interrupted);
    let summary = &report.summary;
    assert_eq!(
        (summary.requests, summary.ok, summary.right),
        (500, 500, 450),
        "{summary}"
    );
    assert_eq!(summary.accuracy, Some(0.9));
    assert_eq!(server.requests(), 500);
    assert!(
        server.connections() <= 8,
        "connections are not kept: {}",
        server.connections()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_counted_by_version_route_status_and_reason() {
    let server = Server::start(async |asked| {
        let mut answer = right(&asked);
        let from = answer.headers_mut();
        match asked.number % 10 {
            0 => {
                from.insert(headers::MODEL_VERSION, "2".parse().unwrap());
            }
            1 => {
                from.insert(headers::ROUTE, "fallback".parse().unwrap());
            }
            2 => {
                let body = r#"{"error": "no endpoint of digits can take it"}"#;
                return Some(refusal(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no_endpoint",
                    body,
                ));
            }
            _ => {}
        }
        Some(answer)
    })
    .await;
    let summary = run(Plan::count(target(&server.url), digits(), 1000, 4))
        .await
        .summary;
    assert_eq!((summary.ok, summary.failed), (900, 100));
    assert_eq!(summary.versions["2"].answers, 100);
    assert_eq!(summary.versions["1"].answers, 800);
    let routes = &summary.versions["1"].routes;
    assert_eq!((routes["split"], routes["fallback"]), (700, 100));
    assert!((summary.share("2") - 1.0 / 9.0).abs() < 1e-9);
    assert_eq!(summary.statuses, [(200, 900), (503, 100)].into());
    assert_eq!(summary.reasons["no_endpoint"], 100);
    assert_eq!(summary.failures.len(), 1);
    assert_eq!(
        summary.failures[0].text,
        "503: no endpoint of digits can take it"
    );
    assert_eq!(summary.failures[0].count, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_version_is_in_the_path() {
    let server = Server::start(async |asked| {
        assert_eq!(asked.path, "/v2/models/digits/versions/2/infer");
        Some(right(&asked))
    })
    .await;
    let target = target(&server.url).pinned("2");
    let summary = run(Plan::count(target, digits(), 10, 2)).await.summary;
    assert_eq!(summary.ok, 10);
}

#[test]
fn limits_out_of_range_are_refused() {
    let second = Duration::from_secs(1);
    let plan = || Plan::open(target("http://127.0.0.1:1"), digits(), rate(1.0), second);
    let refused = |plan: Plan| match Load::new(plan) {
        Err(LoadError::Limit { name, .. } | LoadError::Span { name, .. }) => name,
        other => panic!("expected a limit to be refused, got {other:?}"),
    };
    assert_eq!(
        refused(Plan {
            max_in_flight: 0,
            ..plan()
        }),
        "max_in_flight"
    );
    assert_eq!(
        refused(Plan {
            max_in_flight: usize::MAX,
            ..plan()
        }),
        "max_in_flight"
    );
    assert_eq!(
        refused(Plan {
            connections: Some(0),
            ..plan()
        }),
        "connections"
    );
    let pattern = Pattern::Count {
        requests: 1,
        concurrency: 0,
    };
    assert_eq!(refused(Plan { pattern, ..plan() }), "concurrency");
    assert_eq!(
        refused(Plan {
            timeout: Duration::ZERO,
            ..plan()
        }),
        "timeout"
    );
    let open = |warmup, duration| Pattern::Open {
        schedule: Schedule::constant(rate(1.0), duration),
        warmup,
    };
    let pattern = open(Duration::MAX, second);
    assert_eq!(refused(Plan { pattern, ..plan() }), "warmup");
    let pattern = open(second, Duration::MAX);
    assert_eq!(refused(Plan { pattern, ..plan() }), "duration");
}
