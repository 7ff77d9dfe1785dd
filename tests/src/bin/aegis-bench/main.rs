//! Side-by-side benches of the proxy against the ones that people would take instead.
//!
//! `make bench-proxy` runs [`healthy`]: what each costs while all is well. `make bench-faults` runs
//! [`faults`]: fake pods that misbehave on cue, open-loop load through each contender, and what its
//! clients saw of it; and [`bystanders`], of releases and clients that misbehave. Contenders are configured as somebody would who knows
//! them well; their files stand in [`contender`], to be argued with. `make bench-backend` runs
//! [`serving`]: what a model server makes of two cores, beside its peers. `make bench-tune` runs [`tuning`]. `make
//! bench-loadtest` runs [`sending`]: what the load tester itself can send, and whether it tells the truth.
//!
//! A bench is a module with its `Args` and a `run`, which prints its table, and says in the end how the program
//! ends: 0, or 1 where `--check` asks for it and a bound was missed; 2 where it could not be run.

mod args;
mod backend;
mod batching;
mod bystanders;
mod canned;
mod client;
mod clock;
mod contender;
mod costs;
mod crosscheck;
mod faults;
mod healthy;
mod load;
mod median;
mod memory;
mod pods;
mod process;
mod sending;
mod serving;
mod tuning;
mod wrk;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs a bench.
#[derive(Debug, Parser)]
#[command(name = "aegis-bench")]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// One pod of many misbehaves: whether the simulator says what the proxy does.
    Crosscheck(crosscheck::Args),
    /// One pod of many misbehaves: what clients of each proxy see of it.
    Faults(faults::Args),
    /// A release or a client misbehaves: what everybody else sees of it.
    Bystanders(bystanders::Args),
    /// Nothing misbehaves: what each proxy costs.
    Proxy(healthy::Args),
    /// What batching brings and costs, and what is answered in time under overload.
    Batching(batching::Args),
    /// Whether few runs find the settings that a sweep finds.
    Tune(tuning::Args),
    /// Nothing misbehaves: what each model server makes of two cores.
    Backend(serving::Args),
    /// What metrics and safety checks of the backend cost.
    Costs(costs::Args),
    /// The load tester: how much it sends, how punctually, at what cost, and what it says of a server that stalls.
    Loadtest(sending::Args),
    /// Faults, reloads and replays for minutes: whether the proxy's memory stays flat.
    Memory(memory::Args),
    /// Requests of all shapes and forms for minutes: whether the backend's memory stays flat.
    BackendMemory(memory::backend::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { bench } = Args::parse();
    let ended = match bench {
        Bench::Backend(args) => serving::run(&args).await,
        Bench::BackendMemory(args) => memory::backend::run(&args).await,
        Bench::Batching(args) => batching::run(&args).await,
        Bench::Bystanders(args) => bystanders::run(&args).await,
        Bench::Costs(args) => costs::run(&args).await,
        Bench::Crosscheck(args) => crosscheck::run(&args).await,
        Bench::Faults(args) => faults::run(&args).await,
        Bench::Loadtest(args) => sending::run(&args).await,
        Bench::Memory(args) => memory::run(&args).await,
        Bench::Proxy(args) => healthy::run(&args).await,
        Bench::Tune(args) => tuning::run(&args).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("aegis-bench: {error:#}");
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_line_of_the_makefile_is_understood() {
        Args::command().debug_assert();
        let file = aegis_e2e::workspace_root().join("Makefile");
        let text = std::fs::read_to_string(file).unwrap().replace("\\\n", " ");
        let mut seen = 0;
        for line in text.lines() {
            let words = line.split_whitespace();
            let words = words.take_while(|word| *word != "$(if").chain(["--check"]);
            let words: Vec<&str> = words.collect();
            if words[0] != "target/quick/aegis-bench" {
                continue;
            }
            let args = Args::try_parse_from(&words);
            assert!(args.is_ok(), "{line}: {}", args.unwrap_err());
            seen += 1;
        }
        assert_eq!(seen, Args::command().get_subcommands().count());
    }

    #[test]
    fn memory_is_written_and_judged_in_words_of_its_own() {
        let help = |of: &str| {
            let mut command = Args::command();
            let bench = command.find_subcommand_mut(of).unwrap();
            bench.render_help().to_string()
        };
        for of in ["memory", "backend-memory"] {
            assert!(help(of).contains("when it has grown too much"), "{of}");
        }
        assert!(help("proxy").contains("naming every bound that was missed"));
        assert!(help("proxy").contains("what each proxy costs"));
    }
}
