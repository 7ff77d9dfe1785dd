use super::*;
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
            now: start(),
            rng: StdRng::seed_from_u64(1),
        }
    }

    fn ticket(&mut self) -> Option<Ticket> {
        self.breaker.acquire(self.now).0
    }

    fn record(&mut self, ticket: Ticket, outcome: Outcome) -> Option<Step> {
        self.breaker
            .record(ticket, outcome, self.now, &mut self.rng)
    }

    fn use_once(&mut self, outcome: Outcome) -> Option<Step> {
        let ticket = self.ticket().expect("the breaker refused");
        self.record(ticket, outcome)
    }

    fn trip(&mut self) {
        for _ in 0..self.breaker.config.consecutive_failures {
            self.use_once(Outcome::Failure);
        }
        assert_eq!(self.breaker.state(), BreakerState::Open);
    }

    fn wait_until_due(&mut self) {
        self.now = self.breaker.open_until().expect("not open");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do as the origin"
)]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn five_failures_in_a_row_open_it_and_four_do_not() {
    let mut f = Fixture::new(BreakerConfig::default());
    for _ in 0..4 {
        assert_eq!(f.use_once(Outcome::Failure), None);
    }
    f.use_once(Outcome::Success);
    for _ in 0..4 {
        assert_eq!(f.use_once(Outcome::Failure), None);
    }
    let reason = TripReason::ConsecutiveFailures { failures: 5 };
    let to = BreakerState::Open;
    assert_eq!(f.use_once(Outcome::Failure), Some(Step { to, reason }));
    assert_eq!(f.breaker.tripped_by(), Some(reason));
    assert!(f.ticket().is_none());
}

#[test]
fn pushback_and_neutral_outcomes_neither_count_nor_forgive() {
    let mut f = Fixture::new(BreakerConfig::default());
    for _ in 0..4 {
        f.use_once(Outcome::Failure);
    }
    f.use_once(Outcome::Pushback);
    f.use_once(Outcome::Neutral);
    assert_eq!(f.breaker.failures_in_a_row(), 4);
    f.use_once(Outcome::Failure);
    assert_eq!(f.breaker.state(), BreakerState::Open);
}

#[test]
fn one_probe_goes_first_and_three_follow_once_it_succeeded() {
    let mut f = Fixture::new(BreakerConfig::default());
    f.trip();
    f.wait_until_due();
    let first = f.ticket().unwrap();
    assert!(first.is_probe());
    assert!(f.ticket().is_none(), "a second probe beside the first");
    f.record(first, Outcome::Success);
    let probes: Vec<_> = (0..3).map(|_| f.ticket().unwrap()).collect();
    assert!(f.ticket().is_none(), "a fourth probe at once");
    let steps: Vec<_> = probes
        .into_iter()
        .filter_map(|p| f.record(p, Outcome::Success))
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
    let step = f.use_once(Outcome::Failure).unwrap();
    assert_eq!(step.reason, TripReason::ProbeFailed);
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
    assert_eq!(f.record(lost, Outcome::Failure), None, "too late to count");
    assert_eq!(f.breaker.state(), BreakerState::HalfOpen);
    f.record(next, Outcome::Success);
}

#[test]
fn an_outcome_from_before_a_transition_changes_nothing() {
    let mut f = Fixture::new(BreakerConfig::default());
    let slow_success = f.ticket().unwrap();
    let slow_failure = f.ticket().unwrap();
    f.trip();
    f.record(slow_success, Outcome::Success);
    assert_eq!(f.breaker.state(), BreakerState::Open);
    f.wait_until_due();
    let probe = f.ticket().unwrap();
    assert_eq!(f.record(slow_failure, Outcome::Failure), None);
    assert_eq!(f.breaker.state(), BreakerState::HalfOpen);
    f.record(probe, Outcome::Success);
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
        f.use_once(Outcome::Success);
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
        f.use_once(Outcome::Success);
    }
    assert_eq!(f.breaker.state(), BreakerState::Closed);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Acquire,
    Record(usize, Outcome),
    Lose(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Failure),
        2 => Just(Outcome::Success),
        1 => Just(Outcome::Neutral),
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
