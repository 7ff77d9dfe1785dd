//! A closed load by `wrk`, and what it saw.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::contender::program;

/// Tells the end as JSON, since the text of `wrk` is rounded.
const DONE: &str = r#"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"p50_ms":%.6f,"p99_ms":%.6f,"failed":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// The load generator.
#[derive(Debug)]
pub(crate) struct Wrk {
    program: PathBuf,
    folder: TempDir,
}

/// What it saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) failed: u64,
}

#[derive(Debug, Deserialize)]
struct Summary {
    requests: u64,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    failed: u64,
}

// === impl Wrk ===

impl Wrk {
    /// With a script that makes the requests; how it ends is ours.
    pub(crate) fn with(script: &str) -> Result<Self> {
        let program = program("wrk", &[]).context("no program `wrk` in PATH")?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("load.lua"), format!("{script}\n{DONE}"))?;
        Ok(Self { program, folder })
    }

    /// Loads a server from so many connections for so long, on these cores.
    pub(crate) async fn run(
        &self,
        url: &str,
        connections: usize,
        cores: &str,
        lasts: Duration,
    ) -> Result<Closed> {
        let output = Command::new("taskset")
            .args(["-c", cores])
            .arg(&self.program)
            .args(["--threads", "1", "--connections", &connections.to_string()])
            .args(["--duration", &format!("{}s", lasts.as_secs())])
            .args(["--timeout", "5s", "--script"])
            .arg(self.folder.path().join("load.lua"))
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
            failed: summary.failed,
        })
    }
}
