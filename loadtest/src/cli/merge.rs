//! `merge`: the logs of several machines in, one report out.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::hdr::HdrLog;
use super::{Output, USAGE, duration, fail, verdict_code};
use crate::merge::{Logs, Merged};
use crate::slo::{Limits, Slo};

/// Which logs, and what they are held to.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, of two machines that sent half of the load each:\n  \
    aegis-loadtest merge --slo config/slo.toml one.hlog two.hlog"
)]
pub(super) struct MergeArgs {
    /// Logs that `run --hdr` wrote; of no run twice, also not in copies.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Objectives to hold them to, as `run` does.
    #[arg(long, value_name = "FILE")]
    slo: Option<PathBuf>,
    /// How late 99 % of requests must have been sent at the latest.
    #[arg(long, default_value = "10ms", value_parser = duration::parse)]
    max_lag: Duration,
    /// Write all of it to this file, as one HDR log.
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
    /// Write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// 0: they were merged, and keep the objectives; 1: they do not, or nothing was answered; 2: the runs are
/// invalid or too small, or one broke off;
/// 64: the logs cannot be merged.
pub(super) fn run(args: &MergeArgs) -> ExitCode {
    let merged = match merged(args) {
        Ok(merged) => merged,
        Err(error) => return fail(&error, USAGE.into()),
    };
    match deliver(args, &merged) {
        Ok(()) if merged.ok == 0 && merged.invalid.is_empty() => {
            let error = anyhow::anyhow!("none of {} requests was answered", merged.requests);
            fail(&error, ExitCode::FAILURE)
        }
        Ok(()) => verdict_code(&merged.invalid, merged.slo.as_ref()),
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

fn merged(args: &MergeArgs) -> Result<Merged> {
    let slo = args.slo.as_deref().map(Slo::read).transpose();
    let slo = slo.context("--slo")?;
    let logs = Logs::read(&args.logs)?;
    let measured = logs.measured();
    if slo.as_ref().is_some_and(Slo::wants_accuracy) && measured.ok() > 0 && measured.scored() == 0
    {
        bail!(
            "--slo: accuracy: expected logs of runs with labels in --data, got none: nobody knows what is right"
        );
    }
    if let Some(path) = &args.hdr {
        let mut log = HdrLog::merged(path, logs.runs())?;
        log.write(logs.measured().clone(), logs.span())?;
        if logs.are_complete() {
            log.finish()?;
        }
    }
    let limits = Limits { lag: args.max_lag };
    Ok(logs.merged(slo.as_ref(), limits))
}

fn deliver(args: &MergeArgs, merged: &Merged) -> Result<()> {
    let json = Output::open("--json", args.json.as_deref())?;
    write!(io::stdout().lock(), "{merged}").context("stdout")?;
    json.map_or(Ok(()), |file| file.write_json(merged))
}
