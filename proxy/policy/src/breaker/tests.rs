use super::*;
use crate::tests::origin;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    breaker: Breaker,
    now: Instant,
    rng: StdRng,
}

impl Fixture {
    fn new(config: BreakerConfig) -> Self {
        Self {
            breaker: Breaker::new(config),
            now: origin(),
            rng: StdRng::seed_from_u64(1),
        }
    }

    fn ticket(&mut self) -> Option<Ticket> {
        self.breaker.acquire(self.now).0
    }

    fn record(&mut self, mut ticket: Ticket, sample: Sample) -> Option<Step> {
        self.record_some(&mut ticket, sample)
    }

    /// As [`Self::record`], of one of which more may be told.
    fn record_some(&mut self, ticket: &mut Ticket, sample: Sample) -> Option<Step> {
        self.breaker.record(ticket, sample, self.now, &mut self.rng)
    }

    fn use_once(&mut self, outcome: Sample) -> Option<Step> {
        let ticket = self.ticket().expect("the breaker refused");
        self.record(ticket, outcome)
    }

    fn trip(&mut self) {
        for _ in 0..self.breaker.config.consecutive_failures {
            self.use_once(Sample::Failed);
        }
        assert_eq!(self.breaker.state(), BreakerState::Open);
    }

    fn wait_until_due(&mut self) {
        self.now = self.breaker.open_until().expect("not open");
    }
}

#[test]
fn a_probe_that_ends_after_the_others_closed_it_counts_for_nothing() {
    let mut f = Fixture::new(BreakerConfig::default());
    f.trip();
    f.wait_until_due();
    f.use_once(Sample::Good);
    let [second, third, late] = [(); 3].map(|()| f.ticket().expect("three probes at once"));
    f.record(second, Sample::Good);
    f.record(third, Sample::Good);
    assert_eq!(f.breaker.state(), BreakerState::Closed);
    f.record(late, Sample::Failed);
    for _ in 0..4 {
        assert_eq!(f.use_once(Sample::Failed), None, "the late one was counted");
    }
    assert_eq!(f.breaker.state(), BreakerState::Closed);
}

#[test]
fn a_probe_of_an_earlier_half_open_says_nothing_about_this_one() {
    let mut f = Fixture::new(BreakerConfig::default());
    f.trip();
    f.wait_until_due();
    f.use_once(Sample::Good);
    let [failing, stray] = [(); 2].map(|()| f.ticket().expect("three probes at once"));
    f.record(failing, Sample::Failed);
    assert_eq!(f.breaker.state(), BreakerState::Open);
    f.wait_until_due();
    // As many probes are out as were then, so that their numbers are the same.
    f.use_once(Sample::Good);
    let [_now, _too] = [(); 2].map(|()| f.ticket().expect("three probes at once"));
    assert_eq!(f.record(stray, Sample::Failed), None);
    assert_eq!(f.breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn what_counts_begins_with_a_cache_line() {
    assert_eq!(std::mem::offset_of!(Breaker, window), 64);
}

#[test]
fn every_state_has_the_label_and_the_number_that_dashboards_know() {
    let shown = [
        BreakerState::Closed,
        BreakerState::HalfOpen,
        BreakerState::Open,
    ]
    .map(|state| (state.label(), state.gauge()));
    assert_eq!(shown, [("closed", 0), ("half_open", 1), ("open", 2)]);
}

#[test]
fn five_failures_in_a_row_open_it_and_four_do_not() {
    let mut f = Fixture::new(BreakerConfig::default());
    for _ in 0..4 {
        assert_eq!(f.use_once(Sample::Failed), None);
    }
    f.use_once(Sample::Good);
    for _ in 0..4 {
        assert_eq!(f.use_once(Sample::Failed), None);
    }
    let reason = TripReason::ConsecutiveFailures { failures: 5 };
    let to = BreakerState::Open;
    assert_eq!(f.use_once(Sample::Failed), Some(Step { to, reason }));
    assert_eq!(f.breaker.tripped_by(), Some(reason));
    assert!(f.ticket().is_none());
}

#[test]
fn what_taught_nothing_neither_counts_nor_forgives() {
    let mut f = Fixture::new(BreakerConfig::default());
    for _ in 0..4 {
        f.use_once(Sample::Failed);
    }
    f.use_once(Sample::Nothing);
    assert_eq!(f.breaker.failures_in_a_row(), 4);
    f.use_once(Sample::Failed);
    assert_eq!(f.breaker.state(), BreakerState::Open);
}

fn slow(ms: u64) -> Sample {
    Sample::Slow(Slowness {
        waited: Duration::from_millis(ms),
        threshold: Threshold {
            limit: Duration::from_millis(50),
            basis: Basis::Floor,
        },
    })
}

/// How many of `samples`, `gap` apart, it takes to open the breaker, and why it did.
fn until_open(samples: impl Iterator<Item = Sample>, gap: Duration) -> Option<(usize, TripReason)> {
    let mut f = Fixture::new(BreakerConfig::default());
    for (i, sample) in samples.enumerate() {
        f.now += gap;
        if let Some(step) = f.use_once(sample) {
            return Some((i + 1, step.reason));
        }
    }
    None
}

#[test]
fn half_of_twenty_failing_opens_it_however_thin_the_traffic() {
    let gaps = [1, 100, 3_000, 14_000].map(Duration::from_millis);
    for gap in gaps {
        let samples = (0..40).map(|i| {
            if i % 2 == 0 {
                Sample::Good
            } else {
                Sample::Failed
            }
        });
        let (after, reason) = until_open(samples, gap).expect("it never opened");
        let figures = TripReason::FailureRatio {
            failures: 10,
            of: 20,
        };
        assert_eq!((after, reason), (20, figures), "{gap:?} apart");
    }
    let samples = (0..400).map(|i| {
        if i % 3 == 0 {
            Sample::Failed
        } else {
            Sample::Good
        }
    });
    assert_eq!(until_open(samples, gaps[1]), None, "a third is not half");
}

#[test]
fn failures_that_are_long_past_are_no_evidence() {
    let gap = Duration::from_secs(40);
    let samples = (0..100).map(|i| {
        if i % 2 == 0 {
            Sample::Good
        } else {
            Sample::Failed
        }
    });
    assert_eq!(until_open(samples, gap), None);
}

#[test]
fn five_slow_in_a_row_open_it_and_say_how_slow() {
    let (after, reason) = until_open((0..9).map(|i| slow(200 + i)), SECOND).unwrap();
    assert_eq!(after, 5);
    assert_eq!(
        reason.to_string(),
        "5 slow attempts in a row, the last 204 ms where 50.0 ms is the limit \
         (relative_floor, its peers are faster)"
    );
    let interrupted = (0..16).map(|i| if i % 5 == 4 { Sample::Good } else { slow(200) });
    assert_eq!(
        until_open(interrupted, SECOND),
        None,
        "16 are not enough for a share"
    );
}

#[test]
fn answers_that_begin_well_and_break_off_are_failures_in_a_row() {
    // One after the other, and several at a time: while one of those stands, it ends the row.
    for at_once in [1, 2, 3, 4_usize] {
        let mut f = Fixture::new(BreakerConfig::default());
        let mut broken = 0;
        while f.breaker.state() == BreakerState::Closed {
            let mut begun: Vec<_> = (0..at_once).map(|_| f.ticket().unwrap()).collect();
            for ticket in &mut begun {
                assert_eq!(f.record_some(ticket, Sample::Good), None);
            }
            for mut ticket in begun {
                broken += 1;
                let step = f.record_some(&mut ticket, Sample::BrokeOff);
                let opens = broken == 5_usize.next_multiple_of(at_once);
                assert_eq!(step.is_some(), opens, "{broken}, {at_once} at once");
                if step.is_some() {
                    break;
                }
            }
        }
    }
}

#[test]
fn what_breaks_off_takes_no_answer_away_from_others() {
    // A call that is judged at its end, and ends too early: nothing was counted of it.
    let mut f = Fixture::new(BreakerConfig::default());
    for number in 1..=30 {
        let sample = if number % 3 == 0 {
            Sample::BrokeOff
        } else {
            Sample::Good
        };
        assert_eq!(f.use_once(sample), None, "ten of thirty");
    }
    let counts = f.breaker.counts(f.now);
    assert_eq!((counts.good, counts.failed), (20, 10));
    // One that was slow to begin, and one that had failed before.
    let mut f = Fixture::new(BreakerConfig::default());
    for _ in 0..5 {
        f.use_once(Sample::Good);
    }
    for before in [slow(80), Sample::Failed] {
        let mut ticket = f.ticket().unwrap();
        f.record_some(&mut ticket, before);
        f.record_some(&mut ticket, Sample::BrokeOff);
        f.record_some(&mut ticket, Sample::BrokeOff);
    }
    let counts = f.breaker.counts(f.now);
    assert_eq!((counts.good, counts.slow, counts.failed), (5, 0, 2));
    assert_eq!(f.breaker.failures_in_a_row(), 2);
}

#[test]
fn half_of_twenty_slow_opens_it() {
    let samples = (0..40).map(|i| if i % 2 == 0 { Sample::Good } else { slow(80) });
    let (after, reason) = until_open(samples, SECOND / 10).unwrap();
    assert_eq!(after, 20);
    assert!(
        matches!(
            reason,
            TripReason::SlowRatio {
                slow: 10,
                of: 20,
                ..
            }
        ),
        "{reason}"
    );
    assert!(reason.is_slowness());
}

#[test]
fn a_failure_leaves_the_row_of_slow_ones_and_a_slow_answer_ends_the_row_of_failures() {
    let mixed = [
        slow(80),
        slow(80),
        Sample::Failed,
        slow(80),
        slow(80),
        slow(80),
    ];
    let (after, reason) = until_open(mixed.into_iter(), SECOND).unwrap();
    assert_eq!(after, 6);
    assert!(
        matches!(reason, TripReason::ConsecutiveSlow { slow: 5, .. }),
        "{reason}"
    );
    let f = Sample::Failed;
    assert_eq!(
        until_open([f, f, f, f, slow(80), f].into_iter(), SECOND),
        None
    );
}

#[test]
fn a_slow_probe_is_a_failed_one() {
    let mut f = Fixture::new(BreakerConfig::default());
    f.trip();
    f.wait_until_due();
    let step = f.use_once(slow(700)).unwrap();
    assert_eq!(step.to, BreakerState::Open);
    assert!(step.reason.is_slowness());
    assert!(f.breaker.tripped_since() < f.breaker.open_until());
}

#[test]
fn a_passing_check_opens_the_door_to_probes_and_nothing_more() {
    let mut f = Fixture::new(BreakerConfig::default());
    assert_eq!(f.breaker.check_passed(f.now), None);
    f.trip();
    assert_eq!(f.breaker.check_passed(f.now), None, "its time is not up");
    f.wait_until_due();
    let step = f.breaker.check_passed(f.now).unwrap();
    assert_eq!(step.to, BreakerState::HalfOpen);
    for _ in 0..10 {
        assert_eq!(f.breaker.check_passed(f.now), None);
    }
    assert_eq!(f.breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn a_breaker_that_closes_forgets_what_it_had_counted() {
    let mut f = Fixture::new(BreakerConfig::default());
    for i in 0..19 {
        f.use_once(if i % 2 == 0 { Sample::Good } else { slow(80) });
    }
    f.trip();
    f.wait_until_due();
    for _ in 0..3 {
        f.use_once(Sample::Good);
    }
    assert_eq!(f.breaker.state(), BreakerState::Closed);
    assert_eq!(f.breaker.counts(f.now).total(), 0);
}

#[test]
fn one_probe_goes_first_and_three_follow_once_it_succeeded() {
    let mut f = Fixture::new(BreakerConfig::default());
    f.trip();
    f.wait_until_due();
    let first = f.ticket().unwrap();
    assert!(first.is_probe());
    assert!(f.ticket().is_none(), "a second probe beside the first");
    f.record(first, Sample::Good);
    let probes: Vec<_> = (0..3).map(|_| f.ticket().unwrap()).collect();
    assert!(f.ticket().is_none(), "a fourth probe at once");
    let steps: Vec<_> = probes
        .into_iter()
        .filter_map(|p| f.record(p, Sample::Good))
        .collect();
    assert_eq!(steps.len(), 1);
    assert_eq!(f.breaker.state(), BreakerState::Closed);
    assert_eq!(f.breaker.tripped_by(), None);
}

#[test]
fn a_failed_probe_opens_it_again_for_longer() {
    let mut f = Fixture::new(BreakerConfig::default());
    f.trip();
    let first = f.breaker.open_until().unwrap() - f.now;
    f.wait_until_due();
    let step = f.use_once(Sample::Failed).unwrap();
    assert_eq!(step.reason, PROBE_FAILED);
    let second = f.breaker.open_until().unwrap() - f.now;
    // 5 s and 10 s, each within 20 %.
    assert!(
        first <= 6 * SECOND && second >= 8 * SECOND,
        "{first:?} {second:?}"
    );
}

#[test]
fn a_lost_probe_frees_its_slot_when_its_lease_ends() {
    let mut f = Fixture::new(BreakerConfig::default());
    f.trip();
    f.wait_until_due();
    let lost = f.ticket().unwrap();
    assert_eq!(
        f.breaker.probe_due(f.now),
        Some(f.now + f.breaker.config.probe_lease)
    );
    f.now += f.breaker.config.probe_lease;
    let next = f.ticket().expect("the slot was not freed");
    assert_eq!(f.record(lost, Sample::Failed), None, "too late to count");
    assert_eq!(f.breaker.state(), BreakerState::HalfOpen);
    f.record(next, Sample::Good);
}

#[test]
fn an_outcome_from_before_a_transition_changes_nothing() {
    let mut f = Fixture::new(BreakerConfig::default());
    let slow_success = f.ticket().unwrap();
    let slow_failure = f.ticket().unwrap();
    f.trip();
    f.record(slow_success, Sample::Good);
    assert_eq!(f.breaker.state(), BreakerState::Open);
    f.wait_until_due();
    let probe = f.ticket().unwrap();
    assert_eq!(f.record(slow_failure, Sample::Failed), None);
    assert_eq!(f.breaker.state(), BreakerState::HalfOpen);
    f.record(probe, Sample::Good);
}

#[test]
fn each_healthy_base_period_forgives_one_trip() {
    let mut f = Fixture::new(BreakerConfig {
        half_open_successes: 1,
        ..BreakerConfig::default()
    });
    for _ in 0..3 {
        f.trip();
        f.wait_until_due();
        f.use_once(Sample::Good);
    }
    assert_eq!(f.breaker.trips, 3);
    f.now += 10 * SECOND;
    f.trip();
    assert_eq!(f.breaker.trips, 2, "3 trips, 2 forgiven, and the new one");
}

#[test]
fn a_dry_run_shows_the_trip_and_refuses_nothing() {
    let mut f = Fixture::new(BreakerConfig {
        enforce: false,
        ..BreakerConfig::default()
    });
    f.trip();
    assert!(f.breaker.lets_traffic_through());
    assert!(f.ticket().is_some());
    f.wait_until_due();
    for _ in 0..3 {
        f.use_once(Sample::Good);
    }
    assert_eq!(f.breaker.state(), BreakerState::Closed);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Acquire,
    Record(usize, Sample),
    Lose(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![
        3 => Just(Sample::Failed),
        2 => Just(Sample::Good),
        1 => Just(Sample::Nothing),
        1 => Just(slow(900)),
    ];
    prop_oneof![
        4 => Just(Op::Acquire),
        4 => (0..8usize, outcome).prop_map(|(i, o)| Op::Record(i, o)),
        1 => (0..8usize).prop_map(Op::Lose),
        1 => (0..40_000u64).prop_map(Op::Wait),
    ]
}

proptest! {
    /// Whatever happens: refusals happen only outside closed, live probes
    /// never exceed their number, every step leads along the drawing in the
    /// header, and after the longest wait the breaker can be used again.
    #[test]
    fn it_never_stampedes_and_never_wedges(ops in prop::collection::vec(op(), 1..200), seed: u64) {
        let config = BreakerConfig { consecutive_failures: 2, ..BreakerConfig::default() };
        let mut f = Fixture::new(config);
        f.rng = StdRng::seed_from_u64(seed);
        let mut held: Vec<Ticket> = Vec::new();
        for op in ops {
            let before = f.breaker.state();
            let step = match op {
                Op::Acquire => {
                    let (ticket, step) = f.breaker.acquire(f.now);
                    prop_assert!(ticket.is_some() || before != BreakerState::Closed);
                    held.extend(ticket);
                    step
                }
                Op::Record(i, outcome) if !held.is_empty() => {
                    let ticket = held.swap_remove(i % held.len());
                    f.record(ticket, outcome)
                }
                Op::Lose(i) if !held.is_empty() => {
                    drop(held.swap_remove(i % held.len()));
                    None
                }
                Op::Wait(ms) => {
                    f.now += Duration::from_millis(ms);
                    None
                }
                Op::Record(..) | Op::Lose(_) => None,
            };
            let after = f.breaker.state();
            prop_assert_eq!(step.map_or(before, |s| s.to), after);
            if step.is_some() {
                use BreakerState::{Closed, HalfOpen, Open};
                let allowed = [(Closed, Open), (Open, HalfOpen), (HalfOpen, Open), (HalfOpen, Closed)];
                prop_assert!(allowed.contains(&(before, after)), "{:?} -> {:?}", before, after);
            }
            if let State::HalfOpen { successes, probes, .. } = &f.breaker.state {
                let live = probes.iter().filter(|p| p.ends > f.now).count();
                prop_assert!(live <= config.probes_at(*successes).max(1));
                prop_assert!(probes.len() <= 3);
            }
        }
        f.now += config.open_max * 2 + config.probe_lease;
        prop_assert!(f.ticket().is_some(), "wedged in {:?}", f.breaker.state());
    }
}

mod proofs;
