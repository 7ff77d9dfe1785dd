//! The choice of an endpoint: load, latency, what it says itself, slow start, limits.

use super::*;
use crate::config::{BalanceBy, BalanceConfig};

fn four(balance: BalanceConfig) -> World {
    let rules = Rules {
        balance,
        ..Rules::default()
    };
    let versions = vec![version("1", 1.0, &[1, 2, 3, 4])];
    let mut world = World::ready(ModelConfig::new(versions, &[] as &[&str], rules).unwrap());
    world.now += Duration::from_secs(20);
    world
}

/// How often each port is chosen while nothing stays out.
fn chosen(world: &mut World, requests: usize) -> HashMap<u16, usize> {
    let mut counts = HashMap::new();
    for _ in 0..requests {
        let attempt = world.start(None);
        *counts.entry(attempt.address.port()).or_default() += 1;
        world.record(attempt.permit, Outcome::Neutral);
    }
    counts
}

#[test]
fn an_endpoint_that_takes_longer_gets_less() {
    let mut world = four(BalanceConfig::default());
    world.serve(400, |port| if port == 1 { 40 * MS } else { 20 * MS });
    let counts = chosen(&mut world, 4_000);
    let slow = counts.get(&1).copied().unwrap_or(0);
    assert!(
        slow < 100,
        "two draws of the slow one are not possible: {counts:?}"
    );
}

#[test]
fn failing_fast_attracts_nothing() {
    let mut world = four(BalanceConfig::default());
    world.serve(400, |_| 20 * MS);
    let attempt = world.start(None);
    let port = attempt.address.port();
    world.record(attempt.permit, Outcome::Failure);
    assert_eq!(chosen(&mut world, 500).get(&port), None);
    world.now += Duration::from_secs(10);
    assert!(
        chosen(&mut world, 500).contains_key(&port),
        "and is forgiven"
    );
}

/// Four endpoints of 20 ms, and the port of the one that has just reported this.
fn one_reports(report: LoadReport) -> (World, u16) {
    let mut world = four(BalanceConfig::default());
    world.serve(400, |_| 20 * MS);
    let attempt = world.start(None);
    let port = attempt.address.port();
    let observed = Observed {
        outcome: Outcome::Success { waited: 20 * MS },
        report: Some(report),
    };
    let (now, rng) = (world.now, &mut world.rng);
    world.policy.settle(attempt.permit, observed, now, rng);
    (world, port)
}

#[test]
fn an_endpoint_is_asked_for_its_load_often_and_not_with_every_request() {
    let mut world = World::ready(config(vec![version("1", 1.0, &[1])], &[]));
    let mut asked = 0;
    for _ in 0..1_000 {
        let attempt = world.start(None);
        asked += usize::from(attempt.asks_load);
        world.record(attempt.permit, Outcome::Success { waited: MS });
        world.now += MS;
    }
    assert_eq!(asked, 100, "once in 10 ms, for a second");
}

#[test]
fn every_attempt_is_counted_where_it_was_made() {
    let mut world = four(BalanceConfig::default());
    let mut made = [0; 4];
    for _ in 0..100 {
        let attempt = world.start(None);
        made[usize::from(attempt.address.port()) - 1] += 1;
        world.record(attempt.permit, OK);
    }
    let counted = [1, 2, 3, 4].map(|port| world.endpoint("1", port).attempts);
    assert_eq!(counted, made);
}

#[test]
fn what_others_have_sent_counts_as_long_as_it_is_fresh() {
    let (mut world, port) = one_reports(LoadReport {
        in_flight: 50.0,
        expected_wait: None,
    });
    assert_eq!(chosen(&mut world, 500).get(&port), None);
    world.now += Duration::from_secs(3);
    let counts = chosen(&mut world, 2_000);
    assert!(counts[&port] > 300, "{counts:?}");
}

#[test]
fn what_an_endpoint_expects_a_request_to_wait_is_believed() {
    let (mut world, port) = one_reports(LoadReport {
        in_flight: 0.0,
        expected_wait: Some(Duration::from_millis(900)),
    });
    assert_eq!(chosen(&mut world, 500).get(&port), None);
}

#[test]
fn an_endpoint_that_becomes_ready_takes_a_growing_part() {
    let mut world = four(BalanceConfig::default());
    for result in [CheckResult::Draining, CheckResult::Up, CheckResult::Up] {
        world.check("1", at(1), result);
    }
    assert!((world.endpoint("1", 1).warmth - 0.1).abs() < 1e-9);
    let first = chosen(&mut world, 4_000).get(&1).copied().unwrap_or(0);
    world.now += Duration::from_secs(5);
    let half = chosen(&mut world, 4_000)[&1];
    world.now += Duration::from_secs(5);
    let whole = chosen(&mut world, 4_000)[&1];
    assert!(
        (50..250).contains(&first),
        "{first}: about a tenth of a thousand"
    );
    assert!(
        (400..800).contains(&half),
        "{half}: about 55 % of a thousand"
    );
    assert!((850..1_150).contains(&whole), "{whole}");
}

#[test]
fn an_endpoint_that_warms_up_never_leads() {
    let mut world = four(BalanceConfig::default());
    for result in [CheckResult::Draining, CheckResult::Up, CheckResult::Up] {
        world.check("1", at(1), result);
    }
    world.now += Duration::from_secs(9);
    for out in 1..=100_u32 {
        // None comes back, so the mean grows with what is out.
        drop(world.start(None).permit);
        let mean = f64::from(out) / 4.0;
        assert!(f64::from(world.endpoint("1", 1).in_flight) <= mean + 2.0);
    }
}

#[test]
fn an_endpoint_that_warms_up_may_be_one_ahead_of_the_mean() {
    let mut world = four(BalanceConfig::default());
    for result in [CheckResult::Draining, CheckResult::Up, CheckResult::Up] {
        world.check("1", at(1), result);
    }
    world.now += Duration::from_secs(9);
    let takes = |port| if port == 1 { MS } else { 100 * MS };
    world.serve(400, takes);
    let held = loop {
        let attempt = world.start(None);
        if attempt.address == at(1) {
            break attempt;
        }
        world.record(attempt.permit, Outcome::Success { waited: 100 * MS });
    };
    // By far the fastest, with one request out where the mean is a quarter.
    let mut more = 0;
    for _ in 0..400 {
        let attempt = world.start(None);
        let port = attempt.address.port();
        more += u32::from(port == 1);
        let waited = takes(port);
        world.record(attempt.permit, Outcome::Success { waited });
    }
    world.record(held.permit, OK);
    assert!(more > 100, "{more} of 400");
}

#[test]
fn no_endpoint_holds_more_than_it_may_and_the_rest_is_refused() {
    let mut world = four(BalanceConfig {
        max_in_flight: 5,
        ..BalanceConfig::default()
    });
    let held: Vec<_> = (0..20).map(|_| world.start(None)).collect();
    assert!((1..=4).all(|port| world.endpoint("1", port).in_flight == 5));
    let refused = world
        .policy
        .start(world.ask(None), world.now, &mut world.rng);
    assert_eq!(refused.unwrap_err(), Refusal::NoRoom);
    for attempt in held {
        world.record(attempt.permit, OK);
    }
    let attempt = world.start(None);
    world.record(attempt.permit, OK);
}

#[test]
fn one_that_is_full_gets_no_more_where_the_others_want_to_be_left_alone() {
    let rules = Rules {
        balance: BalanceConfig {
            max_in_flight: 1,
            ..BalanceConfig::default()
        },
        ..Rules::default()
    };
    let versions = vec![version("1", 1.0, &[1, 2])];
    let mut world = World::ready(ModelConfig::new::<&str>(versions, &[], rules).unwrap());
    let held = world.start(None);
    let other = if held.address == at(1) { at(2) } else { at(1) };
    for _ in 0..20 {
        let attempt = world.start(None);
        assert_eq!(attempt.address, other);
        world.record(attempt.permit, Outcome::Pushback { park: None });
    }
    world.record(held.permit, OK);
}

#[test]
fn a_version_that_is_full_spills() {
    let rules = Rules {
        balance: BalanceConfig {
            max_in_flight: 2,
            ..BalanceConfig::default()
        },
        ..Rules::default()
    };
    let versions = vec![version("1", 0.0, &[1]), version("2", 1.0, &[2])];
    let mut world = World::ready(ModelConfig::new(versions, &["1"], rules).unwrap());
    let kinds: Vec<_> = (0..4).map(|_| world.start(None).kind).collect();
    let spill = RouteKind::Fallback(FallbackReason::Spill);
    assert_eq!(kinds, [RouteKind::Split, RouteKind::Split, spill, spill]);
    let refused = world
        .policy
        .start(world.ask(None), world.now, &mut world.rng);
    assert_eq!(refused.unwrap_err(), Refusal::NoRoom);
}

#[test]
fn the_plain_ways_to_choose_do_what_they_say() {
    let by = |by| BalanceConfig {
        by,
        ..BalanceConfig::default()
    };
    let mut world = four(by(BalanceBy::RoundRobin));
    let counts = chosen(&mut world, 400);
    assert!((1..=4).all(|port| counts[&port] == 100), "{counts:?}");
    let mut world = four(by(BalanceBy::LeastRequest));
    world.serve(400, |port| if port == 1 { 40 * MS } else { MS });
    let counts = chosen(&mut world, 4_000);
    assert!(counts[&1] > 800, "latency does not count: {counts:?}");
}

#[test]
fn a_version_that_runs_nowhere_yet_leaves_its_traffic_and_takes_it_when_it_does() {
    let nowhere = || vec![version("1", 1.0, &[1]), version("2", 9.0, &[])];
    let mut world = World::ready(config(nowhere(), &["1"]));
    assert!(world.policy.can_serve());
    for _ in 0..100 {
        let attempt = world.start(None);
        assert_eq!(&*attempt.version, "1");
        world.record(attempt.permit, OK);
    }
    let pinned = world.ask(Some("2"));
    let refusal = world.policy.start(pinned, world.now, &mut world.rng);
    assert_eq!(refusal.unwrap_err(), Refusal::NoEndpoint);

    let somewhere = vec![version("1", 1.0, &[1]), version("2", 9.0, &[2])];
    world.reload(config(somewhere, &["1"]));
    world.check("2", at(2), CheckResult::Up);
    assert!(chosen(&mut world, 1_000)[&2] > 800);
    world.reload(config(nowhere(), &["1"]));
    assert_eq!(chosen(&mut world, 100)[&1], 100);
}

#[test]
fn endpoints_that_all_go_at_once_give_way_to_those_that_come() {
    let mut world = World::ready(config(vec![version("1", 1.0, &[1, 2])], &[]));
    world.reload(config(vec![version("1", 1.0, &[3, 4])], &[]));
    // None of them was checked yet, and all of them are better than none.
    let counts = chosen(&mut world, 100);
    assert_eq!(counts.values().sum::<usize>(), 100);
    assert!(counts.keys().all(|port| [3, 4].contains(port)));
}

/// So many endpoints, each of which may hold so many requests.
fn narrow(endpoints: u16, max_in_flight: u32) -> ModelConfig {
    let mut rules = Rules::default();
    rules.balance.max_in_flight = max_in_flight;
    let ports: Vec<u16> = (1..=endpoints).collect();
    ModelConfig::new(vec![version("1", 1.0, &ports)], &[] as &[&str], rules).unwrap()
}

#[test]
fn one_that_holds_more_than_it_may_since_a_reload_fills_no_place_of_the_others() {
    let mut world = World::ready(narrow(1, 10));
    let held: Vec<_> = (0..10).map(|_| world.start(None)).collect();
    world.reload(narrow(2, 4));
    world.check("1", at(2), CheckResult::Up);
    let more: Vec<_> = (0..4).map(|_| world.start(None)).collect();
    assert!(more.iter().all(|attempt| attempt.address == at(2)));
    let ask = world.ask(None);
    let refused = world.policy.start(ask, world.now, &mut world.rng);
    assert_eq!(refused.map(drop), Err(Refusal::NoRoom));
    // It takes another one once it holds fewer than it may.
    for (ended, attempt) in held.into_iter().enumerate() {
        let refused = world.policy.start(ask, world.now, &mut world.rng);
        assert_eq!(refused.is_ok(), ended > 6, "{ended} have ended");
        if let Ok(attempt) = refused {
            world.record(attempt.permit, OK);
        }
        world.record(attempt.permit, OK);
    }
}

proptest! {
    /// Against a look at each: a request finds a place exactly while an endpoint that
    /// is ready holds fewer than it may, however the limit and the pool change meanwhile.
    #[test]
    fn a_pool_is_full_when_all_of_its_endpoints_are(
        steps in prop::collection::vec((0..6u8, 0..64usize, 1..5u32), 1..200),
        seed: u64,
    ) {
        let mut world = World::ready(narrow(4, 3));
        world.rng = StdRng::seed_from_u64(seed);
        let mut max = 3;
        let mut held = Vec::new();
        for (step, which, new) in steps {
            match step {
                0..3 => {
                    let endpoints = world.policy.status(world.now).remove(0).endpoints;
                    let ready = || endpoints.iter().filter(|e| e.health == Health::Ready);
                    let has_room = ready().any(|e| e.in_flight < max);
                    let ask = world.ask(None);
                    let attempt = world.policy.start(ask, world.now, &mut world.rng);
                    if ready().count() > 0 {
                        prop_assert_eq!(attempt.is_ok(), has_room, "{:?}", endpoints);
                    }
                    held.extend(attempt);
                }
                3 if !held.is_empty() => {
                    let attempt = held.swap_remove(which % held.len());
                    world.record(attempt.permit, Outcome::Neutral);
                }
                4 => {
                    max = new;
                    world.reload(narrow(4, max));
                }
                5 => {
                    let port = u16::try_from(which % 4 + 1).unwrap();
                    let result = if new > 2 { CheckResult::Up } else { CheckResult::Draining };
                    world.check("1", at(port), result);
                }
                _ => {}
            }
        }
    }
}
