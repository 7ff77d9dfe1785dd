//! Whether `aegis-loadtest tune` finds in a few runs what a sweep over everything finds.
//!
//! Of two models ([`bench_models`](../../../backend/torch/examples/bench_models)), `fixed`, whose runs cost much and
//! rows little, and `linear`, the other way about, the real program tunes the real backend, guided and as a sweep, in
//! rounds. What counts is the setting that was chosen, by what the sweeps measured of it (their mean): a figure of the
//! guided run's own would be compared with the luckiest of a dozen.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::args::{Models, Output, Programs};
use crate::backend;

const NAMES: [&str; 2] = ["fixed", "linear"];
/// Of the best of the sweeps, what the chosen setting has to serve.
const NEAR: f64 = 0.95;
/// Of the runs of a sweep, what it may take.
const RUNS: f64 = 0.25;
/// What settings are held to: some runs of `fixed` have to fit, and few of its requests have to tell.
const SLO: &str = "availability = 0.95\n[[latency]]\nquantile = 0.95\nbelow_ms = 200\n";

/// Batch size and instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
struct Setting {
    instances: u32,
    max_batch_size: u32,
}

/// What the program says of one setting.
#[derive(Debug, Deserialize)]
struct Trial {
    setting: Setting,
    sustained: Option<f64>,
    /// Whether a run was too small, or the client could not keep up.
    is_doubtful: bool,
}

#[derive(Debug, Deserialize)]
struct Best {
    setting: Setting,
    per_pod: f64,
}

/// What it says of all.
#[derive(Debug, Deserialize)]
struct Tuning {
    trials: Vec<Trial>,
    runs: usize,
    sweep_runs: usize,
    best: Option<Best>,
}

/// One guided search, beside the sweeps.
#[derive(Debug, Serialize)]
struct Row {
    model: &'static str,
    chosen: Setting,
    /// Requests a second that it saw the setting sustain.
    said: f64,
    /// The same, of the sweeps; none where they could not tell.
    sustained: Option<f64>,
    /// The best of them, and what it sustains.
    best: Setting,
    best_sustained: f64,
    runs: usize,
    sweep_runs: usize,
}

/// What to tune, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    models: Models,
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
    #[command(flatten)]
    output: Output,
}

/// Tunes, prints the table, and compares it with the bounds.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let tuner = Tuner {
        loadtest: args.programs.find("aegis-loadtest")?,
        backend: args.programs.find(backend::PROGRAM)?,
        measure: format!("{}s", args.seconds.max(1)),
        settings: [args.batch.clone(), args.instances.clone()],
    };
    let mut rows = Vec::new();
    for model in NAMES {
        rows.extend(tuner.rounds(args, model).await?);
    }
    println!("model   chosen       sustains  best of sweep  sustains   runs");
    let mut missed = Vec::new();
    for row in &rows {
        println!("{}", row.line());
        missed.extend(row.missed());
    }
    args.output.conclude(&rows, &missed)
}

/// The programs, and what they try.
struct Tuner {
    loadtest: PathBuf,
    backend: PathBuf,
    measure: String,
    /// Batch sizes and instances.
    settings: [String; 2],
}

// === impl Tuner ===

impl Tuner {
    /// Every round of one model: in turns, since the machine changes meanwhile.
    async fn rounds(&self, args: &Args, model: &'static str) -> Result<Vec<Row>> {
        let folder = tempfile::tempdir()?;
        let models = args.models.folder()?;
        let config = format!(
            "listen = \"127.0.0.1:0\"\nmodel_repository = {:?}\n[models.{model}]\nversions = [\"1\"]\n",
            models.to_string_lossy()
        );
        fs::write(folder.path().join("backend.toml"), config)?;
        fs::write(folder.path().join("slo.toml"), SLO)?;
        let (mut guided, mut swept) = (Vec::new(), Vec::new());
        for round in 1..=args.rounds.max(1) {
            let seed = round.to_string();
            guided.push(self.tune(folder.path(), model, &seed, false).await?);
            swept.push(self.tune(folder.path(), model, &seed, true).await?);
        }
        let sustained = means(&swept);
        let best = sustained
            .iter()
            .max_by(|one, other| one.1.total_cmp(other.1));
        let (best, best_sustained) = best.context("no sweep found a setting")?;
        let rows = guided.iter().map(|tuning| {
            let found = tuning.best.as_ref();
            let found = found.with_context(|| format!("{model}: no setting was found"))?;
            Ok(Row {
                model,
                chosen: found.setting,
                said: found.per_pod,
                sustained: sustained.get(&found.setting).copied(),
                best: *best,
                best_sustained: *best_sustained,
                runs: tuning.runs,
                sweep_runs: tuning.sweep_runs,
            })
        });
        rows.collect()
    }

    async fn tune(&self, folder: &Path, model: &str, seed: &str, sweep: bool) -> Result<Tuning> {
        let [batch, instances] = &self.settings;
        let json = folder.join("tune.json");
        let mut command = Command::new(&self.loadtest);
        command
            .args(["tune", "--config", "backend.toml", "--slo", "slo.toml"])
            .args(["--transport", "binary", "--quiet", "--max-lag", "50ms"])
            .args(["--model", model, "--seed", seed, "--measure", &self.measure])
            .args(["--batch", batch, "--instances", instances])
            .arg("--backend")
            .arg(&self.backend)
            .arg("--json")
            .arg(&json)
            .current_dir(folder);
        if sweep {
            command.arg("--sweep");
        }
        let output = command.output().await?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{model}: {}: {stderr}{stdout}", output.status);
        }
        println!("{stdout}");
        Ok(serde_json::from_slice(&fs::read(json)?)?)
    }
}

/// What each setting sustains, on average over the sweeps that could tell: what keeps no objective sustains nothing,
/// and of what this machine could not measure nothing is known.
fn means(sweeps: &[Tuning]) -> BTreeMap<Setting, f64> {
    let mut seen: BTreeMap<Setting, Vec<f64>> = BTreeMap::new();
    let trials = sweeps.iter().flat_map(|sweep| &sweep.trials);
    for trial in trials.filter(|trial| trial.sustained.is_some() || !trial.is_doubtful) {
        let rates = seen.entry(trial.setting).or_default();
        rates.push(trial.sustained.unwrap_or(0.0));
    }
    let means = seen.into_iter();
    let mean = |rates: Vec<f64>| rates.iter().sum::<f64>() / rates.len() as f64;
    means
        .map(|(setting, rates)| (setting, mean(rates)))
        .collect()
}

// === impl Row ===

impl Row {
    fn line(&self) -> String {
        let setting = |of: Setting| format!("{} x {}", of.instances, of.max_batch_size);
        format!(
            "{:7} {:12} {:>8}  {:13}  {:8.1}   {} of {}  (it saw {:.1})",
            self.model,
            setting(self.chosen),
            self.sustained
                .map_or("-".to_owned(), |rate| format!("{rate:.1}")),
            setting(self.best),
            self.best_sustained,
            self.runs,
            self.sweep_runs,
            self.said
        )
    }

    /// Everything that does not hold, in a sentence each.
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        match self.sustained.map(|rate| rate / self.best_sustained) {
            Some(near) if near >= NEAR => {}
            Some(near) => missed.push(format!(
                "{}: the setting that was found serves {near:.3} of the best, and should serve {NEAR}",
                self.model
            )),
            None => missed.push(format!(
                "{}: the sweeps could not measure the setting that was found: is this machine busy?",
                self.model
            )),
        }
        let part = self.runs as f64 / self.sweep_runs as f64;
        if part > RUNS {
            missed.push(format!(
                "{}: it took {part:.2} of a sweep's runs, and may take {RUNS}",
                self.model
            ));
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(max_batch_size: u32) -> Setting {
        Setting {
            instances: 1,
            max_batch_size,
        }
    }

    #[test]
    fn a_setting_counts_by_what_every_sweep_saw_of_it() {
        let text = |one: &str, two: &str| {
            format!(
                "{{\"trials\":[{{\"setting\":{{\"instances\":1,\"max_batch_size\":1}},\"sustained\":{one},\"is_doubtful\":false}},\
                 {{\"setting\":{{\"instances\":1,\"max_batch_size\":8}},\"sustained\":{two},\"is_doubtful\":true}}],\
                 \"runs\":8,\"sweep_runs\":8,\"best\":null}}"
            )
        };
        let sweeps = [
            text("100.0", "300.0"),
            text("null", "320.0"),
            text("0.0", "null"),
        ];
        let sweeps = sweeps.map(|text| serde_json::from_str::<Tuning>(&text).unwrap());
        let means = means(&sweeps);
        assert!((means[&setting(1)] - 100.0 / 3.0).abs() < 1e-9);
        assert!((means[&setting(8)] - 310.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_far_from_the_best_or_took_too_long_is_missed() {
        let row = |sustained: f64, runs| Row {
            model: "fixed",
            chosen: setting(8),
            said: 300.0,
            sustained: (sustained > 0.0).then_some(sustained),
            best: setting(16),
            best_sustained: 310.0,
            runs,
            sweep_runs: 48,
        };
        assert!(row(300.0, 12).missed().is_empty());
        let missed = row(290.0, 13).missed();
        assert!(missed[0].contains("serves 0.935 of the best"), "{missed:?}");
        assert!(missed[1].contains("0.27 of a sweep's runs"), "{missed:?}");
        let unknown = row(0.0, 12).missed();
        assert!(unknown[0].contains("could not measure"), "{unknown:?}");
    }
}
