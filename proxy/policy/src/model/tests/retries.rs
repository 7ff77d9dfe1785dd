//! Second attempts: where they go, when there are none, what they cost; and
//! clients that stay with a version.

use super::*;
use crate::budget::BudgetConfig;

fn with(budget: BudgetConfig, pinned_fallback: bool) -> World {
    let mut rules = Rules {
        pinned_fallback,
        ..Rules::default()
    };
    rules.retry.budget = budget;
    let versions = vec![version("1", 90.0, &[1, 2]), version("2", 10.0, &[3, 4])];
    World::ready(ModelConfig::new(versions, &["1"], rules).unwrap())
}

const NONE: BudgetConfig = BudgetConfig {
    ratio: 0.0,
    per_second: 0.0,
};

#[test]
fn without_a_budget_there_is_no_second_attempt_and_the_first_gets_all_the_time() {
    let mut world = with(NONE, false);
    let attempt = world.start(None);
    assert_eq!(attempt.first_byte_within, PATIENCE);
    let tried = [attempt.permit.endpoint()];
    assert_eq!(world.again("1", &tried).unwrap_err(), Refusal::NoBudget);
}

#[test]
fn the_budget_is_paid_when_the_retry_is_decided() {
    let mut world = with(
        BudgetConfig {
            ratio: 0.5,
            per_second: 0.0,
        },
        false,
    );
    let firsts: Vec<_> = (0..20).map(|_| world.start(Some("1"))).collect();
    let tried = [firsts[0].permit.endpoint()];
    let retries = (0..40).filter(|_| world.again("1", &tried).is_ok()).count();
    assert_eq!(
        retries, 10,
        "none of them has ended, and all of them are paid"
    );
}

#[test]
fn what_is_not_the_work_has_a_budget_of_its_own() {
    let mut world = with(
        BudgetConfig {
            ratio: 0.5,
            per_second: 1.0,
        },
        false,
    );
    let before = world.policy.retries_left(world.now);
    let mut tried = Vec::new();
    for _ in 0..20 {
        let ask = Ask {
            purpose: Purpose::Other,
            ..world.ask(Some("1"))
        };
        let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        tried = vec![attempt.permit.endpoint()];
        world.record(attempt.permit, Outcome::Failure);
    }
    let mut again = |purpose| {
        let again = Again {
            chosen: "1",
            by: ChosenBy::Pinned,
            tried: &tried,
            uploading: false,
            retries_left: true,
            purpose,
            deadline: world.now + PATIENCE,
        };
        let mut retry = |_| world.policy.again(again, world.now, &mut world.rng);
        (0..100).map_while(|number| retry(number).ok()).count()
    };
    assert_eq!(again(Purpose::Other), 20, "0.5 · 20 + 1 · 10");
    assert_eq!(again(Purpose::Inference), 10, "of those none is gone");
    assert!((before - 10.0).abs() < 1e-9);
}

#[test]
fn an_attempt_that_finds_no_endpoint_costs_nothing() {
    let mut world = with(
        BudgetConfig {
            ratio: 0.0,
            per_second: 1.0,
        },
        false,
    );
    let all: Vec<_> = world.policy.endpoints.keys().collect();
    for _ in 0..50 {
        assert_eq!(world.again("1", &all).unwrap_err(), Refusal::NoEndpoint);
    }
    assert!((world.policy.retries_left(world.now) - 10.0).abs() < 1e-9);
}

#[test]
fn an_attempt_that_can_be_rescued_gets_half_the_time_and_the_last_gets_all() {
    let mut world = with(BudgetConfig::default(), false);
    // One answer: it could be done, and what is fair is still unknown.
    let known = world.start(Some("1"));
    world.record(known.permit, OK);
    let first = world.start(Some("1"));
    assert_eq!(first.first_byte_within, PATIENCE / 2);
    let tried = [first.permit.endpoint()];
    let last = world
        .again_by(ChosenBy::Pinned, "1", &tried, false)
        .unwrap();
    assert_eq!(last.first_byte_within, PATIENCE);
}

#[test]
fn where_nobody_else_can_answer_an_attempt_gets_all_the_time() {
    let alone = vec![version("1", 1.0, &[1])];
    let mut world = World::ready(config(alone, &[]));
    assert_eq!(world.start(None).first_byte_within, PATIENCE);
    let relieved = vec![version("1", 1.0, &[1]), version("2", 0.0, &[2])];
    let mut world = World::ready(config(relieved, &["2"]));
    let known = world.start(None);
    world.record(known.permit, OK);
    assert_eq!(world.start(None).first_byte_within, PATIENCE / 2);
    // Down, that one is no help either.
    world.check("2", at(2), CheckResult::Draining);
    assert_eq!(world.start(None).first_byte_within, PATIENCE);
}

#[test]
fn what_cannot_be_sent_again_gets_all_the_time() {
    let mut world = with(BudgetConfig::default(), false);
    let ask = Ask {
        replayable: false,
        ..world.ask(None)
    };
    let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
    assert_eq!(attempt.first_byte_within, PATIENCE);
}

#[test]
fn no_deadline_ever_grows_and_none_that_has_passed_is_tried() {
    let mut world = with(BudgetConfig::default(), false);
    let known = world.start(Some("1"));
    world.record(known.permit, OK);
    let deadline = world.now + PATIENCE;
    let mut tried = Vec::new();
    let mut ends = Vec::new();
    let ask = Ask {
        deadline,
        ..world.ask(Some("1"))
    };
    let first = world.policy.start(ask, world.now, &mut world.rng).unwrap();
    tried.push(first.permit.endpoint());
    ends.push(world.now + first.first_byte_within);
    while let Ok(next) = {
        world.now = *ends.last().unwrap();
        let again = Again {
            chosen: "1",
            by: ChosenBy::Split,
            tried: &tried,
            uploading: false,
            retries_left: tried.len() < 3,
            purpose: Purpose::Inference,
            deadline,
        };
        world.policy.again(again, world.now, &mut world.rng)
    } {
        tried.push(next.permit.endpoint());
        ends.push(world.now + next.first_byte_within);
    }
    assert!(ends.len() >= 2 && ends.iter().all(|end| *end <= deadline));
    let late = Ask {
        deadline: world.now,
        ..world.ask(None)
    };
    let refused = world.policy.start(late, world.now, &mut world.rng);
    assert_eq!(refused.unwrap_err(), Refusal::NoTime);
}

#[test]
fn the_last_attempt_leaves_the_version() {
    let mut world = with(BudgetConfig::default(), false);
    let first = world.start(Some("2"));
    let tried = [first.permit.endpoint()];
    let next = world.again_by(ChosenBy::Split, "2", &tried, true).unwrap();
    assert_eq!((&*next.version, next.kind), ("2", RouteKind::Split));
    let last = world.again_by(ChosenBy::Split, "2", &tried, false).unwrap();
    assert_eq!(&*last.version, "1");
    assert_eq!(
        last.kind,
        RouteKind::Fallback(FallbackReason::AttemptsFailed)
    );
}

#[test]
fn a_pinned_request_leaves_its_version_only_where_that_is_allowed() {
    for allowed in [false, true] {
        let mut world = with(BudgetConfig::default(), allowed);
        for port in [3, 4] {
            world.check("2", at(port), CheckResult::Draining);
        }
        let attempt = world.start(Some("2"));
        assert_eq!(&*attempt.version == "1", allowed);
        assert_eq!(attempt.by, ChosenBy::Pinned);
    }
}

#[test]
fn retries_prefer_who_has_not_failed() {
    let versions = vec![version("1", 1.0, &[1, 2, 3, 4])];
    let mut world = World::ready(config(versions, &[]));
    world.now += Duration::from_secs(20);
    for _ in 0..3 {
        let attempt = world.start(None);
        world.record(attempt.permit, Outcome::Failure);
    }
    world.now += Duration::from_secs(5);
    let failed: Vec<u16> = (1..=4)
        .filter(|&p| world.endpoint("1", p).failures > 0)
        .collect();
    assert!(failed.len() < 4);
    let tried = [world.policy.pools[0].by_address[&at(failed[0])]];
    // Eight draws nearly always find one that has not failed.
    let well = (0..50).filter(|_| {
        let next = world.again("1", &tried).unwrap();
        !failed.contains(&next.address.port())
    });
    let well = well.count();
    assert!(well > 40, "{well} of 50");
}

#[test]
fn a_sticky_client_stays_and_leaves_only_when_its_version_cannot() {
    let mut world = with(BudgetConfig::default(), false);
    let versions = |world: &mut World| -> Vec<(Arc<str>, RouteKind)> {
        (0..500_u64)
            .map(|client| {
                let sticky = Some(sticky::hash(&client.to_le_bytes()));
                let ask = Ask {
                    sticky,
                    ..world.ask(None)
                };
                let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
                let got = (Arc::clone(&attempt.version), attempt.kind);
                world.record(attempt.permit, OK);
                got
            })
            .collect()
    };
    let before = versions(&mut world);
    assert!(before.iter().all(|(_, kind)| *kind == RouteKind::Sticky));
    let canary = before.iter().filter(|(v, _)| &**v == "2").count();
    assert!((20..=85).contains(&canary), "{canary} of 500 at 10 %");
    assert_eq!(versions(&mut world), before);
    for port in [3, 4] {
        world.check("2", at(port), CheckResult::Draining);
    }
    let during = versions(&mut world);
    for (was, is) in before.iter().zip(&during) {
        let fell_back = is.1 == RouteKind::Fallback(FallbackReason::Unavailable);
        assert_eq!(fell_back, &*was.0 == "2");
        assert_eq!(&*is.0, "1");
    }
}
