//! Prints what the server's scheduler makes of an overload, beside the queues of others: in virtual
//! time, from a seed.
//!
//! ```text
//! cargo run -p aegis-backend --no-default-features --example overload
//! ```

#![expect(clippy::print_stdout, reason = "the tables are what it is for")]

#[path = "../tests/overload/simulation.rs"]
mod simulation;

use std::time::{Duration, Instant};

use simulation::{Policy, Scene};

/// By name.
const POLICIES: [(&str, Policy); 5] = [
    ("aegis", Policy::Aegis),
    ("fifo, no bound", Policy::Fifo(usize::MAX)),
    ("fifo, 64", Policy::Fifo(64)),
    ("fifo, dropping", Policy::FifoDropping),
    ("window of 20 ms", Policy::Window(Duration::from_millis(20))),
];

fn main() {
    #[expect(clippy::disallowed_methods, reason = "where virtual time begins")]
    let start = Instant::now();
    let ms = Duration::from_millis;
    // A row takes 2 ms, and a run 8.
    let scene = |load, deadlines: &[Duration]| Scene {
        alpha: 0.002,
        beta: 0.008,
        load,
        deadlines: deadlines.to_vec(),
        requests: 20_000,
        seed: 7,
    };
    let table = |title: &str, scene: &Scene| {
        println!("{title}");
        for (name, policy) in POLICIES {
            let seen = scene.run(policy, start);
            println!(
                "  {name:16} goodput {:.2} of capacity, lost {:5.1} %, p50 {:7.1} ms, p99 {:8.1} ms",
                seen.goodput,
                seen.lost * 100.0,
                seen.p50.as_secs_f64() * 1e3,
                seen.p99.as_secs_f64() * 1e3,
            );
        }
    };
    for load in [1.2, 2.0, 3.0] {
        let title = format!("{load} x capacity, all with 200 ms");
        table(&title, &scene(load, &[ms(200)]));
    }
    let mixed = [ms(60), ms(200), ms(1_000)];
    table(
        "0.95 x capacity, 60, 200 and 1000 ms in turn",
        &scene(0.95, &mixed),
    );
    table("0.03 x capacity, all with 200 ms", &scene(0.03, &[ms(200)]));
}
