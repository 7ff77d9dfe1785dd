//! Holds the simulator to the real proxy: a row of [`crate::faults`], once with processes and once simulated.
//!
//! A simulation is worth as much as it is right. So the same pods, the same load and the same fault
//! are given to both: fake pods and `aegis-proxy serve` on one side, `aegis-proxy simulate` with a
//! scenario that is written from the same constants on the other; the medians of some rounds stand side
//! by side, of other seeds on the simulated side. Two figures agree when the larger is at most twice
//! the smaller, or twice a floor where the smaller is below that: of two requests against five nothing
//! can be concluded, nor of what this machine adds to a request while all is well, of which a
//! simulation knows nothing. So the row `healthy` is run first, on the real side: its percentiles are the
//! floors of the others', and where they are far from what the pods take, nothing is compared.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::args::{Output, Programs, Rounds};
use crate::contender::{self, Contender};
use crate::faults::{self, FAULTY, Figures, HEALTHY, MENDED, Row, Setting, WARM};
use crate::pods::Fault;
use crate::process::write;

/// How far two figures that agree may be apart.
const FACTOR: f64 = 2.0;
/// The longest p99 of the row `healthy`, with pods of 5 ms, on a machine that can be measured on.
const QUIET_MS: f64 = 25.0;
/// Where the pods that are simulated are said to be; nobody asks them.
const MADE_UP: &str = "192.0.2.1";

/// A figure of both, and below what it says nothing.
#[derive(Debug, Serialize)]
struct Pair {
    what: &'static str,
    real: f64,
    simulated: f64,
    floor: f64,
}

/// The report of `aegis-proxy simulate`, as far as it is compared.
#[derive(Debug, Deserialize)]
struct Report {
    phases: Vec<Phase>,
    out_after_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Phase {
    name: String,
    requests: usize,
    failed: usize,
    over_100_ms: usize,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

/// What to compare, and with what.
#[derive(Debug, clap::Args)]
#[command(mut_arg("rounds", |arg| arg.help("How often each is run, on both sides; medians are compared")))]
#[command(mut_arg("check", |arg| arg.help("Exit with 1, naming every figure that is off")))]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    /// The rows of `faults` that are compared.
    #[arg(long, value_delimiter = ',', default_value = "slow-1200ms,hung")]
    rows: Vec<String>,
    #[command(flatten)]
    rounds: Rounds,
    #[command(flatten)]
    output: Output,
}

/// Runs every row on both sides, prints the tables, and says what disagrees.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let aegis = Contender::aegis(&args.programs)?;
    let setting = faults::SETTINGS[0];
    let mut well = Vec::new();
    for _ in args.rounds.all() {
        well.push(faults::once(&aegis, setting, HEALTHY).await?);
    }
    let well = Figures::median(&well);
    if well.failed > 0 || well.p99_ms > QUIET_MS {
        bail!(
            "this machine is too busy to measure on: while all is well, {} requests failed, and p99 is {:.1} ms",
            well.failed,
            well.p99_ms
        );
    }
    let mut missed = Vec::new();
    let mut tables = Vec::new();
    for name in &args.rows {
        let row = faults::row(name).with_context(|| format!("no row `{name}`"))?;
        let (mut real, mut simulated) = (Vec::new(), Vec::new());
        for round in args.rounds.all() {
            real.push(faults::once(&aegis, setting, row).await?);
            simulated.push(simulate(&aegis, setting, row, round).await?);
        }
        let pairs = pairs(&Figures::median(&real), &Figures::median(&simulated), &well);
        println!("{name}: the real proxy, simulated, floor");
        for pair in &pairs {
            let verdict = if pair.agrees() { "" } else { "  off" };
            let Pair {
                what,
                real,
                simulated,
                floor,
            } = pair;
            println!("  {what:18} {real:10.1} {simulated:10.1} {floor:8.1}{verdict}");
        }
        let off = pairs.iter().filter(|pair| !pair.agrees());
        missed.extend(off.map(|pair| pair.says(name)));
        tables.push((name, pairs));
    }
    args.output.conclude(&tables, &missed)
}

/// One round of a row, simulated.
async fn simulate(aegis: &Contender, setting: Setting, row: Row, seed: usize) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let pods: Vec<_> = (0..setting.pods)
        .map(|n| format!("{MADE_UP}:{}", 8_000 + n).parse())
        .collect::<Result<_, _>>()?;
    let config = write(at, "proxy.toml", &contender::aegis(8_080, 9_901, &pods))?;
    let scenario = write(at, "scenario.toml", &scenario(setting, row)?)?;
    let json = at.join("report.json");
    let mut command = Command::new(&aegis.program);
    command.arg("simulate").arg("--config").arg(config);
    command.arg("--scenario").arg(scenario);
    command.arg("--seed").arg(seed.to_string());
    let output = command.arg("--json").arg(&json).output().await?;
    if !output.status.success() {
        bail!("simulate: {}", String::from_utf8_lossy(&output.stderr));
    }
    read(&json)
}

fn read(json: &Path) -> Result<Figures> {
    let report: Report = serde_json::from_slice(&fs::read(json)?)?;
    let mut phases = report.phases.into_iter();
    let during = phases.find(|phase| phase.name == "trouble");
    let during = during.context("the simulation had no trouble")?;
    Ok(Figures {
        requests: during.requests,
        failed: during.failed,
        over_limit: during.over_100_ms,
        p50_ms: during.p50_ms,
        p99_ms: during.p99_ms,
        p999_ms: during.p999_ms,
        out_after_ms: report.out_after_ms,
        // No simulation tells it.
        back_after_ms: None,
    })
}

/// The row as a scenario: what a pod and a client do here is what they do there.
fn scenario(setting: Setting, (name, fault, pods): Row) -> Result<String> {
    let fault = match fault {
        Fault::Slow(time) => format!("kind = \"slow\"\nservice_ms = {}", time.as_millis()),
        Fault::Hung => "kind = \"hung\"".to_owned(),
        Fault::Status(429) => "kind = \"busy\"".to_owned(),
        Fault::Status(status) => format!("kind = \"failing\"\nstatus = {status}"),
        Fault::Half(status) => format!("kind = \"half_failing\"\nstatus = {status}"),
        Fault::Killed => "kind = \"down\"".to_owned(),
        Fault::None | Fault::Reset => bail!("row `{name}` has no fault that is simulated"),
    };
    let (service, parallel, rate) = (setting.service.as_millis(), setting.parallel, setting.rate);
    let (warm, faulty) = (WARM.as_secs(), FAULTY.as_secs());
    let counted = (FAULTY + MENDED).as_secs();
    // A fake pod lets any number of requests wait, and says nothing of its load. The load that is
    // none makes the time that is counted go on until the end, as it does there.
    Ok(format!(
        "seconds = {seconds}\nrate = {rate}\neven = true\n\
         [pods]\nservice_ms = {service}\nspread = 0\nparallel = {parallel}\nqueue = 100000\n\
         reports_load = false\n\
         [[faults]]\n{fault}\ncount = {pods}\nat_seconds = {warm}\nfor_seconds = {faulty}\n\
         [[load]]\nfactor = 1\nat_seconds = {warm}\nfor_seconds = {counted}\n",
        seconds = (WARM + FAULTY + MENDED).as_secs(),
    ))
}

fn pairs(real: &Figures, simulated: &Figures, well: &Figures) -> Vec<Pair> {
    let pair = |what, floor, of: &dyn Fn(&Figures) -> f64| Pair {
        what,
        real: of(real),
        simulated: of(simulated),
        floor,
    };
    let never = FAULTY.as_secs_f64() * 1e3;
    vec![
        // As many as bench-faults allows: the pod is asked every 10 ms, and how often
        // before anything is known is chance.
        pair("over 100 ms", 6.0, &|figures| figures.over_limit as f64),
        pair("failed", 2.0, &|figures| figures.failed as f64),
        // Two schedulers and a client stand between a real pod and its clock.
        pair("p99, ms", well.p99_ms.max(10.0), &|figures| figures.p99_ms),
        pair("p99.9, ms", well.p999_ms.max(20.0), &|figures| {
            figures.p999_ms
        }),
        // Half of what a share is measured over.
        pair("out after, ms", 250.0, &|figures| {
            figures.out_after_ms.unwrap_or(never)
        }),
    ]
}

// === impl Pair ===

impl Pair {
    fn agrees(&self) -> bool {
        let (less, more) = (self.real.min(self.simulated), self.real.max(self.simulated));
        more <= FACTOR * less.max(self.floor)
    }

    fn says(&self, row: &str) -> String {
        let Self {
            what,
            real,
            simulated,
            ..
        } = self;
        format!("{row}: {what} is {real:.1}, simulated {simulated:.1}: more than {FACTOR} x apart")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(real: f64, simulated: f64, floor: f64) -> bool {
        let what = "x";
        Pair {
            what,
            real,
            simulated,
            floor,
        }
        .agrees()
    }

    #[test]
    fn twice_as_much_agrees_and_more_does_not_unless_both_are_small() {
        assert!(agree(20.0, 40.0, 6.0) && agree(40.0, 20.0, 6.0));
        assert!(!agree(20.0, 41.0, 6.0) && !agree(41.0, 20.0, 6.0));
        assert!(agree(0.0, 12.0, 6.0));
        assert!(!agree(0.0, 13.0, 6.0));
    }

    #[test]
    fn every_row_that_is_simulated_has_its_fault_in_the_scenario() {
        for (name, expected) in [
            (
                "slow-1200ms",
                "kind = \"slow\"\nservice_ms = 1200\ncount = 1\n",
            ),
            ("hung", "kind = \"hung\"\ncount = 1\n"),
            ("three-500", "kind = \"failing\"\nstatus = 500\ncount = 3\n"),
        ] {
            let text = scenario(faults::SETTINGS[0], faults::row(name).unwrap()).unwrap();
            assert!(text.contains(expected), "{text}");
            assert!(
                text.contains("service_ms = 5\n") && text.contains("rate = 800\n"),
                "{text}"
            );
        }
        let reset = faults::row("reset").unwrap();
        assert!(scenario(faults::SETTINGS[0], reset).is_err());
    }
}
