//! One pod of many misbehaves, three in one row: what clients see of it.
//!
//! Each row starts fresh pods and a fresh proxy, warms both up for two seconds, switches the fault
//! on for eight, and goes on for twelve after it is mended. Counted are the requests of those twenty
//! seconds: how many failed (no 200 within three seconds), how many took longer than the limit,
//! after how long the pod got less than a quarter of its share, and how long after it was mended it
//! had its share again.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::args::{Output, Programs, Rounds, asks_for};
use crate::clock;
use crate::contender::{self, Contender, PATH};
use crate::load::{self, Ask, Sample};
use crate::median;
use crate::pods::{Fault, Pod};

pub(crate) const WARM: Duration = Duration::from_secs(2);
pub(crate) const FAULTY: Duration = Duration::from_secs(8);
pub(crate) const MENDED: Duration = Duration::from_secs(12);
/// A pod has its share again when it gets so much of it.
const IN_FULL: f64 = 0.75;
/// Over how long a pod's share is measured.
const SHARE_OVER: Duration = Duration::from_millis(500);

/// A pool and the load on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    name: &'static str,
    pub(crate) pods: usize,
    pub(crate) service: Duration,
    pub(crate) parallel: usize,
    pub(crate) rate: u32,
    limit: Duration,
}

pub(crate) const SETTINGS: [Setting; 2] = [
    Setting {
        name: "a",
        pods: 8,
        service: Duration::from_millis(5),
        parallel: 16,
        rate: 800,
        limit: Duration::from_millis(100),
    },
    Setting {
        name: "b",
        pods: 4,
        service: Duration::from_millis(50),
        parallel: 8,
        rate: 400,
        limit: Duration::from_millis(300),
    },
];

/// What goes wrong, and at how many pods.
pub(crate) type Row = (&'static str, Fault, usize);

/// The row in which nothing does.
pub(crate) const HEALTHY: Row = ("healthy", Fault::None, 0);
const ROWS: [Row; 9] = [
    HEALTHY,
    ("slow-200ms", Fault::Slow(Duration::from_millis(200)), 1),
    ("slow-1200ms", Fault::Slow(Duration::from_millis(1_200)), 1),
    ("hung", Fault::Hung, 1),
    ("500", Fault::Status(500), 1),
    ("half-500", Fault::Half(500), 1),
    ("429", Fault::Status(429), 1),
    ("reset", Fault::Reset, 1),
    ("killed", Fault::Killed, 1),
];
/// The row with three of them.
const THREE: Row = ("three-500", Fault::Status(500), 3);

/// What clients saw.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    pub(crate) over_limit: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    /// Until the faulty pods got less than a quarter of their share; none while they did not.
    pub(crate) out_after_ms: Option<f64>,
    /// From the end of the fault until the pods had their share again; none while they did not.
    pub(crate) back_after_ms: Option<f64>,
}

/// By setting, row and contender.
type Table = BTreeMap<String, BTreeMap<&'static str, Figures>>;

/// What to run, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    /// The contenders; all that can be found, by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The rows; all, by default.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// The settings: `a`, eight pods of 5 ms, and `b`, four of 50 ms; both, by default.
    #[arg(long, value_delimiter = ',')]
    settings: Vec<String>,
    #[command(flatten)]
    rounds: Rounds,
    #[command(flatten)]
    output: Output,
}

/// Runs every row, prints the table, and compares it with the bounds.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let contenders = contender::found(&contender::ALL, &args.only, &args.programs)?;
    let mut table = Table::new();
    let chosen = |setting: &Setting| asks_for(&args.settings, setting.name);
    for setting in SETTINGS.into_iter().filter(chosen) {
        println!(
            "({}) {} pods of {:?}, {} in parallel, {} requests/s: failed / over {:?}, p99.9, pod out and back after",
            setting.name,
            setting.pods,
            setting.service,
            setting.parallel,
            setting.rate,
            setting.limit
        );
        for row in ROWS
            .into_iter()
            .chain([THREE])
            .filter(|(name, ..)| asks_for(&args.rows, name))
        {
            if row.2 * 2 > setting.pods {
                continue;
            }
            let mut rounds: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
            for _ in args.rounds.all() {
                for contender in &contenders {
                    let figures = once(contender, setting, row).await?;
                    rounds.entry(contender.name).or_default().push(figures);
                }
            }
            let name = format!("{}/{}", setting.name, row.0);
            println!("  {}", row.0);
            for contender in &contenders {
                let figures = Figures::median(&rounds[contender.name]);
                println!("    {:8} {}", contender.name, figures.line());
                table
                    .entry(name.clone())
                    .or_default()
                    .insert(contender.name, figures);
            }
        }
    }
    args.output.conclude(&table, &missed(&table))
}

/// The row of that name.
pub(crate) fn row(name: &str) -> Option<Row> {
    let mut rows = ROWS.into_iter().chain([THREE]);
    rows.find(|(known, ..)| *known == name)
}

/// One round of a row.
pub(crate) async fn once(contender: &Contender, setting: Setting, row: Row) -> Result<Figures> {
    let (_, fault, faulty) = row;
    let mut pods = Vec::new();
    for _ in 0..setting.pods {
        pods.push(Pod::start(setting.service, setting.parallel).await?);
    }
    let addresses: Vec<_> = pods.iter().map(|pod| pod.address).collect();
    let proxy = contender.start(&addresses).await?;
    // Until its first checks have passed and everybody's connections are open.
    let warmup = Duration::from_secs(2);
    load::run(
        proxy.address,
        Ask::some(PATH),
        load::even(setting.rate, warmup),
    )
    .await?;
    let began = clock::now();
    let lasts = WARM + FAULTY + MENDED;
    let running = tokio::spawn(load::run(
        proxy.address,
        Ask::some(PATH),
        load::even(setting.rate, lasts),
    ));
    tokio::time::sleep_until((began + WARM).into()).await;
    let from = clock::now();
    for pod in pods.iter_mut().take(faulty) {
        pod.set(fault).await;
    }
    tokio::time::sleep_until((from + FAULTY).into()).await;
    let mended = clock::now();
    for pod in pods.iter_mut().take(faulty) {
        pod.set(Fault::None).await;
    }
    let samples = running.await??;
    let share = f64::from(setting.rate) / setting.pods as f64;
    let few = 0.25 * share * SHARE_OVER.as_secs_f64();
    let full = IN_FULL * share * SHARE_OVER.as_secs_f64();
    let faulty = &pods[..faulty];
    let out = last_of(faulty, |pod| first(pod, from, FAULTY, |seen| seen < few));
    let back = last_of(faulty, |pod| {
        first(pod, mended, MENDED, |seen| seen >= full)
    });
    Ok(figures(&samples, from, setting.limit, out, back))
}

/// What holds for all pods once it holds for the last.
fn last_of(pods: &[Pod], after: impl Fn(&Pod) -> Option<f64>) -> Option<f64> {
    let each: Option<Vec<f64>> = pods.iter().map(after).collect();
    each?.into_iter().max_by(f64::total_cmp)
}

/// Milliseconds from `from` until what the pod sees in a while is as it should be.
fn first(pod: &Pod, from: Instant, within: Duration, is_so: impl Fn(f64) -> bool) -> Option<f64> {
    let mut after = Duration::ZERO;
    while after + SHARE_OVER <= within {
        let at = from + after;
        if is_so(pod.seen(at, at + SHARE_OVER) as f64) {
            return Some(after.as_secs_f64() * 1e3);
        }
        after += Duration::from_millis(20);
    }
    None
}

fn figures(
    samples: &[Sample],
    from: Instant,
    limit: Duration,
    out_after_ms: Option<f64>,
    back_after_ms: Option<f64>,
) -> Figures {
    let during: Vec<&Sample> = samples.iter().filter(|sample| sample.due >= from).collect();
    let mut took: Vec<Duration> = during.iter().map(|sample| sample.took).collect();
    took.sort_unstable();
    Figures {
        requests: during.len(),
        failed: during.iter().filter(|sample| !sample.ok).count(),
        over_limit: during.iter().filter(|sample| sample.took > limit).count(),
        p50_ms: quantile_ms(&took, 0.5),
        p99_ms: quantile_ms(&took, 0.99),
        p999_ms: quantile_ms(&took, 0.999),
        out_after_ms,
        back_after_ms,
    }
}

/// A quantile of times in order, in milliseconds; 0 of none.
pub(crate) fn quantile_ms(took: &[Duration], q: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let at = ((took.len() as f64 * q) as usize).min(took.len().saturating_sub(1));
    took.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}

/// What the issue of this bench asks for, and what of it does not hold.
fn missed(table: &Table) -> Vec<String> {
    let mut missed = Vec::new();
    for (row, figures) in table {
        let Some(ours) = figures.get("aegis") else {
            continue;
        };
        if ours.failed > 0 {
            missed.push(format!(
                "{row}: {} requests failed, and none may",
                ours.failed
            ));
        }
        let at_most_six = ["slow-200ms", "slow-1200ms", "hung"];
        if at_most_six.iter().any(|name| row.ends_with(name)) && ours.over_limit > 6 {
            missed.push(format!(
                "{row}: {} requests over the limit, and at most 6 may be",
                ours.over_limit
            ));
        }
        let peers = figures.iter().filter(|(name, _)| **name != "aegis");
        for (name, peer) in peers {
            if (peer.failed, peer.over_limit) < (ours.failed, ours.over_limit) {
                missed.push(format!(
                    "{row}: {name} does better: {} failed and {} over the limit, ours {} and {}",
                    peer.failed, peer.over_limit, ours.failed, ours.over_limit
                ));
            }
        }
    }
    missed
}

// === impl Figures ===

impl Figures {
    /// The median of each figure by itself.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        Self {
            requests: median::of(rounds, |f| f.requests),
            failed: median::of(rounds, |f| f.failed),
            over_limit: median::of(rounds, |f| f.over_limit),
            p50_ms: median::of(rounds, |f| f.p50_ms),
            p99_ms: median::of(rounds, |f| f.p99_ms),
            p999_ms: median::of(rounds, |f| f.p999_ms),
            out_after_ms: median::of(rounds, |f| f.out_after_ms),
            back_after_ms: median::of(rounds, |f| f.back_after_ms),
        }
    }

    fn line(&self) -> String {
        let ms = |after: Option<f64>, not_in: Duration| match after {
            Some(after) => format!("{after:.0} ms"),
            None => format!("not in {not_in:?}"),
        };
        let out = ms(self.out_after_ms, FAULTY);
        let back = ms(self.back_after_ms, MENDED);
        format!(
            "{:5} / {:<5} p50 {:6.1}  p99 {:7.1}  p99.9 {:7.1} ms  out {out}  back {back}",
            self.failed, self.over_limit, self.p50_ms, self.p99_ms, self.p999_ms
        )
    }
}
