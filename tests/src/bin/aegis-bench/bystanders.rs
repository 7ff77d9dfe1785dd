//! A release or a client misbehaves, and everybody else must not notice. Only Aegis has a notion of
//! either, so it runs alone.
//!
//! Six stable pods and two of a canary of a tenth, the stable version as its fallback. Each row
//! starts fresh pods and a fresh proxy and warms both up; four seconds without trouble are the
//! measure of eight with it. Counted are the clients who asked for nothing special: their failures
//! over all, and the latencies of those whom the split sent to the stable version.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use aegis_protocol::headers;
use anyhow::Result;
use http::{HeaderName, Request};
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::args::{Output, Programs, asks_for};
use crate::client;
use crate::clock;
use crate::contender::{Contender, PATH};
use crate::faults::quantile_ms;
use crate::healthy::proof::scrape;
use crate::load::{self, Ask, By, Sample};
use crate::pods::{Fault, HEAVY, POISON, Pod, TOO_MUCH};
use crate::process::{Running, free_port, local, quoted, serve};

const STABLE: usize = 6;
const CANARY: usize = 2;
const SERVICE: Duration = Duration::from_millis(5);
const PARALLEL: usize = 16;
const RATE: u32 = 800;
const LIMIT: Duration = Duration::from_millis(100);
const WARM: Duration = Duration::from_secs(2);
const BEFORE: Duration = Duration::from_secs(4);
const DURING: Duration = Duration::from_secs(8);
/// What is left of "untouched" on a machine that does other things too: so much of the 99th
/// percentile before, and so much more.
const UNTOUCHED: f64 = 1.25;
const SLACK_MS: f64 = 5.0;
/// Requests a second of the client that misbehaves, and its uploads at once. With three retries
/// each, the former would take more than the whole retry budget, which is 20 % of all requests and
/// 10 a second.
const OFFENCES: u32 = 200;
const UPLOADS: usize = 32;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Every pod of the canary.
    Canary(Fault),
    /// One client's input, to which every pod answers 500.
    Poison,
    /// One client gives its requests so many milliseconds.
    Hurry(&'static str),
    /// One client's inputs take 200 ms, for which it gives so many.
    Late(&'static str),
    /// One client's input, which every pod refuses as what would be late.
    TooMuch,
    /// One client's bodies arrive byte by byte.
    SlowUploads,
}

const ROWS: [(&str, Trouble); 8] = [
    ("canary-500", Trouble::Canary(Fault::Status(500))),
    (
        "canary-slow",
        Trouble::Canary(Fault::Slow(Duration::from_millis(1_200))),
    ),
    ("poison", Trouble::Poison),
    ("no-time", Trouble::Hurry("1")),
    ("late-20", Trouble::Late("20")),
    ("late-80", Trouble::Late("80")),
    ("too-much", Trouble::TooMuch),
    ("slow-uploads", Trouble::SlowUploads),
];

/// What clients saw.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    requests: usize,
    failed: usize,
    over_limit: usize,
    stable_p99_ms_before: f64,
    stable_p99_ms: f64,
    stable_p999_ms: f64,
    /// How often a breaker moved.
    breakers_moved: f64,
    /// What the client that misbehaves was answered, by status; 0 stands for nothing.
    offender: BTreeMap<u16, usize>,
}

/// What to run, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    /// The rows; all, by default.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    #[command(flatten)]
    output: Output,
}

/// Runs every row, prints the table, and compares it with the bounds.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let aegis = Contender::aegis(&args.programs)?;
    println!(
        "{STABLE} stable pods and {CANARY} of a canary, of {SERVICE:?}, {RATE} requests/s: \
         failed / over {LIMIT:?}, p99 of the stable version before and during, p99.9"
    );
    let mut table = BTreeMap::new();
    let mut missed = Vec::new();
    for (name, trouble) in ROWS {
        if !asks_for(&args.rows, name) {
            continue;
        }
        let figures = once(&aegis, trouble).await?;
        println!("  {name:12} {}", figures.line());
        missed.extend(figures.missed(name, trouble));
        table.insert(name, figures);
    }
    args.output.conclude(&table, &missed)
}

async fn once(aegis: &Contender, trouble: Trouble) -> Result<Figures> {
    let mut pods = Vec::new();
    for _ in 0..STABLE + CANARY {
        pods.push(Pod::start(SERVICE, PARALLEL).await?);
    }
    let proxy = start(aegis, &pods).await?;
    load::run(proxy.address, Ask::some(PATH), load::even(RATE, WARM)).await?;
    let began = clock::now();
    let running = tokio::spawn(load::run(
        proxy.address,
        Ask::some(PATH),
        load::even(RATE, BEFORE + DURING),
    ));
    let from = began + BEFORE;
    tokio::time::sleep_until(from.into()).await;
    let until = from + DURING;
    let offender = match trouble {
        Trouble::Canary(fault) => {
            for pod in &mut pods[STABLE..] {
                pod.set(fault).await;
            }
            BTreeMap::new()
        }
        Trouble::Poison => offend(&proxy, &[(POISON, "1")], until).await?,
        Trouble::Hurry(time) => {
            offend(&proxy, &[(headers::REQUEST_TIMEOUT_MS, time)], until).await?
        }
        Trouble::Late(time) => {
            let late = [(HEAVY, "200"), (headers::REQUEST_TIMEOUT_MS, time)];
            offend(&proxy, &late, until).await?
        }
        Trouble::TooMuch => offend(&proxy, &[(TOO_MUCH, "1")], until).await?,
        Trouble::SlowUploads => upload(proxy.address, until).await,
    };
    let samples = running.await??;
    let metrics = scrape(&client::plain(), &proxy).await?;
    let moved = metrics.sum("aegis_proxy_breaker_transitions_total", &[]);
    Ok(Figures::of(&samples, from, moved, offender))
}

async fn start(aegis: &Contender, pods: &[Pod]) -> Result<Running> {
    let folder = tempfile::tempdir()?;
    let (port, admin) = (free_port()?, free_port()?);
    let addresses: Vec<SocketAddr> = pods.iter().map(|pod| pod.address).collect();
    let (stable, canary) = addresses.split_at(STABLE);
    let text = format!(
        "[listen]\ndata = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         [models.m]\nfallback = [\"1\"]\n\
         [models.m.versions.1]\nweight = 90\nendpoints = [{}]\n\
         [models.m.versions.2]\nweight = 10\nendpoints = [{}]\n",
        quoted(stable),
        quoted(canary)
    );
    let mut command = Command::new(&aegis.program);
    serve(&mut command, folder.path(), "proxy.toml", &text)?;
    // It would warn of every trouble.
    command.env("RUST_LOG", "error");
    let mut running = Running::launch("aegis", command, port, folder).await?;
    running.admin = Some(local(admin));
    Ok(running)
}

/// Sends requests with headers that make them trouble.
async fn offend(
    proxy: &Running,
    marks: &[(HeaderName, &'static str)],
    until: Instant,
) -> Result<BTreeMap<u16, usize>> {
    let client = client::plain();
    let uri: http::Uri = format!("http://{}{PATH}", proxy.address).parse()?;
    let mut asked = JoinSet::new();
    let mut due = clock::now();
    while due < until {
        tokio::time::sleep_until(due.into()).await;
        let request = marks
            .iter()
            .fold(Request::post(uri.clone()), |request, (name, value)| {
                request.header(name, *value)
            });
        let request = request.body(Full::from("{\"inputs\":[]}"))?;
        let client = client.clone();
        asked.spawn(async move {
            let Ok(answer) = client.request(request).await else {
                return 0;
            };
            let status = answer.status().as_u16();
            let whole = answer.into_body().collect().await;
            whole.map_or(0, |_| status)
        });
        due += Duration::from_secs(1) / OFFENCES;
    }
    Ok(count(asked.join_all().await))
}

/// Sends bodies byte by byte until the time is up, and then no more.
async fn upload(proxy: SocketAddr, until: Instant) -> BTreeMap<u16, usize> {
    let mut uploads = JoinSet::new();
    for _ in 0..UPLOADS {
        uploads.spawn(async move {
            let Ok(mut stream) = TcpStream::connect(proxy).await else {
                return 0;
            };
            let head = format!("POST {PATH} HTTP/1.1\r\nhost: b\r\ncontent-length: 65536\r\n\r\n");
            if stream.write_all(head.as_bytes()).await.is_err() {
                return 0;
            }
            let mut sent = 0;
            while clock::now() < until {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if stream.write_all(b" ").await.is_err() {
                    break;
                }
                sent += 1;
            }
            // Nothing was answered, as the body was not whole.
            u16::from(sent == 0)
        });
    }
    count(uploads.join_all().await)
}

fn count(statuses: Vec<u16>) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

// === impl Figures ===

impl Figures {
    fn of(
        samples: &[Sample],
        from: Instant,
        breakers_moved: f64,
        offender: BTreeMap<u16, usize>,
    ) -> Self {
        let (before, during): (Vec<&Sample>, Vec<&Sample>) =
            samples.iter().partition(|sample| sample.due < from);
        let stable = |samples: &[&Sample]| {
            let stable = samples.iter().filter(|sample| sample.by == By::Stable);
            let mut took: Vec<Duration> = stable.map(|sample| sample.took).collect();
            took.sort_unstable();
            took
        };
        let (calm, troubled) = (stable(&before), stable(&during));
        Self {
            requests: during.len(),
            failed: during.iter().filter(|sample| !sample.ok).count(),
            over_limit: during.iter().filter(|sample| sample.took > LIMIT).count(),
            stable_p99_ms_before: quantile_ms(&calm, 0.99),
            stable_p99_ms: quantile_ms(&troubled, 0.99),
            stable_p999_ms: quantile_ms(&troubled, 0.999),
            breakers_moved,
            offender,
        }
    }

    fn line(&self) -> String {
        let offender: Vec<String> = self
            .offender
            .iter()
            .map(|(status, count)| format!("{count} × {status}"))
            .collect();
        format!(
            "{:5} / {:<5} p99 {:5.1} -> {:5.1}  p99.9 {:6.1} ms  breakers moved {:2}  offender: {}",
            self.failed,
            self.over_limit,
            self.stable_p99_ms_before,
            self.stable_p99_ms,
            self.stable_p999_ms,
            self.breakers_moved,
            if offender.is_empty() {
                "-".to_owned()
            } else {
                offender.join(", ")
            }
        )
    }

    fn missed(&self, row: &str, trouble: Trouble) -> Vec<String> {
        let mut missed = Vec::new();
        if self.failed > 0 {
            missed.push(format!(
                "{row}: {} requests failed, and none may",
                self.failed
            ));
        }
        let bound =
            (self.stable_p99_ms_before * UNTOUCHED).max(self.stable_p99_ms_before + SLACK_MS);
        if self.stable_p99_ms > bound {
            missed.push(format!(
                "{row}: the stable version's p99 went from {:.1} to {:.1} ms",
                self.stable_p99_ms_before, self.stable_p99_ms
            ));
        }
        let canary = matches!(trouble, Trouble::Canary(_));
        if !canary && self.breakers_moved > 0.0 {
            missed.push(format!(
                "{row}: breakers moved {} times, and none may for a client's doing",
                self.breakers_moved
            ));
        }
        if canary && self.breakers_moved == 0.0 {
            missed.push(format!("{row}: no breaker noticed"));
        }
        missed
    }
}
