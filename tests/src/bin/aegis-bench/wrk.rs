//! The closed load: `wrk`, on the core that the contender does not have.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use super::{BODY, CONNECTIONS, OTHER_CORE};
use crate::contender::{PATH, program};

/// Every eighth request has the client's key, so that one is drawn and one is looked up; the rest
/// are drawn. The end is written as JSON, since the text is rounded.
const SCRIPT: &str = r#"
local body = string.rep("x", BODY)
local common = {["content-type"] = "application/json", ["x-request-timeout-ms"] = "1000"}
local requests, turn = {}, 0
function init(args)
  for i = 1, 8 do
    local headers = {}
    for name, value in pairs(common) do headers[name] = value end
    if i == 1 then headers["x-user-id"] = "somebody" end
    requests[i] = wrk.format("POST", nil, headers, body)
  end
end
function request()
  turn = turn % 8 + 1
  return requests[turn]
end
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
pub(super) struct Wrk {
    program: PathBuf,
    folder: TempDir,
}

/// What it saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) failed: u64,
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
    pub(super) fn find() -> Result<Self> {
        let program = program("wrk", &[]).context("no program `wrk` in PATH")?;
        let folder = tempfile::tempdir()?;
        let script = SCRIPT.replace("BODY", &BODY.to_string());
        fs::write(folder.path().join("load.lua"), script)?;
        Ok(Self { program, folder })
    }

    /// Loads the proxy for so long.
    pub(super) async fn run(&self, at: SocketAddr, lasts: Duration) -> Result<Closed> {
        let output = Command::new("taskset")
            .args(["-c", OTHER_CORE])
            .arg(&self.program)
            .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
            .args(["--duration", &format!("{}s", lasts.as_secs())])
            .args(["--timeout", "5s", "--script"])
            .arg(self.folder.path().join("load.lua"))
            .arg(format!("http://{at}{PATH}"))
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
