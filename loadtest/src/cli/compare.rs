//! `compare`: two targets in, by how much they differ out.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::run::Failed;
use super::run::asked::AskedArgs;
use super::run::mix::Wanted;
use super::{Output, TOO_SMALL, USAGE, duration, fail, interrupted, share};
use crate::compare::{CompareError, Comparison, Contest, Margins, Progress, Verdict, compare};
use crate::slo::Limits;
use crate::{Load, Part, Pattern, Plan, Question, Questions, Rate, Schedule, Spacing};

/// Two targets, and what is sent to them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples, beside `make run`, which prints the address of its proxy: the canary, and what it would replace; and a\n\
    proxy beside itself, asked for a mix over gRPC, which shows what is no difference\n  \
    aegis-loadtest compare http://127.0.0.1:8080 --model digits --version-a 1 --version-b 2 \\\n    \
    --data loadtest/data/digits/test.csv --rate 100 --duration 2s --pairs 6\n  \
    aegis-loadtest compare http://127.0.0.1:8080 http://127.0.0.1:8080 --mix config/mix.toml --transport grpc \\\n    \
    --rate 100 --duration 2s --pairs 6 --margin 0.5"
)]
pub(super) struct CompareArgs {
    /// The server that is known, such as `http://127.0.0.1:8080`.
    #[arg(value_name = "A")]
    a: String,
    /// The server that is compared with it; the same one, where two versions of it are compared.
    #[arg(value_name = "B")]
    b: Option<String>,
    #[command(flatten)]
    asked: AskedArgs,
    /// The version to ask of A; without it that of `--version`.
    #[arg(long, value_name = "VERSION", conflicts_with = "mix")]
    version_a: Option<String>,
    /// The version to ask of B.
    #[arg(long, value_name = "VERSION", conflicts_with = "mix")]
    version_b: Option<String>,
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
    /// Decides send times, the order of the examples, what is drawn, and who begins.
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
    let prepared = async {
        let json = Output::open("--json", args.json.as_deref())?;
        Ok::<_, Failed>((args.contest().await?, json))
    };
    let (contest, json) = match prepared.await {
        Ok(prepared) => prepared,
        Err(Failed { error, code }) => return fail(&error, code.into()),
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

fn deliver(comparison: &Comparison, json: Option<Output>) -> Result<()> {
    write!(io::stdout().lock(), "{comparison}").context("stdout")?;
    json.map_or(Ok(()), |file| file.write_json(comparison))
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
    /// Everything that can fail before the first pair; only then are both asked what they take.
    async fn contest(&self) -> Result<Contest, Failed> {
        let a = self.wanted("A", &self.a, self.version_a.as_deref())?;
        let b = self.b.as_deref().unwrap_or(&self.a);
        let b = self.wanted("B", b, self.version_b.as_deref())?;
        if self.b.is_none() && is_same(&a, &b) {
            return Err(Failed::usage(
                "expected B, or --version-a and --version-b that differ: A is compared with itself",
            ));
        }
        let mut plan = Plan::of(Vec::new(), self.pattern());
        plan.transport = self.asked.transport();
        plan.timeout = self.timeout;
        plan.max_in_flight = self.max_in_flight;
        plan.seed = self.seed;
        Load::check(&plan)?;
        let parts = |wanted| {
            self.asked
                .parts(wanted, plan.transport, plan.timeout, plan.seed)
        };
        let (a, b) = (parts(a).await?, parts(b).await?);
        for (a, b) in a.iter().zip(&b) {
            same_drawn(a, b)?;
        }
        // What makes no run is said before the first one.
        for parts in [&a, &b] {
            let parts = parts.clone();
            Load::new(Plan {
                parts,
                ..plan.clone()
            })?;
        }
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

    fn wanted(&self, side: &'static str, url: &str, version: Option<&str>) -> Result<Vec<Wanted>> {
        let mut wanted = self.asked.wanted(url, side)?;
        for part in &mut wanted {
            if let Some(version) = version {
                part.target = part.target.clone().pinned(version);
            }
        }
        Ok(wanted)
    }
}

/// Whether both sides ask the same of the same.
fn is_same(a: &[Wanted], b: &[Wanted]) -> bool {
    let targets = |side: &[Wanted]| {
        side.iter()
            .map(|part| part.target.clone())
            .collect::<Vec<_>>()
    };
    targets(a) == targets(b)
}

/// Fails where what was drawn for B is not what was drawn for A: runs of a pair send the same.
fn same_drawn(a: &Part, b: &Part) -> Result<(), Failed> {
    let (Questions::Made(of_a), Questions::Made(of_b)) = (&a.questions, &b.questions) else {
        return Ok(());
    };
    let inputs = |questions: &[Question]| {
        let inputs = questions.iter().flat_map(|question| &question.inputs);
        let shapes = inputs.map(|input| {
            let count = input.tensor.element_count();
            (input.name.clone(), input.tensor.datatype(), count)
        });
        shapes.collect::<Vec<_>>()
    };
    if inputs(of_a) == inputs(of_b) {
        return Ok(());
    }
    Err(Failed::usage(format!(
        "{} and {} do not take the same inputs of `{}`, so that no requests are the same to both",
        a.target.url(),
        b.target.url(),
        a.name
    )))
}
