//! Runs of several machines as one: their HDR logs, added up.
//!
//! Each machine sends its part of the load and writes a log. Nothing coordinates them while they run,
//! and nothing is lost by adding them up afterwards: quantiles are those of one run that had sent it
//! all, to the last digit, which no average of quantiles is.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measured::{LatenciesError, LogError, Measured, RunId, log};
use crate::report::{Client, Quantiles};
use crate::slo::{Invalid, Judgement, Limits, Slo, invalid, judge};

/// The largest log that is read: days of seconds.
const MAX_BYTES: u64 = 4 << 30;

/// What several runs came to, as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// The logs.
    pub files: Vec<PathBuf>,
    /// Requests that came due.
    pub requests: u64,
    /// Answers with status 200.
    pub ok: u64,
    /// Requests that were sent and got no such answer.
    pub failed: u64,
    /// `ok` answers a second, each run by its own length; of a closed loop those that came in it.
    pub achieved_rate: f64,
    /// From the intended send time, over `ok` answers and timeouts.
    pub latency: Option<Quantiles>,
    /// What the clients themselves could not do.
    pub client: Client,
    /// Why the load was not the one that was asked for.
    pub invalid: Vec<Invalid>,
    /// Logs of runs that broke off.
    pub partial: Vec<PathBuf>,
    /// Seeds that several runs had: what they sent is the same, and tells less than as many requests that are not.
    #[serde(default)]
    pub same_seeds: BTreeMap<u64, usize>,
    /// Whether it kept the objectives, where some were given.
    pub slo: Option<Judgement>,
}

/// Logs that were added up.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    files: Vec<PathBuf>,
    /// The same, by the one name that each has.
    names: Vec<PathBuf>,
    partial: Vec<PathBuf>,
    /// Every run, and the log that it is in.
    runs: BTreeMap<RunId, PathBuf>,
    measured: Measured,
    rate: f64,
    span: Duration,
}

/// Says why logs cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A file cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is longer than any log.
    #[error("{}: expected at most {MAX_BYTES} bytes, got {got}", path.display())]
    Huge {
        /// The file.
        path: PathBuf,
        /// Its length.
        got: u64,
    },
    /// A file is no log.
    #[error("{}: {source}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: LogError,
    },
    /// The same file is there twice, and would count twice.
    #[error("{}: is there twice", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// A run is in two logs, and would count twice.
    #[error("{}: is a copy of {}, or of a part of it: both have the run of {run}", path.display(), other.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// The one before it.
        other: PathBuf,
        /// What both have.
        run: RunId,
    },
    /// Their histograms do not fit together.
    #[error(transparent)]
    Range(#[from] LatenciesError),
}

// === impl Logs ===

impl Logs {
    /// Reads and adds up every log.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or is no log of `aegis-loadtest run`.
    pub fn read(files: &[PathBuf]) -> Result<Self, MergeError> {
        let mut logs = Self::default();
        for path in files {
            logs.add(path)?;
        }
        Ok(logs)
    }

    fn add(&mut self, path: &Path) -> Result<(), MergeError> {
        let path = path.to_owned();
        let name = path.canonicalize().unwrap_or_else(|_| path.clone());
        if self.names.contains(&name) {
            return Err(MergeError::Twice { path });
        }
        self.names.push(name);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (got, file) = match opened {
            Ok(opened) => opened,
            Err(source) => return Err(MergeError::Open { path, source }),
        };
        if got > MAX_BYTES {
            return Err(MergeError::Huge { path, got });
        }
        let log = match log::read(file) {
            Ok(log) => log,
            Err(source) => return Err(MergeError::Log { path, source }),
        };
        for run in log.runs {
            if let Some(other) = self.runs.insert(run, path.clone()) {
                return Err(MergeError::Copy { path, other, run });
            }
        }
        self.measured.add(&log.measured)?;
        self.rate += log.measured.rate(log.span);
        self.span = self.span.max(log.span);
        if !log.is_complete {
            self.partial.push(path.clone());
        }
        self.files.push(path);
        Ok(())
    }

    /// Everything that they measured.
    #[must_use]
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// Whether every run came to its end.
    #[must_use]
    pub fn are_complete(&self) -> bool {
        self.partial.is_empty()
    }

    /// The longest of the runs.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.span
    }

    /// The runs that they are of, as far as they say so.
    pub fn runs(&self) -> impl Iterator<Item = RunId> {
        self.runs.keys().copied()
    }

    /// Seeds that several runs had, and how many these are.
    fn same_seeds(&self) -> BTreeMap<u64, usize> {
        let mut seeds = BTreeMap::new();
        for run in self.runs() {
            *seeds.entry(run.seed).or_default() += 1;
        }
        seeds.retain(|_, runs| *runs > 1);
        seeds
    }

    /// What they came to.
    #[must_use]
    pub fn merged(&self, slo: Option<&Slo>, limits: Limits) -> Merged {
        let measured = &self.measured;
        let (dropped, unsent) = (measured.dropped.len(), measured.unsent.len());
        Merged {
            files: self.files.clone(),
            requests: measured.finished() + dropped + unsent,
            ok: measured.ok(),
            failed: measured.failed(),
            achieved_rate: self.rate,
            latency: measured.latency.quantiles(),
            client: Client {
                dropped,
                unsent,
                lag: measured.lag.quantiles(),
                wait: None,
            },
            invalid: invalid(measured, limits),
            partial: self.partial.clone(),
            same_seeds: self.same_seeds(),
            slo: slo.map(|slo| {
                let judgement = judge(slo, measured, limits);
                if self.are_complete() {
                    judgement
                } else {
                    judgement.of_partial()
                }
            }),
        }
    }
}

// === impl Merged ===

impl Display for Merged {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            requests,
            ok,
            failed,
            achieved_rate,
            client,
            ..
        } = self;
        writeln!(f, "{} logs", self.files.len())?;
        writeln!(f)?;
        writeln!(
            f,
            "requests  {requests} due, {ok} answered, {failed} failed, {} dropped by the clients",
            client.dropped
        )?;
        writeln!(f, "achieved  {achieved_rate:.1} answers/s")?;
        for (name, quantiles) in [("latency", self.latency), ("lag", client.lag)] {
            let Some(q) = quantiles else { continue };
            write!(
                f,
                "{name:<8}  p50 {:.2} ms, p90 {:.2} ms, ",
                q.p50_ms, q.p90_ms
            )?;
            write!(f, "p99 {:.2} ms, p99.9 {:.2} ms, ", q.p99_ms, q.p999_ms)?;
            writeln!(f, "max {:.2} ms", q.max_ms)?;
        }
        for reason in &self.invalid {
            writeln!(f, "\ninvalid: {reason}")?;
        }
        for (seed, runs) in &self.same_seeds {
            writeln!(
                f,
                "\nnote: {runs} runs were sent with seed {seed}: the same requests, which tell less than as many \
                 others (--seed)"
            )?;
        }
        for path in &self.partial {
            writeln!(f, "\npartial: the run of {} broke off", path.display())?;
        }
        match &self.slo {
            Some(judgement) => writeln!(f, "\n{judgement}"),
            None => Ok(()),
        }
    }
}
