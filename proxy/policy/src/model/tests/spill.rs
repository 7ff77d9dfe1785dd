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
