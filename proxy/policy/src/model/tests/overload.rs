//! Pools that have too much to do: nobody's fault, and no reason to do with less.

use super::{
    faults::{PORTS, eight},
    *,
};

#[test]
fn when_more_than_half_are_slow_it_is_overload_and_all_stay() {
    let mut world = World::ready(config(vec![version("1", 1.0, &PORTS)], &[]));
    world.serve(800, |_| Duration::from_secs(2));
    let open = PORTS.map(|port| world.endpoint("1", port));
    assert!(
        open.iter()
            .filter(|e| e.breaker != BreakerState::Closed)
            .count()
            > 4
    );
    let used = open
        .iter()
        .filter(|e| e.breaker == BreakerState::Closed || e.protected);
    assert_eq!(used.count(), 8);
}

#[test]
fn when_all_slow_down_together_none_is_blamed_for_being_slower_than_usual() {
    let mut world = eight();
    let moved = world.serve(400, |_| 200 * MS);
    assert_eq!(moved, [], "all take 200 ms");
    // It ends, and one stays behind.
    world.serve(200, |_| 5 * MS);
    let moved = world.serve(400, |port| if port == 4 { 200 * MS } else { 5 * MS });
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!(moved[0].address, at(4));
}

#[test]
fn a_few_that_are_slow_together_do_not_excuse_each_other() {
    let mut world = eight();
    let moved = world.serve(800, |port| if port <= 3 { 200 * MS } else { 5 * MS });
    let mut opened: Vec<_> = moved
        .iter()
        .filter(|moved| moved.step.to == BreakerState::Open)
        .map(|moved| moved.address.port())
        .collect();
    opened.sort_unstable();
    opened.dedup();
    // The last may hardly be asked any more.
    assert!(
        opened.len() >= 2,
        "{opened:?}: three of eight are no overload"
    );
    assert!(opened.iter().all(|port| *port <= 3), "{opened:?}");
}

#[test]
fn while_all_wait_for_longer_than_usual_no_age_is_held_against_anybody() {
    let mut world = eight();
    let out: Vec<Attempt> = (0..80).map(|_| world.start(None)).collect();
    for _ in 0..8 {
        world.now += 25 * MS;
        assert_eq!(world.tick(), []);
    }
    for attempt in out {
        let waited = 200 * MS;
        assert_eq!(
            world.record(attempt.permit, Outcome::Success { waited }),
            None
        );
    }
}

#[test]
fn one_that_hangs_is_found_although_all_are_slow() {
    let mut world = eight();
    let mut hung = Vec::new();
    let mut opened = Vec::new();
    for _ in 0..400 {
        let attempt = world.start(None);
        world.now += 2 * MS;
        if attempt.address == at(4) {
            hung.push(attempt);
        } else {
            let waited = 200 * MS;
            opened.extend(world.record(attempt.permit, Outcome::Success { waited }));
        }
        opened.extend(world.tick());
    }
    world.now += Duration::from_secs(1);
    opened.extend(world.tick());
    let opened: Vec<_> = opened.iter().map(|moved| moved.address).collect();
    assert_eq!(opened, [at(4)]);
}

#[test]
fn a_probe_that_is_as_slow_as_the_rest_has_failed() {
    let mut world = eight();
    let mut steps = Vec::new();
    while steps.is_empty() {
        let attempt = world.start(None);
        world.now += MS;
        let outcome = if attempt.address == at(4) {
            Outcome::Failure
        } else {
            OK
        };
        steps.extend(world.record(attempt.permit, outcome));
    }
    world.now += Duration::from_secs(7);
    let mut probe = None;
    for _ in 0..100 {
        let attempt = world.start(None);
        if attempt.permit.is_probe() {
            probe = Some(attempt);
            continue;
        }
        let waited = 200 * MS;
        let moved = world.record(attempt.permit, Outcome::Success { waited });
        assert_eq!(moved, None);
    }
    let waited = 200 * MS;
    let moved = world.record(probe.unwrap().permit, Outcome::Success { waited });
    let moved = moved.unwrap();
    assert_eq!((moved.address, moved.step.to), (at(4), BreakerState::Open));
}

#[test]
fn a_pool_whose_requests_are_all_cut_short_is_overloaded_and_stays() {
    let mut world = eight();
    for _ in 0..400 {
        let attempt = world.start(None);
        world.now += attempt.first_byte_within.min(80 * MS);
        let outcome = if attempt.first_byte_within < 80 * MS {
            Outcome::TimedOut
        } else {
            Outcome::Success { waited: 80 * MS }
        };
        world.record(attempt.permit, outcome);
    }
    let used = PORTS.map(|port| world.endpoint("1", port));
    let used = used
        .iter()
        .filter(|e| e.breaker == BreakerState::Closed || e.protected);
    assert_eq!(used.count(), 8);
}

#[test]
fn a_refusal_for_want_of_time_is_about_the_request_and_parks_nobody() {
    let mut world = World::ready(config(vec![version("1", 1.0, &PORTS)], &[]));
    world.serve(400, |_| 25 * MS);
    let park = Some(Duration::from_secs(1));
    let parked = |world: &World| {
        let parked = |port: &&u16| world.endpoint("1", **port).parked_for.is_some();
        PORTS.iter().filter(parked).count()
    };
    // Four pods refuse a client that gives its request 10 ms.
    let deadline = world.now + 10 * MS;
    let ask = Ask {
        deadline,
        ..world.ask(None)
    };
    let mut attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
    let mut tried = Vec::new();
    for retries in (0..3).rev() {
        tried.push(attempt.permit.endpoint());
        world.now += MS;
        let again = Again {
            chosen: "1",
            by: ChosenBy::Split,
            tried: &tried,
            uploading: false,
            retries_left: retries > 0,
            purpose: Purpose::Inference,
            deadline,
        };
        let next = world
            .policy
            .again(again, world.now, &mut world.rng)
            .unwrap();
        assert_eq!(
            world.record(attempt.permit, Outcome::Pushback { park }),
            None
        );
        attempt = next;
    }
    world.record(attempt.permit, Outcome::Pushback { park });
    assert_eq!(parked(&world), 0);
    let attempt = world.start(None);
    world.record(attempt.permit, Outcome::Pushback { park });
    assert_eq!(parked(&world), 1, "a request that has time");
    // Of a pool that is asked by nobody else, that is the ordinary time.
    world.now += Duration::from_secs(1);
    world.reload(config(vec![version("1", 1.0, &PORTS)], &[]));
    let ask = Ask {
        deadline: world.now + 10 * MS,
        ..world.ask(None)
    };
    let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
    world.record(attempt.permit, Outcome::Pushback { park });
    assert_eq!(parked(&world), 1);
}
