//! The closed loads: `wrk` for HTTP/1.1, `h2load` for gRPC.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use super::contender::{Contender, Server};
use super::form::{Body, Examples, Form};
use crate::args::installed;
use crate::backend::CORES;
use crate::faults::quantile_ms;
use crate::process::pinned;
use crate::wrk::{Closed, Wrk};

/// Bodies that `wrk` sends in turn.
const BODIES: usize = 8;
const GRPC_PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Makes the requests out of files `1` to `N`.
const SCRIPT: &str = r#"
local requests, turn = {}, 0
function init(args)
  for i = 1, BODIES do
    local file = io.open("FOLDER/" .. i, "rb")
    local headers = {["content-type"] = "TYPE"}
    LENGTH
    requests[i] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end
function request()
  turn = turn % BODIES + 1
  return requests[turn]
end
"#;

/// Makes the load of one form for one contender.
#[derive(Debug)]
pub(super) enum Generator {
    Wrk {
        wrk: Wrk,
        path: String,
        /// Held while it runs.
        bodies: TempDir,
    },
    H2load {
        program: PathBuf,
        folder: TempDir,
    },
}

// === impl Generator ===

impl Generator {
    pub(super) fn new(contender: Contender, form: Form, examples: &Examples) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut length = None;
        for (at, row) in examples.rows().take(BODIES).enumerate() {
            let Body {
                bytes,
                header_length,
            } = form.body(contender, row);
            fs::write(folder.path().join((at + 1).to_string()), bytes)?;
            length = header_length;
        }
        if form == Form::Grpc {
            let program = installed("h2load")?;
            return Ok(Self::H2load { program, folder });
        }
        // All bodies have rows of the same shape, and so the same length of JSON.
        let length = length.map_or(String::new(), |length| {
            format!("headers[\"inference-header-content-length\"] = \"{length}\"")
        });
        let script = SCRIPT
            .replace("BODIES", &BODIES.to_string())
            .replace("FOLDER", &folder.path().display().to_string())
            .replace("TYPE", form.content_type())
            .replace("LENGTH", &length);
        Ok(Self::Wrk {
            wrk: Wrk::with(&script)?,
            path: contender.path(),
            bodies: folder,
        })
    }

    /// Loads the server from so many connections, one request at a time on each.
    pub(super) async fn run(
        &self,
        server: &Server,
        connections: usize,
        lasts: Duration,
    ) -> Result<Closed> {
        match self {
            Self::Wrk { wrk, path, .. } => {
                let url = format!("http://{}{path}", server.process.address);
                wrk.run(&url, connections, CORES, lasts).await
            }
            Self::H2load { program, folder } => {
                let log = folder.path().join("log");
                // It appends.
                let _ = fs::remove_file(&log);
                let output = Command::from(pinned(CORES, program))
                    .args(["--threads", "1", "--max-concurrent-streams", "1"])
                    .args(["--clients", &connections.to_string()])
                    .args(["--duration", &lasts.as_secs().to_string()])
                    .args(["--header", "content-type: application/grpc"])
                    .args(["--header", "te: trailers"])
                    .arg(format!("--data={}", folder.path().join("1").display()))
                    .arg(format!("--log-file={}", log.display()))
                    .arg(format!("http://{}{GRPC_PATH}", server.grpc))
                    .kill_on_drop(true)
                    .output()
                    .await?;
                if !output.status.success() {
                    bail!("h2load: {}", String::from_utf8_lossy(&output.stderr));
                }
                read_log(&fs::read_to_string(&log)?, lasts)
            }
        }
    }
}

/// The load of Aegis in binary: what makes it, where it goes, and the folder that it needs meanwhile.
pub(crate) fn binary(examples: &Examples) -> Result<(Wrk, String, TempDir)> {
    match Generator::new(Contender::Aegis, Form::Binary, examples)? {
        Generator::Wrk { wrk, path, bodies } => Ok((wrk, path, bodies)),
        Generator::H2load { .. } => bail!("h2load speaks gRPC only"),
    }
}

/// A line a request: when it began, its status, and the microseconds that it took.
fn read_log(text: &str, lasts: Duration) -> Result<Closed> {
    let (mut took, mut failed) = (Vec::new(), 0);
    for line in text.lines() {
        let mut fields = line.split('\t').skip(1);
        let (status, micros) = fields.next().zip(fields.next()).context("a short line")?;
        if status == "200" {
            took.push(Duration::from_micros(micros.trim().parse()?));
        } else {
            failed += 1;
        }
    }
    ensure!(!took.is_empty(), "h2load got no answer");
    took.sort_unstable();
    Ok(Closed {
        requests: took.len() as u64,
        requests_per_second: took.len() as f64 / lasts.as_secs_f64(),
        p50_ms: quantile_ms(&took, 0.5),
        p99_ms: quantile_ms(&took, 0.99),
        measured_p99_ms: None,
        failed,
    })
}
