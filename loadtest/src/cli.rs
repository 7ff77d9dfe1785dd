//! The command line: flags in, a table on stdout, an exit code out.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use self::progress::Progress;
use crate::{Dataset, Load, Pattern, Plan, Rate, Report, Target};

mod duration;
mod progress;
mod safety;

/// Wrong use of the command line (sysexits' `EX_USAGE`).
const USAGE: u8 = 64;

/// How often the progress line changes.
const REFRESH: Duration = Duration::from_millis(250);

#[derive(Debug, Parser)]
#[command(
    name = "aegis-loadtest",
    version,
    about = "Open-loop load on a model server, and proof of what its safety checks stop."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send labelled examples at a rate, and report latencies and accuracy.
    Run(RunArgs),
    /// Send labelled cases, and prove a bound to the rate of those that are let through. Exits with 0 when
    /// it is proved, 1 when it is not, and 2 when the cases are too few to prove it.
    Safety(safety::SafetyArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The server, such as `http://127.0.0.1:8080`.
    #[arg(long)]
    url: String,
    /// The model to ask.
    #[arg(long)]
    model: String,
    /// The version to ask for; without it the server chooses.
    #[arg(long)]
    version: Option<String>,
    /// The input that takes an example's features.
    #[arg(long, default_value = "image")]
    input: String,
    /// The output that is compared with the example's label.
    #[arg(long, default_value = "label")]
    output: String,
    /// Requests a second, on average.
    #[arg(long, default_value = "500")]
    rate: Rate,
    /// How long to measure, such as 30s or 2m.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    duration: Duration,
    /// How long to send before the measurement begins.
    #[arg(long, default_value = "2s", value_parser = duration::parse)]
    warmup: Duration,
    /// The most connections; without it, one for each request under way.
    #[arg(long)]
    connections: Option<usize>,
    /// The most requests under way; what is due beyond is dropped and counted.
    #[arg(long, default_value_t = 4096)]
    max_in_flight: usize,
    /// When to give a request up, from its intended send time.
    #[arg(long, default_value = "1500ms", value_parser = duration::parse)]
    timeout: Duration,
    /// Decides the send times and the order of the examples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A table of examples: features, then the label, with commas (.gz is read too).
    #[arg(long)]
    data: PathBuf,
    /// Write the report to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Runs the command line. 0: it ran; 1: no answer was right, or the report could
/// not be written; 64: the arguments make no run.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no faults, and go to stdout.
            let _ = error.print();
            return if error.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let args = match cli.command {
        Command::Run(args) => args,
        Command::Safety(args) => return safety::run(args).await,
    };
    let (load, json) = match prepare(&args) {
        Ok(prepared) => prepared,
        Err(error) => return fail(&error, USAGE.into()),
    };
    let report = watch(load, Progress::new(args.quiet, args.duration)).await;
    match deliver(&report, json).and_then(|()| verdict(&report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

fn fail(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stderr(), "aegis-loadtest: {error:#}");
    code
}

/// Makes everything that can fail fail before the run and not after it: a file
/// for the report that cannot be written, for one.
fn prepare(args: &RunArgs) -> Result<(Load, Option<File>)> {
    let load = Load::new(args.plan()?)?;
    let create = |path: &PathBuf| {
        File::create(path)
            .with_context(|| path.display().to_string())
            .context("--json")
    };
    Ok((load, args.json.as_ref().map(create).transpose()?))
}

/// Prints the table, and writes the file where one is asked for.
fn deliver(report: &Report, json: Option<File>) -> Result<()> {
    write!(io::stdout().lock(), "{report}").context("stdout")?;
    if let Some(mut file) = json {
        serde_json::to_writer_pretty(&mut file, report).context("--json")?;
        writeln!(file).context("--json")?;
    }
    Ok(())
}

/// Runs the load to its end or to Ctrl-C, and shows how it goes.
async fn watch(load: Load, progress: Progress) -> Report {
    let mut ticks = tokio::time::interval(REFRESH);
    let mut interrupt = std::pin::pin!(interrupted());
    let mut handle = load.start();
    loop {
        tokio::select! {
            () = handle.finished() => break,
            () = &mut interrupt => break,
            _ = ticks.tick() => progress.show(&handle.snapshot()),
        }
    }
    let report = handle.stop().await;
    progress.clear();
    report
}

/// Waits for Ctrl-C; for ever where no handler can be set, and then Ctrl-C ends
/// the process as usual.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Fails, with a sentence, when the run shows nothing about the model.
fn verdict(report: &Report) -> Result<()> {
    let summary = &report.summary;
    if summary.right > 0 {
        return Ok(());
    }
    if summary.ok > 0 {
        anyhow::bail!("none of {} answers had the right label", summary.ok);
    }
    let failures = summary.failures.iter().max_by_key(|failure| failure.count);
    let why = failures.map_or("no request was due", |failure| failure.text.as_str());
    anyhow::bail!("{} answered no request: {why}", report.plan.url)
}

// === impl RunArgs ===

impl RunArgs {
    fn plan(&self) -> Result<Plan> {
        let mut target = Target::new(&self.url, &self.model).context("--url")?;
        if let Some(version) = &self.version {
            target = target.pinned(version);
        }
        target.input.clone_from(&self.input);
        target.output.clone_from(&self.output);
        let data = Dataset::from_csv(&self.data).context("--data")?;
        let Self {
            rate,
            warmup,
            duration,
            ..
        } = *self;
        Ok(Plan {
            pattern: Pattern::Open {
                rate,
                warmup,
                duration,
            },
            timeout: self.timeout,
            max_in_flight: self.max_in_flight,
            connections: self.connections,
            seed: self.seed,
            ..Plan::open(target, Arc::new(data), rate, duration)
        })
    }
}
