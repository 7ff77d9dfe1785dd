//! `compare`: two targets in, by how much they differ out.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{TOO_SMALL, USAGE, duration, fail, interrupted, json_file, share, write_json};
use crate::compare::{CompareError, Comparison, Contest, Margins, Progress, Verdict, compare};
use crate::slo::Limits;
use crate::{Dataset, Load, Pattern, Plan, Rate, Schedule, Spacing, Target};

/// Two targets, and what is sent to them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, beside `make run`, which prints the address of its proxy: the canary, and what it would replace\n  \
    aegis-loadtest compare http://127.0.0.1:8080 --model digits --version-a 1 --version-b 2 \\\n    \
    --data loadtest/data/digits/test.csv --rate 100 --duration 2s --pairs 6"
)]
pub(super) struct CompareArgs {
    /// The server that is known, such as `http://127.0.0.1:8080`.
    #[arg(value_name = "A")]
    a: String,
    /// The server that is compared with it; the same one, where two versions of it are compared.
    #[arg(value_name = "B")]
    b: Option<String>,
    /// The model to ask.
    #[arg(long)]
    model: String,
    /// The version to ask of A; without it the server chooses.
    #[arg(long, value_name = "VERSION")]
    version_a: Option<String>,
    /// The version to ask of B.
    #[arg(long, value_name = "VERSION")]
    version_b: Option<String>,
    /// The input that takes an example's features.
    #[arg(long, default_value = "image")]
    input: String,
    /// The output that is compared with the example's label.
    #[arg(long, default_value = "label")]
    output: String,
    /// A table of examples: features, then the label, with commas (.gz is read too).
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Pairs of runs, from 6 on.
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// Requests a second, on average, of each run.
    #[arg(long, default_value = "200")]
    rate: Rate,
    /// So many connections, each of which waits for its answer before it sends again: to compare what both can do
    /// at most.
    #[arg(long, value_name = "CONNECTIONS", conflicts_with = "rate")]
    closed: Option<usize>,
    /// How long each run is measured.
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    duration: Duration,
    /// How long each run sends before that.
    #[arg(long, default_value = "1s", value_parser = duration::parse)]
    warmup: Duration,
    /// When to give a request up, from its intended send time.
    #[arg(long, default_value = "1500ms", value_parser = duration::parse)]
    timeout: Duration,
    /// The most requests under way; what is due beyond counts as failed.
    #[arg(long, default_value_t = 4096)]
    max_in_flight: usize,
    /// How late 99 % of requests must be sent at the latest; a pair with a run that is later is run again.
    #[arg(long, default_value = "10ms", value_parser = duration::parse)]
    max_lag: Duration,
    /// How much higher latencies and how much lower a rate count as no worse, as a part of A's.
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    margin: f64,
    /// How much higher an error rate counts as no worse.
    #[arg(long, default_value_t = 0.005, value_parser = share)]
    error_margin: f64,
    /// How sure: the confidence of every interval.
    #[arg(long, default_value_t = 0.95, value_parser = share)]
    confidence: f64,
    /// Decides send times, the order of the examples, and who begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the comparison to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// 0: B is no worse; 1: it is, or there is nothing to compare; 2: it is not known; 64: the arguments make no
/// comparison.
pub(super) async fn run(args: CompareArgs) -> ExitCode {
    let prepared = args.contest().and_then(|contest| {
        let json = args.json.as_deref().map(json_file).transpose()?;
        Ok((contest, json))
    });
    let (contest, json) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return fail(&error, USAGE.into()),
    };
    let bar = bar(args.quiet);
    let watch = |progress| match progress {
        Progress::Runs(done, of) => {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        }
        Progress::LeftOut(why) => bar.suspend(|| {
            let _ = writeln!(io::stderr(), "aegis-loadtest: a pair is run again: {why}");
        }),
    };
    let compared = compare(&contest, interrupted(), watch).await;
    bar.finish_and_clear();
    let comparison = match compared {
        Ok(comparison) => comparison,
        Err(error @ CompareError::Silent { .. }) => return fail(&error.into(), ExitCode::FAILURE),
        Err(error) => return fail(&error.into(), USAGE.into()),
    };
    let code = match comparison.verdict {
        Verdict::NoWorse => ExitCode::SUCCESS,
        Verdict::Worse => ExitCode::FAILURE,
        Verdict::Undecided => TOO_SMALL.into(),
    };
    match deliver(&comparison, json) {
        Ok(()) => code,
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

fn deliver(comparison: &Comparison, json: Option<std::fs::File>) -> Result<()> {
    write!(io::stdout().lock(), "{comparison}").context("stdout")?;
    json.map_or(Ok(()), |file| write_json(file, comparison))
}

/// Draws nothing where it is quiet or stderr is no terminal.
fn bar(is_quiet: bool) -> ProgressBar {
    let target = if is_quiet {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let style = ProgressStyle::with_template("{bar:20} run {pos} of {len}");
    let bar = ProgressBar::with_draw_target(None, target);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

// === impl CompareArgs ===

impl CompareArgs {
    fn contest(&self) -> Result<Contest> {
        let a = self.target("A", &self.a, self.version_a.as_deref())?;
        let b = self.b.as_deref().unwrap_or(&self.a);
        let b = self.target("B", b, self.version_b.as_deref())?;
        if self.b.is_none() && a == b {
            bail!(
                "expected B, or --version-a and --version-b that differ: A is compared with itself"
            );
        }
        let data = Dataset::from_csv(&self.data).context("--data")?;
        let mut plan = Plan::new(a.clone(), Arc::new(data), self.pattern());
        plan.timeout = self.timeout;
        plan.max_in_flight = self.max_in_flight;
        plan.seed = self.seed;
        // What makes no run is said before the first one.
        Load::new(plan.clone())?;
        Ok(Contest {
            plan,
            a,
            b,
            pairs: self.pairs,
            confidence: self.confidence,
            margins: Margins {
                relative: self.margin,
                errors: self.error_margin,
            },
            limits: Limits { lag: self.max_lag },
        })
    }

    fn pattern(&self) -> Pattern {
        let Self {
            rate,
            warmup,
            duration,
            ..
        } = *self;
        match self.closed {
            Some(connections) => Pattern::Closed {
                connections,
                warmup,
                duration,
            },
            None => Pattern::Open {
                schedule: Schedule::Drawn {
                    profile: crate::Profile::constant(rate, duration),
                    spacing: Spacing::Poisson,
                },
                warmup,
            },
        }
    }

    fn target(&self, side: &'static str, url: &str, version: Option<&str>) -> Result<Target> {
        let mut target = Target::new(url, &self.model).context(side)?;
        if let Some(version) = version {
            target = target.pinned(version);
        }
        target.input.clone_from(&self.input);
        target.output.clone_from(&self.output);
        Ok(target)
    }
}
