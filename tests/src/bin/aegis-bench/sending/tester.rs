//! The load tester as a program, on one core, with what it reports.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use aegis_loadtest::{Report, Summary};
use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::server::Server;
use super::{LOAD_CORE, STALLED_RATE, WATCHED, WATCHED_FROM, WATCHED_RATE, cpu, stall};
use crate::healthy::measure;
use crate::process::pinned;

/// What every request asks: 64 numbers.
fn request() -> String {
    let data: Vec<_> = (0..64).map(|n| format!("{}.25", n % 10)).collect();
    let data = data.join(",");
    format!(r#"{{"inputs":[{{"name":"x","shape":[1,64],"datatype":"FP32","data":[{data}]}}]}}"#)
}

/// The program, and a folder with what it sends and writes.
#[derive(Debug)]
pub(super) struct Tester {
    program: PathBuf,
    folder: TempDir,
}

// === impl Tester ===

impl Tester {
    pub(super) fn new(program: PathBuf) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("request.jsonl"), request() + "\n")?;
        Ok(Self { program, folder })
    }

    /// Makes `wrk` send the same.
    pub(super) fn script() -> Result<String> {
        let body = request();
        ensure!(
            !body.contains("]]"),
            "the body would end the script's string"
        );
        Ok(format!(
            "local all\nfunction init(args)\n  local headers = {{[\"content-type\"] = \"application/json\"}}\n  \
             all = wrk.format(\"POST\", nil, headers, [==[{body}]==])\nend\nfunction request() return all end\n"
        ))
    }

    /// An open loop, and the CPU time that it took.
    pub(super) async fn open(
        &self,
        server: &Server,
        rate: u32,
        lasts: Duration,
    ) -> Result<(Summary, Duration)> {
        self.measured(server, &["--rate", &rate.to_string()], lasts)
            .await
    }

    /// A closed loop, and the CPU time that it took.
    pub(super) async fn closed(
        &self,
        server: &Server,
        connections: usize,
        lasts: Duration,
    ) -> Result<(Summary, Duration)> {
        self.measured(server, &["--closed", &connections.to_string()], lasts)
            .await
    }

    /// An open loop that is patient enough for a server that stalls.
    pub(super) async fn stalled(&self, server: &Server) -> Result<Summary> {
        let load = ["--rate", &STALLED_RATE.to_string(), "--timeout", "5s"];
        let child = self.start(server, &load, stall::LASTS)?;
        self.report(child).await
    }

    /// What is resident early and at the end of a longer run.
    pub(super) async fn watched(&self, server: &Server) -> Result<(u64, u64)> {
        let log = self.folder.path().join("run.hlog");
        let log = log.to_str().context("a folder with a plain name")?;
        let load = ["--rate", &WATCHED_RATE.to_string(), "--hdr", log];
        let child = self.start(server, &load, WATCHED)?;
        let pid = child.id().context("it has ended at once")?;
        tokio::time::sleep(WATCHED_FROM).await;
        let early = measure::resident_bytes(pid)?;
        // A moment before it writes its report.
        let rest = WATCHED.saturating_sub(WATCHED_FROM + Duration::from_secs(1));
        tokio::time::sleep(rest).await;
        let late = measure::resident_bytes(pid)?;
        self.report(child).await?;
        Ok((early, late))
    }

    async fn measured(
        &self,
        server: &Server,
        load: &[&str],
        lasts: Duration,
    ) -> Result<(Summary, Duration)> {
        let before = cpu::of_children()?;
        let child = self.start(server, load, lasts)?;
        let summary = self.report(child).await?;
        Ok((summary, cpu::of_children()?.saturating_sub(before)))
    }

    fn start(&self, server: &Server, load: &[&str], lasts: Duration) -> Result<Child> {
        let mut command = Command::from(pinned(LOAD_CORE, &self.program));
        command.args(["run", "--quiet", "--model", "m", "--url", &server.url()]);
        // All that it costs counts, and all that it sent.
        command.args(["--warmup", "0s", "--max-lag", "10s"]);
        command.args(["--duration", &format!("{}s", lasts.as_secs())]);
        command.args(load);
        command
            .arg("--data")
            .arg(self.folder.path().join("request.jsonl"));
        command
            .arg("--json")
            .arg(self.folder.path().join("report.json"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Ok(command.kill_on_drop(true).spawn()?)
    }

    async fn report(&self, child: Child) -> Result<Summary> {
        let output = child.wait_with_output().await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        // 2 is a run that it calls invalid itself, which the bounds say more of.
        if !matches!(output.status.code(), Some(0 | 2)) {
            bail!("aegis-loadtest: {}: {stderr}", output.status);
        }
        let text = fs::read(self.folder.path().join("report.json"));
        let report: Report = serde_json::from_slice(&text.with_context(|| stderr.to_string())?)?;
        ensure!(report.summary.ok > 0, "nothing was answered: {stderr}");
        Ok(report.summary)
    }
}
