//! What the policy promises of a model, against references that are too simple
//! to be wrong.

use std::collections::BTreeSet;

use super::*;
use crate::budget::BudgetConfig;

/// Versions 1 and 2, each the other's fallback, on ports 1 to 5 and 11 to 13.
fn pair() -> ModelConfig {
    let ports = [vec![1, 2, 3, 4, 5], vec![11, 12, 13]];
    let versions = vec![version("1", 1.0, &ports[0]), version("2", 1.0, &ports[1])];
    let mut rules = Rules::default();
    // Open until somebody passes the time.
    rules.breaker.open_base = Duration::from_mins(1);
    ModelConfig::new(versions, &["1", "2"], rules).unwrap()
}

fn version_of(port: u16) -> &'static str {
    if port < 10 { "1" } else { "2" }
}

const ALL: [u16; 8] = [1, 2, 3, 4, 5, 11, 12, 13];

#[derive(Clone, Copy, Debug)]
enum Op {
    /// One attempt at an endpoint, if the policy goes there within a few draws.
    Fail(u16),
    Check(u16, CheckResult),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let port = || prop::sample::select(ALL.to_vec());
    let result = prop_oneof![2 => Just(CheckResult::Up), 1 => Just(CheckResult::Down)];
    prop_oneof![
        6 => port().prop_map(Op::Fail),
        3 => (port(), result).prop_map(|(p, r)| Op::Check(p, r)),
        1 => (0..90_000u64).prop_map(Op::Pass),
    ]
}

/// Makes an endpoint's breaker count five failures, if requests go there at all.
fn fail(world: &mut World, port: u16) {
    for _ in 0..60 {
        let attempt = world.start(Some(version_of(port)));
        let is_it = attempt.address == at(port);
        world.record(attempt.permit, if is_it { Outcome::Failure } else { OK });
        if world.endpoint(version_of(port), port).breaker != BreakerState::Closed {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a count over the status: with a fallback that has one endpoint which
    /// is well, none of the tripped ones is kept in use; without, all are but the
    /// first max(1, half) of those that are ready, and never the last.
    #[test]
    fn the_caps_hold_exactly_while_the_fallback_chain_is_exhausted(
        ops in prop::collection::vec(op(), 1..60),
        seed: u64,
    ) {
        let mut world = World::ready(pair());
        world.rng = StdRng::seed_from_u64(seed);
        for op in ops {
            match op {
                Op::Fail(port) => fail(&mut world, port),
                Op::Check(port, result) => world.check(version_of(port), at(port), result),
                Op::Pass(ms) => world.now += Duration::from_millis(ms),
            }
            let status = world.policy.status(world.now);
            for (own, other) in [(0, 1), (1, 0)] {
                let ready: Vec<_> = status[own]
                    .endpoints
                    .iter()
                    .filter(|e| e.health == Health::Ready)
                    .collect();
                let tripped = ready.iter().filter(|e| e.breaker != BreakerState::Closed).count();
                let kept = ready.iter().filter(|e| e.protected).count();
                let may_go = (ready.len() / 2).max(1).min(ready.len().saturating_sub(1));
                let expected = if status[other].available > 0.0 {
                    0
                } else {
                    tripped.saturating_sub(may_go)
                };
                prop_assert_eq!(kept, expected, "version {}: {:?}", own + 1, status);
            }
        }
    }

    /// Against two counts that only grow: no retry is ever decided that the budget
    /// of the first attempts so far does not cover, though none of them has ended.
    #[test]
    fn the_budget_bounds_retries_at_the_moment_of_the_decision(
        starts in prop::collection::vec(any::<bool>(), 1..300),
        sixty_fourths in 0..64u32,
        floor in 0..3u32,
    ) {
        // A ratio without a rounding error, so that the last retry is exact.
        let ratio = f64::from(sixty_fourths) / 64.0;
        let mut rules = Rules::default();
        let per_second = f64::from(floor) / 10.0;
        rules.retry.budget = BudgetConfig { ratio, per_second };
        let versions = vec![version("1", 1.0, &[1, 2, 3])];
        let mut world = World::ready(ModelConfig::new(versions, &[] as &[&str], rules).unwrap());
        let (mut firsts, mut retries) = (0_u32, 0_u32);
        let (mut tried, mut held) = (Vec::new(), Vec::new());
        for first in starts {
            if first {
                let attempt = world.start(None);
                tried = vec![attempt.permit.endpoint()];
                firsts += 1;
                held.push(attempt);
                continue;
            }
            let covers = ratio * f64::from(firsts) + f64::from(floor);
            let decided = world.again("1", &tried);
            let paid = f64::from(retries) + 1.0 <= covers;
            prop_assert_eq!(decided.is_ok(), paid, "{} firsts, {} retries", firsts, retries);
            retries += u32::from(decided.is_ok());
        }
    }

    /// Whatever the attempts and however long they take: each ends by the deadline
    /// that the request came with, and what is left only shrinks.
    #[test]
    fn deadlines_never_grow(
        patience in 1..5_000u64,
        spent in prop::collection::vec(0..2_000u64, 1..8),
        known: bool,
        seed: u64,
    ) {
        let mut world = World::ready(pair());
        world.rng = StdRng::seed_from_u64(seed);
        if known {
            world.serve(400, |_| 20 * MS);
        }
        let deadline = world.now + Duration::from_millis(patience);
        let ask = Ask { deadline, ..world.ask(None) };
        let mut attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        let chosen = attempt.chosen.to_string();
        let mut tried = Vec::new();
        for (i, ms) in spent.iter().enumerate() {
            prop_assert!(attempt.first_byte_within > Duration::ZERO);
            prop_assert!(world.now + attempt.first_byte_within <= deadline);
            tried.push(attempt.permit.endpoint());
            let takes = Duration::from_millis(*ms).min(attempt.first_byte_within);
            world.now += takes;
            world.record(attempt.permit, Outcome::TimedOut);
            let again = Again {
                chosen: &chosen,
                by: ChosenBy::Split,
                tried: &tried,
                uploading: false,
                retries_left: i < 2,
                purpose: Purpose::Inference,
                deadline,
            };
            match world.policy.again(again, world.now, &mut world.rng) {
                Ok(next) => {
                    prop_assert!(world.now < deadline);
                    attempt = next;
                }
                Err(refusal) => {
                    prop_assert_eq!(refusal == Refusal::NoTime, world.now >= deadline);
                    return Ok(());
                }
            }
        }
        world.record(attempt.permit, OK);
    }

    /// What a client can bring about by itself: 4xx answers, leaving, hurrying an
    /// endpoint, and an input at which every endpoint fails. The reference is that
    /// nothing moves.
    #[test]
    fn a_client_cannot_open_a_breaker_with_its_own_input_or_deadline(
        acts in prop::collection::vec((0..5u8, 0..40u64), 1..300),
        seed: u64,
    ) {
        let mut world = World::ready(pair());
        world.rng = StdRng::seed_from_u64(seed);
        // Endpoints that take 20 ms are known to.
        world.serve(400, |_| 20 * MS);
        let mut moved = Vec::new();
        for (act, ms) in acts {
            // Nobody waits for longer than an endpoint usually takes, and a little.
            let ask = Ask {
                deadline: world.now + Duration::from_millis(ms + 1),
                ..world.ask(None)
            };
            let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
            let chosen = attempt.chosen.to_string();
            world.now += Duration::from_millis(ms).min(attempt.first_byte_within);
            moved.extend(world.tick());
            match act {
                0 => moved.extend(world.record(attempt.permit, Outcome::Neutral)),
                1 => moved.extend(world.record(attempt.permit, Outcome::TimedOut)),
                2 => moved.extend(world.record(attempt.permit, Outcome::Pushback { park: None })),
                3 => {
                    // The same 500 from two endpoints: nobody's fault but the input's.
                    let tried = [attempt.permit.endpoint()];
                    let suspect = world.policy.suspect(attempt.permit, world.now).unwrap();
                    if let Ok(next) = world.again(&chosen, &tried) {
                        moved.extend(world.record(next.permit, Outcome::Neutral));
                    }
                    moved.extend(world.policy.resolve(suspect, false, world.now, &mut world.rng));
                }
                // It left, and nobody said a word.
                _ => moved.extend(world.policy.release(
                    attempt.permit,
                    false,
                    world.now,
                    &mut world.rng,
                )),
            }
        }
        prop_assert_eq!(moved, []);
        prop_assert!(ALL.iter().all(|&p| world.endpoint(version_of(p), p).breaker == BreakerState::Closed));
    }

    /// Against the rule in words: a refusal parks its endpoint, unless its request came with
    /// less than half of the time that others have and less than twice of what answers take.
    #[test]
    fn a_client_in_a_hurry_parks_no_endpoint_for_the_others(
        takes in 1..400u64,
        patiences in prop::collection::vec(prop_oneof![1..60u64, 1..1_500u64], 1..40),
        seed: u64,
    ) {
        let mut world = World::ready(pair());
        world.rng = StdRng::seed_from_u64(seed);
        // Its first request has the ordinary time.
        world.serve(60, |_| Duration::from_millis(takes));
        // What is known of the time is at most a class too high.
        let (least, most) = (2 * takes, 2 * takes * 6 / 5);
        for patience in patiences {
            let ask = Ask {
                deadline: world.now + Duration::from_millis(patience),
                ..world.ask(None)
            };
            let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
            let port = attempt.address.port();
            let park = Some(Duration::from_secs(1));
            prop_assert_eq!(world.record(attempt.permit, Outcome::Pushback { park }), None);
            let is_parked = world.endpoint(version_of(port), port).parked_for.is_some();
            if patience >= 750 || patience > most {
                prop_assert!(is_parked, "{} ms, answers take {}", patience, takes);
            } else if patience < least {
                prop_assert!(!is_parked, "{} ms, answers take {}", patience, takes);
            }
            // Those that it stood for are back.
            world.now += Duration::from_secs(1);
        }
    }

    /// A thousand clients while one weight of two changes and changes back: those
    /// who move all go one way, they are as many as the shares differ, and
    /// everybody is back in the end.
    #[test]
    fn sticky_moves_exactly_who_must_move_with_two_arms(
        before in 1..99u32,
        after in 1..99u32,
        seed: u64,
    ) {
        const CLIENTS: u64 = 1_000;
        let at_weight = |canary: u32| {
            let canary = f64::from(canary);
            config(vec![version("1", 100.0 - canary, &[1]), version("2", canary, &[2])], &[])
        };
        let on_canary = |world: &mut World| -> BTreeSet<u64> {
            (0..CLIENTS)
                .filter(|client| {
                    let key = sticky::hash(&(seed ^ client).to_le_bytes());
                    let ask = Ask { sticky: Some(key), ..world.ask(None) };
                    let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
                    let is_canary = &*attempt.version == "2";
                    world.record(attempt.permit, OK);
                    is_canary
                })
                .collect()
        };
        let mut world = World::ready(at_weight(before));
        let first = on_canary(&mut world);
        world.reload(at_weight(after));
        let second = on_canary(&mut world);
        let one_way = first.is_subset(&second) || second.is_subset(&first);
        prop_assert!(one_way, "clients moved both ways");
        let moved = first.symmetric_difference(&second).count() as f64;
        let share = f64::from(before.abs_diff(after)) / 100.0;
        let sigma = (CLIENTS as f64 * share * (1.0 - share)).sqrt();
        prop_assert!((moved - CLIENTS as f64 * share).abs() <= 5.0 * sigma + 1.0, "{} moved", moved);
        world.reload(at_weight(before));
        prop_assert_eq!(on_canary(&mut world), first);
    }
}
