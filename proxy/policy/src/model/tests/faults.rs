//! Endpoints that are slow, hung, failing: found, taken out, and brought back.

use super::*;
use crate::breaker::Basis;

pub(super) const PORTS: [u16; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// Eight endpoints that answer in 5 ms, and are known to.
pub(super) fn eight() -> World {
    let mut world = World::ready(config(vec![version("1", 1.0, &PORTS)], &[]));
    world.now += Duration::from_secs(20);
    world.serve(400, |_| 5 * MS);
    world
}

#[test]
fn an_endpoint_that_is_slow_beside_its_peers_gets_next_to_nothing() {
    let mut world = eight();
    let limit = world.endpoint("1", 3).threshold;
    assert_eq!((limit.limit, limit.basis), (50 * MS, Basis::Floor));
    let asked = std::cell::Cell::new(0);
    world.serve(400, |port| {
        asked.set(asked.get() + usize::from(port == 3));
        if port == 3 { 200 * MS } else { 5 * MS }
    });
    assert!((1..=2).contains(&asked.get()), "{asked:?}");
    assert_eq!(world.endpoint("1", 3).slow, asked.get() as u64);
}

#[test]
fn an_endpoint_whose_requests_are_rescued_is_taken_out() {
    let mut world = eight();
    let (mut moved, mut rescued) = (Vec::new(), 0);
    for _ in 0..1_000 {
        let attempt = world.start(None);
        world.now += MS;
        if attempt.address == at(3) {
            rescued += 1;
            let within = attempt.first_byte_within;
            assert_eq!(within, 50 * MS);
            world.now += within;
            moved.extend(world.record(attempt.permit, Outcome::TimedOut));
        } else {
            world.record(attempt.permit, Outcome::Success { waited: 5 * MS });
        }
    }
    assert_eq!(rescued, 5);
    let [tripped] = moved.as_slice() else {
        panic!("{moved:?}");
    };
    assert_eq!(
        (tripped.address, tripped.step.to),
        (at(3), BreakerState::Open)
    );
    assert!(world.endpoint("1", 3).open_for.is_some());
}

#[test]
fn a_pool_that_is_slow_as_a_whole_is_not_slow_beside_itself() {
    let mut world = eight();
    for factor in [1, 2, 4, 8, 16, 32] {
        assert_eq!(world.serve(800, |_| 5 * MS * factor), [], "× {factor}");
    }
}

#[test]
fn inputs_of_two_sizes_make_no_endpoint_slow() {
    let mut world = eight();
    let mut turn = 0_u32;
    for _ in 0..6_000 {
        let attempt = world.start(None);
        turn += 1;
        // One in seven takes twelve times as long, wherever it lands.
        let waited = if turn.is_multiple_of(7) {
            240 * MS
        } else {
            20 * MS
        };
        world.now += MS;
        let moved = world.record(attempt.permit, Outcome::Success { waited });
        assert_eq!(moved, None);
        if turn.is_multiple_of(50) {
            assert_eq!(world.tick(), []);
        }
    }
}

/// An endpoint hangs, and nothing can be rescued from it: every request stays
/// until its deadline.
#[test]
fn a_hung_endpoint_is_found_by_the_age_of_what_it_holds() {
    let mut world = eight();
    let (mut held, mut moved) = (Vec::new(), Vec::new());
    let mut asked = 0;
    for _ in 0..9_000 {
        world.now += MS;
        let ask = Ask {
            replayable: false,
            ..world.ask(None)
        };
        let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        if attempt.address == at(3) {
            asked += 1;
            held.push((world.now + attempt.first_byte_within, attempt.permit));
        } else {
            world.record(attempt.permit, Outcome::Success { waited: 5 * MS });
        }
        moved.extend(world.tick());
        while held.first().is_some_and(|(until, _)| *until <= world.now) {
            moved.extend(world.record(held.remove(0).1, Outcome::TimedOut));
        }
    }
    let [tripped] = moved.as_slice() else {
        panic!("{moved:?}");
    };
    assert_eq!(
        (tripped.address, tripped.step.to),
        (at(3), BreakerState::Open)
    );
    assert!(matches!(
        tripped.step.reason,
        TripReason::ConsecutiveSlow { slow: 5, .. }
    ));
    // Five were needed, and the load that it held kept most others away.
    assert!((5..=8).contains(&asked), "{asked} requests hung");
    assert_eq!(world.endpoint("1", 3).in_flight as usize, held.len());
}

#[test]
fn a_request_is_slow_once_whether_its_age_or_its_answer_says_so() {
    let mut world = eight();
    let attempt = world.start(None);
    let port = attempt.address.port();
    world.now += 80 * MS;
    world.tick();
    world.tick();
    assert_eq!(world.endpoint("1", port).slow_in_a_row, 1);
    world.now += 80 * MS;
    world.record(attempt.permit, Outcome::Success { waited: 160 * MS });
    let endpoint = world.endpoint("1", port);
    assert_eq!((endpoint.slow_in_a_row, endpoint.slow), (1, 1));
}

#[test]
fn the_age_of_an_upload_counts_from_its_end() {
    let mut world = eight();
    let ask = Ask {
        uploading: true,
        ..world.ask(None)
    };
    let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
    let port = attempt.address.port();
    world.now += Duration::from_secs(1);
    world.tick();
    assert_eq!(world.endpoint("1", port).slow, 0, "the client was slow");
    world.policy.sent(&attempt.permit, world.now);
    world.now += 60 * MS;
    world.tick();
    assert_eq!(world.endpoint("1", port).slow, 1);
    world.record(attempt.permit, Outcome::Neutral);
}

#[test]
fn an_answer_that_has_begun_is_not_late_however_long_it_streams() {
    let mut world = eight();
    let attempt = world.start(None);
    let observed = Outcome::Success { waited: 5 * MS };
    world
        .policy
        .judge(&attempt.permit, observed.into(), world.now, &mut world.rng);
    world.now += Duration::from_mins(1);
    assert_eq!(world.tick(), []);
    let port = attempt.address.port();
    assert_eq!(
        (
            world.endpoint("1", port).slow,
            world.endpoint("1", port).in_flight
        ),
        (0, 1)
    );
    // But it can break off, which is a failure after all.
    world
        .policy
        .release(attempt.permit, true, world.now, &mut world.rng);
    assert_eq!(
        (
            world.endpoint("1", port).failures,
            world.endpoint("1", port).in_flight
        ),
        (1, 0)
    );
}

#[test]
fn a_client_cannot_open_a_breaker_with_its_own_deadline() {
    let mut world = eight();
    for _ in 0..2_000 {
        let ask = Ask {
            deadline: world.now + MS,
            ..world.ask(None)
        };
        let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        assert!(attempt.first_byte_within <= MS);
        world.now += MS;
        world.tick();
        assert_eq!(world.record(attempt.permit, Outcome::TimedOut), None);
    }
    assert!(
        PORTS
            .iter()
            .all(|&port| world.endpoint("1", port).failures_in_a_row == 0)
    );
}

#[test]
fn an_attempt_that_got_what_is_fair_and_timed_out_was_slow() {
    let mut world = eight();
    let attempt = world.start(None);
    let port = attempt.address.port();
    assert_eq!(
        attempt.first_byte_within,
        50 * MS,
        "the floor, since 3 × p99 is less"
    );
    world.now += 50 * MS;
    world.record(attempt.permit, Outcome::TimedOut);
    let endpoint = world.endpoint("1", port);
    assert_eq!((endpoint.slow_in_a_row, endpoint.failures), (1, 0));
}

#[test]
fn a_client_that_leaves_an_endpoint_that_hangs_has_seen_it_hang() {
    let mut world = eight();
    let attempt = world.start(None);
    let port = attempt.address.port();
    world.now += 400 * MS;
    world.record(attempt.permit, Outcome::Neutral);
    assert_eq!(world.endpoint("1", port).slow_in_a_row, 1);
}

#[test]
fn a_version_that_crawls_is_left_while_another_can_take_over() {
    let mut world = World::ready(canary());
    let ms = |port: u16| {
        if port == 3 {
            Duration::from_secs(2)
        } else {
            5 * MS
        }
    };
    let moved = world.serve(400, ms);
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!(
        (moved[0].address, moved[0].step.to),
        (at(3), BreakerState::Open)
    );
    assert!(!world.endpoint("2", 3).protected);
    assert!(!world.shares(500).contains_key(&("2".into(), "split")));
}

#[test]
fn a_pushback_parks_and_charges_nothing() {
    let mut world = eight();
    let attempt = world.start(None);
    let port = attempt.address.port();
    world.record(
        attempt.permit,
        Outcome::Pushback {
            park: Some(Duration::from_secs(3)),
        },
    );
    assert_eq!(
        world.endpoint("1", port).parked_for,
        Some(Duration::from_secs(3))
    );
    let asked = std::cell::Cell::new(0);
    let answer = |p: u16| {
        asked.set(asked.get() + usize::from(p == port));
        5 * MS
    };
    world.serve(300, answer);
    assert_eq!(asked.get(), 0, "it was asked while it was parked");
    world.now += Duration::from_secs(3);
    world.serve(300, answer);
    assert!(asked.get() > 0);
    assert_eq!(world.endpoint("1", port).failures, 0);
}

#[test]
fn a_suspect_is_charged_when_somebody_else_answers_well_and_else_not() {
    let mut world = eight();
    for guilty in [false, true] {
        let attempt = world.start(None);
        let port = attempt.address.port();
        let before = world.endpoint("1", port).failures;
        let suspect = world.policy.suspect(attempt.permit, world.now).unwrap();
        assert_eq!(world.endpoint("1", port).in_flight, 0);
        world
            .policy
            .resolve(suspect, guilty, world.now, &mut world.rng);
        assert_eq!(
            world.endpoint("1", port).failures - before,
            u64::from(guilty)
        );
    }
}

#[test]
fn an_operator_takes_an_endpoint_out_and_puts_it_back() {
    let mut world = eight();
    assert!(world.policy.set_drained("1", at(3), true, world.now));
    assert!(!world.policy.set_drained("1", at(99), true, world.now));
    assert!(!world.policy.set_drained("9", at(3), true, world.now));
    world.serve(200, |port| {
        assert_ne!(port, 3);
        5 * MS
    });
    assert!(world.endpoint("1", 3).drained);
    world.policy.set_drained("1", at(3), false, world.now);
    world.now += Duration::from_secs(20);
    let asked = std::cell::Cell::new(0);
    world.serve(200, |port| {
        asked.set(asked.get() + usize::from(port == 3));
        5 * MS
    });
    assert!(asked.get() > 0);
}

/// Who stays in use of a pool in which these have tripped, in that order.
fn spared(ready: usize, tripped: usize, fallback: bool) -> usize {
    let ports: Vec<u16> = (1..=u16::try_from(ready).unwrap()).collect();
    let versions = vec![version("1", 1.0, &ports), version("2", 1.0, &[99])];
    let chain: &[&str] = if fallback { &["2"] } else { &[] };
    let mut world = World::ready(config(versions, chain));
    for &port in &ports[..tripped] {
        while world.endpoint("1", port).breaker == BreakerState::Closed {
            let attempt = world.start(Some("1"));
            let fails = attempt.address == at(port);
            world.record(attempt.permit, if fails { Outcome::Failure } else { OK });
        }
    }
    ports
        .iter()
        .filter(|&&port| world.endpoint("1", port).protected)
        .count()
}

#[test]
fn the_caps_hold_exactly_while_the_chain_is_exhausted_and_never_before() {
    for ready in 1..=9 {
        for tripped in 0..=ready {
            assert_eq!(
                spared(ready, tripped, true),
                0,
                "{tripped} of {ready}, with a fallback"
            );
            let may_go = (ready / 2).max(1).min(ready - 1);
            let stay = tripped.saturating_sub(may_go);
            assert_eq!(
                spared(ready, tripped, false),
                stay,
                "{tripped} of {ready}, alone"
            );
        }
    }
}

#[test]
fn the_caps_come_and_go_with_the_fallback() {
    let mut world = World::ready(canary());
    world.trip("2");
    assert!(!world.endpoint("2", 3).protected);
    world.check("1", at(1), CheckResult::Draining);
    assert!(
        !world.endpoint("2", 3).protected,
        "port 2 can still take over"
    );
    world.check("1", at(2), CheckResult::Draining);
    assert!(world.endpoint("2", 3).protected);
    for result in [CheckResult::Up, CheckResult::Up] {
        world.check("1", at(1), result);
    }
    assert!(!world.endpoint("2", 3).protected);
}

#[test]
fn what_is_not_the_work_itself_probes_nothing_and_teaches_nothing() {
    let mut world = World::ready(canary());
    world.trip("2");
    world.now += Duration::from_secs(7);
    for _ in 0..50 {
        let ask = Ask {
            purpose: Purpose::Other,
            ..world.ask(Some("2"))
        };
        let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        assert!(!attempt.permit.is_probe());
        world.record(attempt.permit, OK);
    }
    assert_eq!(world.endpoint("2", 3).breaker, BreakerState::Open);

    let mut world = eight();
    let budget = world.policy.retries_left(world.now);
    for outcome in [OK, Outcome::Failure, Outcome::TimedOut, Outcome::Neutral] {
        for _ in 0..50 {
            let ask = Ask {
                purpose: Purpose::Other,
                ..world.ask(None)
            };
            let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
            let before = world.endpoint("1", attempt.address.port());
            assert_eq!(before.in_flight, 1);
            let port = attempt.address.port();
            assert_eq!(world.record(attempt.permit, outcome), None);
            let after = world.endpoint("1", port);
            assert_eq!(
                (after.latency, after.window),
                (before.latency, before.window)
            );
            assert_eq!((after.failures, after.in_flight), (before.failures, 0));
        }
    }
    assert!((world.policy.retries_left(world.now) - budget).abs() < 1e-9);
}

#[test]
fn an_answer_that_breaks_off_fails_a_probe_and_counts_once() {
    let mut world = World::ready(canary());
    world.trip("2");
    world.now += Duration::from_secs(7);
    let probe = world.start(Some("2"));
    assert!(probe.permit.is_probe());
    assert_eq!(
        world
            .policy
            .judge(&probe.permit, OK.into(), world.now, &mut world.rng),
        None
    );
    let moved = world
        .policy
        .release(probe.permit, true, world.now, &mut world.rng)
        .unwrap();
    assert_eq!(moved.step.to, BreakerState::Open);

    let mut world = eight();
    let attempt = world.start(None);
    let port = attempt.address.port();
    let before = world.endpoint("1", port).window;
    world
        .policy
        .judge(&attempt.permit, OK.into(), world.now, &mut world.rng);
    world
        .policy
        .release(attempt.permit, true, world.now, &mut world.rng);
    let after = world.endpoint("1", port).window;
    assert_eq!((after.total() - before.total(), after.failed), (1, 1));
}

#[test]
fn an_endpoint_that_dies_in_the_middle_of_each_answer_is_taken_out_after_five() {
    let mut world = eight();
    let (mut moved, mut broken) = (Vec::new(), 0);
    for _ in 0..4_000 {
        let attempt = world.start(None);
        world.now += MS;
        let breaks_off = attempt.address == at(3);
        broken += u32::from(breaks_off);
        let head = Outcome::Success { waited: 5 * MS };
        let (now, rng) = (world.now, &mut world.rng);
        moved.extend(world.policy.judge(&attempt.permit, head.into(), now, rng));
        moved.extend(world.policy.release(attempt.permit, breaks_off, now, rng));
    }
    let [tripped] = moved.as_slice() else {
        panic!("{moved:?}");
    };
    let reason = TripReason::ConsecutiveFailures { failures: 5 };
    assert_eq!((tripped.address, tripped.step.reason), (at(3), reason));
    assert_eq!((broken, world.endpoint("1", 3).failures), (5, 5));
}

#[test]
fn a_probe_waits_for_an_endpoint_that_refuses_work() {
    let mut world = World::ready(canary());
    world.trip("2");
    world.now += Duration::from_secs(7);
    let probe = world.start(Some("2"));
    let park = Some(Duration::from_secs(30));
    world.record(probe.permit, Outcome::Pushback { park });
    for _ in 0..100 {
        let attempt = world.start(None);
        assert_eq!(&*attempt.version, "1");
        world.record(attempt.permit, OK);
    }
}

#[test]
fn a_dry_run_moves_no_traffic_to_what_it_would_take_out() {
    let mut rules = Rules::default();
    rules.breaker.enforce = false;
    let versions = vec![version("1", 1.0, &PORTS)];
    let mut world = World::ready(ModelConfig::new(versions, &[] as &[&str], rules).unwrap());
    world.now += Duration::from_secs(20);
    for _ in 0..200 {
        let attempt = world.start(None);
        let fails = attempt.address == at(3);
        world.record(attempt.permit, if fails { Outcome::Failure } else { OK });
        world.now += 100 * MS;
    }
    assert_ne!(world.endpoint("1", 3).breaker, BreakerState::Closed);
    world.now += Duration::from_mins(10);
    let asked = (0..800).filter(|_| {
        let attempt = world.start(None);
        let port = attempt.address.port();
        world.record(attempt.permit, Outcome::Neutral);
        port == 3
    });
    let asked = asked.count();
    assert!(
        (40..200).contains(&asked),
        "{asked} of 800, an eighth being 100"
    );
}

#[test]
fn an_endpoint_that_is_away_is_never_asked_while_others_are_well() {
    let mut world = World::ready(config(vec![version("1", 1.0, &[1, 2])], &[]));
    for _ in 0..2 {
        world.check("1", at(2), CheckResult::Down);
    }
    let attempt = world.start(None);
    assert_eq!(attempt.address, at(1));
    // An answer that could be tried elsewhere is better than none.
    let tried = [attempt.permit.endpoint()];
    assert_eq!(world.again("1", &tried).unwrap_err(), Refusal::NoEndpoint);
    // It refuses work: it is asked again only where there is no other.
    world.record(attempt.permit, Outcome::Pushback { park: None });
    let attempt = world.start(None);
    assert_eq!(attempt.address, at(1));
    world.record(attempt.permit, OK);
}

#[test]
fn a_permit_that_comes_back_unjudged_taught_how_long_it_was_out_and_one_that_was_judged_nothing_more()
 {
    let mut world = World::ready(config(vec![version("1", 1.0, &[1])], &[]));
    for (out, judged, slow) in [
        (MS, false, 0),
        (2_000 * MS, false, 1),
        (2_000 * MS, true, 2),
    ] {
        let attempt = world.start(None);
        world.policy.sent(&attempt.permit, world.now);
        world.now += out;
        let (now, rng) = (world.now, &mut world.rng);
        if judged {
            let late = Outcome::Success { waited: out };
            world.policy.judge(&attempt.permit, late.into(), now, rng);
        }
        world.policy.release(attempt.permit, false, now, rng);
        let endpoint = world.endpoint("1", 1);
        assert_eq!((endpoint.slow, endpoint.in_flight), (slow, 0), "{out:?}");
    }
}
