//! Pools of thousands: the choice stays fair, its costs bounded, its results reproducible.

use super::*;

const MANY: u16 = 1_000;

fn many() -> World {
    let ports: Vec<u16> = (1..=MANY).collect();
    let mut world = World::ready(config(vec![version("1", 1.0, &ports)], &[]));
    world.now += Duration::from_secs(20);
    world
}

/// The ports of so many choices, one after the other.
fn ports(world: &mut World, requests: usize) -> Vec<u16> {
    let choose = |_| {
        let attempt = world.start(None);
        let port = attempt.address.port();
        world.record(attempt.permit, Outcome::Neutral);
        port
    };
    (0..requests).map(choose).collect()
}

#[test]
fn choices_that_are_drawn_ahead_are_as_even_as_any() {
    let chosen = ports(&mut many(), 100 * usize::from(MANY));
    let mut counts = HashMap::new();
    for port in chosen {
        *counts.entry(port).or_insert(0_u32) += 1;
    }
    assert_eq!(counts.len(), usize::from(MANY), "nobody is left out");
    let off = counts.values().filter(|n| !(50..=150).contains(*n)).count();
    assert_eq!(off, 0, "five sigma of a hundred are fifty: {counts:?}");
}

#[test]
fn a_pair_that_was_drawn_before_the_pool_shrank_is_not_used() {
    let mut world = many();
    ports(&mut world, 10);
    for port in 101..=MANY {
        world.check("1", at(port), CheckResult::Draining);
    }
    assert!(ports(&mut world, 2_000).into_iter().all(|port| port <= 100));
}

#[test]
fn nor_is_one_whose_last_place_has_just_gone() {
    let ports_of_100: Vec<u16> = (1..=100).collect();
    let mut world = World::ready(config(vec![version("1", 1.0, &ports_of_100)], &[]));
    for _ in 0..500 {
        // One goes while the next pair is drawn among a hundred, and comes back.
        ports(&mut world, 1);
        world.check("1", at(7), CheckResult::Draining);
        assert_ne!(ports(&mut world, 1), [7]);
        world.check("1", at(7), CheckResult::Up);
        world.check("1", at(7), CheckResult::Up);
    }
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    let run = || {
        let mut world = many();
        for port in (1..=MANY).step_by(3) {
            world.check("1", at(port), CheckResult::Draining);
        }
        ports(&mut world, 500)
    };
    assert_eq!(run(), run());
    let nothing_is_ready = || {
        let all: Vec<u16> = (1..=MANY).collect();
        ports(
            &mut World::new(config(vec![version("1", 1.0, &all)], &[])),
            500,
        )
    };
    assert_eq!(nothing_is_ready(), nothing_is_ready());
}

#[test]
fn a_third_of_a_pool_that_trips_at_once_is_taken_out_and_comes_back() {
    let mut world = many();
    let failing = |port: u16| port.is_multiple_of(3);
    for _ in 0..20_000 {
        let attempt = world.start(None);
        let failed = failing(attempt.address.port());
        world.record(attempt.permit, if failed { Outcome::Failure } else { OK });
        world.now += Duration::from_micros(500);
        world.tick();
    }
    let share = world.policy.available("1").unwrap();
    assert!((0.6..0.9).contains(&share), "{share} is available");
    for _ in 0..20_000 {
        let attempt = world.start(None);
        world.record(attempt.permit, OK);
        world.now += Duration::from_millis(2);
    }
    let share = world.policy.available("1").unwrap();
    assert!(share > 0.99, "{share} is available once they are well");
}
