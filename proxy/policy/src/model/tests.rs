use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    LoadReport, Outcome,
    breaker::{BreakerState, TripReason},
    config::{ConfigError, Rules, VersionConfig},
    tests::origin,
};

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn version(name: &str, weight: f64, ports: &[u16]) -> VersionConfig {
    VersionConfig {
        name: name.into(),
        weight,
        endpoints: ports.iter().copied().map(at).collect(),
    }
}

fn config(versions: Vec<VersionConfig>, fallback: &[&str]) -> ModelConfig {
    ModelConfig::new(versions, fallback, Rules::default()).unwrap()
}

/// Version 1 on ports 1 and 2, version 2 on port 3, at 90/10; 1 is the fallback.
fn canary() -> ModelConfig {
    config(
        vec![version("1", 90.0, &[1, 2]), version("2", 10.0, &[3])],
        &["1"],
    )
}

const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_millis(1_500);
const OK: Outcome = Outcome::Success { waited: MS };

struct World {
    policy: ModelPolicy,
    now: Instant,
    rng: StdRng,
}

impl World {
    fn new(config: ModelConfig) -> Self {
        Self {
            policy: ModelPolicy::new(config, origin()),
            now: origin(),
            rng: StdRng::seed_from_u64(11),
        }
    }

    /// A world whose endpoints have all passed their first check.
    fn ready(config: ModelConfig) -> Self {
        let mut world = Self::new(config);
        for version in world.policy.status(world.now) {
            for endpoint in version.endpoints {
                world.check(&version.name, endpoint.address, CheckResult::Up);
            }
        }
        world
    }

    fn reload(&mut self, config: ModelConfig) {
        self.policy.reconfigure(config, self.now);
    }

    fn check(&mut self, version: &str, address: SocketAddr, result: CheckResult) {
        self.policy.check(version, address, result, self.now);
    }

    fn ask<'a>(&self, version: Option<&'a str>) -> Ask<'a> {
        Ask {
            version,
            sticky: None,
            replayable: true,
            uploading: false,
            retries_left: true,
            purpose: Purpose::Inference,
            deadline: self.now + PATIENCE,
        }
    }

    fn start(&mut self, version: Option<&str>) -> Attempt {
        let ask = self.ask(version);
        self.policy.start(ask, self.now, &mut self.rng).unwrap()
    }

    fn again(&mut self, chosen: &str, tried: &[EndpointKey]) -> Result<Attempt, Refusal> {
        self.again_by(ChosenBy::Split, chosen, tried, true)
    }

    fn again_by(
        &mut self,
        by: ChosenBy,
        chosen: &str,
        tried: &[EndpointKey],
        retries_left: bool,
    ) -> Result<Attempt, Refusal> {
        let again = Again {
            chosen,
            by,
            tried,
            uploading: false,
            retries_left,
            purpose: Purpose::Inference,
            deadline: self.now + PATIENCE,
        };
        self.policy.again(again, self.now, &mut self.rng)
    }

    fn record(&mut self, permit: Permit, outcome: Outcome) -> Option<Transition> {
        self.policy.settle(permit, outcome, self.now, &mut self.rng)
    }

    fn tick(&mut self) -> Vec<Transition> {
        self.policy.tick(self.now, &mut self.rng)
    }

    fn endpoint(&self, version: &str, port: u16) -> crate::status::EndpointStatus {
        let mut versions = self.policy.status(self.now).into_iter();
        let version = versions.find(|v| &*v.name == version).unwrap();
        let mut endpoints = version.endpoints.into_iter();
        endpoints.find(|e| e.address == at(port)).unwrap()
    }

    /// One request after another, each answered as `takes` says for its port.
    fn serve(&mut self, requests: usize, takes: impl Fn(u16) -> Duration) -> Vec<Transition> {
        let mut moved = Vec::new();
        for i in 0..requests {
            let attempt = self.start(None);
            let waited = takes(attempt.address.port());
            self.now += MS;
            moved.extend(self.record(attempt.permit, Outcome::Success { waited }));
            if i % 50 == 0 {
                self.now += 100 * MS;
                moved.extend(self.tick());
            }
        }
        moved
    }

    /// One pinned request after another, failing, until the version's pool is tripped.
    fn trip(&mut self, version: &str) {
        while self.policy.available(version).unwrap() > 0.0 {
            let attempt = self.start(Some(version));
            self.record(attempt.permit, Outcome::Failure);
        }
    }

    /// Where `n` requests that name no version went: counts by version and kind.
    fn shares(&mut self, n: usize) -> HashMap<(String, &'static str), usize> {
        let mut counts = HashMap::new();
        for _ in 0..n {
            let attempt = self.start(None);
            let key = (attempt.version.to_string(), attempt.kind.label());
            *counts.entry(key).or_default() += 1;
            self.record(attempt.permit, OK);
        }
        counts
    }
}

#[test]
fn the_split_follows_the_weights() {
    let mut world = World::ready(canary());
    let shares = world.shares(20_000);
    let canary = shares[&("2".into(), "split")];
    // 5 σ of a 10 % share over 20,000 draws.
    assert!((1788..=2212).contains(&canary), "{canary} of 20,000");
    assert_eq!(shares[&("1".into(), "split")] + canary, 20_000);
}

#[test]
fn the_status_tells_weights_as_configured_and_the_shares_that_they_make() {
    let weights = vec![version("1", 6.0, &[1]), version("2", 2.0, &[2])];
    let status = World::ready(config(weights, &[])).policy.status(origin());
    let told: Vec<_> = status.iter().map(|v| (v.weight, v.share)).collect();
    assert_eq!(told, [(6.0, 0.75), (2.0, 0.25)]);
}

#[test]
fn a_pinned_request_gets_its_version_even_at_weight_zero() {
    let mut world = World::ready(config(
        vec![version("1", 1.0, &[1]), version("2", 0.0, &[2])],
        &[],
    ));
    let attempt = world.start(Some("2"));
    assert_eq!((&*attempt.version, attempt.kind), ("2", RouteKind::Pinned));
    assert_eq!(attempt.address, at(2));
    world.record(attempt.permit, OK);
    let shares = world.shares(1_000);
    assert_eq!(shares[&("1".into(), "split")], 1_000);
}

#[test]
fn an_unknown_version_is_refused() {
    let mut world = World::ready(canary());
    let ask = world.ask(Some("3"));
    let refusal = world.policy.start(ask, world.now, &mut world.rng);
    assert_eq!(refusal.unwrap_err(), Refusal::UnknownVersion);
}

#[test]
fn a_tripped_canary_is_left_at_once_and_its_requests_say_so() {
    let mut world = World::ready(canary());
    world.trip("2");
    let shares = world.shares(2_000);
    assert!(shares[&("1".into(), "fallback")] > 100);
    assert!(!shares.contains_key(&("2".into(), "split")));
}

#[test]
fn a_canary_that_is_not_loaded_gets_nothing() {
    let mut world = World::ready(canary());
    world.check("2", at(3), CheckResult::Down);
    world.check("2", at(3), CheckResult::Down);
    assert!(!world.shares(2_000).contains_key(&("2".into(), "split")));
}

#[test]
fn half_a_pool_keeps_seventy_percent_and_spills_the_rest() {
    let mut world = World::ready(config(
        vec![version("1", 1.0, &[1]), version("2", 1.0, &[2, 3])],
        &["1"],
    ));
    world.check("2", at(3), CheckResult::Draining);
    let shares = world.shares(20_000);
    let stayed = shares[&("2".into(), "split")];
    // 10,000 · 0.7, within 5 σ.
    assert!((6_600..=7_400).contains(&stayed), "{stayed} stayed");
    assert!(shares[&("1".into(), "fallback")] > 2_600);
}

#[test]
fn an_endpoint_that_was_never_checked_gets_nothing_and_spills_nothing() {
    let mut world = World::ready(canary());
    world.reload(config(
        vec![version("1", 90.0, &[1, 2]), version("2", 10.0, &[3, 4])],
        &["1"],
    ));
    for _ in 0..500 {
        let attempt = world.start(None);
        assert_eq!(attempt.kind, RouteKind::Split);
        assert_ne!(attempt.address, at(4));
        world.record(attempt.permit, OK);
    }
}

#[test]
fn without_a_fallback_a_pool_that_is_all_down_is_used_whole() {
    let mut world = World::ready(config(vec![version("1", 1.0, &[1, 2])], &[]));
    world.trip("1");
    let first = world.start(None);
    let second = world.again("1", &[first.permit.endpoint()]).unwrap();
    assert_ne!(first.address, second.address);
    let tried = [first.permit.endpoint(), second.permit.endpoint()];
    assert_eq!(world.again("1", &tried).unwrap_err(), Refusal::NoEndpoint);
    world.record(first.permit, Outcome::Neutral);
    world.record(second.permit, Outcome::Neutral);
}

#[test]
fn a_failed_attempt_is_tried_elsewhere_and_then_falls_back() {
    let mut world = World::ready(canary());
    let first = world.start(Some("2"));
    let next = world.again("2", &[first.permit.endpoint()]).unwrap();
    assert_eq!(&*next.version, "1");
    assert_eq!(
        next.kind,
        RouteKind::Fallback(FallbackReason::AttemptsFailed)
    );
    world.record(first.permit, Outcome::Failure);
    world.record(next.permit, OK);

    let first = world.start(Some("1"));
    let next = world.again("1", &[first.permit.endpoint()]).unwrap();
    assert_eq!((&*next.version, next.kind), ("1", RouteKind::Split));
    assert_ne!(first.address, next.address);
    world.record(first.permit, Outcome::Failure);
    world.record(next.permit, OK);
}

#[test]
fn live_requests_probe_a_tripped_version_back_to_life() {
    let mut world = World::ready(canary());
    world.trip("2");
    world.now += Duration::from_secs(7);
    let mut moved = Vec::new();
    let mut probes = 0;
    for _ in 0..400 {
        let attempt = world.start(None);
        probes += usize::from(attempt.permit.is_probe());
        moved.extend(attempt.transition.clone());
        moved.extend(world.record(attempt.permit, OK));
    }
    let states: Vec<_> = moved.iter().map(|t| t.step.to).collect();
    assert_eq!(states, [BreakerState::HalfOpen, BreakerState::Closed]);
    assert_eq!(probes, 3);
    assert!(world.shares(1_000).contains_key(&("2".into(), "split")));
}

#[test]
fn a_request_that_cannot_be_replayed_never_probes() {
    let mut world = World::ready(canary());
    world.trip("2");
    world.now += Duration::from_secs(7);
    for _ in 0..200 {
        let ask = Ask {
            replayable: false,
            ..world.ask(None)
        };
        let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        assert!(!attempt.permit.is_probe());
        world.record(attempt.permit, OK);
    }
}

#[test]
fn a_reload_keeps_what_is_known_and_forgets_what_is_gone() {
    let mut world = World::ready(canary());
    world.trip("2");
    let kept = world.start(Some("1"));
    let gone = world.start(Some("2"));
    world.reload(config(
        vec![
            version("2", 50.0, &[3, 9]),
            version("1", 50.0, &[kept.address.port()]),
        ],
        &["1"],
    ));
    let status = world.policy.status(world.now);
    assert_eq!(status[0].endpoints[0].breaker, BreakerState::Open);
    assert_eq!(status[0].endpoints[1].health, Health::Unknown);
    assert_eq!(status[1].endpoints[0].in_flight, 1);
    assert!((status[1].share - 0.5).abs() < f64::EPSILON);
    world.record(kept.permit, OK);
    world.record(gone.permit, Outcome::Failure);
    assert_eq!(world.policy.status(world.now)[1].endpoints[0].in_flight, 0);

    let stale = world.start(Some("2"));
    world.reload(config(vec![version("1", 1.0, &[1])], &[]));
    assert_eq!(world.record(stale.permit, Outcome::Failure), None);
}

#[test]
fn a_reload_in_half_open_leaves_the_probes_going() {
    let mut world = World::ready(canary());
    world.trip("2");
    world.now += Duration::from_secs(7);
    let probe = world.start(Some("2"));
    assert!(probe.permit.is_probe());
    world.record(probe.permit, OK);
    world.reload(canary());
    let closed = (0..3).any(|_| {
        let attempt = world.start(Some("2"));
        let moved = world.record(attempt.permit, OK);
        moved.is_some_and(|moved| moved.step.to == BreakerState::Closed)
    });
    assert!(closed, "{:?}", world.policy.status(world.now));
}

#[test]
fn a_version_that_nobody_can_stand_in_for_stays_in_use_and_recovers() {
    let mut world = World::ready(config(vec![version("1", 1.0, &[1])], &[]));
    world.trip("1");
    assert!(world.policy.can_serve() && world.endpoint("1", 1).protected);
    let attempt = world.start(None);
    assert!(!attempt.permit.is_probe(), "its time is not up");
    world.record(attempt.permit, OK);
    assert_eq!(world.endpoint("1", 1).breaker, BreakerState::Open);
    world.now += Duration::from_secs(7);
    for _ in 0..3 {
        let attempt = world.start(None);
        assert!(attempt.permit.is_probe());
        world.record(attempt.permit, OK);
    }
    let endpoint = world.endpoint("1", 1);
    assert_eq!(
        (endpoint.breaker, endpoint.protected),
        (BreakerState::Closed, false)
    );
}

#[test]
fn requests_that_cannot_be_replayed_probe_when_nothing_else_is_left() {
    let mut world = World::ready(config(vec![version("1", 1.0, &[1])], &[]));
    world.trip("1");
    world.now += Duration::from_secs(7);
    let ask = Ask {
        replayable: false,
        ..world.ask(None)
    };
    for _ in 0..3 {
        let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
        assert!(attempt.permit.is_probe());
        world.record(attempt.permit, OK);
    }
    assert!((world.policy.available("1").unwrap() - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_request_whose_version_is_taken_away_is_tried_on_another() {
    let mut world = World::ready(canary());
    let first = world.start(Some("2"));
    world.reload(config(vec![version("1", 1.0, &[1, 2])], &[]));
    let tried = [first.permit.endpoint()];
    let next = world.again("2", &tried).unwrap();
    assert_eq!(&*next.version, "1");
    let pinned = world.again_by(ChosenBy::Pinned, "2", &tried, true);
    assert_eq!(pinned.unwrap_err(), Refusal::UnknownVersion);
    world.record(next.permit, OK);
    world.record(first.permit, Outcome::Failure);
}

#[test]
fn the_endpoint_with_fewer_requests_in_flight_is_preferred() {
    let mut world = World::ready(config(vec![version("1", 1.0, &[1, 2, 3, 4])], &[]));
    let held: Vec<_> = (0..400).map(|_| world.start(None)).collect();
    let counts: Vec<_> = world.policy.status(world.now)[0]
        .endpoints
        .iter()
        .map(|e| e.in_flight)
        .collect();
    assert!(counts.iter().all(|c| (95..=105).contains(c)), "{counts:?}");
    for attempt in held {
        world.record(attempt.permit, OK);
    }
}

#[test]
fn readiness_wants_every_version_or_its_fallback() {
    let mut world = World::new(canary());
    assert!(!world.policy.can_serve());
    world.check("1", at(1), CheckResult::Up);
    assert!(world.policy.can_serve(), "version 1 answers for 2");
    world.check("1", at(1), CheckResult::Draining);
    world.check("2", at(3), CheckResult::Up);
    assert!(!world.policy.can_serve(), "2 does not answer for 1");
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let new = |versions, fallback: &[&str]| {
        ModelConfig::new(versions, fallback, Rules::default()).unwrap_err()
    };
    assert!(matches!(new(vec![], &[]), ConfigError::Split(_)));
    let retry = |per_try_factor, ratio, per_second| {
        let mut rules = Rules::default();
        rules.retry.per_try_factor = per_try_factor;
        rules.retry.budget.ratio = ratio;
        rules.retry.budget.per_second = per_second;
        ModelConfig::new::<&str>(vec![version("1", 1.0, &[1])], &[], rules)
    };
    retry(1.0, 10.0, 0.0).unwrap();
    for (factor, ratio, per_second) in [(0.9, 0.2, 1.0), (3.0, -0.1, 1.0), (3.0, 0.2, f64::NAN)] {
        let error = retry(factor, ratio, per_second).unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { .. }), "{error}");
    }
    assert!(matches!(
        new(vec![version("1", 1.0, &[1, 1])], &[]),
        ConfigError::DuplicateEndpoint { .. }
    ));
    assert!(matches!(
        new(vec![version("1", 1.0, &[1]), version("1", 1.0, &[2])], &[]),
        ConfigError::DuplicateVersion { .. }
    ));
    assert!(matches!(
        new(vec![version("1", 1.0, &[1])], &["2"]),
        ConfigError::UnknownFallback { .. }
    ));
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Start(bool),
    Record(usize, Outcome),
    Check(u16, CheckResult),
    Wait(u64),
    Reload(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let result = prop_oneof![
        Just(CheckResult::Up),
        Just(CheckResult::Down),
        Just(CheckResult::Draining),
    ];
    let outcome = prop_oneof![
        4 => Just(OK),
        4 => Just(Outcome::Failure),
        2 => Just(Outcome::Success { waited: 2_000 * MS }),
        1 => Just(Outcome::Neutral),
    ];
    prop_oneof![
        5 => any::<bool>().prop_map(Op::Start),
        5 => (0..32usize, outcome).prop_map(|(i, outcome)| Op::Record(i, outcome)),
        2 => (1..5u16, result).prop_map(|(p, r)| Op::Check(p, r)),
        1 => (0..8_000u64).prop_map(Op::Wait),
        1 => (0..3usize).prop_map(Op::Reload),
    ]
}

fn shapes() -> [ModelConfig; 3] {
    [
        canary(),
        config(
            vec![version("1", 50.0, &[1]), version("2", 50.0, &[3, 4])],
            &["1", "2"],
        ),
        config(vec![version("2", 1.0, &[3, 4, 2])], &[]),
    ]
}

/// What the incremental lists should say, worked out from scratch.
fn available_by_hand(policy: &ModelPolicy, pool: usize) -> f64 {
    let members = || policy.pools[pool].by_address.values();
    let known = members().filter(|&&k| policy.endpoints[k].cold.health.health() != Health::Unknown);
    let serving = members().filter(|&&k| {
        let e = &policy.endpoints[k];
        e.cold.health.health() == Health::Ready && e.cold.breaker.lets_traffic_through()
    });
    match known.count() {
        0 => 0.0,
        known => serving.count() as f64 / known as f64,
    }
}

proptest! {
    /// Against a plain recount: what is kept incrementally is right after every
    /// step, requests in flight are those whose permits are held, and there is
    /// always an endpoint to try first.
    #[test]
    fn what_is_kept_up_to_date_is_what_a_recount_says(
        ops in prop::collection::vec(op(), 1..150),
        seed: u64,
    ) {
        let shapes = shapes();
        let mut world = World::new(shapes[0].clone());
        world.rng = StdRng::seed_from_u64(seed);
        let mut held: Vec<Permit> = Vec::new();
        for op in ops {
            match op {
                Op::Start(replayable) => {
                    let ask = Ask { replayable, ..world.ask(None) };
                    let attempt = world.policy.start(ask, world.now, &mut world.rng).unwrap();
                    held.push(attempt.permit);
                }
                Op::Record(i, outcome) if !held.is_empty() => {
                    let permit = held.swap_remove(i % held.len());
                    world.record(permit, outcome);
                }
                Op::Record(..) => {}
                Op::Check(port, result) => {
                    world.check("1", at(port), result);
                    world.check("2", at(port), result);
                }
                Op::Wait(ms) => {
                    world.now += Duration::from_millis(ms);
                    world.tick();
                }
                Op::Reload(i) => world.policy.reconfigure(shapes[i].clone(), world.now),
            }
            for pool in 0..world.policy.pools.len() {
                let exact = available_by_hand(&world.policy, pool);
                prop_assert!((world.policy.pools[pool].available() - exact).abs() < 1e-9);
            }
            for (key, endpoint) in &world.policy.endpoints {
                let out = held.iter().filter(|p| p.endpoint() == key).count();
                prop_assert_eq!(endpoint.in_flight as usize, out);
            }
        }
    }
}

mod admission;
mod balance;
mod faults;
mod overload;
mod patience;
mod proofs;
mod queueing;
mod retries;
mod scale;
mod spill;
