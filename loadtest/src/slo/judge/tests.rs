use super::*;
use crate::clock;
use crate::outcome::{ErrorKind, Origin, Outcome, Sample};

const LIMITS: Limits = Limits {
    lag: Duration::from_millis(10),
};

fn slo(text: &str) -> Slo {
    Slo::parse("slo.toml", text).unwrap()
}

/// So many requests, of which `failed` got no answer, with the latency that `latency_ms` gives each.
fn measured(requests: u64, failed: u64, latency_ms: impl Fn(u64) -> u64) -> Measured {
    let mut measured = Measured::default();
    let start = clock::now();
    for n in 0..requests {
        let outcome = if n < failed {
            Outcome::Failed {
                kind: ErrorKind::Reset,
                text: String::new(),
            }
        } else {
            Outcome::Scored {
                from: Origin::default(),
                right: Some(true),
            }
        };
        measured.record(&Sample {
            part: None,
            intended: start,
            began: start,
            started: Some(start),
            ended: start + Duration::from_millis(latency_ms(n)),
            outcome,
        });
    }
    measured
}

#[test]
fn availability_is_met_missed_or_undecided_by_its_interval() {
    let slo = slo("availability = 0.995");
    let state = |requests, failed| {
        let judgement = judge(&slo, &measured(requests, failed, |_| 1), LIMITS);
        (judgement.verdict, judgement.objectives[0].needs.is_some())
    };
    assert_eq!(state(736, 0), (Verdict::Pass, false));
    assert_eq!(state(735, 0), (Verdict::TooSmall, true));
    // 0.25 % of failures: the figure is good, and 2,000 requests do not show it.
    assert_eq!(state(2_000, 5), (Verdict::TooSmall, true));
    assert_eq!(state(8_000, 20), (Verdict::Pass, false));
    // 0.75 %: the figure is bad, and 1,000 do not show that.
    assert_eq!(state(1_000, 8), (Verdict::TooSmall, true));
    assert_eq!(state(8_000, 60), (Verdict::Fail, false));
    assert_eq!(state(10, 10), (Verdict::Fail, false));
}

#[test]
fn a_quantile_is_judged_by_the_order_statistics_around_it() {
    let slo = slo("latency = [{ quantile = 0.99, below_ms = 500 }]");
    // So many of 1,000 take a second.
    let judged = |slow: u64| {
        judge(
            &slo,
            &measured(1_000, 0, |n| if n < slow { 1_000 } else { 5 }),
            LIMITS,
        )
    };
    let verdict = |slow| judged(slow).verdict;
    // Under the quantile lie 990 ± 6: the 997th latency decides on the one side, the 984th on the other.
    assert_eq!(verdict(0), Verdict::Pass);
    assert_eq!(verdict(3), Verdict::Pass);
    assert_eq!(verdict(10), Verdict::TooSmall);
    assert_eq!(verdict(25), Verdict::Fail);
    let objective = judged(10).objectives.remove(0);
    assert_eq!(objective.name, "p99");
    assert!((objective.low.unwrap() - 5.0).abs() < 0.01, "{objective:?}");
    assert!(
        (objective.high.unwrap() - 1_000.0).abs() < 1.0,
        "{objective:?}"
    );
}

#[test]
fn too_few_latencies_have_no_upper_end() {
    let slo = slo("latency = [{ quantile = 0.999, below_ms = 500 }]");
    let judgement = judge(&slo, &measured(1_000, 0, |_| 5), LIMITS);
    assert_eq!(judgement.verdict, Verdict::TooSmall);
    assert_eq!(judgement.objectives[0].high, None);
    assert_eq!(judgement.objectives[0].needs, Some(slo.least()));
    let text = judgement.to_string();
    assert!(text.contains("p99.9"), "{text}");
    assert!(
        text.contains("undecided: about 3688 requests would tell"),
        "{text}"
    );
}

#[test]
fn what_was_given_up_is_slow_and_unanswered() {
    let slo = slo("availability = 0.5\nlatency = [{ quantile = 0.5, below_ms = 100 }]");
    let mut measured = Measured::default();
    let start = clock::now();
    for _ in 0..100 {
        measured.record(&Sample {
            part: None,
            intended: start,
            began: start,
            started: None,
            ended: start + Duration::from_millis(1_500),
            outcome: Outcome::Failed {
                kind: ErrorKind::Timeout,
                text: String::new(),
            },
        });
    }
    let judgement = judge(&slo, &measured, LIMITS);
    let states: Vec<_> = judgement
        .objectives
        .iter()
        .map(|objective| objective.state)
        .collect();
    assert_eq!(states, [State::Missed, State::Missed], "{judgement}");
}

#[test]
fn a_run_that_could_not_be_kept_up_with_is_invalid_and_not_slow() {
    let slo = slo("latency = [{ quantile = 0.5, below_ms = 100 }]");
    let mut late = measured(1_000, 0, |_| 5);
    assert_eq!(judge(&slo, &late, LIMITS).verdict, Verdict::Pass);
    for _ in 0..20 {
        late.lag.record(Duration::from_millis(40));
    }
    assert_eq!(judge(&slo, &late, LIMITS).verdict, Verdict::Invalid);
    let reasons = invalid(&late, LIMITS);
    assert!(matches!(reasons[..], [Invalid::Late { .. }]), "{reasons:?}");
    let lenient = Limits {
        lag: Duration::from_millis(50),
    };
    assert_eq!(judge(&slo, &late, lenient).verdict, Verdict::Pass);

    let mut dropped = measured(1_000, 0, |_| 5);
    dropped.dropped.record(Duration::ZERO);
    assert_eq!(judge(&slo, &dropped, LIMITS).verdict, Verdict::Invalid);
    let text = invalid(&dropped, LIMITS)[0].to_string();
    assert!(text.starts_with("1 requests were not sent"), "{text}");

    let mut unsent = measured(1_000, 0, |_| 5);
    unsent.unsent.record(Duration::ZERO);
    assert_eq!(judge(&slo, &unsent, LIMITS).verdict, Verdict::Invalid);
    let text = invalid(&unsent, LIMITS)[0].to_string();
    assert!(text.contains("out of file descriptors"), "{text}");
    assert_eq!(invalid(&Measured::default(), LIMITS), [Invalid::Empty]);
}

#[test]
fn accuracy_is_of_the_answers() {
    let slo = slo("accuracy = 0.9");
    let mut measured = measured(1_000, 500, |_| 5);
    assert_eq!(judge(&slo, &measured, LIMITS).verdict, Verdict::Pass);
    for _ in 0..100 {
        measured.wrong.record(Duration::from_millis(5));
    }
    let judgement = judge(&slo, &measured, LIMITS);
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert_eq!(judgement.objectives[0].measured, Some(0.8));
    // Answers of which nobody knows what is right are neither right nor wrong.
    for _ in 0..200 {
        measured.unscored.record(Duration::from_millis(5));
    }
    let judgement = judge(&slo, &measured, LIMITS);
    assert_eq!(
        judgement.objectives[0].measured,
        Some(200.0 / 300.0),
        "{judgement}"
    );
}

#[test]
fn a_request_that_was_given_up_sooner_than_it_may_take_shows_no_latency() {
    let slo = slo("latency = [{ quantile = 0.5, below_ms = 1000.0 }]");
    let mut measured = measured(1_000, 0, |_| 200);
    assert_eq!(judge(&slo, &measured, LIMITS).verdict, Verdict::Pass);
    measured.timeouts = measured.latency.clone();
    assert_eq!(judge(&slo, &measured, LIMITS).verdict, Verdict::TooSmall);
}

#[test]
fn the_same_examples_again_are_no_new_evidence_of_accuracy() {
    let slo = slo("accuracy = 0.8");
    let mut measured = measured(1_000, 0, |_| 5);
    for _ in 0..100 {
        measured.wrong.record(Duration::from_millis(5));
    }
    let judged = |measured: &Measured| judge(&slo, measured, LIMITS);
    assert_eq!(judged(&measured).verdict, Verdict::Pass);
    // Ten examples a hundred times over: nine of ten may be right by chance.
    measured.examples.note(1, 10);
    let judgement = judged(&measured);
    assert_eq!(judgement.verdict, Verdict::TooSmall, "{judgement}");
    let accuracy = &judgement.objectives[0];
    assert_eq!(
        (accuracy.measured, accuracy.examples),
        (Some(0.9), Some(10))
    );
    let (low, high) = binomial::share(9, 10, 0.95);
    assert_eq!((accuracy.low, accuracy.high), (Some(low), Some(high)));
    let text = judgement.to_string();
    assert!(
        text.contains("different examples would tell (of 10 different"),
        "{text}"
    );
    // Where every answer is to an example of its own, each of them counts.
    let mut all = measured.clone();
    all.examples.note(2, 990);
    assert_eq!(judged(&all).verdict, Verdict::Pass);
    assert_eq!(judged(&all).objectives[0].examples, None);
    assert_eq!(slo.least_examples(), Some(binomial::least(0.8, 0.95)));
}

#[test]
fn what_broke_off_passes_nothing_and_fails_all_the_same() {
    let slo = slo("availability = 0.9");
    let of = |failed| judge(&slo, &measured(1_000, failed, |_| 1), LIMITS).of_partial();
    assert_eq!(of(0).verdict, Verdict::Partial);
    assert!(
        of(0)
            .to_string()
            .ends_with("SLO: not shown, the run broke off")
    );
    assert_eq!(of(900).verdict, Verdict::Fail);
}
