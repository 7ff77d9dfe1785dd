//! What a breaker promises, against references that are too simple to be wrong.

use super::*;

const LEASE: Duration = Duration::from_secs(30);

/// What happens to a breaker and to those who hold its tickets.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Somebody asks to use the endpoint.
    Ask,
    /// Somebody comes back.
    Tell(usize, Sample),
    /// Somebody never comes back.
    Vanish(usize),
    /// An active check passes.
    Check,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let sample = prop_oneof![
        4 => Just(Sample::Good),
        2 => Just(Sample::Failed),
        1 => Just(Sample::BrokeOff),
        1 => Just(Sample::Nothing),
        1 => Just(slow(900)),
    ];
    prop_oneof![
        6 => Just(Event::Ask),
        4 => (0..9usize, sample).prop_map(|(i, s)| Event::Tell(i, s)),
        2 => (0..9usize).prop_map(Event::Vanish),
        1 => Just(Event::Check),
        2 => (0..20_000u64).prop_map(Event::Pass),
    ]
}

fn jumpy(half_open_max_probes: u32) -> Fixture {
    Fixture::new(BreakerConfig {
        consecutive_failures: 2,
        half_open_max_probes,
        half_open_successes: 4,
        probe_lease: LEASE,
        ..BreakerConfig::default()
    })
}

/// What is told of attempts.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// How one began.
    Begins(Sample),
    /// One of them breaks off.
    BreaksOff(usize),
    Pass(u64),
}

fn told() -> impl Strategy<Value = Told> {
    let sample = prop_oneof![
        4 => Just(Sample::Good),
        1 => Just(Sample::Failed),
        1 => Just(Sample::Nothing),
        1 => Just(slow(900)),
    ];
    prop_oneof![
        5 => sample.prop_map(Told::Begins),
        4 => (0..9usize).prop_map(Told::BreaksOff),
        1 => (0..1_000u64).prop_map(Told::Pass),
    ]
}

/// All that can be seen of a breaker, and all that it keeps.
fn everything(breaker: &Breaker) -> String {
    format!("{breaker:?}")
}

proptest! {
    /// Against a list of the probes that were given out, when, and whether they
    /// have come back: one until the first success, then as many as configured.
    #[test]
    fn half_open_never_exceeds_its_limit(
        events in prop::collection::vec(event(), 1..250),
        most in 1..4u32,
        seed: u64,
    ) {
        let mut f = jumpy(most);
        f.rng = StdRng::seed_from_u64(seed);
        f.trip();
        let mut held: Vec<Ticket> = Vec::new();
        let mut probes: Vec<(u64, u64, Instant)> = Vec::new();
        let mut successes = 0;
        for event in events {
            match event {
                Event::Ask => {
                    if let (Some(ticket), step) = f.breaker.acquire(f.now) {
                        if step.is_some() {
                            successes = 0;
                        }
                        if let Some(probe) = ticket.probe {
                            probes.push((ticket.epoch, probe, f.now + LEASE));
                        }
                        held.push(ticket);
                    }
                }
                Event::Tell(i, sample) if !held.is_empty() => {
                    let ticket = held.swap_remove(i % held.len());
                    let of_now = ticket.epoch == f.breaker.epoch;
                    let name = (ticket.epoch, ticket.probe);
                    let lives = |p: &(u64, u64, Instant)| name == (p.0, Some(p.1)) && p.2 > f.now;
                    successes += usize::from(of_now && sample == Sample::Good && probes.iter().any(lives));
                    probes.retain(|p| name != (p.0, Some(p.1)));
                    f.record(ticket, sample);
                }
                Event::Vanish(i) if !held.is_empty() => drop(held.swap_remove(i % held.len())),
                Event::Check => {
                    if f.breaker.check_passed(f.now).is_some() {
                        successes = 0;
                    }
                }
                Event::Pass(ms) => f.now += Duration::from_millis(ms),
                Event::Tell(..) | Event::Vanish(_) => {}
            }
            if f.breaker.state() != BreakerState::HalfOpen {
                probes.clear();
                successes = 0;
            }
            let out = probes.iter().filter(|p| p.0 == f.breaker.epoch && p.2 > f.now).count();
            let limit = if successes == 0 { 1 } else { most as usize };
            // A limit does not fall while probes are out: successes only grow.
            prop_assert!(out <= limit, "{} probes are out, {} may be", out, limit);
        }
    }

    /// A ticket from before a transition, whatever it brings, leaves the breaker
    /// exactly as it is.
    #[test]
    fn a_stale_permit_is_a_no_op(events in prop::collection::vec(event(), 1..250), seed: u64) {
        let mut f = jumpy(3);
        f.rng = StdRng::seed_from_u64(seed);
        let mut held: Vec<Ticket> = Vec::new();
        for event in events {
            match event {
                Event::Ask => held.extend(f.ticket()),
                Event::Tell(i, sample) if !held.is_empty() => {
                    let ticket = held.swap_remove(i % held.len());
                    let is_stale = ticket.epoch != f.breaker.epoch;
                    let before = everything(&f.breaker);
                    let step = f.record(ticket, sample);
                    if is_stale {
                        prop_assert_eq!(step, None);
                        prop_assert_eq!(everything(&f.breaker), before, "after {:?}", sample);
                    }
                }
                Event::Check => {
                    f.breaker.check_passed(f.now);
                }
                Event::Pass(ms) => f.now += Duration::from_millis(ms),
                Event::Tell(..) | Event::Vanish(_) => {}
            }
        }
    }

    /// Against a list of what is known of each attempt: one that breaks off is taken out
    /// of where it stood, and is a failure now. So many in a row open the breaker, and so
    /// does a window of nothing else, and nothing opens it before.
    #[test]
    fn what_breaks_off_is_taken_back_and_nothing_else_is(
        events in prop::collection::vec(told(), 1..250),
        min_samples in prop::sample::select(vec![1, 1_000]),
        seed: u64,
    ) {
        let mut f = Fixture::new(BreakerConfig {
            consecutive_failures: 4,
            failure_ratio: 1.0,
            consecutive_slow: 1_000,
            slow_ratio: 1.0,
            min_samples,
            // Nothing is forgotten, in whichever of the buckets it is.
            window: Duration::from_mins(10),
            sparse_window: Duration::from_mins(10),
            ..BreakerConfig::default()
        });
        f.rng = StdRng::seed_from_u64(seed);
        let mut list: Vec<(usize, Mark)> = Vec::new();
        let mut begun: Vec<(usize, Ticket)> = Vec::new();
        for (number, event) in events.into_iter().enumerate() {
            let (step, new) = match event {
                Told::Begins(sample) => {
                    let mut ticket = f.ticket().unwrap();
                    let step = f.record_some(&mut ticket, sample);
                    begun.push((number, ticket));
                    let mark = match sample {
                        Sample::Good => Some(Mark::Good),
                        Sample::Slow(_) => Some(Mark::Slow),
                        Sample::Failed | Sample::BrokeOff => Some(Mark::Failed),
                        Sample::Nothing => None,
                    };
                    (step, mark.map(|mark| (number, mark)))
                }
                Told::BreaksOff(which) if !begun.is_empty() => {
                    let (number, mut ticket) = begun.swap_remove(which % begun.len());
                    let step = f.record_some(&mut ticket, Sample::BrokeOff);
                    if list.contains(&(number, Mark::Failed)) {
                        (step, None)
                    } else {
                        list.retain(|(of, _)| *of != number);
                        (step, Some((number, Mark::Failed)))
                    }
                }
                Told::Pass(ms) => {
                    f.now += Duration::from_millis(ms);
                    (None, None)
                }
                Told::BreaksOff(_) => (None, None),
            };
            list.extend(new);
            let all = |mark| list.iter().filter(|(_, of)| *of == mark).count();
            let in_a_row = list.iter().rev().take_while(|(_, mark)| *mark == Mark::Failed);
            let opens = match new {
                Some((_, mark @ Mark::Failed)) => {
                    in_a_row.clone().count() >= 4 || min_samples == 1 && all(mark) == list.len()
                }
                Some((_, mark @ Mark::Slow)) => min_samples == 1 && all(mark) == list.len(),
                Some((_, Mark::Good)) | None => false,
            };
            prop_assert_eq!(step.is_some(), opens, "{:?} after {:?}", step, list);
            if opens {
                return Ok(());
            }
            let expected = [Mark::Good, Mark::Slow, Mark::Failed].map(all);
            let counts = f.breaker.counts(f.now);
            let counted = [counts.good, counts.slow, counts.failed].map(|n| n as usize);
            prop_assert_eq!(counted, expected);
            prop_assert_eq!(f.breaker.failures_in_a_row() as usize, in_a_row.count());
        }
    }

    /// However many tickets are never brought back: once what is leased has run
    /// out and the longest open time is over, somebody may use the endpoint, and
    /// good answers close the breaker.
    #[test]
    fn a_dropped_permit_never_wedges(events in prop::collection::vec(event(), 1..250), seed: u64) {
        let mut f = jumpy(2);
        f.rng = StdRng::seed_from_u64(seed);
        let mut held: Vec<Ticket> = Vec::new();
        for event in events {
            match event {
                Event::Ask => held.extend(f.ticket()),
                Event::Tell(i, sample) if !held.is_empty() => {
                    let ticket = held.swap_remove(i % held.len());
                    f.record(ticket, sample);
                }
                Event::Vanish(i) if !held.is_empty() => drop(held.swap_remove(i % held.len())),
                Event::Check => {
                    f.breaker.check_passed(f.now);
                }
                Event::Pass(ms) => f.now += Duration::from_millis(ms),
                Event::Tell(..) | Event::Vanish(_) => {}
            }
        }
        held.clear();
        f.now += f.breaker.config.open_max.mul_f64(1.2) + LEASE;
        for _ in 0..4 {
            let ticket = f.ticket();
            prop_assert!(ticket.is_some(), "wedged: {:?}", f.breaker);
            ticket.map(|ticket| f.record(ticket, Sample::Good));
        }
        prop_assert_eq!(f.breaker.state(), BreakerState::Closed);
    }

    /// Twenty samples with no five bad ones in a row, the last of them bad: the
    /// breaker opens with it if at least half are bad, and never before or else,
    /// whether they come within a second or within five minutes.
    #[test]
    fn tripping_does_not_depend_on_the_arrival_rate_sparse_traffic_included(
        bad in prop::collection::vec(any::<bool>(), 19),
        gaps in prop::collection::vec(0..15_000u64, 20),
        hurry in prop_oneof![Just(1), Just(10), Just(1_000)],
        slowness: bool,
    ) {
        let mut bad = bad;
        bad.push(true);
        let in_a_row = bad.split(|bad| !bad).map(<[bool]>::len).max().unwrap_or(0);
        prop_assume!(in_a_row < 5);
        let mut f = Fixture::new(BreakerConfig::default());
        for (i, (&bad, gap)) in bad.iter().zip(&gaps).enumerate() {
            f.now += Duration::from_millis(gap / hurry);
            let sample = match (bad, slowness) {
                (false, _) => Sample::Good,
                (true, false) => Sample::Failed,
                (true, true) => slow(900),
            };
            let step = f.use_once(sample);
            prop_assert!(i == 19 || step.is_none(), "it opened after {}", i + 1);
        }
        let share = bad.iter().filter(|bad| **bad).count();
        let opened = f.breaker.state() == BreakerState::Open;
        prop_assert_eq!(opened, share >= 10, "{} of 20 were bad", share);
    }
}
