//! Side-by-side benches of the proxy against the ones that people would take instead.
//!
//! `make bench-faults` runs [`faults`]: fake pods that misbehave on cue, open-loop load through each
//! contender, and what its clients saw of it. Contenders are configured as somebody would who knows
//! them well; their files stand in [`contender`], to be argued with.

mod clock;
mod contender;
mod faults;
mod load;
mod pods;

use std::path::PathBuf;
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
    /// One pod of many misbehaves: what clients of each proxy see of it.
    Faults(FaultsArgs),
}

/// What to run, and with what.
#[derive(Debug, clap::Args)]
struct FaultsArgs {
    /// Folders in which the contenders' programs are looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// The contenders; all that can be found, by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The rows; all, by default.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// The settings: `a`, eight pods of 5 ms, and `b`, four of 50 ms; both, by default.
    #[arg(long, value_delimiter = ',')]
    settings: Vec<String>,
    /// How often each row is run; medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { bench } = Args::parse();
    let Bench::Faults(args) = bench;
    match faults::run(&args).await {
        Ok(missed) if missed.is_empty() || !args.check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("aegis-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
