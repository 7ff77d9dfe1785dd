//! How long attempts get, by what becomes of the requests: what a healthy model can
//! answer in time is answered, and what hangs is rescued from.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// How often the shell looks at what is out.
const TICK: Duration = Duration::from_millis(25);
/// Attempts after the first.
const RETRIES: usize = 3;

/// Version 1 on so many endpoints, alone.
fn alone(endpoints: u16) -> World {
    let ports: Vec<u16> = (1..=endpoints).collect();
    let mut world = World::ready(config(vec![version("1", 1.0, &ports)], &[]));
    world.now += 20 * SECOND;
    world
}

/// So many requests that name the version, each answered at once.
fn teach(world: &mut World, version: &str, requests: usize) {
    for _ in 0..requests {
        let attempt = world.start(Some(version));
        world.record(attempt.permit, OK);
    }
    pass(world, 4 * TICK);
}

/// Lets time pass, as the shell does.
fn pass(world: &mut World, time: Duration) {
    let until = world.now + time;
    while world.now < until {
        world.now = (world.now + TICK).min(until);
        world.tick();
    }
}

/// One request as the shell makes it: each endpoint takes so long, or never answers.
/// The version that answered in time, if one did.
fn request(
    world: &mut World,
    version: Option<&str>,
    patience: Duration,
    takes: impl Fn(u16) -> Option<Duration>,
) -> Option<String> {
    let deadline = world.now + patience;
    let ask = Ask {
        deadline,
        ..world.ask(version)
    };
    let mut attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
    let mut tried = Vec::new();
    loop {
        let within = attempt.first_byte_within;
        let takes = takes(attempt.address.port()).filter(|takes| *takes <= within);
        pass(world, takes.unwrap_or(within));
        tried.push(attempt.permit.endpoint());
        if let Some(waited) = takes {
            world.record(attempt.permit, Outcome::Success { waited });
            return Some(attempt.version.to_string());
        }
        world.record(attempt.permit, Outcome::TimedOut);
        if tried.len() > RETRIES {
            return None;
        }
        let again = Again {
            chosen: &attempt.chosen,
            by: attempt.by,
            tried: &tried,
            uploading: false,
            retries_left: tried.len() < RETRIES,
            purpose: Purpose::Inference,
            deadline,
        };
        let next = world.policy.again(again, world.now, &mut world.rng);
        attempt = next.ok()?;
    }
}

/// How many of so many requests are not answered.
fn lost(
    world: &mut World,
    requests: usize,
    patience: Duration,
    takes: impl Fn(u16) -> Option<Duration>,
) -> usize {
    let lost = (0..requests).filter(|_| {
        let answered = request(world, None, patience, &takes);
        pass(world, 10 * MS);
        answered.is_none()
    });
    lost.count()
}

#[test]
fn a_model_that_takes_more_than_half_of_the_time_is_served() {
    for endpoints in [2, 4, 8] {
        for (takes, patience) in [(900, 1_500), (999, 1_000), (60, 100), (40, 60)] {
            for gap in [Duration::ZERO, 30 * SECOND] {
                let mut world = alone(endpoints);
                for number in 0..60 {
                    let answered = request(&mut world, None, patience * MS, |_| Some(takes * MS));
                    let case = format!("{takes} of {patience} ms, {endpoints} endpoints");
                    assert!(
                        answered.is_some(),
                        "{case}: request {number}, {gap:?} apart"
                    );
                    world.now += gap;
                }
            }
        }
    }
}

#[test]
fn a_model_that_becomes_slower_than_half_of_the_time_is_soon_served_again() {
    for endpoints in [2, 4, 8] {
        let mut world = alone(endpoints);
        assert_eq!(lost(&mut world, 200, PATIENCE, |_| Some(100 * MS)), 0);
        let meanwhile = lost(&mut world, 20, PATIENCE, |_| Some(900 * MS));
        assert!(meanwhile <= 10, "{meanwhile} of 20, {endpoints} endpoints");
        assert_eq!(lost(&mut world, 60, PATIENCE, |_| Some(900 * MS)), 0);
    }
}

#[test]
fn no_half_is_less_than_the_floor() {
    let mut world = alone(4);
    assert_eq!(lost(&mut world, 40, PATIENCE, |_| Some(5 * MS)), 0);
    for (patience, within) in [(99, 99), (100, 50), (140, 50)] {
        let ask = Ask {
            deadline: world.now + patience * MS,
            ..world.ask(None)
        };
        let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        assert_eq!(attempt.first_byte_within, within * MS, "of {patience} ms");
        world.record(attempt.permit, Outcome::Neutral);
    }
}

#[test]
fn large_inputs_that_take_more_than_half_of_the_time_are_served_too() {
    let mut world = alone(4);
    let light = |world: &mut World| request(world, None, PATIENCE, |_| Some(300 * MS));
    let heavy = |world: &mut World| request(world, None, PATIENCE, |_| Some(800 * MS));
    for _ in 0..100 {
        assert!(light(&mut world).is_some());
    }
    // One in ten is large, from now on.
    let mut lost = 0;
    for _ in 0..30 {
        lost += usize::from(heavy(&mut world).is_none());
        for _ in 0..9 {
            assert!(light(&mut world).is_some());
        }
    }
    assert!(lost <= 6, "{lost} of 30");
}

/// The row "hangs" of `make bench-faults`.
#[test]
fn an_endpoint_that_hangs_costs_nobody_an_answer() {
    for takes in [5, 50, 300] {
        let mut world = alone(8);
        let well = |_| Some(takes * MS);
        assert_eq!(lost(&mut world, 200, PATIENCE, well), 0);
        let hangs = |port| (port != 3).then_some(takes * MS);
        assert_eq!(lost(&mut world, 400, PATIENCE, hangs), 0, "{takes} ms");
        let closed = world.endpoint("1", 3).breaker == BreakerState::Closed;
        // Half of the time is less than three times what the slow ones take.
        assert_eq!(closed, takes == 300, "{takes} ms");
        // One answer was enough to know what is long.
        let mut world = alone(8);
        let first = world.start(None);
        let hung = first.address.port() % 8 + 1;
        let waited = takes * MS;
        world.record(first.permit, Outcome::Success { waited });
        let hangs = |port| (port != hung).then_some(takes * MS);
        assert_eq!(
            lost(&mut world, 400, PATIENCE, hangs),
            0,
            "{takes} ms, cold"
        );
    }
}

#[test]
fn two_of_eight_that_hang_cost_nobody_an_answer_either() {
    for seed in 0..20 {
        let mut world = alone(8);
        world.rng = StdRng::seed_from_u64(seed);
        assert_eq!(lost(&mut world, 200, PATIENCE, |_| Some(5 * MS)), 0);
        let hangs = |port| (port > 2).then_some(5 * MS);
        assert_eq!(lost(&mut world, 400, PATIENCE, hangs), 0, "seed {seed}");
    }
}

#[test]
fn of_a_new_version_one_request_at_a_time_finds_out_how_long_it_takes() {
    let mut world = World::ready(canary());
    let explorer = world.start(Some("2"));
    // It may not leave its version, and so all of the time is its own.
    assert_eq!(explorer.first_byte_within, PATIENCE);
    world.record(explorer.permit, Outcome::Neutral);
    let canary_of = |world: &mut World| loop {
        let attempt = world.start(None);
        if &*attempt.version == "2" {
            break attempt;
        }
        world.record(attempt.permit, Outcome::Neutral);
    };
    let explorer = canary_of(&mut world);
    let other = canary_of(&mut world);
    let within = [explorer.first_byte_within, other.first_byte_within];
    assert_eq!(within, [PATIENCE, PATIENCE / 2]);
    world.record(other.permit, Outcome::Neutral);
    world.record(explorer.permit, Outcome::Neutral);
    let next = canary_of(&mut world);
    assert_eq!(next.first_byte_within, PATIENCE, "the last one never told");
    let waited = 900 * MS;
    world.record(next.permit, Outcome::Success { waited });
    let known = [canary_of(&mut world), canary_of(&mut world)];
    assert!(known.iter().all(|it| it.first_byte_within == PATIENCE));
    for attempt in known {
        world.record(attempt.permit, Outcome::Neutral);
    }
}

#[test]
fn a_canary_that_takes_more_than_half_of_the_time_answers_its_share() {
    let mut world = World::ready(canary());
    let takes = |port| Some(if port == 3 { 900 * MS } else { 5 * MS });
    let answered: Vec<_> = (0..400)
        .map(|_| request(&mut world, None, PATIENCE, takes).expect("an answer"))
        .collect();
    let by_canary = answered.iter().filter(|version| *version == "2").count();
    // 40, within 5 σ.
    assert!((10..=70).contains(&by_canary), "{by_canary} of 400");
}

#[test]
fn a_request_that_may_not_leave_its_version_is_not_cut_because_another_is_well() {
    for allowed in [false, true] {
        let rules = Rules {
            pinned_fallback: allowed,
            ..Rules::default()
        };
        let versions = vec![version("1", 90.0, &[1, 2]), version("2", 10.0, &[3])];
        let mut world = World::ready(ModelConfig::new(versions, &["1"], rules).unwrap());
        for version in ["1", "2"] {
            teach(&mut world, version, 40);
        }
        // Its only pod takes longer than it did.
        let takes = |port| Some(if port == 3 { 400 * MS } else { MS });
        let expected = if allowed { "1" } else { "2" };
        for _ in 0..20 {
            let answered = request(&mut world, Some("2"), PATIENCE, takes);
            assert_eq!(answered.as_deref(), Some(expected));
        }
        let closed = world.endpoint("2", 3).breaker == BreakerState::Closed;
        assert_eq!(closed, !allowed, "nobody called it slow who had to wait");
    }
}

#[test]
fn an_attempt_that_fell_back_is_rescued_by_another_endpoint_of_that_version() {
    let mut world = World::ready(canary());
    for version in ["1", "2"] {
        teach(&mut world, version, 40);
    }
    let first = world.start(Some("2"));
    let tried = [first.permit.endpoint()];
    world.record(first.permit, Outcome::Failure);
    let next = world.again("2", &tried).unwrap();
    assert_eq!((&*next.version, next.first_byte_within), ("1", 50 * MS));
    let tried = [tried[0], next.permit.endpoint()];
    world.now += next.first_byte_within;
    world.record(next.permit, Outcome::TimedOut);
    let other = world.again("2", &tried).unwrap();
    assert_eq!(&*other.version, "1");
    world.record(other.permit, OK);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against the choice itself: an attempt is cut exactly where another one would
    /// be given now, whoever is full, wants to be left alone, or was tried.
    #[test]
    fn an_attempt_is_cut_exactly_while_there_is_somewhere_else_to_go(
        sizes in (1..4u16, 1..4u16),
        chain in prop::sample::select(vec![vec![], vec!["1"], vec!["2"], vec!["1", "2"]]),
        pinned_fallback: bool,
        max_in_flight in 1..3u32,
        before in prop::collection::vec((any::<bool>(), any::<bool>()), 0..8),
        was_tried in prop::collection::vec(any::<bool>(), 6),
        chosen in prop::sample::select(vec!["1", "2"]),
        by in prop::sample::select(vec![ChosenBy::Split, ChosenBy::Pinned]),
        seed: u64,
    ) {
        let mut rules = Rules { pinned_fallback, ..Rules::default() };
        rules.balance.max_in_flight = max_in_flight;
        rules.retry.budget.per_second = 100.0;
        let [first, second] = [1, 11].map(|from| from..from + if from == 1 { sizes.0 } else { sizes.1 });
        let ports = [first.collect::<Vec<u16>>(), second.collect()];
        let versions = vec![version("1", 1.0, &ports[0]), version("2", 1.0, &ports[1])];
        let mut world = World::ready(ModelConfig::new(versions, &chain, rules).unwrap());
        world.rng = StdRng::seed_from_u64(seed);
        for version in ["1", "2"] {
            teach(&mut world, version, 40);
        }
        let mut held = Vec::new();
        for (is_first, refuses) in before {
            let ask = world.ask(Some(if is_first { "1" } else { "2" }));
            let Ok(attempt) = world.policy.start(ask, world.now, &mut world.rng) else {
                continue;
            };
            if refuses {
                let park = Some(10 * SECOND);
                world.record(attempt.permit, Outcome::Pushback { park });
            } else {
                held.push(attempt);
            }
        }
        let keys = world.policy.endpoints.keys().zip(was_tried);
        let mut tried: Vec<_> = keys.filter(|(_, tried)| *tried).map(|(key, _)| key).collect();
        let Ok(attempt) = world.again_by(by, chosen, &tried, true) else {
            return Ok(());
        };
        tried.push(attempt.permit.endpoint());
        let next = world.again_by(by, chosen, &tried, true);
        let is_cut = attempt.first_byte_within < PATIENCE;
        prop_assert_eq!(is_cut, next.is_ok(), "{:?}, then {:?}", attempt, next);
    }

    /// Whatever the deadline: an attempt at a pool that takes always the same gets at
    /// least that, and no less than the floor, unless that is all that is left.
    #[test]
    fn no_attempt_is_cut_before_the_time_that_is_usual_or_before_the_floor(
        takes in prop_oneof![1..50u32, 1..900u32],
        patience in prop_oneof![1..150u32, 1..3_000u32],
        known in 1..60usize,
        spent in 0..1_500u32,
        seed: u64,
    ) {
        let mut world = alone(4);
        world.rng = StdRng::seed_from_u64(seed);
        for _ in 0..known {
            let attempt = world.start(None);
            pass(&mut world, takes * MS);
            world.record(attempt.permit, Outcome::Success { waited: takes * MS });
        }
        let deadline = world.now + patience * MS;
        let floor = Rules::default().retry.per_try_floor;
        let ask = Ask { deadline, ..world.ask(None) };
        let first = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        let within = first.first_byte_within;
        let left = patience * MS;
        prop_assert!(within == left || within >= floor && within >= takes * MS, "{:?}", within);
        let spent = (spent * MS).min(within);
        pass(&mut world, spent);
        let again = Again {
            chosen: "1",
            by: ChosenBy::Split,
            tried: &[first.permit.endpoint()],
            uploading: false,
            retries_left: true,
            purpose: Purpose::Inference,
            deadline,
        };
        if let Ok(next) = world.policy.again(again, world.now, &mut world.rng) {
            let (within, left) = (next.first_byte_within, left.saturating_sub(spent));
            prop_assert!(within == left || within >= floor && within >= takes * MS, "{:?}", within);
        }
    }
}
