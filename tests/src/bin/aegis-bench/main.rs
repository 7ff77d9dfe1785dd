//! Side-by-side benches of the proxy against the ones that people would take instead.
//!
//! `make bench-proxy` runs [`healthy`]: what each costs while all is well. `make bench-faults` runs
//! [`faults`]: fake pods that misbehave on cue, open-loop load through each contender, and what its
//! clients saw of it; and [`bystanders`], of releases and clients that misbehave. Contenders are configured as somebody would who knows
//! them well; their files stand in [`contender`], to be argued with. `make bench-backend` runs
//! [`serving`]: what a model server makes of two cores, beside its peers. `make bench-tune` runs [`tuning`]. `make
//! bench-loadtest` runs [`sending`]: what the load tester itself can send, and whether it tells the truth.

mod batching;
mod bystanders;
mod clock;
mod contender;
mod costs;
mod crosscheck;
mod faults;
mod healthy;
mod load;
mod memory;
mod pods;
mod sending;
mod serving;
mod tuning;
mod wrk;

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
    /// One pod of many misbehaves: whether the simulator says what the proxy does.
    Crosscheck(CrosscheckArgs),
    /// One pod of many misbehaves: what clients of each proxy see of it.
    Faults(FaultsArgs),
    /// A release or a client misbehaves: what everybody else sees of it.
    Bystanders(BystandersArgs),
    /// Nothing misbehaves: what each proxy costs.
    Proxy(HealthyArgs),
    /// What batching brings and costs, and what is answered in time under overload.
    Batching(BatchingArgs),
    /// Whether few runs find the settings that a sweep finds.
    Tune(TuningArgs),
    /// Nothing misbehaves: what each model server makes of two cores.
    Backend(ServingArgs),
    /// What metrics and safety checks of the backend cost.
    Costs(CostsArgs),
    /// The load tester: how much it sends, how punctually, at what cost, and what it says of a server that stalls.
    Loadtest(SendingArgs),
    /// Faults, reloads and replays for minutes: whether the proxy's memory stays flat.
    Memory(MemoryArgs),
    /// Requests of all shapes and forms for minutes: whether the backend's memory stays flat.
    BackendMemory(BackendMemoryArgs),
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

/// What to compare, and with what.
#[derive(Debug, clap::Args)]
struct CrosscheckArgs {
    /// Folders in which aegis-proxy is looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// The rows of `faults` that are compared.
    #[arg(long, value_delimiter = ',', default_value = "slow-1200ms,hung")]
    rows: Vec<String>,
    /// How often each is run, on both sides; medians are compared.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every figure that is off.
    #[arg(long)]
    check: bool,
}

/// What to run, and with what.
#[derive(Debug, clap::Args)]
struct HealthyArgs {
    /// Folders in which the contenders' programs are looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// The contenders; all that can be found, by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often each is run; medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each load lasts.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
}

/// What to run, and with what.
#[derive(Debug, clap::Args)]
struct BystandersArgs {
    /// Folders in which the program is looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// The rows; all, by default.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
}

/// What to compare, and with what.
#[derive(Debug, clap::Args)]
struct ServingArgs {
    /// Folders in which aegis-backend is looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// What the example `bench_models` has made.
    #[arg(long)]
    models: PathBuf,
    /// The Python environment of the peers.
    #[arg(long)]
    peers: PathBuf,
    /// How tensors are sent: `binary`, `json` and `grpc`; all, by default.
    #[arg(long, value_delimiter = ',')]
    forms: Vec<String>,
    /// The contenders; all, by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often each is run; medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each load lasts.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
}

/// What to measure, and with what.
#[derive(Debug, clap::Args)]
struct BatchingArgs {
    /// Folders in which aegis-backend is looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// What the example `bench_models` has made and measured.
    #[arg(long)]
    models: PathBuf,
    /// How often each is run; medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each load lasts.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
}

/// What to measure, and with what.
#[derive(Debug, clap::Args)]
struct SendingArgs {
    /// Folders in which aegis-loadtest is looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// How often each load is run; medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each load lasts, but for those of the server that stalls.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
}

/// What to tune, and with what.
#[derive(Debug, clap::Args)]
struct TuningArgs {
    /// Folders in which aegis-backend and aegis-loadtest are looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// What the example `bench_models` has made.
    #[arg(long)]
    models: PathBuf,
    /// Values of `max_batch_size`.
    #[arg(long, default_value = "1,2,4,8,16,32")]
    batch: String,
    /// Values of `instances`.
    #[arg(long, default_value = "1,2")]
    instances: String,
    /// How often each is tuned, guided and as a sweep.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// How long each run is measured.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
}

/// What to measure, and with what.
#[derive(Debug, clap::Args)]
struct CostsArgs {
    /// Folders in which aegis-backend is looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// What the example `bench_models` has made.
    #[arg(long)]
    models: PathBuf,
    /// How often each setting is measured; medians of ratios are reported.
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// How long each load lasts.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
}

/// How long, and with what.
#[derive(Debug, clap::Args)]
struct BackendMemoryArgs {
    /// Folders in which aegis-backend is looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// What the example `bench_models` has made.
    #[arg(long)]
    models: PathBuf,
    /// How long it lasts; the first reading counts after a fifth.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Where the readings are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1 when it has grown too much.
    #[arg(long)]
    check: bool,
}

/// How long, and with what.
#[derive(Debug, clap::Args)]
struct MemoryArgs {
    /// Folders in which the program is looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
    /// How long it lasts; the first reading counts after a fifth.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Where the readings are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1 when it has grown too much.
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { bench } = Args::parse();
    let (outcome, check) = match bench {
        Bench::Batching(args) => (batching::run(&args).await, args.check),
        Bench::Backend(args) => (serving::run(&args).await, args.check),
        Bench::Bystanders(args) => (bystanders::run(&args).await, args.check),
        Bench::BackendMemory(args) => (memory::backend::run(&args).await, args.check),
        Bench::Costs(args) => (costs::run(&args).await, args.check),
        Bench::Crosscheck(args) => (crosscheck::run(&args).await, args.check),
        Bench::Faults(args) => (faults::run(&args).await, args.check),
        Bench::Loadtest(args) => (sending::run(&args).await, args.check),
        Bench::Memory(args) => (memory::run(&args).await, args.check),
        Bench::Proxy(args) => (healthy::run(&args).await, args.check),
        Bench::Tune(args) => (tuning::run(&args).await, args.check),
    };
    match outcome {
        Ok(missed) if missed.is_empty() || !check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("aegis-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
