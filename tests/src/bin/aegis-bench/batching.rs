//! What batching brings, and what it costs, end to end over HTTP, beside what libtorch alone says.
//!
//! Two models ([`bench_models`](../../../backend/torch/examples/bench_models)): `fixed`, whose runs
//! cost much and rows little, and `linear`, the other way about. Their line d(b) = αb + β is measured
//! on libtorch alone, at once before the bench; batching can gain G(8) = 8(1+r)/(8+r) with r = β/α.
//! Each is served twice, in batches of at most 8 and without batching:
//!
//! - closed, 32 connections: the gain;
//! - open, Poisson, at a tenth of the capacity without batches: what waiting for company costs;
//! - open at nine tenths of it: what the tail gains;
//! - open at 1.2, 2 and 3 times the capacity with batches, each request with 200 ms: what is answered
//!   in time.
//!
//! Rounds are interleaved, and medians reported. Open loads are counted from the instants at which
//! requests were due.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod bounds;
mod model;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use aegis_loadtest::{Arrivals, Rate};
use anyhow::Result;
use serde::Serialize;

use crate::args::{Models, Output, Programs, Rounds};
use crate::backend::{self, CORES};
use crate::faults::quantile_ms;
use crate::load::{self, Ask, Sample};
use crate::median;
use crate::process::Running;
use crate::wrk::Wrk;

use self::model::{Model, ROWS};

/// Connections of the closed load: enough that four batches wait.
const CONNECTIONS: usize = 32;
/// How long a request of the overload waits.
const PATIENCE: Duration = Duration::from_millis(200);
/// Offered, in proportion to the capacity with batches.
const OVERLOADS: [f64; 3] = [1.2, 2.0, 3.0];
/// Light and heavy load, in proportion to the capacity without batches.
const LIGHT: f64 = 0.1;
const HEAVY: f64 = 0.9;

/// What one model did in one round, or the medians of its rounds.
#[derive(Clone, Debug, Default, Serialize)]
struct Figures {
    /// Rows a second of the closed load.
    unbatched_per_second: f64,
    batched_per_second: f64,
    /// At a tenth of the capacity without batches.
    light_p50_unbatched_ms: f64,
    light_p50_batched_ms: f64,
    /// At nine tenths.
    heavy_p99_unbatched_ms: f64,
    heavy_p99_batched_ms: f64,
    /// Answered in time a second, in proportion to the capacity with batches; by overload.
    goodput: Vec<f64>,
    /// Of what was answered with 200.
    answered_p99_ms: Vec<f64>,
}

/// A model's line, and its figures.
#[derive(Debug, Serialize)]
struct Row {
    model: &'static str,
    r: f64,
    /// G(8) from that.
    possible_gain: f64,
    #[serde(flatten)]
    figures: Figures,
}

/// What to measure, and with what.
#[derive(Debug, clap::Args)]
#[command(mut_arg("models", |arg| arg.help("What the example `bench_models` has made and measured")))]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    models: Models,
    #[command(flatten)]
    rounds: Rounds,
    /// How long each load lasts.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    #[command(flatten)]
    output: Output,
}

/// Runs every round, prints the table, and compares it with the bounds.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let models = Model::read_all(&args.models.folder()?)?;
    let program = args.programs.find(backend::PROGRAM)?;
    let lasts = Duration::from_secs(args.seconds.max(1));
    let mut rounds: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
    for round in args.rounds.all() {
        for model in &models {
            let unbatched = model.serve(&program, 0).await?;
            let batched = model.serve(&program, ROWS).await?;
            let seed = u64::try_from(round)?;
            let figures = once(model, &unbatched, &batched, lasts, seed).await?;
            println!("round {round}  {}", line(model, &figures));
            rounds.entry(model.name).or_default().push(figures);
        }
    }
    let rows: Vec<Row> = models
        .iter()
        .map(|model| Row {
            model: model.name,
            r: model.ratio(),
            possible_gain: model.possible_gain(),
            figures: Figures::median(&rounds[model.name]),
        })
        .collect();
    println!("medians");
    let mut missed = Vec::new();
    for (model, row) in models.iter().zip(&rows) {
        println!("{}", line(model, &row.figures));
        missed.extend(bounds::missed(row));
    }
    args.output.conclude(&rows, &missed)
}

async fn once(
    model: &Model,
    unbatched: &Running,
    batched: &Running,
    lasts: Duration,
    seed: u64,
) -> Result<Figures> {
    let wrk = Wrk::with(&Model::script())?;
    let mut figures = Figures::default();
    for (server, per_second) in [
        (unbatched, &mut figures.unbatched_per_second),
        (batched, &mut figures.batched_per_second),
    ] {
        let url = format!("http://{}{}", server.address, model.path());
        wrk.run(&url, CONNECTIONS, CORES, Duration::from_secs(1))
            .await?;
        let closed = wrk.run(&url, CONNECTIONS, CORES, lasts).await?;
        *per_second = closed.requests_per_second;
    }
    let capacity = figures.unbatched_per_second;
    let open = |server, rate| open(model, server, rate, None, lasts, seed);
    figures.light_p50_unbatched_ms = took(&open(unbatched, LIGHT * capacity).await?, 0.5);
    figures.light_p50_batched_ms = took(&open(batched, LIGHT * capacity).await?, 0.5);
    figures.heavy_p99_unbatched_ms = took(&open(unbatched, HEAVY * capacity).await?, 0.99);
    figures.heavy_p99_batched_ms = took(&open(batched, HEAVY * capacity).await?, 0.99);
    let capacity = figures.batched_per_second;
    for factor in OVERLOADS {
        let rate = factor * capacity;
        let samples = self::open(model, batched, rate, Some(PATIENCE), lasts, seed).await?;
        let in_time = samples.iter().filter(|one| one.ok && one.took <= PATIENCE);
        let goodput = in_time.count() as f64 / lasts.as_secs_f64();
        figures.goodput.push(goodput / capacity);
        figures.answered_p99_ms.push(took(&samples, 0.99));
    }
    Ok(figures)
}

/// Offers so many requests a second, at random instants.
async fn open(
    model: &Model,
    server: &Running,
    rate: f64,
    timeout: Option<Duration>,
    lasts: Duration,
    seed: u64,
) -> Result<Vec<Sample>> {
    let asks = Ask {
        path: model.path(),
        body: model::body().into(),
        timeout,
    };
    let schedule = Arrivals::new(Rate::new(rate)?, seed).until(lasts);
    load::run(server.address, asks, schedule).await
}

/// A quantile of the answers, in milliseconds.
fn took(samples: &[Sample], quantile: f64) -> f64 {
    let answered = samples.iter().filter(|one| one.ok);
    let mut took: Vec<Duration> = answered.map(|one| one.took).collect();
    took.sort_unstable();
    quantile_ms(&took, quantile)
}

fn line(model: &Model, figures: &Figures) -> String {
    let overload: Vec<String> = OVERLOADS
        .iter()
        .zip(figures.goodput.iter().zip(&figures.answered_p99_ms))
        .map(|(factor, (goodput, p99))| format!("{factor}×: {goodput:.2}, p99 {p99:.0} ms"))
        .collect();
    format!(
        "{:6} r {:.2}, G({ROWS}) {:.2} | {:.0} -> {:.0}/s, gain {:.2} | light p50 {:.2} -> {:.2} ms | \
         heavy p99 {:.1} -> {:.1} ms | goodput {}",
        model.name,
        model.ratio(),
        model.possible_gain(),
        figures.unbatched_per_second,
        figures.batched_per_second,
        figures.batched_per_second / figures.unbatched_per_second,
        figures.light_p50_unbatched_ms,
        figures.light_p50_batched_ms,
        figures.heavy_p99_unbatched_ms,
        figures.heavy_p99_batched_ms,
        overload.join("; "),
    )
}

// === impl Figures ===

impl Figures {
    /// The median of each figure by itself.
    fn median(rounds: &[Self]) -> Self {
        let each = |of: fn(&Self) -> &Vec<f64>| {
            let one = |at: usize| median::of(rounds, |f| of(f)[at]);
            (0..OVERLOADS.len()).map(one).collect()
        };
        Self {
            unbatched_per_second: median::of(rounds, |f| f.unbatched_per_second),
            batched_per_second: median::of(rounds, |f| f.batched_per_second),
            light_p50_unbatched_ms: median::of(rounds, |f| f.light_p50_unbatched_ms),
            light_p50_batched_ms: median::of(rounds, |f| f.light_p50_batched_ms),
            heavy_p99_unbatched_ms: median::of(rounds, |f| f.heavy_p99_unbatched_ms),
            heavy_p99_batched_ms: median::of(rounds, |f| f.heavy_p99_batched_ms),
            goodput: each(|f| &f.goodput),
            answered_p99_ms: each(|f| &f.answered_p99_ms),
        }
    }
}
