//! What decisions cost among ten thousand endpoints, and how long a large simulation takes.
//!
//! `make bench-simulator` runs it; with `CHECK=1` it fails, naming every bound that
//! was missed: a decision among 10,000 endpoints at most 1.5 times one among 8, and
//! the scenario `large` (10,000 endpoints, 100,000 requests a second, a minute of
//! virtual time: six million decisions) in less than a minute of processor time.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod clock;
mod pools;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use aegis_policy::Rules;
use aegis_simulator::{
    Scenario, Setup, run,
    scenario::BUILTIN,
    setup::{Place, Version},
};
use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;

const MAX_RATIO: f64 = 1.5;
const MAX_SECONDS: f64 = 60.0;

/// What to do.
#[derive(Debug, Parser)]
struct Args {
    /// How often each pool is measured; medians are reported.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Of all that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    decisions: Vec<pools::Cost>,
    large: Large,
    missed: Vec<String>,
}

/// The scenario `large`.
#[derive(Debug, Serialize)]
struct Large {
    requests: u64,
    availability: f64,
    /// Of processor time.
    seconds: f64,
    wall_seconds: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match bench(&args) {
        Ok(missed) if missed.is_empty() || !args.check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("decisions: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn bench(args: &Args) -> Result<Vec<String>> {
    let decisions = pools::measure(args.rounds, args.seed)?;
    println!("{:>9}  {:>12}  {:>10}", "endpoints", "decision", "times 8");
    for cost in &decisions {
        let pools::Cost {
            endpoints,
            decision_ns,
            ratio,
        } = cost;
        println!("{endpoints:>9}  {decision_ns:>9.0} ns  {ratio:>10.2}");
    }
    let large = large(args.seed)?;
    println!(
        "large: {} requests in {:.1} s of processor time, {:.1} s by the wall; {:.4} % answered",
        large.requests,
        large.seconds,
        large.wall_seconds,
        large.availability * 100.0
    );
    let mut missed = Vec::new();
    for cost in decisions.iter().filter(|cost| cost.ratio > MAX_RATIO) {
        missed.push(format!(
            "a decision among {} costs {:.2} times one among 8, and may cost {MAX_RATIO}",
            cost.endpoints, cost.ratio
        ));
    }
    if large.seconds > MAX_SECONDS {
        missed.push(format!(
            "large took {:.1} s of processor time, and may take {MAX_SECONDS}",
            large.seconds
        ));
    }
    for miss in &missed {
        println!("missed: {miss}");
    }
    let figures = Figures {
        decisions,
        large,
        missed,
    };
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&figures)?)?;
    }
    Ok(figures.missed)
}

fn large(seed: u64) -> Result<Large> {
    let mut builtin = BUILTIN.iter();
    let large = builtin.find(|builtin| builtin.name == "large");
    let scenario = Scenario::parse("large", large.context("no scenario `large`")?.text)?;
    let version = Version {
        name: "1".into(),
        weight: 1.0,
        endpoints: vec![Place {
            address: SocketAddr::from(([127, 0, 0, 1], 8000)),
            zone: None,
        }],
    };
    let setup = Setup {
        model: "m".to_owned(),
        versions: vec![version],
        fallback: Vec::new(),
        rules: Rules::default(),
        max_retries: 3,
        on_500: true,
        request_timeout: Duration::from_millis(1_500),
        connect_timeout: Duration::from_millis(250),
        check_interval: Duration::from_secs(1),
        check_timeout: Duration::from_millis(500),
    };
    let (began, worked) = (clock::now(), clock::worked());
    let report = run(&setup, &scenario, seed, began)?;
    let all = report.all().context("nothing was measured")?;
    Ok(Large {
        requests: all.requests,
        availability: all.availability,
        seconds: clock::worked().saturating_sub(worked).as_secs_f64(),
        wall_seconds: clock::now().saturating_duration_since(began).as_secs_f64(),
    })
}
