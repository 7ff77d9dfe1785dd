//! What leaves a version is bounded: by the share that it lacks, and by the room
//! of those who take it.

use super::*;

/// So many endpoints of version 1, of which some are gone, and version 2 behind it.
fn spilling(stable: u16, gone: u16, canary: u16, max_in_flight: u32) -> World {
    let mut rules = Rules::default();
    rules.balance.max_in_flight = max_in_flight;
    rules.balance.slow_start = Duration::ZERO;
    let ports: Vec<u16> = (1..=stable).collect();
    let others: Vec<u16> = (101..=100 + canary).collect();
    let versions = vec![version("1", 1.0, &ports), version("2", 0.0, &others)];
    let mut world = World::ready(ModelConfig::new(versions, &["2"], rules).unwrap());
    for port in 1..=gone {
        world.check("1", at(port), CheckResult::Draining);
    }
    world
}

fn in_flight(world: &World, version: usize) -> u32 {
    let status = world.policy.status(world.now);
    status[version].endpoints.iter().map(|e| e.in_flight).sum()
}

#[test]
fn a_stable_pool_at_49_percent_is_not_thrown_whole_onto_one_canary_pod() {
    let mut world = spilling(100, 51, 1, 8);
    // 49 pods of 8 slots are left; 300 requests are out at a time.
    let held: Vec<_> = (0..300).map(|_| world.start(None)).collect();
    assert_eq!(in_flight(&world, 1), 8, "as many as the one pod may hold");
    assert_eq!(
        in_flight(&world, 0),
        292,
        "the others stay, though 31 % would leave"
    );
    for attempt in held {
        world.record(attempt.permit, OK);
    }
    // With requests that are gone at once its share is 1 − 1.4 · 49 %, and no more.
    let left = world
        .shares(20_000)
        .remove(&("2".into(), "fallback"))
        .unwrap();
    let sigma = (20_000.0 * 0.314 * 0.686_f64).sqrt();
    assert!(
        (left as f64 - 6_280.0).abs() < 5.0 * sigma,
        "{left} of 20,000 left"
    );
}

#[test]
fn of_sticky_clients_the_same_part_leaves_and_stays_away() {
    let ports = [vec![1, 2, 3, 4], vec![11, 12, 13, 14]];
    let versions = vec![version("1", 1.0, &ports[0]), version("2", 1.0, &ports[1])];
    let mut world = World::ready(config(versions, &["1"]));
    let version_of = |world: &mut World, client: u64| {
        let sticky = Some(sticky::hash(&client.to_le_bytes()));
        let ask = Ask {
            sticky,
            ..world.ask(None)
        };
        let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        world.record(attempt.permit, OK);
        attempt.version
    };
    let of_the_canary = |world: &mut World| -> Vec<u64> {
        let is_its = |client: &u64| &*version_of(world, *client) == "2";
        (0..4_000).filter(is_its).collect()
    };
    let all = of_the_canary(&mut world);
    let mut before = all.clone();
    for (out, port) in (1..=4).zip(11..) {
        world.check("2", at(port), CheckResult::Draining);
        let stayed = of_the_canary(&mut world);
        for _ in 0..10 {
            assert_eq!(of_the_canary(&mut world), stayed, "{out} of 4 are out");
        }
        assert!(stayed.iter().all(|client| before.contains(client)));
        let share = (1.4 * f64::from(4 - out) / 4.0).min(1.0);
        let sigma = (all.len() as f64 * share * (1.0 - share)).sqrt();
        let off = (stayed.len() as f64 - all.len() as f64 * share).abs();
        assert!(
            off <= 5.0 * sigma,
            "{} of {}, {out} of 4 out",
            stayed.len(),
            all.len()
        );
        before = stayed;
    }
    for port in 11..=14 {
        world.check("2", at(port), CheckResult::Up);
        world.check("2", at(port), CheckResult::Up);
    }
    assert_eq!(of_the_canary(&mut world), all, "all are back");
}

#[test]
fn a_sticky_client_that_had_to_wait_leaves_or_stays_like_any_other_time() {
    let mut rules = Rules {
        max_queued: 8,
        ..Rules::default()
    };
    rules.balance.max_in_flight = 1;
    let versions = vec![
        version("1", 1.0, &[1]),
        version("2", 1.0, &[11, 12, 13, 14]),
    ];
    let mut world = World::ready(ModelConfig::new(versions, &["1"], rules).unwrap());
    for port in [11, 12] {
        world.check("2", at(port), CheckResult::Draining);
    }
    for client in 0..200_u64 {
        let ask = Ask {
            sticky: Some(sticky::hash(&client.to_le_bytes())),
            ..world.ask(None)
        };
        let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        let expected = Arc::clone(&attempt.version);
        world.record(attempt.permit, OK);
        // All are out: it waits, and then all are free.
        let held = ["1", "2", "2"].map(|version| world.start(Some(version)));
        let admitted = world.policy.admit(ask, world.now, &mut world.rng).unwrap();
        assert!(matches!(admitted, Admitted::Queued(_)));
        for attempt in held {
            world.record(attempt.permit, OK);
        }
        let (_, served) = world.policy.serve(world.now, &mut world.rng).unwrap();
        let served = served.unwrap();
        assert_eq!(served.version, expected, "client {client}");
        world.record(served.permit, OK);
    }
}

proptest! {
    /// Against two counters: while both have room the share that leaves is
    /// 1 − min(1, 1.4 · available); a full target sends nobody away who has room
    /// at home; and nobody is refused before both are full.
    #[test]
    fn what_leaves_is_bounded_by_the_missing_share_and_by_the_targets_room(
        stable in 2..12u16,
        gone in 0..12u16,
        canary in 1..3u16,
        max_in_flight in 1..6u32,
        seed: u64,
    ) {
        let gone = gone % stable;
        let mut world = spilling(stable, gone, canary, max_in_flight);
        world.rng = StdRng::seed_from_u64(seed);
        let room = u32::from(stable - gone) * max_in_flight;
        let (at_home, mut away) = (room, u32::from(canary) * max_in_flight);
        let (mut stayed, mut held) = (0, Vec::new());
        for _ in 0..at_home + away {
            let attempt = world.start(None);
            match attempt.kind {
                RouteKind::Split => stayed += 1,
                kind => {
                    prop_assert!(matches!(kind, RouteKind::Fallback(FallbackReason::Spill)));
                    prop_assert!(away > 0, "the target was full");
                    away -= 1;
                    let enough = 1.4 * f64::from(stable - gone) >= f64::from(stable);
                    prop_assert!(!enough || stayed == room, "a pool that can carry all lets none go");
                }
            }
            prop_assert!(stayed <= room);
            held.push(attempt);
        }
        prop_assert_eq!((stayed, away), (room, 0));
        let ask = world.ask(None);
        let refused = world.policy.start(ask, world.now, &mut world.rng);
        prop_assert_eq!(refused.map(drop), Err(Refusal::NoRoom));
        for attempt in held {
            world.record(attempt.permit, OK);
        }
    }
}
