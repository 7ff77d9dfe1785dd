//! The end of the chain: when the static answer stands in, and when it does not.

use super::*;

/// Version 1 on ports 1 and 2, version 2 on port 3, at 90/10, with a static answer.
fn answered(chain: &[&str], pinned_fallback: bool) -> World {
    let mut rules = Rules {
        static_answer: true,
        pinned_fallback,
        ..Rules::default()
    };
    rules.balance.max_in_flight = 4;
    let versions = vec![version("1", 90.0, &[1, 2]), version("2", 10.0, &[3])];
    World::ready(ModelConfig::new(versions, chain, rules).unwrap())
}

fn admit(world: &mut World, version: Option<&str>) -> Result<Attempt, Refused> {
    let ask = world.ask(version);
    admit_as(world, ask)
}

fn admit_as(world: &mut World, ask: Ask<'_>) -> Result<Attempt, Refused> {
    match world.policy.admit(ask, world.now, &mut world.rng)? {
        Admitted::Now(attempt) => Ok(attempt),
        Admitted::Queued(waiter) => panic!("{waiter:?} waits"),
    }
}

fn take_out(world: &mut World, version: &str, ports: &[u16]) {
    for &port in ports {
        world.check(version, at(port), CheckResult::Draining);
    }
}

fn stand_in(refused: Result<Attempt, Refused>) -> Option<FallbackReason> {
    refused
        .unwrap_err()
        .stand_in
        .map(|stand_in| stand_in.reason)
}

#[test]
fn the_static_answer_comes_after_every_version_and_before_panic() {
    let mut world = answered(&["1"], false);
    take_out(&mut world, "2", &[3]);
    for _ in 0..100 {
        let attempt = admit(&mut world, None).unwrap();
        assert_eq!(&*attempt.version, "1");
        world.record(attempt.permit, OK);
    }
    take_out(&mut world, "1", &[1, 2]);
    for _ in 0..100 {
        let refused = admit(&mut world, None).unwrap_err();
        assert_eq!(refused.refusal, Refusal::NoEndpoint);
        let stand_in = refused.stand_in.unwrap();
        assert_eq!(stand_in.reason, FallbackReason::Unavailable);
        assert!(["1", "2"].contains(&&*stand_in.chosen));
    }
    for port in [1, 2, 3] {
        assert_eq!(
            world
                .endpoint(if port == 3 { "2" } else { "1" }, port)
                .in_flight,
            0
        );
    }
    assert!(
        world.policy.can_serve(),
        "it can answer, if only from the file"
    );
}

#[test]
fn a_request_that_names_its_version_gets_it_only_where_it_may_fall_back() {
    let mut world = answered(&[], false);
    take_out(&mut world, "2", &[3]);
    let attempt = admit(&mut world, Some("2")).unwrap();
    assert_eq!(attempt.address, at(3), "as without a static answer");
    world.record(attempt.permit, Outcome::Neutral);
    let mut world = answered(&[], true);
    take_out(&mut world, "2", &[3]);
    let reason = stand_in(admit(&mut world, Some("2")));
    assert_eq!(reason, Some(FallbackReason::Unavailable));
}

#[test]
fn what_is_not_inference_never_gets_it() {
    let mut world = answered(&[], false);
    take_out(&mut world, "1", &[1, 2]);
    take_out(&mut world, "2", &[3]);
    let ask = Ask {
        purpose: Purpose::Other,
        ..world.ask(None)
    };
    let attempt = admit_as(&mut world, ask).unwrap();
    world.record(attempt.permit, Outcome::Neutral);
    let one: Arc<str> = "1".into();
    let gives_up = |purpose| world.policy.give_up(&one, ChosenBy::Split, purpose);
    assert_eq!(gives_up(Purpose::Other), None);
    let stand_in = gives_up(Purpose::Inference).unwrap();
    assert_eq!(stand_in.reason, FallbackReason::AttemptsFailed);
}

#[test]
fn a_deadline_that_has_passed_and_a_version_that_is_not_there_are_refused_as_ever() {
    let mut world = answered(&[], true);
    let refused = admit(&mut world, Some("9")).unwrap_err();
    assert_eq!(refused, Refusal::UnknownVersion.into());
    let ask = Ask {
        deadline: world.now,
        ..world.ask(None)
    };
    let refused = admit_as(&mut world, ask).unwrap_err();
    assert_eq!(refused, Refusal::NoTime.into());
}

#[test]
fn without_one_a_refusal_is_a_refusal() {
    let mut world = World::new(canary());
    assert_eq!(
        world
            .policy
            .give_up(&"1".into(), ChosenBy::Split, Purpose::Inference),
        None
    );
    let ask = Ask {
        deadline: world.now,
        ..world.ask(None)
    };
    assert_eq!(admit_as(&mut world, ask).unwrap_err().stand_in, None);
}

#[test]
fn the_ejection_caps_do_not_hold_where_the_static_answer_takes_over() {
    let mut world = answered(&[], false);
    world.trip("1");
    assert!((1..=2).all(|port| !world.endpoint("1", port).protected));
    while let Ok(attempt) = admit(&mut world, None) {
        assert_eq!(&*attempt.version, "2");
        world.record(attempt.permit, OK);
    }
    // And the next request after its time is up probes it back to life.
    world.now += Duration::from_secs(7);
    for _ in 0..200 {
        if let Ok(attempt) = admit(&mut world, None) {
            world.record(attempt.permit, OK);
        }
    }
    assert!((world.policy.available("1").unwrap() - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_pool_that_is_slow_as_a_whole_is_relieved_by_no_static_answer() {
    let mut world = answered(&[], false);
    for _ in 0..40 {
        let held: Vec<_> = (0..2).map(|_| world.start(Some("1"))).collect();
        world.now += Duration::from_millis(1_200);
        for attempt in held {
            let waited = Duration::from_millis(1_200);
            world.record(attempt.permit, Outcome::Success { waited });
        }
    }
    let used = [1, 2].map(|port| world.endpoint("1", port));
    assert!(used.iter().all(|e| e.protected), "{used:?}");
    let attempt = admit(&mut world, Some("1")).unwrap();
    world.record(attempt.permit, OK);
}

#[test]
fn an_endpoint_that_was_never_checked_is_worth_a_try() {
    let mut world = answered(&[], false);
    let rules = Rules {
        static_answer: true,
        ..Rules::default()
    };
    let versions = vec![version("3", 1.0, &[8])];
    world.reload(ModelConfig::new(versions, &[] as &[&str], rules).unwrap());
    assert!(!world.policy.can_serve(), "nothing is known of it yet");
    let attempt = admit(&mut world, None).unwrap();
    assert_eq!(attempt.address, at(8));
    world.record(attempt.permit, OK);
    world.check("3", at(8), CheckResult::Down);
    assert!(world.policy.can_serve());
    assert_eq!(
        stand_in(admit(&mut world, None)),
        Some(FallbackReason::Unavailable)
    );
}

#[test]
fn attempts_that_failed_are_not_followed_by_endpoints_that_are_down() {
    let mut world = answered(&[], false);
    take_out(&mut world, "1", &[2]);
    let first = world.start(Some("1"));
    let tried = [first.permit.endpoint()];
    take_out(&mut world, "1", &[1]);
    let again = world.again("1", &tried);
    assert_eq!(again.unwrap_err(), Refusal::NoEndpoint);
    world.record(first.permit, Outcome::Failure);
}
