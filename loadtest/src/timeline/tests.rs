//! What a recording says of outcomes that are told to it.

use super::*;
use crate::ErrorKind;
use crate::clock;
use crate::outcome::Origin;

fn from(version: &str) -> Origin {
    Origin {
        version: Some(version.into()),
        route: None,
    }
}

fn sample(intended: Instant, latency: Duration, outcome: Outcome) -> Sample {
    Sample {
        part: None,
        intended,
        began: intended,
        started: Some(intended),
        ended: intended + latency,
        outcome,
    }
}

fn answer(version: &str) -> Outcome {
    Outcome::Scored {
        from: from(version),
        right: Some(true),
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn close(got: f64, expected: f64) -> bool {
    (got - expected).abs() <= expected.abs() / 100.0 + 1e-9
}

#[test]
fn latencies_and_failures_count_when_they_were_due_and_answers_when_they_came() {
    let start = clock::now();
    let timeline = Timeline::new(start);
    timeline.begin(start, start + millis(1000));
    // Due in the first second, answered in the third.
    timeline.due(start + millis(500), true);
    timeline.record(&sample(start + millis(500), millis(2000), answer("1")));
    timeline.due(start + millis(1500), true);
    let refused = Outcome::Refused {
        from: from("2"),
        status: 503,
        reason: Some("draining".to_owned()),
        text: String::new(),
    };
    timeline.record(&sample(start + millis(1500), millis(10), refused));
    timeline.due(start + millis(2500), false);
    timeline.close(start + millis(3000));
    let series = timeline.series(start + millis(9000));

    assert!(close(series.measured, 1.0) && close(series.end, 3.0));
    assert_eq!(series.points.len(), 3);
    let latency = series.points[0].latency.unwrap();
    assert!(close(latency[0], 2000.0), "{latency:?}");
    assert_eq!(
        series.points[2].latency, None,
        "nothing due there was answered"
    );
    let rates = |at: usize| series.points[at].rates.clone().unwrap();
    assert!(close(rates(0).due, 1.0) && close(rates(0).answered, 0.0));
    assert!(close(rates(2).answered, 1.0));
    let names = |seen: &[Seen]| {
        seen.iter()
            .map(|seen| seen.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&series.reasons), ["draining", DROPPED]);
    assert_eq!(rates(1).failed, [1.0, 0.0]);
    assert_eq!(rates(2).failed, [0.0, 1.0]);
    assert_eq!(names(&series.versions), ["1", "2"]);
    assert_eq!(series.points[2].versions, [1, 0]);
    assert_eq!(series.points[1].versions, [0, 1]);
    assert!(series.curves.is_empty(), "all answers were of the warm-up");
}

#[test]
fn a_long_run_merges_its_seconds_and_loses_nothing() {
    let start = clock::now();
    let timeline = Timeline::new(start);
    timeline.begin(start, start);
    let seconds = 5 * MAX_BUCKETS as u64;
    for second in 0..seconds {
        let at = start + Duration::from_secs(second);
        for _ in 0..3 {
            timeline.due(at, true);
            timeline.record(&sample(at, millis(1 + second), answer("1")));
        }
    }
    timeline.close(start + Duration::from_secs(seconds));
    let series = timeline.series(start);
    assert!(
        series.points.len() <= MAX_BUCKETS,
        "{}",
        series.points.len()
    );
    assert!(close(series.width, 8.0), "{}", series.width);
    let total = |of: fn(&series::Rates) -> f64| -> f64 {
        let rates = series.points.iter().flat_map(|point| &point.rates);
        rates.map(|rates| of(rates) * series.width).sum()
    };
    assert!(close(total(|rates| rates.due), 3.0 * seconds as f64));
    let longest = series.points.last().unwrap().latency.unwrap()[3];
    assert!(close(longest, seconds as f64), "{longest}");
    let (nines, max) = *series.curves[0].points.last().unwrap();
    assert!(close(nines, (3.0 * seconds as f64).log10()) && close(max, seconds as f64));
    let (_, median) = series.curves[0].points[6];
    assert!(
        close(median, 0.5 * seconds as f64),
        "x = 0.3 is the median: {median}"
    );
}

#[test]
fn names_beyond_the_limit_count_together() {
    let start = clock::now();
    let timeline = Timeline::new(start);
    for version in 0..1000 {
        timeline.record(&sample(start, millis(1), answer(&version.to_string())));
    }
    let series = timeline.series(start + millis(1000));
    assert_eq!(series.versions.len(), MAX_NAMES + 1);
    let last = series.versions.last().unwrap();
    assert_eq!(
        (last.name.as_str(), last.count),
        ("(others)", 1000 - MAX_NAMES as u64)
    );
}

#[test]
fn a_timeout_is_a_latency_and_a_broken_connection_is_none() {
    let start = clock::now();
    let timeline = Timeline::new(start);
    for kind in ErrorKind::ALL {
        let text = String::new();
        timeline.record(&sample(start, millis(70), Outcome::Failed { kind, text }));
    }
    let series = timeline.series(start + millis(1000));
    assert_eq!(series.reasons.len(), 4);
    assert_eq!(series.curves[0].points.len(), 1, "one request is one point");
}

#[test]
fn a_second_that_was_cut_short_makes_a_rate_only_where_there_is_enough_of_it() {
    let start = clock::now();
    let timeline = Timeline::new(start);
    timeline.due(start, true);
    timeline.due(start + millis(1100), true);
    for (end, rate) in [(1500, Some(2.0)), (1200, None)] {
        timeline.close(start + millis(end));
        let series = timeline.series(start);
        let got = series.points[1].rates.clone().map(|rates| rates.due);
        assert_eq!(got, rate, "ended after {end} ms");
    }
}
