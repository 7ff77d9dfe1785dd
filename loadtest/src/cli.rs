//! The command line: flags in, tables on stdout, an exit code out.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::slo::{Invalid, Judgement, Verdict};

mod compare;
mod duration;
mod hdr;
mod merge;
mod page;
mod progress;
pub(crate) mod run;
mod safety;
mod tune;

pub use self::run::mix::schema as mix_schema;

/// Wrong use of the command line (sysexits' `EX_USAGE`).
const USAGE: u8 = 64;

/// A run that shows nothing: invalid, or too small to tell.
const TOO_SMALL: u8 = 2;

/// The most descriptors that are asked for, twice the most requests that may be under way. Programs that it starts
/// inherit the limit, and some close every number below it first.
const MAX_DESCRIPTORS: u64 = 1 << 20;

#[derive(Debug, Parser)]
#[command(
    name = "aegis-loadtest",
    version,
    args_override_self = true,
    about = "Load on a model server as users cause it, verdicts on objectives, and proof of what safety checks stop."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send load as users cause it, and report latencies, failures, accuracy and whether objectives are kept.
    Run(Box<run::RunArgs>),
    /// Add up the logs of several machines, exactly, and judge them as one run.
    Merge(merge::MergeArgs),
    /// Run two servers, or two versions of one, in turns, and say whether the second is worse. Exits with 0 when it
    /// is shown to be no worse, 1 when it is worse, and 2 when the pairs are too few to tell.
    Compare(Box<compare::CompareArgs>),
    /// Send labelled cases, and prove a bound to the rate of those that are let through. Exits with 0 when
    /// it is proved, 1 when it is not, and 2 when the cases are too few to prove it.
    Safety(Box<safety::SafetyArgs>),
    /// Find the batch size and the instances with which a backend serves most within an SLO, and say how many pods a
    /// rate takes. Exits with 0 when there is one, 1 when no setting keeps the objectives, and 2 when the runs could
    /// not tell.
    Tune(Box<tune::TuneArgs>),
}

/// Runs the command line. 0: it ran; 1: what was asked for is not kept, or no report could be written; 2: it shows
/// nothing; 64: the arguments make no run.
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
    raise_descriptors();
    match cli.command {
        Command::Run(args) => run::run(*args).await,
        Command::Merge(args) => merge::run(&args),
        Command::Compare(args) => compare::run(*args).await,
        Command::Safety(args) => safety::run(*args).await,
        Command::Tune(args) => tune::run(*args).await,
    }
}

/// Lets this process have more descriptors, as far as the system allows it: one for each request under way. The
/// usual limit, 1,024, is for programs that still use `select`.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(MAX_DESCRIPTORS);
    let allowed = allowed.min(MAX_DESCRIPTORS);
    if limit.current.is_some_and(|current| current < allowed) {
        limit.current = Some(allowed);
        // Where it may not, it is as it was.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

fn fail(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stderr(), "aegis-loadtest: {error:#}");
    code
}

/// What a verdict means to a script.
fn verdict_code(invalid: &[Invalid], slo: Option<&Judgement>) -> ExitCode {
    match slo.map(|judgement| judgement.verdict) {
        _ if !invalid.is_empty() => TOO_SMALL.into(),
        Some(Verdict::Fail) => ExitCode::FAILURE,
        Some(Verdict::TooSmall | Verdict::Invalid | Verdict::Partial) => TOO_SMALL.into(),
        Some(Verdict::Pass) | None => ExitCode::SUCCESS,
    }
}

/// Waits for Ctrl-C; for ever where no handler can be set, and then Ctrl-C ends
/// the process as usual.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A number over 0 and under 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected a number over 0 and under 1".to_owned()),
    }
}

/// A file that a flag names, to be written at the end.
#[derive(Debug)]
struct Output {
    flag: &'static str,
    file: File,
}

// === impl Output ===

impl Output {
    /// Opens the file, where one is named: what cannot be written is known before anything is sent.
    fn open(flag: &'static str, path: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        // What is there stays until there is something to write.
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| path.display().to_string());
        let file = file.context(flag)?;
        Ok(Some(Self { flag, file }))
    }

    /// Writes all of it.
    fn write(mut self, bytes: &[u8]) -> Result<()> {
        // Of what was there before, more may have been. A pipe has no length to cut.
        let is_file = self.file.metadata().is_ok_and(|file| file.is_file());
        let cut = if is_file {
            self.file.set_len(0)
        } else {
            Ok(())
        };
        let written = cut.and_then(|()| self.file.write_all(bytes));
        written.context(self.flag)
    }

    /// Writes a report as JSON.
    fn write_json(self, report: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(report).context(self.flag)?;
        text.push(b'\n');
        self.write(&text)
    }
}
