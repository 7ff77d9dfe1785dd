//! The scheduler under loads that no server can answer, in virtual time and from a seed.
//!
//! `cargo run -p aegis-backend --no-default-features --example overload` prints the tables.

mod simulation;

use std::time::{Duration, Instant};

use simulation::{Policy, Scene, Seen};

const SEED: u64 = 7;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// r = 4: a row takes 2 ms, and a run 8.
fn scene(load: f64) -> Scene {
    Scene {
        alpha: 0.002,
        beta: 0.008,
        load,
        deadlines: vec![ms(200)],
        requests: 20_000,
        seed: SEED,
    }
}

fn run(scene: &Scene, policy: Policy) -> Seen {
    #[expect(clippy::disallowed_methods, reason = "where virtual time begins")]
    let start = Instant::now();
    scene.run(policy, start)
}

#[test]
fn goodput_stays_at_capacity_and_answers_in_time_whatever_is_offered() {
    for load in [1.2, 2.0, 3.0] {
        let seen = run(&scene(load), Policy::Aegis);
        assert!(seen.goodput >= 0.97, "{load}: {seen:?}");
        assert!(seen.p99 <= ms(200), "{load}: {seen:?}");
    }
}

#[test]
fn queues_that_drop_nobody_answer_nobody_in_time() {
    for (policy, most) in [(Policy::Fifo(usize::MAX), 0.05), (Policy::Fifo(64), 0.6)] {
        let seen = run(&scene(2.0), policy);
        assert!(seen.goodput <= most, "{policy:?}: {seen:?}");
    }
}

#[test]
fn of_mixed_deadlines_near_capacity_fewer_are_lost_than_in_order_of_arrival() {
    let mixed = Scene {
        deadlines: vec![ms(60), ms(200), ms(1_000)],
        ..scene(0.95)
    };
    let (ours, fifo) = (
        run(&mixed, Policy::Aegis),
        run(&mixed, Policy::FifoDropping),
    );
    assert!(ours.lost <= 0.01, "{ours:?}");
    assert!(ours.lost < fifo.lost / 2.0, "{ours:?} against {fifo:?}");
}

#[test]
fn at_light_load_nobody_waits_for_company() {
    let light = Scene {
        load: 0.03,
        requests: 2_000,
        ..scene(1.0)
    };
    let alone = ms(10);
    assert_eq!(run(&light, Policy::Aegis).p50, alone);
    assert!(run(&light, Policy::Window(ms(20))).p50 >= alone + ms(20));
}

/// Whether it ever pays to hold an idle instance back.
#[test]
fn a_window_gains_no_goodput_over_taking_what_is_there() {
    for load in [0.3, 0.6, 0.9] {
        let greedy = run(&scene(load), Policy::Aegis);
        for window in [1, 5, 20] {
            let waits = run(&scene(load), Policy::Window(ms(window)));
            assert!(
                greedy.goodput >= waits.goodput - 0.01,
                "{load}, {window} ms"
            );
            assert!(
                greedy.p50 <= waits.p50 + ms(1),
                "{load}, {window}: {greedy:?} {waits:?}"
            );
        }
    }
}

#[test]
fn the_same_seed_tells_the_same() {
    let (first, second) = (
        run(&scene(2.0), Policy::Aegis),
        run(&scene(2.0), Policy::Aegis),
    );
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}
