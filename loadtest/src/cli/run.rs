//! `run`: a load in, a report and a verdict out.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::hdr::HdrLog;
use super::page::{PageArgs, Recording};
use super::progress::Progress;
use super::{Output, TOO_SMALL, USAGE, duration, fail, interrupted, verdict_code};
use crate::load::Handle;
use crate::measured::examples::Set;
use crate::slo::{Limits, Slo, invalid, judge};
use crate::words::seconds;
use crate::{Load, Part, Pattern, Plan, Report};

pub(super) mod asked;
pub(crate) mod mix;
mod pattern;
mod silence;

/// How often the run is looked at.
const REFRESH: Duration = Duration::from_millis(250);

/// How often the progress line changes.
const SHOW: Duration = Duration::from_secs(1);

/// What is sent, where to, and what it is held to.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples, beside `make run`, which prints the address of its proxy:\n  \
    aegis-loadtest run --url http://127.0.0.1:8080 --model digits --rate 200 --duration 10s \\\n    \
    --slo config/slo.toml --html run.html\n  \
    aegis-loadtest run --url http://127.0.0.1:8080 --model digits --transport grpc --spike 400 --spike-at 3s \\\n    \
    --spike-for 2s --rate 100 --duration 10s --data loadtest/data/digits/test.csv"
)]
pub(super) struct RunArgs {
    /// The server, such as `http://127.0.0.1:8080`.
    #[arg(long)]
    url: String,
    #[command(flatten)]
    asked: asked::AskedArgs,
    #[command(flatten)]
    pattern: pattern::PatternArgs,
    /// The most connections; without it, one for each request under way.
    #[arg(long)]
    connections: Option<usize>,
    /// The most requests under way; what is due beyond is dropped and counted.
    #[arg(long, default_value_t = 4096)]
    max_in_flight: usize,
    /// When to give a request up, from its intended send time.
    #[arg(long, default_value = "1500ms", value_parser = duration::parse)]
    timeout: Duration,
    /// When to give the run up, from the last answer: a server that is gone is not worth an hour.
    #[arg(long, default_value = "10s", value_parser = duration::parse)]
    give_up_after: Duration,
    /// Decides the send times, the order of the examples, and what is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Objectives to hold the run to, such as config/slo.toml. Exits with 0 where they are kept, 1 where
    /// one is not, 2 where the run is invalid or too small to tell.
    #[arg(long, value_name = "FILE")]
    slo: Option<PathBuf>,
    /// How late 99 % of requests must be sent at the latest; a run that is later is invalid.
    #[arg(long, default_value = "10ms", value_parser = duration::parse)]
    max_lag: Duration,
    /// Write latencies to this file, as an HDR log of an interval a second, for `merge` and other tools.
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
    /// Write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    page: PageArgs,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Everything that can fail before the run has not.
struct Prepared {
    load: Load,
    slo: Option<Slo>,
    json: Option<Output>,
    hdr: Option<HdrLog>,
    page: Option<Recording>,
}

/// Why there is no run, and the exit code that says so.
pub(super) struct Failed {
    pub(super) error: anyhow::Error,
    pub(super) code: u8,
}

/// 0: it ran, and keeps the objectives; 1: it does not, no answer was right, or the report could not be
/// written; 2: it is invalid, or too small to tell; 64: the arguments make no run.
pub(super) async fn run(args: RunArgs) -> ExitCode {
    let Prepared {
        load,
        slo,
        json,
        hdr,
        page,
    } = match args.prepare().await {
        Ok(prepared) => prepared,
        Err(Failed { error, code }) => return fail(&error, code.into()),
    };
    let outcome = watch(load, &args, slo.as_ref(), hdr).await;
    let (report, written) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return fail(&error, ExitCode::FAILURE),
    };
    let shows = shows(&report);
    // The page last: the figures are there then, whatever becomes of it.
    let delivered = deliver(&report, json).and(written);
    let drawn = page.map_or(Ok(()), |page| page.write(&report, &shows));
    let code = match (delivered.and(drawn), shows) {
        // Nothing was shown, and nothing of the server's doing.
        (Ok(()), Err(error)) if !report.invalid.is_empty() => fail(&error, TOO_SMALL.into()),
        (Err(error), _) | (Ok(()), Err(error)) => fail(&error, ExitCode::FAILURE),
        (Ok(()), Ok(())) => verdict_code(&report.invalid, report.slo.as_ref()),
    };
    for reason in &report.invalid {
        let _ = writeln!(io::stderr(), "aegis-loadtest: invalid run: {reason}");
    }
    code
}

/// Prints the table, and writes the file where one is asked for.
fn deliver(report: &Report, json: Option<Output>) -> Result<()> {
    write!(io::stdout().lock(), "{report}").context("stdout")?;
    json.map_or(Ok(()), |file| file.write_json(report))
}

/// Runs the load to its end, to Ctrl-C, or until nobody answers any more, and shows how it goes. Says also
/// whether the log could be written: a disk that is full is no reason to throw the figures away.
async fn watch(
    load: Load,
    args: &RunArgs,
    slo: Option<&Slo>,
    mut hdr: Option<HdrLog>,
) -> Result<(Report, Result<()>)> {
    let length = load.pattern().duration();
    let progress = Progress::new(args.quiet, length.unwrap_or_default());
    let mut shown = Duration::ZERO;
    let mut silence = silence::Silence::new(args.give_up_after);
    let mut written = Ok(());
    let mut ticks = tokio::time::interval(REFRESH);
    let mut interrupt = std::pin::pin!(interrupted());
    let mut handle = load.start();
    let partial = loop {
        tokio::select! {
            () = handle.finished() => break None,
            () = &mut interrupt => break Some("stopped by Ctrl-C".to_owned()),
            _ = ticks.tick() => {}
        }
        let summary = handle.snapshot();
        if handle.elapsed() >= shown {
            shown = handle.elapsed() + SHOW;
            progress.show(&summary, &handle.window());
        }
        if written.is_ok() {
            written = log(&handle, &mut hdr, false);
        }
        if let Some(reason) = silence.notice(&summary) {
            break Some(reason);
        }
    };
    tokio::select! {
        () = handle.end() => {}
        // Who asks twice does not want to wait for what is under way.
        () = interrupted() => {}
    }
    if written.is_ok() {
        written = log(&handle, &mut hdr, true);
    }
    if let (Ok(()), None, Some(hdr)) = (&written, &partial, &mut hdr) {
        written = hdr.finish();
    }
    let (measured, _) = handle.measured();
    let mut report = handle.stop().await;
    progress.clear();
    let limits = Limits { lag: args.max_lag };
    report.partial = partial.map(|reason| {
        let (elapsed, whole) = (report.summary.elapsed_seconds, length.unwrap_or_default());
        format!("{reason}, after {elapsed:.1} s of {} s", seconds(whole))
    });
    report.invalid = invalid(&measured, limits);
    let judgement = slo.map(|slo| judge(slo, &measured, limits));
    report.slo = match judgement {
        Some(judgement) if report.interrupted || report.partial.is_some() => {
            Some(judgement.of_partial())
        }
        judgement => judgement,
    };
    Ok((report, written))
}

/// Writes an interval where one is over, or what is left at the end.
fn log(handle: &Handle, hdr: &mut Option<HdrLog>, is_end: bool) -> Result<()> {
    let Some(hdr) = hdr else { return Ok(()) };
    let elapsed = handle.elapsed();
    if is_end || hdr.is_due(elapsed) {
        let (measured, elapsed) = handle.measured();
        hdr.write(measured, elapsed)?;
    }
    Ok(())
}

/// Why a run of this rate and length could not show that the objectives are kept, however well
/// all goes.
fn too_small(slo: &Slo, pattern: &Pattern) -> Option<anyhow::Error> {
    let Pattern::Open { schedule, .. } = pattern else {
        return None;
    };
    let (expected, least) = (schedule.expected(), slo.least());
    (expected < least as f64).then(|| {
        anyhow::anyhow!(
            "the run is too small: --slo cannot be shown to be kept with fewer than {least} requests, \
             and these are about {expected:.0}; raise --duration or --rate"
        )
    })
}

/// Fails where no run of these could show that the accuracy is kept.
pub(super) fn enough_examples(slo: Option<&Slo>, parts: &[Part]) -> Result<(), Failed> {
    let Some(least) = slo.and_then(Slo::least_examples) else {
        return Ok(());
    };
    let sets = parts.iter().map(Set::of).collect::<Result<Vec<_>, _>>()?;
    match sets.iter().map(|set| set.size).sum::<u64>() {
        0 => Err(Failed::usage(
            "--slo: accuracy: expected --data with labels, got none: nobody knows what is right",
        )),
        got if got < least => Err(Failed {
            error: anyhow::anyhow!(
                "the run is too small: --slo: accuracy: cannot be shown to be kept with fewer than {least} \
                 different examples, and --data has {got}; the same ones again show nothing new"
            ),
            code: TOO_SMALL,
        }),
        _ => Ok(()),
    }
}

/// Fails, with a sentence, when the run shows nothing about the model. Objectives speak for
/// themselves.
fn shows(report: &Report) -> Result<()> {
    let summary = &report.summary;
    if summary.ok == 0 {
        let failures = summary.failures.iter().max_by_key(|failure| failure.count);
        let why = failures.map_or("no request was due", |failure| failure.text.as_str());
        bail!("{} answered no request: {why}", report.plan.url)
    }
    if summary.scored > 0 && summary.right == 0 {
        bail!("none of {} answers had the right label", summary.ok);
    }
    Ok(())
}

// === impl RunArgs ===

impl RunArgs {
    /// Makes everything that can fail fail before the run and not after it: a file
    /// for the report that cannot be written, for one. Only then is the server asked what it takes.
    async fn prepare(&self) -> Result<Prepared, Failed> {
        let slo = self.slo.as_deref().map(Slo::read).transpose();
        let slo = slo.context("--slo")?;
        if let Some(longest) = slo.as_ref().and_then(Slo::longest)
            && self.timeout < longest
        {
            return Err(Failed::usage(format!(
                "--timeout: expected at least {longest:?}, up to which --slo allows latencies, got {:?}: \
                 what is given up sooner is never seen to be that slow",
                self.timeout
            )));
        }
        let mut plan = self.plan()?;
        Load::check(&plan)?;
        if let Some(error) = slo.as_ref().and_then(|slo| too_small(slo, &plan.pattern)) {
            return Err(Failed {
                error,
                code: TOO_SMALL,
            });
        }
        let wanted = self.asked.wanted(&self.url, "--url")?;
        let json = Output::open("--json", self.json.as_deref())?;
        let html = self.page.open()?;
        plan.parts = self
            .asked
            .parts(wanted, plan.transport, self.timeout, self.seed)
            .await?;
        enough_examples(slo.as_ref(), &plan.parts)?;
        let hdr = self.hdr.as_deref();
        let hdr = hdr.map(|path| HdrLog::create(path, self.pattern.warmup(), self.seed));
        let mut models: Vec<_> = plan.parts.iter().map(|part| part.target.model()).collect();
        models.sort_unstable();
        models.dedup();
        let models: Vec<_> = models.into_iter().map(ToOwned::to_owned).collect();
        let (load, page) = self.page.record(html, Load::new(plan)?, &models);
        Ok(Prepared {
            load,
            page,
            slo,
            json,
            hdr: hdr.transpose()?,
        })
    }

    /// Everything but what is asked.
    fn plan(&self) -> Result<Plan> {
        let mut plan = Plan::of(Vec::new(), self.pattern.pattern()?);
        plan.transport = self.asked.transport();
        plan.timeout = self.timeout;
        plan.max_in_flight = self.max_in_flight;
        plan.connections = self.connections;
        plan.seed = self.seed;
        Ok(plan)
    }
}

// === impl Failed ===

impl Failed {
    /// The arguments make no run.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self {
            error: anyhow::Error::msg(text.into()),
            code: USAGE,
        }
    }
}

/// What nobody says otherwise is wrong with the arguments.
impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            code: USAGE,
        }
    }
}
