//! What a proxy costs while nothing misbehaves: CPU, latency and memory, beside its peers.
//!
//! Each contender has one core to itself, and one worker. The load and the two upstreams share the
//! other core, and are the same for all. A request is a POST of 3 KiB. Two loads:
//!
//! - closed, 64 connections that never rest (`wrk`): what the proxy can do, and the CPU time that
//!   each request takes, read from `/proc`, which other tenants of the machine disturb least. The
//!   contenders have it in [`turns`], and are held against each other turn by turn;
//! - open, 15,000 requests/s on a fixed schedule ([`steady`]): the latencies, counted from the
//!   instant at which a request was due.
//!
//! Rounds are interleaved and medians reported. A run only counts where the peers stand to each
//! other as they did elsewhere ([`bounds`]): else the machine was measured, and not the proxies.
//! After the last round Aegis has to show that what it is priced with took part ([`proof`]).

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod bounds;
mod idle;
mod load;
pub(crate) mod measure;
mod peers;
pub(crate) mod proof;
mod steady;
mod turns;
mod upstream;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::args::{Output, Programs, Rounds};
use crate::contender::{self, Contender};
use crate::median;
use crate::process::Running;

use self::turns::{Costs, Turns};
use self::upstream::Upstreams;

/// Connections of either load.
const CONNECTIONS: usize = 64;
/// Bytes of a request's body.
const BODY: usize = 3 * 1024;
/// Requests a second of the open load.
const RATE: u32 = 15_000;
/// The core that the contender has, and the one that everything else shares.
const OWN_CORE: &str = "0";
const OTHER_CORE: &str = "1";

/// What one contender did in one round, or the medians of its rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Figures {
    /// Of the closed load.
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us_per_request: f64,
    /// Of the open load.
    steady_p50_ms: f64,
    steady_p99_ms: f64,
    /// Requests of the open load that were sent and answered with 200, of those that were due.
    steady_answered: f64,
    /// Resident, after both.
    resident_mb: f64,
    /// What each of a thousand idle connections adds.
    kib_per_idle_connection: f64,
    /// Requests that got no 200 in either load.
    failed: u64,
}

type Table = BTreeMap<&'static str, Figures>;

/// What to run, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    /// The contenders; all that can be found, by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
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
    let peers = contender::found(&peers::ALL, &args.only, &args.programs)?;
    let wrk = load::generator()?;
    let upstreams = Upstreams::start().await?;
    let lasts = Duration::from_secs(args.seconds.max(1));
    let mut rounds: BTreeMap<&'static str, Vec<Figures>> = BTreeMap::new();
    let mut costs = Costs::default();
    for round in args.rounds.all() {
        // All of them are there all the time; those that are not asked do next to nothing.
        let mut proxies = Vec::new();
        for peer in &peers {
            proxies.push((peer.name, peers::start(peer, &upstreams).await?));
        }
        let closed = turns::run(&proxies, &wrk, args.seconds, &mut costs).await?;
        for ((name, proxy), closed) in proxies.into_iter().zip(closed) {
            let figures = rest(&proxy, &closed, lasts).await?;
            println!("round {round}  {name:8} {}", figures.line());
            rounds.entry(name).or_default().push(figures);
        }
    }
    let table: Table = rounds
        .iter()
        .map(|(name, all)| (*name, Figures::median(all)))
        .collect();
    print_table(&peers, &table, &costs);
    let mut missed = bounds::missed(&table, &costs);
    if let Some(aegis) = peers.iter().find(|peer| peer.name == "aegis") {
        missed.extend(proof::run(aegis, upstreams).await?);
    }
    args.output.conclude(&table, &missed)
}

/// Measures what is left behind the closed load.
async fn rest(proxy: &Running, closed: &Turns, lasts: Duration) -> Result<Figures> {
    let open = steady::run(proxy.address, lasts).await?;
    let resident = measure::resident_bytes(proxy.pid())?;
    let per_connection = idle::bytes_per_connection(proxy).await?;
    let turns = &closed.turns;
    Ok(Figures {
        requests_per_second: median::between(turns, |turn| turn.requests_per_second),
        p50_ms: median::between(turns, |turn| turn.p50_ms),
        p99_ms: median::between(turns, |turn| turn.p99_ms),
        cpu_us_per_request: closed.cpu_us_per_request,
        steady_p50_ms: open.p50_ms,
        steady_p99_ms: open.p99_ms,
        steady_answered: open.answered,
        resident_mb: resident as f64 / 1e6,
        kib_per_idle_connection: per_connection / 1024.0,
        failed: turns.iter().map(|turn| turn.failed).sum::<u64>() + open.failed,
    })
}

fn print_table(peers: &[Contender], table: &Table, costs: &Costs) {
    println!("medians; CPU also as a multiple of bare pingora's");
    for peer in peers {
        if let Some(figures) = table.get(peer.name) {
            let ratio = costs.ratio(peer.name, "bare");
            let ratio = ratio.map_or(String::new(), |ratio| format!("  ×{ratio:.2}"));
            println!("{:8} {}{ratio}", peer.name, figures.line());
        }
    }
}

// === impl Figures ===

impl Figures {
    /// The median of each figure by itself; of failures, the sum.
    fn median(rounds: &[Self]) -> Self {
        Self {
            requests_per_second: median::of(rounds, |f| f.requests_per_second),
            p50_ms: median::of(rounds, |f| f.p50_ms),
            p99_ms: median::of(rounds, |f| f.p99_ms),
            cpu_us_per_request: median::of(rounds, |f| f.cpu_us_per_request),
            steady_p50_ms: median::of(rounds, |f| f.steady_p50_ms),
            steady_p99_ms: median::of(rounds, |f| f.steady_p99_ms),
            steady_answered: median::of(rounds, |f| f.steady_answered),
            resident_mb: median::of(rounds, |f| f.resident_mb),
            kib_per_idle_connection: median::of(rounds, |f| f.kib_per_idle_connection),
            failed: rounds.iter().map(|f| f.failed).sum(),
        }
    }

    fn line(&self) -> String {
        format!(
            "{:6.0}/s p50 {:.2} p99 {:.2} ms  cpu {:5.1} µs | at {RATE}/s p50 {:.2} p99 {:.2} ms | {:5.1} MB, idle {:.1} KiB | {} failed",
            self.requests_per_second,
            self.p50_ms,
            self.p99_ms,
            self.cpu_us_per_request,
            self.steady_p50_ms,
            self.steady_p99_ms,
            self.resident_mb,
            self.kib_per_idle_connection,
            self.failed,
        )
    }
}
