//! The open load: so many requests a second on a fixed schedule, whatever the answers take.
//!
//! Each connection has every 64th place of the schedule. One whose answer is late sends its next
//! request as soon as it can, and the latency counts from the instant at which that was due, so
//! nothing that a client would have waited for is left out. Written on bare sockets, since a client
//! library would cost more on the shared core than the proxy does on its own: the requests are the
//! same bytes each time, and an answer is read by its `Content-Length`.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{BODY, CONNECTIONS, OTHER_CORE, RATE};
use crate::clock;
use crate::contender::PATH;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the clients saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) answered: f64,
    pub(super) failed: u64,
}

struct Seen {
    due: u64,
    failed: u64,
    took_us: Histogram<u64>,
}

/// Loads the proxy for so long, from a thread on the core that the contender does not have.
pub(super) async fn run(at: SocketAddr, lasts: Duration) -> Result<Open> {
    let (send, receive) = tokio::sync::oneshot::channel();
    thread::spawn(move || send.send(on_one_core(at, lasts)));
    let seen = receive.await.context("the load generator has panicked")??;
    let quantile = |q| seen.took_us.value_at_quantile(q) as f64 / 1e3;
    Ok(Open {
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        answered: (seen.due - seen.failed) as f64 / seen.due.max(1) as f64,
        failed: seen.failed,
    })
}

fn on_one_core(at: SocketAddr, lasts: Duration) -> Result<Seen> {
    let mut cores = CpuSet::new();
    cores.set(OTHER_CORE.parse()?);
    sched_setaffinity(None, &cores)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(load(at, lasts))
}

async fn load(at: SocketAddr, lasts: Duration) -> Result<Seen> {
    let request = request();
    let mut connections = JoinSet::new();
    // All connections stand before the first request is due.
    let begin = clock::now() + Duration::from_millis(200);
    let step = Duration::from_secs(1) * u32::try_from(CONNECTIONS)? / RATE;
    for place in 0..u32::try_from(CONNECTIONS)? {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let first = begin + Duration::from_secs(1) / RATE * place;
        connections.spawn(one(stream, request.clone(), first, step, begin + lasts));
    }
    let mut all = Seen::new()?;
    while let Some(seen) = connections.join_next().await {
        let seen = seen??;
        all.due += seen.due;
        all.failed += seen.failed;
        all.took_us.add(seen.took_us)?;
    }
    Ok(all)
}

/// One connection's part of the schedule.
async fn one(
    mut stream: TcpStream,
    request: Vec<u8>,
    first: Instant,
    step: Duration,
    end: Instant,
) -> Result<Seen> {
    let mut seen = Seen::new()?;
    let mut buffer = vec![0; 16 * 1024];
    let mut due = first;
    while due < end {
        tokio::time::sleep_until(due.into()).await;
        stream.write_all(&request).await?;
        let answer = tokio::time::timeout(PATIENCE, answer(&mut stream, &mut buffer));
        let status = answer
            .await
            .map_err(|_| anyhow!("no answer in {PATIENCE:?}"))??;
        seen.due += 1;
        seen.failed += u64::from(status != 200);
        let took = clock::now().saturating_duration_since(due);
        seen.took_us
            .saturating_record(u64::try_from(took.as_micros())?);
        due += step;
    }
    Ok(seen)
}

fn request() -> Vec<u8> {
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         x-request-timeout-ms: 1000\r\ncontent-length: {BODY}\r\n\r\n{}",
        "x".repeat(BODY)
    )
    .into_bytes()
}

/// Reads one answer to its end; its status.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<u16> {
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            bail!("an answer of over {} bytes", buffer.len());
        }
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            bail!("the connection was closed");
        }
        filled += read;
        let text = &buffer[..filled];
        let Some(head) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let length = content_length(&text[..head])?;
        if filled >= head + 4 + length {
            let status = std::str::from_utf8(text.get(9..12).context("no status")?)?;
            return Ok(status.parse()?);
        }
    }
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let value = lines
        .find_map(|(name, value)| name.eq_ignore_ascii_case("content-length").then_some(value));
    Ok(value
        .context("an answer without Content-Length")?
        .trim()
        .parse()?)
}

// === impl Seen ===

impl Seen {
    fn new() -> Result<Self> {
        Ok(Self {
            due: 0,
            failed: 0,
            took_us: Histogram::new_with_max(60_000_000, 3)?,
        })
    }
}
