use std::time::Instant;

use super::*;
use crate::clock;

/// A sample that was due at `start`, sent after `lag` and over after `latency`.
fn sample(start: Instant, lag: u64, latency: u64, outcome: Outcome) -> Sample {
    Sample {
        part: None,
        intended: start,
        began: start + Duration::from_millis(lag),
        started: Some(start + Duration::from_millis(lag)),
        ended: start + Duration::from_millis(latency),
        outcome,
    }
}

fn scored(version: &str, route: &str, right: bool) -> Outcome {
    let from = Origin {
        version: Some(version.into()),
        route: Some(route.into()),
    };
    Outcome::Scored {
        from,
        right: Some(right),
    }
}

fn summary(samples: &[Sample]) -> Summary {
    let mut tally = Tally::default();
    for sample in samples {
        tally.due();
        tally.record(sample);
    }
    tally.summary(Duration::from_secs(2), tally.in_flight())
}

#[test]
fn answers_are_grouped_by_version_and_route() {
    let start = clock::now();
    let summary = summary(&[
        sample(start, 0, 10, scored("1", "split", true)),
        sample(start, 0, 10, scored("1", "split", false)),
        sample(start, 0, 10, scored("1", "fallback", true)),
        sample(start, 0, 40, scored("2", "split", true)),
    ]);
    assert_eq!((summary.ok, summary.right, summary.failed), (4, 3, 0));
    assert!((summary.achieved_rate - 2.0).abs() < 1e-9);
    assert_eq!(summary.accuracy, Some(0.75));
    let one = &summary.versions["1"];
    assert_eq!((one.answers, one.ok, one.right), (3, 3, 2));
    assert_eq!(
        one.routes,
        [("split".to_owned(), 2), ("fallback".to_owned(), 1)].into()
    );
    assert!((summary.share("1") - 0.75).abs() < 1e-9);
    assert!((summary.share("2") - 0.25).abs() < 1e-9);
    assert!(summary.share("3").abs() < 1e-9);
    assert!((summary.versions["2"].latency.unwrap().p50_ms - 40.0).abs() < 0.1);
}

#[test]
fn latency_runs_from_the_intended_send_time() {
    let start = clock::now();
    let summary = summary(&[sample(start, 90, 100, scored("1", "split", true))]);
    assert!((summary.latency.unwrap().max_ms - 100.0).abs() < 0.1);
    assert!((summary.client.lag.unwrap().max_ms - 90.0).abs() < 0.1);
}

#[test]
fn a_timeout_is_as_slow_as_it_was_and_other_failures_have_no_latency() {
    let start = clock::now();
    let failed = |kind| Outcome::Failed {
        kind,
        text: "x".to_owned(),
    };
    let summary = summary(&[
        sample(start, 0, 10, scored("1", "split", true)),
        sample(start, 0, 1500, failed(ErrorKind::Timeout)),
        sample(start, 0, 1, failed(ErrorKind::Connect)),
    ]);
    let latency = summary.latency.unwrap();
    assert!((latency.max_ms - 1500.0).abs() < 1.5, "{latency:?}");
    assert!((latency.p50_ms - 10.0).abs() < 0.1, "{latency:?}");
    assert_eq!(summary.failed, 2);
    assert_eq!(summary.errors(ErrorKind::Timeout), 1);
    assert_eq!(summary.errors(ErrorKind::Reset), 0);
    let texts: Vec<_> = summary
        .failures
        .iter()
        .map(|failure| failure.text.as_str())
        .collect();
    assert_eq!(texts, ["connect: x", "timeout: x"]);
}

#[test]
fn a_refusal_counts_for_its_version_and_reason_and_not_for_latency() {
    let start = clock::now();
    let refused = Outcome::Refused {
        from: Origin {
            version: Some("2".into()),
            route: None,
        },
        status: 429,
        reason: Some("queue_full".to_owned()),
        text: "too many".to_owned(),
    };
    let summary = summary(&[sample(start, 0, 1, refused)]);
    assert_eq!(summary.statuses, [(429, 1)].into());
    assert_eq!(summary.reasons, [("queue_full".to_owned(), 1)].into());
    assert_eq!(
        (summary.versions["2"].answers, summary.versions["2"].ok),
        (1, 0)
    );
    assert_eq!((summary.latency, summary.accuracy), (None, None));
    let failure = Failure {
        text: "429: too many".to_owned(),
        count: 1,
    };
    assert_eq!(summary.failures, [failure]);
}

#[test]
fn failure_texts_are_bounded() {
    let start = clock::now();
    let failed = |n: u64| {
        let outcome = Outcome::Failed {
            kind: ErrorKind::Reset,
            text: n.to_string(),
        };
        sample(start, 0, 1, outcome)
    };
    let summary = summary(&(0..1000).map(failed).collect::<Vec<_>>());
    assert_eq!(summary.failures.len(), MAX_FAILURES + 1);
    assert_eq!(
        summary
            .failures
            .iter()
            .map(|failure| failure.count)
            .sum::<u64>(),
        1000
    );
}
