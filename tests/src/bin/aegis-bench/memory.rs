//! Whether the proxy's memory stays flat while everything that could make it grow goes on.
//!
//! Load at a fixed rate, one request in ten with a body that is kept for a replay, pods that fail,
//! hang, reset and come back in turn, and a new configuration every second with other weights and a
//! pod more or less. What is resident at the end may be 5 % and 5 MB over what was resident after a
//! fifth of the time. [`backend`] asks the same of the backend.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::args::{Output, Programs};
use crate::client;
use crate::clock;
use crate::contender::{Contender, PATH};
use crate::healthy::measure;
use crate::pods::{Fault, Pod};
use crate::process::{Running, free_port, quoted, serve};

pub(crate) mod backend;

const PODS: usize = 4;
const SERVICE: Duration = Duration::from_millis(5);
const PARALLEL: usize = 64;
/// Requests a second, and how many of them may be out: a stalled machine must not look like a leak.
const RATE: u32 = 400;
const MOST_OUT: usize = 512;
/// One request in so many has the large body.
const LARGE_EVERY: u64 = 10;
const SMALL: usize = 3 * 1024;
/// More than pingora keeps by itself, so that the proxy has to.
const LARGE: usize = 256 * 1024;
const RELOAD_EVERY: Duration = Duration::from_secs(1);
const FAULT_LASTS: Duration = Duration::from_secs(3);
const FAULTS: [Fault; 5] = [
    Fault::Status(500),
    Fault::Hung,
    Fault::Reset,
    Fault::Slow(Duration::from_millis(300)),
    Fault::Status(429),
];
/// What may be added between the two readings.
const GROWTH: f64 = 1.05;
const SLACK_MB: f64 = 5.0;

/// How long, and what becomes of the readings.
#[derive(Debug, clap::Args)]
#[command(mut_arg("json", |arg| arg.help("Where the readings are written as JSON")))]
#[command(mut_arg("check", |arg| arg.help("Exit with 1 when it has grown too much")))]
struct Watch {
    /// How long it lasts; the first reading counts after a fifth.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    #[command(flatten)]
    output: Output,
}

/// How long, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    watch: Watch,
}

/// What was resident, and when.
#[derive(Clone, Copy, Debug, Serialize)]
struct Reading {
    seconds: u64,
    resident_mb: f64,
}

/// What went on meanwhile.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    reloads: AtomicU64,
    faults: AtomicU64,
}

/// Runs it, prints the readings, and says whether they grew too much.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let aegis = Contender::aegis(&args.programs)?;
    let mut pods = Vec::new();
    for _ in 0..PODS {
        pods.push(Pod::start(SERVICE, PARALLEL).await?);
    }
    let addresses: Vec<SocketAddr> = pods.iter().map(|pod| pod.address).collect();
    let folder = tempfile::tempdir()?;
    let (port, admin) = (free_port()?, free_port()?);
    let text = configuration(port, admin, &addresses, 0);
    let mut command = Command::new(&aegis.program);
    let file = serve(&mut command, folder.path(), "proxy.toml", &text)?;
    // It would warn of every fault.
    command.env("RUST_LOG", "error");
    let proxy = Running::launch("aegis", command, port, folder).await?;

    let counts = Arc::new(Counts::default());
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    tasks.spawn(load(proxy.address, Arc::clone(&counts), Arc::clone(&over)));
    tasks.spawn(flap(pods, Arc::clone(&counts), Arc::clone(&over)));
    let reloads = Reloads {
        port,
        admin,
        addresses,
        counts: Arc::clone(&counts),
    };
    tasks.spawn(reloads.run(file, Arc::clone(&over)));
    let readings = args.watch.beside(tasks, &over, proxy.pid()).await?;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (sent, failed) = (of(&counts.sent), of(&counts.failed));
    let (reloads, faults) = (of(&counts.reloads), of(&counts.faults));
    println!("{sent} requests, {failed} without a 200; {reloads} reloads; {faults} faults");
    ensure!(
        sent > 0 && reloads > 0 && faults > 0,
        "nothing went on that could have made it grow"
    );
    args.watch.conclude(&readings)
}

/// What has grown too much.
fn grown(readings: &[Reading]) -> Result<Option<String>> {
    let early = readings.get(readings.len() / 5).context("too short")?;
    let late = readings.last().context("too short")?;
    let bound = early.resident_mb * GROWTH + SLACK_MB;
    Ok((late.resident_mb > bound).then(|| {
        format!(
            "{:.1} MB were resident after {} s and {:.1} MB after {} s; {bound:.1} may be",
            early.resident_mb, early.seconds, late.resident_mb, late.seconds
        )
    }))
}

async fn load(at: SocketAddr, counts: Arc<Counts>, over: Arc<AtomicBool>) -> Result<()> {
    let http = client::plain();
    let uri: http::Uri = format!("http://{at}{PATH}").parse()?;
    let (small, large) = (
        Bytes::from(vec![b'x'; SMALL]),
        Bytes::from(vec![b'x'; LARGE]),
    );
    let mut out = JoinSet::new();
    let mut every = tokio::time::interval(Duration::from_secs(1) / RATE);
    for nth in 0_u64.. {
        every.tick().await;
        if over.load(Ordering::Relaxed) {
            break;
        }
        while out.try_join_next().is_some() {}
        if out.len() >= MOST_OUT {
            continue;
        }
        let body = if nth.is_multiple_of(LARGE_EVERY) {
            &large
        } else {
            &small
        };
        let request = Request::post(uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-user-id", (nth % 1_000).to_string())
            .body(Full::new(body.clone()))?;
        let (http, counts) = (http.clone(), Arc::clone(&counts));
        out.spawn(async move {
            counts.sent.fetch_add(1, Ordering::Relaxed);
            let answered = match http.request(request).await {
                Ok(answer) => {
                    let ok = answer.status() == 200;
                    ok && answer.into_body().collect().await.is_ok()
                }
                Err(_) => false,
            };
            counts
                .failed
                .fetch_add(u64::from(!answered), Ordering::Relaxed);
        });
    }
    out.join_all().await;
    Ok(())
}

/// One pod after the other misbehaves, each in another way, and recovers.
async fn flap(mut pods: Vec<Pod>, counts: Arc<Counts>, over: Arc<AtomicBool>) -> Result<()> {
    for nth in 0.. {
        let (pod, fault) = (nth % PODS, FAULTS[nth % FAULTS.len()]);
        pods[pod].set(fault).await;
        counts.faults.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(FAULT_LASTS).await;
        pods[pod].set(Fault::None).await;
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

struct Reloads {
    port: u16,
    admin: u16,
    addresses: Vec<SocketAddr>,
    counts: Arc<Counts>,
}

impl Reloads {
    async fn run(self, file: impl AsRef<Path> + Send, over: Arc<AtomicBool>) -> Result<()> {
        let mut every = tokio::time::interval(RELOAD_EVERY);
        for nth in 1_u64.. {
            every.tick().await;
            if over.load(Ordering::Relaxed) {
                break;
            }
            let text = configuration(self.port, self.admin, &self.addresses, nth);
            // As a mounted file is swapped: never half written.
            let next = file.as_ref().with_extension("next");
            std::fs::write(&next, text)?;
            std::fs::rename(&next, file.as_ref())?;
            self.counts.reloads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

// === impl Watch ===

impl Watch {
    /// Reads what is resident fifty times while these go on, the last time at the end; then lets them end.
    async fn beside(
        &self,
        mut tasks: JoinSet<Result<()>>,
        over: &AtomicBool,
        pid: u32,
    ) -> Result<Vec<Reading>> {
        let lasts = Duration::from_secs(self.seconds.max(10));
        let began = clock::now();
        let mut readings = Vec::new();
        for nth in 1..=50 {
            tokio::time::sleep_until((began + lasts * nth / 50).into()).await;
            let reading = Reading {
                seconds: clock::now().saturating_duration_since(began).as_secs(),
                resident_mb: measure::resident_bytes(pid)? as f64 / 1e6,
            };
            println!("{:4} s  {:.1} MB", reading.seconds, reading.resident_mb);
            readings.push(reading);
        }
        over.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(readings)
    }

    fn conclude(&self, readings: &[Reading]) -> Result<ExitCode> {
        let missed: Vec<String> = grown(readings)?.into_iter().collect();
        self.output.conclude(readings, &missed)
    }
}

/// The `nth` configuration: other weights each time, and every other time a pod less.
fn configuration(port: u16, admin: u16, pods: &[SocketAddr], nth: u64) -> String {
    let stays = pods.len() - usize::from(nth % 2 == 1);
    format!(
        "[listen]\ndata = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         [models.m]\nfallback = [\"1\"]\n[models.m.sticky]\nheader = \"x-user-id\"\n\
         [models.m.versions.1]\nweight = {}\nendpoints = [{}]\n\
         [models.m.versions.2]\nweight = {}\nendpoints = [{}]\n",
        100 - nth % 50,
        quoted(&pods[..stays]),
        nth % 50,
        quoted(pods)
    )
}
