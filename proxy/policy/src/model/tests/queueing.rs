//! Requests that wait for a slot: who gets it, who is turned away, what a reload does.

use super::*;
use crate::Waiter;

const SECOND: Duration = Duration::from_secs(1);

/// Version 1 on port 1 and version 2 on port 2, with one slot each.
fn narrow(weights: [f64; 2], fallback: &[&str], max_queued: usize) -> World {
    World::ready(narrow_config(weights, fallback, max_queued, 1))
}

fn narrow_config(
    weights: [f64; 2],
    fallback: &[&str],
    max_queued: usize,
    max_in_flight: u32,
) -> ModelConfig {
    let mut rules = Rules {
        max_queued,
        ..Rules::default()
    };
    rules.balance.max_in_flight = max_in_flight;
    let versions = vec![
        version("1", weights[0], &[1]),
        version("2", weights[1], &[2]),
    ];
    ModelConfig::new(versions, fallback, rules).unwrap()
}

fn admit(
    world: &mut World,
    version: Option<&str>,
    patience: Duration,
) -> Result<Admitted, Refused> {
    let ask = Ask {
        deadline: world.now + patience,
        ..world.ask(version)
    };
    world.policy.admit(ask, world.now, &mut world.rng)
}

fn go(admitted: Result<Admitted, Refused>) -> Attempt {
    match admitted {
        Ok(Admitted::Now(attempt)) => attempt,
        other => panic!("{other:?}"),
    }
}

fn wait(admitted: Result<Admitted, Refused>) -> Waiter {
    match admitted {
        Ok(Admitted::Queued(waiter)) => waiter,
        other => panic!("{other:?}"),
    }
}

fn serve(world: &mut World) -> Option<(Waiter, Result<Attempt, Refused>)> {
    world.policy.serve(world.now, &mut world.rng)
}

/// The request that is served next, if one is.
fn served(world: &mut World) -> Option<(Waiter, Attempt)> {
    serve(world).map(|(waiter, outcome)| (waiter, outcome.unwrap()))
}

#[test]
fn a_slot_that_comes_free_goes_to_the_most_urgent() {
    let mut world = narrow([1.0, 0.0], &[], 8);
    let mut out = go(admit(&mut world, None, SECOND));
    let patience = [900, 300, 600, 300];
    let waiters = patience.map(|ms| wait(admit(&mut world, None, ms * MS)));
    assert_eq!(world.policy.queued(), 4);
    assert!(serve(&mut world).is_none(), "nothing has come free");
    for expected in [1, 3, 2, 0] {
        world.now += MS;
        world.record(out.permit, OK);
        let (waiter, attempt) = served(&mut world).unwrap();
        assert_eq!(waiter, waiters[expected]);
        assert!(serve(&mut world).is_none(), "one slot, one request");
        out = attempt;
    }
    world.record(out.permit, OK);
    assert_eq!(world.policy.queued(), 0);
}

#[test]
fn a_full_queue_refuses_and_one_of_no_places_never_queues() {
    for (max_queued, refusal) in [(2, Refusal::QueueFull), (0, Refusal::NoRoom)] {
        let mut world = narrow([1.0, 0.0], &[], max_queued);
        let out = go(admit(&mut world, None, SECOND));
        for _ in 0..max_queued {
            let _ = wait(admit(&mut world, None, SECOND));
        }
        let refused = admit(&mut world, None, SECOND).unwrap_err();
        assert_eq!(refused, refusal.into());
        world.record(out.permit, OK);
    }
}

#[test]
fn a_client_that_leaves_makes_room() {
    let mut world = narrow([1.0, 0.0], &[], 1);
    let out = go(admit(&mut world, None, SECOND));
    let first = wait(admit(&mut world, None, SECOND));
    assert!(admit(&mut world, None, SECOND).is_err());
    world.policy.abandon(first, world.now);
    let second = wait(admit(&mut world, None, SECOND));
    world.policy.abandon(first, world.now);
    assert_eq!(world.policy.queued(), 1, "it had left already");
    world.record(out.permit, OK);
    let (waiter, attempt) = served(&mut world).unwrap();
    assert_eq!(waiter, second);
    world.record(attempt.permit, OK);
}

#[test]
fn who_would_wait_beyond_its_deadline_is_told_at_once() {
    let mut world = narrow([1.0, 0.0], &[], 100);
    let mut out = go(admit(&mut world, None, SECOND));
    // A slot every 100 ms, and always four in line.
    for _ in 0..4 {
        let _ = wait(admit(&mut world, None, 10 * SECOND));
    }
    for _ in 0..100 {
        world.now += 100 * MS;
        world.record(out.permit, Outcome::Success { waited: 90 * MS });
        world.tick();
        (_, out) = served(&mut world).unwrap();
        let _ = wait(admit(&mut world, None, 10 * SECOND));
    }
    // Its place would be the fifth; and what an endpoint takes comes on top.
    let refused = admit(&mut world, None, 200 * MS);
    let in_time = wait(refused);
    world.policy.abandon(in_time, world.now);
    let refused = admit(&mut world, None, 150 * MS).unwrap_err();
    assert_eq!(
        refused.refusal,
        Refusal::WaitTooLong,
        "a slot, and then 90 ms"
    );
    world.record(out.permit, OK);
}

#[test]
fn one_whose_turn_comes_too_late_is_turned_away_and_the_next_is_served() {
    let mut world = narrow([1.0, 0.0], &[], 8);
    for _ in 0..40 {
        let attempt = go(admit(&mut world, None, SECOND));
        world.record(attempt.permit, Outcome::Success { waited: 90 * MS });
        world.now += 100 * MS;
        world.tick();
    }
    let out = go(admit(&mut world, None, SECOND));
    let late = wait(admit(&mut world, None, 300 * MS));
    let next = wait(admit(&mut world, None, SECOND));
    world.now += 250 * MS;
    world.record(out.permit, OK);
    let (waiter, outcome) = serve(&mut world).unwrap();
    assert_eq!(waiter, late, "90 ms do not fit into 50");
    assert_eq!(outcome.unwrap_err().refusal, Refusal::WaitedInVain);
    let (waiter, attempt) = served(&mut world).unwrap();
    assert_eq!(waiter, next);
    world.record(attempt.permit, OK);
}

#[test]
fn one_whose_deadline_passes_is_told_so_once() {
    let mut world = narrow([1.0, 0.0], &[], 8);
    let out = go(admit(&mut world, None, SECOND));
    let waiter = wait(admit(&mut world, None, SECOND));
    world.now += SECOND;
    let refused = world.policy.expire(waiter, world.now).unwrap();
    assert_eq!(refused, Refusal::WaitedInVain.into());
    assert_eq!(world.policy.expire(waiter, world.now), None);
    world.record(out.permit, OK);
    assert!(serve(&mut world).is_none());
}

#[test]
fn a_fallback_versions_slot_serves_those_who_may_leave_and_no_others() {
    let mut world = narrow([0.0, 1.0], &["1"], 8);
    let own = go(admit(&mut world, None, SECOND));
    let other = go(admit(&mut world, None, SECOND));
    assert_eq!((&*own.version, &*other.version), ("2", "1"));
    let pinned = wait(admit(&mut world, Some("2"), 300 * MS));
    let free = wait(admit(&mut world, None, 600 * MS));
    world.record(other.permit, OK);
    let (waiter, attempt) = served(&mut world).unwrap();
    assert_eq!(
        waiter, free,
        "the pinned one is more urgent, and cannot use it"
    );
    assert_eq!(attempt.kind, RouteKind::Fallback(FallbackReason::Spill));
    assert!(serve(&mut world).is_none());
    world.record(own.permit, OK);
    let (waiter, last) = served(&mut world).unwrap();
    assert_eq!((waiter, last.kind), (pinned, RouteKind::Pinned));
    world.record(attempt.permit, OK);
    world.record(last.permit, OK);
}

#[test]
fn a_version_that_is_down_waits_for_its_fallback_and_tries_nothing_that_is_down() {
    let mut world = narrow([0.0, 1.0], &["1"], 8);
    world.check("2", at(2), CheckResult::Draining);
    let out = go(admit(&mut world, None, SECOND));
    let waiter = wait(admit(&mut world, None, SECOND));
    assert_eq!(world.endpoint("2", 2).in_flight, 0);
    world.record(out.permit, OK);
    let (served, attempt) = served(&mut world).unwrap();
    assert_eq!((served, &*attempt.version), (waiter, "1"));
    world.record(attempt.permit, OK);
}

#[test]
fn when_everything_goes_away_while_it_waits_it_is_told_so() {
    let mut world = narrow([1.0, 0.0], &[], 8);
    let out = go(admit(&mut world, None, SECOND));
    let waiter = wait(admit(&mut world, None, SECOND));
    world.check("1", at(1), CheckResult::Draining);
    let (told, outcome) = serve(&mut world).unwrap();
    assert_eq!(
        (told, outcome.unwrap_err().refusal),
        (waiter, Refusal::NoEndpoint)
    );
    world.record(out.permit, OK);
}

#[test]
fn the_static_answer_stands_in_for_every_refusal_of_the_queue() {
    let mut config = narrow_config([1.0, 0.0], &[], 1, 1);
    config.rules.static_answer = true;
    let mut world = World::ready(config);
    let out = go(admit(&mut world, None, SECOND));
    let waiter = wait(admit(&mut world, None, SECOND));
    let spilled = |refused: Refused| refused.stand_in.map(|stand_in| stand_in.reason);
    let refused = admit(&mut world, None, SECOND).unwrap_err();
    assert_eq!(refused.refusal, Refusal::QueueFull);
    assert_eq!(spilled(refused), Some(FallbackReason::Spill));
    world.now += SECOND;
    let refused = world.policy.expire(waiter, world.now).unwrap();
    assert_eq!(spilled(refused), Some(FallbackReason::Spill));
    world.record(out.permit, OK);
}

#[test]
fn a_reload_takes_those_who_wait_along() {
    let mut world = narrow([0.0, 1.0], &[], 8);
    let out = go(admit(&mut world, None, SECOND));
    let drawn = wait(admit(&mut world, None, SECOND));
    let pinned = wait(admit(&mut world, Some("2"), 2 * SECOND));
    // More room: both are served.
    world.reload(narrow_config([0.0, 1.0], &[], 0, 2));
    let (waiter, second) = served(&mut world).unwrap();
    assert_eq!(waiter, drawn);
    assert!(serve(&mut world).is_none());
    assert_eq!(
        world.policy.queued(),
        1,
        "no new ones may wait, and this one still does"
    );
    // Version 2 goes: who was drawn for it is drawn again, who named it is told.
    let waiting = {
        world.reload(narrow_config([0.0, 1.0], &[], 8, 2));
        wait(admit(&mut world, None, 3 * SECOND))
    };
    world.reload(config(vec![version("1", 1.0, &[1])], &[]));
    let (waiter, outcome) = serve(&mut world).unwrap();
    assert_eq!(
        (waiter, outcome.unwrap_err().refusal),
        (pinned, Refusal::UnknownVersion)
    );
    let (waiter, attempt) = served(&mut world).unwrap();
    assert_eq!((waiter, &*attempt.version), (waiting, "1"));
    for attempt in [out, second, attempt] {
        world.record(attempt.permit, OK);
    }
}

#[test]
fn who_waits_pays_for_one_first_attempt_only() {
    let mut world = narrow([1.0, 0.0], &[], 8);
    let before = world.policy.retries_left(world.now);
    let out = go(admit(&mut world, None, SECOND));
    let _ = wait(admit(&mut world, None, SECOND));
    world.record(out.permit, OK);
    let (_, attempt) = served(&mut world).unwrap();
    world.record(attempt.permit, OK);
    let bought = world.policy.retries_left(world.now) - before;
    assert!((bought - 0.4).abs() < 1e-9, "two requests at 0.2: {bought}");
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// None, or the version that it names; with so many milliseconds.
    Admit(Option<u8>, u64),
    End(usize, bool),
    Leave(usize),
    Check(u8, CheckResult),
    Pass(u64),
    Reload(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let result = prop_oneof![Just(CheckResult::Up), Just(CheckResult::Down)];
    prop_oneof![
        8 => (prop::option::of(1..3u8), 1..2_000u64).prop_map(|(v, ms)| Op::Admit(v, ms)),
        6 => (0..99usize, prop::bool::weighted(0.9)).prop_map(|(i, ok)| Op::End(i, ok)),
        1 => (0..99usize).prop_map(Op::Leave),
        1 => (1..3u8, result).prop_map(|(p, r)| Op::Check(p, r)),
        2 => (0..400u64).prop_map(Op::Pass),
        1 => (0..3usize).prop_map(Op::Reload),
    ]
}

/// One that waits, as the reference knows it: a plain list.
struct Waits {
    waiter: Waiter,
    deadline: Instant,
    pinned: Option<u8>,
}

proptest! {
    /// Whatever happens: no endpoint holds more than it may or loses a slot; who
    /// waits is settled exactly once; nobody waits who could be served; in every
    /// lane the most urgent goes first; no more wait than may.
    #[test]
    fn no_slot_is_lost_or_idle_and_nobody_is_passed_over(
        ops in prop::collection::vec(op(), 1..150),
        seed: u64,
    ) {
        const MOST: usize = 6;
        let shapes = [
            narrow_config([1.0, 1.0], &["1"], MOST, 2),
            narrow_config([1.0, 1.0], &[], MOST, 1),
            narrow_config([0.0, 1.0], &["1", "2"], MOST, 3),
        ];
        let mut shape = 0;
        let mut world = World::ready(shapes[0].clone());
        world.rng = StdRng::seed_from_u64(seed);
        let mut held: Vec<Permit> = Vec::new();
        let mut line: Vec<Waits> = Vec::new();
        for op in ops {
            match op {
                Op::Admit(pinned, ms) => {
                    let name = pinned.map(|v| v.to_string());
                    let patience = Duration::from_millis(ms);
                    match admit(&mut world, name.as_deref(), patience) {
                        Ok(Admitted::Now(attempt)) => held.push(attempt.permit),
                        Ok(Admitted::Queued(waiter)) => {
                            let deadline = world.now + patience;
                            line.push(Waits { waiter, deadline, pinned });
                        }
                        Err(refused) => prop_assert_ne!(refused.refusal, Refusal::NoRoom),
                    }
                }
                Op::End(i, ok) if !held.is_empty() => {
                    let permit = held.swap_remove(i % held.len());
                    world.record(permit, if ok { OK } else { Outcome::Failure });
                }
                Op::Leave(i) if !line.is_empty() => {
                    let gone = line.remove(i % line.len());
                    world.policy.abandon(gone.waiter, world.now);
                }
                Op::Check(port, result) => {
                    world.check(&port.to_string(), at(port.into()), result);
                }
                Op::Pass(ms) => {
                    world.now += Duration::from_millis(ms);
                    world.tick();
                    let (gone, stay) = line.into_iter().partition(|w: &Waits| w.deadline <= world.now);
                    line = stay;
                    for Waits { waiter, .. } in gone {
                        prop_assert!(world.policy.expire(waiter, world.now).is_some());
                    }
                }
                Op::Reload(to) => {
                    shape = to;
                    world.reload(shapes[to].clone());
                }
                Op::End(..) | Op::Leave(_) => {}
            }
            while let Some((waiter, outcome)) = serve(&mut world) {
                let at = line.iter().position(|w| w.waiter == waiter);
                let Waits { deadline, pinned, .. } = line.remove(at.expect("it waited"));
                if let Ok(attempt) = outcome {
                    // Who names its version stands in a lane of its own.
                    let passed_over = line.iter().any(|w| {
                        pinned.is_some() && w.pinned == pinned && w.deadline < deadline
                    });
                    prop_assert!(!passed_over);
                    held.push(attempt.permit);
                }
            }
            prop_assert_eq!(world.policy.queued(), line.len());
            prop_assert!(line.len() <= MOST);
            for (key, endpoint) in &world.policy.endpoints {
                let out = held.iter().filter(|p| p.endpoint() == key).count();
                prop_assert_eq!(endpoint.in_flight as usize, out);
            }
            let most = shapes[shape].rules.balance.max_in_flight;
            let has_room = |v: u8| {
                let pool = &world.policy.pools[usize::from(v) - 1];
                pool.serves() && world.endpoint(&v.to_string(), v.into()).in_flight < most
            };
            for waits in &line {
                let idle = waits.pinned.is_some_and(has_room);
                prop_assert!(!idle, "version {:?} has a slot, and a request waits", waits.pinned);
            }
            let all_idle = has_room(1) && has_room(2);
            prop_assert!(line.is_empty() || !all_idle, "every version has a slot");
        }
    }
}
