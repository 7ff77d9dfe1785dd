//! What the load tester can send, how punctually, what it makes of a server that stalls, and what it costs.
//!
//! `aegis-loadtest` as a program on one core, nginx, which answers from its configuration, on the other:
//!
//! - an open loop of 31,000 requests/s: whether it sends 30,000, and when it began each against when it was due;
//! - a closed loop over 64 connections, beside `wrk` with the same bytes over as many: the CPU time of a request.
//!   The load tester reads each answer as JSON meanwhile, and counts it by version, status and time;
//! - nginx stopped for one second of every ten, at 1,000 requests/s, beside `wrk`. Who comes in that second waits
//!   for what is left of it, a tenth of all, evenly up to a second: so 1 % wait longer than 0.9 s;
//! - an open loop of 10,000 requests/s that is three quarters of a minute long: what is resident after a third of
//!   it, and at its end.
//!
//! Rounds are interleaved and medians reported.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use self::server::Server;
use self::tester::Tester;
use crate::args::{Output, Programs, Rounds};
use crate::healthy::measure;
use crate::median;
use crate::wrk::Wrk;

mod bounds;
mod cpu;
mod server;
mod stall;
mod tester;

/// Connections of the closed loops.
const CONNECTIONS: usize = 64;
/// Requests a second of the open loop: chance must not take it below what has to be sent.
const RATE: u32 = 31_000;
/// Requests a second while the server stalls.
const STALLED_RATE: u32 = 1_000;
/// Requests a second while memory is watched, for how long, and when it is read first.
const WATCHED_RATE: u32 = 10_000;
const WATCHED: Duration = Duration::from_secs(45);
const WATCHED_FROM: Duration = Duration::from_secs(15);
/// The core of the load, and the one of the server.
const LOAD_CORE: &str = "1";
const SERVER_CORE: &str = "0";

/// What one round came to, or the medians of several.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Figures {
    /// Of the open loop: what went out, a second.
    sent_per_second: f64,
    /// From when a request was due to when this side began to send it.
    send_error_p50_ms: f64,
    send_error_p99_ms: f64,
    send_error_max_ms: f64,
    /// Requests that failed, were dropped or not sent, of all loads.
    failed: u64,
    open_cpu_us_per_request: f64,
    /// Of the closed loops.
    closed_per_second: f64,
    closed_cpu_us_per_request: f64,
    wrk_per_second: f64,
    wrk_cpu_us_per_request: f64,
    /// Of the server that stalls.
    stalled_p99_ms: f64,
    wrk_stalled_p99_ms: f64,
    /// What `wrk` prints, once it has added requests that it did not send.
    wrk_guessed_p99_ms: f64,
}

/// Everything that is written as JSON.
#[derive(Debug, Serialize)]
struct Table {
    medians: Figures,
    rounds: Vec<Figures>,
    /// What arithmetic says of the server that stalls.
    expected_p99_ms: f64,
    /// Resident, early and at the end.
    resident_mb: (f64, f64),
}

/// What to measure, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    rounds: Rounds,
    /// How long each load lasts, but for those of the server that stalls.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    #[command(flatten)]
    output: Output,
}

/// Runs every round, prints the table, and compares it with the bounds.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let tester = Tester::new(args.programs.find("aegis-loadtest")?)?;
    let server = Server::start().await?;
    let script = Tester::script()?;
    let peers = (Wrk::with(&script)?, Wrk::undoing(&script)?);
    let lasts = Duration::from_secs(args.seconds.max(1));
    let mut rounds = Vec::new();
    for round in args.rounds.all() {
        let figures = once(&tester, &server, &peers, lasts).await?;
        println!("round {round}\n{}", figures.lines());
        rounds.push(figures);
    }
    let resident_mb = watched(&tester, &server).await?;
    let table = Table {
        medians: Figures::median(&rounds),
        rounds,
        expected_p99_ms: stall::expected().as_secs_f64() * 1e3,
        resident_mb,
    };
    print_table(&table);
    args.output.conclude(&table, &bounds::missed(&table))
}

async fn once(
    tester: &Tester,
    server: &Server,
    (wrk, undoing): &(Wrk, Wrk),
    lasts: Duration,
) -> Result<Figures> {
    let (open, open_cpu) = tester.open(server, RATE, lasts).await?;
    let (closed, closed_cpu) = tester.closed(server, CONNECTIONS, lasts).await?;
    let url = server.infer();
    let before = cpu::of_children()?;
    let peer = wrk.run(&url, CONNECTIONS, LOAD_CORE, lasts).await?;
    let wrk_cpu = cpu::of_children()?.saturating_sub(before);
    let stalled = stall::beside(server, tester.stalled(server)).await??;
    let wrk_stalled = undoing.run(&url, CONNECTIONS, LOAD_CORE, stall::LASTS);
    let wrk_stalled = stall::beside(server, wrk_stalled).await??;
    let lag = open.client.lag.context("nothing was sent")?;
    let unsent = |summary: &aegis_loadtest::Summary| summary.client.dropped + summary.client.unsent;
    let failed = [&open, &closed, &stalled].map(|summary| summary.failed + unsent(summary));
    let p99 = stalled.latency.context("nothing was answered")?.p99_ms;
    let measured = wrk_stalled.measured_p99_ms;
    Ok(Figures {
        sent_per_second: (open.requests - unsent(&open)) as f64 / open.elapsed_seconds,
        send_error_p50_ms: lag.p50_ms,
        send_error_p99_ms: lag.p99_ms,
        send_error_max_ms: lag.max_ms,
        failed: failed.iter().sum(),
        open_cpu_us_per_request: measure::micros_each(open_cpu, open.finished),
        closed_per_second: closed.achieved_rate,
        closed_cpu_us_per_request: measure::micros_each(closed_cpu, closed.finished),
        wrk_per_second: peer.requests_per_second,
        wrk_cpu_us_per_request: measure::micros_each(wrk_cpu, peer.requests),
        stalled_p99_ms: p99,
        wrk_stalled_p99_ms: measured.context("wrk says nothing of what it measured")?,
        wrk_guessed_p99_ms: wrk_stalled.p99_ms,
    })
}

/// What is resident early and at the end of a longer run, in MB.
async fn watched(tester: &Tester, server: &Server) -> Result<(f64, f64)> {
    let (early, late) = tester.watched(server).await?;
    Ok((early as f64 / 1e6, late as f64 / 1e6))
}

fn print_table(table: &Table) {
    let medians = &table.medians;
    println!("medians\n{}", medians.lines());
    let ratio = medians.closed_cpu_us_per_request / medians.wrk_cpu_us_per_request;
    println!("  CPU per request ÷ wrk's: {ratio:.2}");
    println!("  arithmetic says: p99 {:.0} ms", table.expected_p99_ms);
    let (early, late) = table.resident_mb;
    println!(
        "memory at {WATCHED_RATE}/s: {early:.1} MB after {} s, {late:.1} MB after {} s",
        WATCHED_FROM.as_secs(),
        WATCHED.as_secs()
    );
}

// === impl Figures ===

impl Figures {
    /// The median of each figure by itself; of failures, the sum.
    fn median(rounds: &[Self]) -> Self {
        Self {
            sent_per_second: median::of(rounds, |f| f.sent_per_second),
            send_error_p50_ms: median::of(rounds, |f| f.send_error_p50_ms),
            send_error_p99_ms: median::of(rounds, |f| f.send_error_p99_ms),
            send_error_max_ms: median::of(rounds, |f| f.send_error_max_ms),
            failed: rounds.iter().map(|f| f.failed).sum(),
            open_cpu_us_per_request: median::of(rounds, |f| f.open_cpu_us_per_request),
            closed_per_second: median::of(rounds, |f| f.closed_per_second),
            closed_cpu_us_per_request: median::of(rounds, |f| f.closed_cpu_us_per_request),
            wrk_per_second: median::of(rounds, |f| f.wrk_per_second),
            wrk_cpu_us_per_request: median::of(rounds, |f| f.wrk_cpu_us_per_request),
            stalled_p99_ms: median::of(rounds, |f| f.stalled_p99_ms),
            wrk_stalled_p99_ms: median::of(rounds, |f| f.wrk_stalled_p99_ms),
            wrk_guessed_p99_ms: median::of(rounds, |f| f.wrk_guessed_p99_ms),
        }
    }

    fn lines(&self) -> String {
        format!(
            "  open    {:6.0} sent/s, late by p50 {:.3} p99 {:.3} max {:.2} ms, cpu {:.2} µs\n  \
             closed  {:6.0}/s cpu {:.2} µs, wrk {:6.0}/s cpu {:.2} µs\n  \
             stalls  p99 {:.0} ms, wrk measured {:.1} ms and prints {:.0} ms | {} failed",
            self.sent_per_second,
            self.send_error_p50_ms,
            self.send_error_p99_ms,
            self.send_error_max_ms,
            self.open_cpu_us_per_request,
            self.closed_per_second,
            self.closed_cpu_us_per_request,
            self.wrk_per_second,
            self.wrk_cpu_us_per_request,
            self.stalled_p99_ms,
            self.wrk_stalled_p99_ms,
            self.wrk_guessed_p99_ms,
            self.failed,
        )
    }
}
