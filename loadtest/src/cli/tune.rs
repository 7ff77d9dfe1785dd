//! `tune`: a backend and objectives in, settings and pods out.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::run::asked::AskedArgs;
use super::run::{Failed, enough_examples};
use super::{Output, TOO_SMALL, USAGE, duration, fail, interrupted};
use crate::slo::{Limits, Slo};
use crate::tune::bench::Bench;
use crate::tune::{Advice, Backend, Edited, RUNS_EACH, Search, Setting, Step, Tuning, plot};
use crate::{Pattern, Plan, Rate};

/// The most settings.
const MAX_SETTINGS: usize = 1000;

/// When a request is given up, unless an objective allows more.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// A backend, and what it is held to.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, after `cargo build --release`; of 12 settings, it tries those that can be the best\n  \
    aegis-loadtest tune --backend target/release/aegis-backend --config config/backend.toml --model digits \\\n    \
    --data loadtest/data/digits/test.csv --slo config/slo.toml --target-rate 500 --measure 1s --plot tune.svg"
)]
pub(super) struct TuneArgs {
    /// The program `aegis-backend`. It is started for each setting, on a free port and with copies of its files.
    #[arg(long, value_name = "PROGRAM")]
    backend: PathBuf,
    /// Its configuration. Nothing in it is changed.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    asked: AskedArgs,
    /// The objectives, such as config/slo.toml.
    #[arg(long, value_name = "FILE")]
    slo: PathBuf,
    /// Values of `max_batch_size`.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Vec<u32>,
    /// Values of `instances`.
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u32).range(1..=256))]
    instances: Vec<u32>,
    /// Requests a second that pods are wanted for.
    #[arg(long, default_value = "500")]
    target_rate: Rate,
    /// How long each run is measured; up to six times as long where a low rate would show nothing.
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    measure: Duration,
    /// The most runs; a quarter of a sweep's, and at least four, unless given.
    #[arg(long, value_name = "RUNS", conflicts_with = "sweep")]
    max_runs: Option<usize>,
    /// Measure every setting, whatever is predicted.
    #[arg(long)]
    sweep: bool,
    /// How late 99 % of requests must be sent at the latest; a run that is later counts for nothing.
    #[arg(long, default_value = "10ms", value_parser = duration::parse)]
    max_lag: Duration,
    /// Decides the send times, the order of the examples, and what is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write what was found to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw what was found to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Everything that can fail before the first run has not.
struct Prepared {
    edited: Edited,
    slo: Slo,
    settings: Vec<Setting>,
    json: Option<Output>,
    plot: Option<Output>,
}

/// 0: a setting keeps the objectives; 1: none does, or the backend does not run; 2: the runs could not tell; 64:
/// the arguments make no run.
pub(super) async fn run(args: TuneArgs) -> ExitCode {
    let prepared = match args.prepare() {
        Ok(prepared) => prepared,
        Err(error) => return fail(&error, USAGE.into()),
    };
    let mut search = args.search(&prepared);
    let mut stop = std::pin::pin!(stopped());
    // The backend belongs to this future, and ends with it.
    let outcome = tokio::select! {
        outcome = args.tune(&prepared, &mut search) => outcome.map(|()| None),
        why = &mut stop => Ok(Some(format!("stopped by {why}"))),
    };
    let partial = match outcome {
        Ok(partial) => partial,
        Err(Failed { error, code }) => return fail(&error, code.into()),
    };
    let predicted = prepared.settings.iter();
    let predicted = predicted.filter_map(|setting| Some((*setting, search.predicted(*setting)?)));
    let predicted: Vec<_> = predicted.collect();
    let tuning = args.conclude(&prepared, search, partial);
    match deliver(&tuning, &predicted, prepared) {
        Ok(()) => code(&tuning),
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

/// What it means to a script. What ended early has no best, only the best so far.
fn code(tuning: &Tuning) -> ExitCode {
    let is_doubtful = tuning.trials.iter().any(|trial| trial.is_doubtful);
    match &tuning.best {
        _ if tuning.partial.is_some() => TOO_SMALL.into(),
        Some(_) => ExitCode::SUCCESS,
        None if is_doubtful => TOO_SMALL.into(),
        None => ExitCode::FAILURE,
    }
}

fn deliver(tuning: &Tuning, predicted: &[(Setting, f64)], files: Prepared) -> Result<()> {
    write!(io::stdout().lock(), "{tuning}").context("stdout")?;
    if let Some(file) = files.plot {
        let svg = plot::svg(tuning, predicted).context("--plot")?;
        file.write(svg.as_bytes())?;
    }
    files.json.map_or(Ok(()), |file| file.write_json(tuning))
}

/// Waits for Ctrl-C or SIGTERM: a backend must not outlive who started it.
async fn stopped() -> &'static str {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let terminated = async {
        match &mut terminated {
            Ok(signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = interrupted() => "Ctrl-C",
        _ = terminated => "SIGTERM",
    }
}

// === impl TuneArgs ===

impl TuneArgs {
    fn prepare(&self) -> Result<Prepared> {
        let model = self.asked.model();
        let model = model.ok_or_else(|| anyhow!("--mix: expected --model: one model is tuned"))?;
        let slo = Slo::read(&self.slo).context("--slo")?;
        if self.measure.is_zero() {
            return Err(anyhow!("--measure: expected more than 0s"));
        }
        let is_there = std::fs::metadata(&self.backend);
        let is_there = is_there.with_context(|| self.backend.display().to_string());
        if !is_there.context("--backend")?.is_file() {
            let backend = self.backend.display();
            return Err(anyhow!("--backend: {backend}: expected a program"));
        }
        // Files that are not there are said before a backend is started.
        self.asked.wanted("http://127.0.0.1", "--backend")?;
        let edited = Edited::read(&self.config, model, self.asked.version()).context("--config")?;
        let mut settings: Vec<_> = self
            .instances
            .iter()
            .flat_map(|&instances| {
                self.batch.iter().map(move |&max_batch_size| Setting {
                    instances,
                    max_batch_size,
                })
            })
            .collect();
        settings.sort_unstable();
        settings.dedup();
        if settings.is_empty() || settings.len() > MAX_SETTINGS {
            let got = settings.len();
            return Err(anyhow!(
                "--batch and --instances: expected 1 to {MAX_SETTINGS} settings, got {got}"
            ));
        }
        let json = Output::open("--json", self.json.as_deref())?;
        let plot = Output::open("--plot", self.plot.as_deref())?;
        if edited.was_verified() {
            self.say("`verify` is off here: a signature cannot fit a description that is edited");
        }
        Ok(Prepared {
            edited,
            slo,
            settings,
            json,
            plot,
        })
    }

    fn search(&self, prepared: &Prepared) -> Search {
        let settings = &prepared.settings;
        let processors = std::thread::available_parallelism();
        let processors =
            processors.map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
        let quarter = (settings.len() * RUNS_EACH / 4).max(RUNS_EACH);
        let budget = self.max_runs.unwrap_or(quarter);
        let lanes = prepared.edited.lanes(processors);
        let search = Search::new(settings, &prepared.slo, lanes, budget);
        if self.sweep { search.sweep() } else { search }
    }

    /// Carries the search out: a backend for each setting, which is asked as long as the setting is tried.
    async fn tune(&self, prepared: &Prepared, search: &mut Search) -> Result<(), Failed> {
        let mut running: Option<(Setting, Backend, Bench)> = None;
        while let Some(step) = search.step() {
            let (Step::Saturate(setting) | Step::Hold(setting, _)) = step;
            if running.as_ref().is_none_or(|(of, ..)| *of != setting) {
                if let Some((_, backend, _)) = running.take() {
                    backend.end().await;
                }
                let backend = prepared.edited.start(&self.backend, setting).await;
                let backend = backend.map_err(Failed::ran)?;
                let bench = self.bench(prepared, &backend).await?;
                running = Some((setting, backend, bench));
            }
            let Some((_, _, bench)) = &running else { break };
            let (batch, instances) = (setting.max_batch_size, setting.instances);
            match step {
                Step::Saturate(_) => {
                    self.say(&format!(
                        "instances {instances}, max_batch_size {batch}: capacity"
                    ));
                    search.saturated(bench.saturate(setting).await.map_err(Failed::ran)?);
                }
                Step::Hold(_, rate) => {
                    self.say(&format!(
                        "instances {instances}, max_batch_size {batch}: {rate:.0} requests/s"
                    ));
                    search.held(bench.hold(rate).await.map_err(Failed::ran)?);
                }
            }
            if let Some(costs) = bench.costs().await {
                search.learn(costs);
            }
        }
        if let Some((_, backend, _)) = running.take() {
            backend.end().await;
        }
        Ok(())
    }

    /// What is asked of a backend that runs.
    async fn bench(&self, prepared: &Prepared, backend: &Backend) -> Result<Bench, Failed> {
        let transport = self.asked.transport();
        // The pattern is each run's own.
        let pattern = Pattern::Count {
            requests: 1,
            concurrency: 1,
        };
        let mut plan = Plan::of(Vec::new(), pattern);
        plan.transport = transport;
        plan.timeout = TIMEOUT.max(prepared.slo.longest().unwrap_or_default());
        plan.seed = self.seed;
        let wanted = self.asked.wanted(backend.url(), "--backend")?;
        plan.parts = self
            .asked
            .parts(wanted, transport, plan.timeout, self.seed)
            .await?;
        for part in &mut plan.parts {
            part.target = part.target.clone().pinned(prepared.edited.version());
        }
        enough_examples(Some(&prepared.slo), &plan.parts)?;
        Ok(Bench {
            plan,
            slo: prepared.slo.clone(),
            limits: Limits { lag: self.max_lag },
            measure: self.measure,
        })
    }

    fn conclude(&self, prepared: &Prepared, search: Search, partial: Option<String>) -> Tuning {
        let target = self.target_rate.per_second();
        let best = search.best().and_then(|trial| Advice::of(trial, target));
        let (costs, runs) = (search.costs(), search.runs());
        let (trials, untried) = search.into_trials();
        Tuning {
            model: self.asked.model().unwrap_or_default().to_owned(),
            version: prepared.edited.version().to_owned(),
            costs,
            trials,
            untried,
            runs,
            sweep_runs: prepared.settings.len() * RUNS_EACH,
            best,
            partial,
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "aegis-loadtest: {text}");
        }
    }
}

// === impl Failed ===

impl Failed {
    /// Nothing is wrong with the arguments.
    fn ran(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            code: 1,
        }
    }
}
