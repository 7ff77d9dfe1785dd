//! What the backend's metrics and safety checks cost, in CPU time of a request.
//!
//! One server for each setting, of the same perceptron, all there all the time; those that are not asked
//! do nothing. A round asks one after the other, in binary, which has the least other work in it, from 16
//! connections; the next round asks them the other way about. What is reported is the median of the ratios
//! within rounds: what moves all of a round, moves both sides of a ratio.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::args::{Models, Output, Programs};
use crate::backend::{self, CORES, Served};
use crate::healthy::measure;
use crate::median;
use crate::process::{Running, pinned};
use crate::serving::{Examples, MODEL, binary_load};
use crate::wrk::Wrk;

const CONNECTIONS: usize = 16;
/// CPU time with metrics, in proportion to that without.
const METRICS: f64 = 1.01;

/// A way to serve the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    /// Of `backend.toml`.
    server: &'static str,
    /// Of `model.toml`.
    safety: &'static str,
}

/// As it ships: metrics, and NaN looked for in what comes in and goes out.
const SHIPPED: Setting = Setting {
    name: "as it ships",
    server: "",
    safety: "",
};
const OTHERS: [Setting; 3] = [
    Setting {
        name: "without metrics",
        server: "metrics = false\n",
        safety: "",
    },
    Setting {
        name: "without checks",
        server: "",
        safety: "[safety]\nnan_inf_input = \"off\"\nnan_inf_output = \"off\"\n",
    },
    Setting {
        name: "with ranges and confidence",
        server: "",
        safety: "[[safety.range]]\ninput = \"x\"\nmin = -1e9\nmax = 1e9\naction = \"block\"\n\
                 [[safety.output_range]]\noutput = \"y\"\nmin = -1e9\nmax = 1e9\naction = \"flag\"\n\
                 [[safety.low_confidence]]\noutput = \"y\"\nmin = -1e9\naction = \"flag\"\n",
    },
];

/// What one setting costs.
#[derive(Debug, Serialize)]
struct Row {
    setting: &'static str,
    cpu_us_per_request: f64,
    /// The median, over the rounds, of what it shipped costs in proportion to this.
    shipped_to_this: f64,
}

/// What to measure, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    models: Models,
    /// How often each setting is measured; medians of ratios are reported.
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// How long each load lasts.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    #[command(flatten)]
    output: Output,
}

/// Runs every round, prints the table, and compares it with the bounds.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let program = args.programs.find(backend::PROGRAM)?;
    let models = args.models.folder()?;
    let (wrk, path, _bodies) = binary_load(&Examples::read(&models)?)?;
    let lasts = Duration::from_secs(args.seconds.max(1));
    let settings: Vec<Setting> = std::iter::once(SHIPPED).chain(OTHERS).collect();
    let mut servers = Vec::new();
    for setting in &settings {
        let server = serve(&program, &models, setting).await?;
        let url = format!("http://{}{path}", server.address);
        // Until every batch size has run.
        wrk.run(&url, CONNECTIONS, CORES, Duration::from_secs(1))
            .await?;
        servers.push((server, url));
    }
    let mut rounds = Vec::new();
    for round in 0..args.pairs.max(1) {
        let mut costs = vec![0.0; settings.len()];
        for step in 0..settings.len() {
            let at = if round % 2 == 0 {
                step
            } else {
                settings.len() - 1 - step
            };
            let (server, url) = &servers[at];
            costs[at] = cost(&wrk, server, url, lasts).await?;
        }
        let told: Vec<String> = costs.iter().map(|cost| format!("{cost:.2}")).collect();
        println!("round {:2}  {} µs", round + 1, told.join("  "));
        rounds.push(costs);
    }
    let rows = rows(&settings, &rounds);
    for row in &rows {
        println!(
            "{:27} {:6.2} µs a request; as it ships costs {:.3} × that",
            row.setting, row.cpu_us_per_request, row.shipped_to_this
        );
    }
    let missed: Vec<String> = rows
        .iter()
        .filter(|row| row.setting == OTHERS[0].name && row.shipped_to_this > METRICS)
        .map(|row| {
            format!("with metrics a request costs {:.3} × what it costs without, and may cost {METRICS} ×", row.shipped_to_this)
        })
        .collect();
    args.output.conclude(&rows, &missed)
}

/// CPU time of the server for a request, in microseconds.
async fn cost(wrk: &Wrk, server: &Running, url: &str, lasts: Duration) -> Result<f64> {
    let before = measure::cpu_time(server.pid())?;
    let closed = wrk.run(url, CONNECTIONS, CORES, lasts).await?;
    let spent = measure::cpu_time(server.pid())?.saturating_sub(before);
    anyhow::ensure!(closed.failed == 0, "{} requests failed", closed.failed);
    Ok(measure::micros_each(spent, closed.requests))
}

fn rows(settings: &[Setting], rounds: &[Vec<f64>]) -> Vec<Row> {
    let row = |(at, setting): (usize, &Setting)| Row {
        setting: setting.name,
        cpu_us_per_request: median::between(rounds, |costs| costs[at]),
        shipped_to_this: median::between(rounds, |costs| costs[0] / costs[at]),
    };
    settings.iter().enumerate().map(row).collect()
}

/// Serves the perceptron so; waits until it is ready.
async fn serve(program: &Path, models: &Path, setting: &Setting) -> Result<Running> {
    let folder = tempfile::tempdir()?;
    let home = models.join(MODEL);
    let text = fs::read_to_string(home.join("model.toml"))?;
    let text = format!("{text}\n{}", setting.safety);
    let served = Served {
        models: &backend::copied(&home, MODEL, &text, folder.path())?,
        model: MODEL,
        settings: setting.server,
    };
    served.start(pinned(CORES, program), folder).await
}
