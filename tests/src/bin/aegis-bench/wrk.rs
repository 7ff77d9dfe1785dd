//! A closed load by `wrk`, and what it saw.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::args::installed;
use crate::process::pinned;

/// Tells the end as JSON, since the text of `wrk` is rounded.
///
/// Before it prints latencies, `wrk` adds to them: for each that is longer than the mean time between two
/// requests of a connection, those of the requests that it did not send meanwhile, at steps of that time. What it
/// has measured is what is left when that is undone: of each latency beyond the first step, as often as there are
/// latencies of one step more. Only the fast ones are looked at, since each look walks over all before it.
const DONE: &str = r#"
function measured(summary, latency, quantile)
  local step = math.floor(summary.duration / math.max(1, math.floor(summary.requests / CONNECTIONS)))
  local values, counts = {}, {}
  local function read()
    local value, count = latency(#values + 1)
    values[#values + 1], counts[value] = value, count
  end
  local all, seen = #latency, 0
  for i = 1, all do
    if i > #values then read() end
    local value = values[i]
    local count = counts[value]
    if value > step then
      while #values < all and values[#values] < value + step do read() end
      count = count - (counts[value + step] or 0)
    end
    seen = seen + count
    if seen >= quantile * summary.requests then return value end
  end
  return latency.max
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"p50_ms":%.6f,"p99_ms":%.6f,"measured_p99_ms":%.6f,"failed":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, UNDO and measured(summary, latency, 0.99) / 1e3 or 0,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// The load generator.
#[derive(Debug)]
pub(crate) struct Wrk {
    program: PathBuf,
    folder: TempDir,
    script: String,
    undoes: bool,
}

/// What it saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of the requests that were sent, without those that it made up; none where nobody asked ([`Wrk::undoing`]).
    pub(crate) measured_p99_ms: Option<f64>,
    pub(crate) failed: u64,
}

#[derive(Debug, Deserialize)]
struct Summary {
    requests: u64,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    measured_p99_ms: f64,
    failed: u64,
}

// === impl Wrk ===

impl Wrk {
    /// With a script that makes the requests; how it ends is ours.
    pub(crate) fn with(script: &str) -> Result<Self> {
        Ok(Self {
            program: installed("wrk")?,
            folder: tempfile::tempdir()?,
            script: format!("{script}\n{DONE}"),
            undoes: false,
        })
    }

    /// The same, and it says what it has measured, too: that takes CPU time at its end.
    pub(crate) fn undoing(script: &str) -> Result<Self> {
        let undoes = true;
        Ok(Self {
            undoes,
            ..Self::with(script)?
        })
    }

    /// Loads a server from so many connections for so long, on these cores.
    pub(crate) async fn run(
        &self,
        url: &str,
        connections: usize,
        cores: &str,
        lasts: Duration,
    ) -> Result<Closed> {
        let file = self.folder.path().join("load.lua");
        // How it ends is told by a state of Lua's that no argument reaches.
        let script = format!(
            "CONNECTIONS, UNDO = {connections}, {}\n{}",
            self.undoes, self.script
        );
        fs::write(&file, script)?;
        let output = Command::from(pinned(cores, &self.program))
            .args(["--threads", "1", "--connections", &connections.to_string()])
            .args(["--duration", &format!("{}s", lasts.as_secs())])
            .args(["--timeout", "5s", "--script"])
            .arg(file)
            .arg(url)
            .kill_on_drop(true)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
        }
        let line = text.lines().find(|line| line.starts_with('{'));
        let summary: Summary = serde_json::from_str(line.context("wrk told no summary")?)?;
        ensure!(summary.requests > 0, "wrk got no answer: {text}");
        Ok(Closed {
            requests: summary.requests,
            requests_per_second: summary.requests as f64 / summary.seconds,
            p50_ms: summary.p50_ms,
            p99_ms: summary.p99_ms,
            measured_p99_ms: self.undoes.then_some(summary.measured_p99_ms),
            failed: summary.failed,
        })
    }
}
