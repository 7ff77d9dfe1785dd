//! The two models, what libtorch alone says of them, and how they are served.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use super::CORES;
use crate::contender::{Running, free_port, write};

/// The most rows of a batch.
pub(super) const ROWS: usize = 8;
const NAMES: [&str; 2] = ["fixed", "linear"];
const FEATURES: usize = 16;
/// How long a server may take to be ready, once it listens.
const READY: Duration = Duration::from_mins(1);

/// A model, and its line on libtorch alone.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) name: &'static str,
    alpha: f64,
    beta: f64,
    /// Its folder, absolute.
    home: PathBuf,
}

/// An entry of `forward.json`.
#[derive(Debug, Deserialize)]
struct Forward {
    model: String,
    alpha: f64,
    beta: f64,
}

// === impl Model ===

impl Model {
    /// The two that the example `bench_models` has made and measured.
    pub(super) fn read_all(folder: &Path) -> Result<Vec<Self>> {
        let file = folder.join("forward.json");
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        let lines: Vec<Forward> = serde_json::from_str(&text)?;
        let read = |name: &'static str| {
            let line = lines.iter().find(|line| line.model == name);
            let line = line.with_context(|| format!("{}: no {name}", file.display()))?;
            Ok(Self {
                name,
                alpha: line.alpha,
                beta: line.beta,
                home: fs::canonicalize(folder.join(name))?,
            })
        };
        NAMES.into_iter().map(read).collect()
    }

    /// r = β/α.
    pub(super) fn ratio(&self) -> f64 {
        self.beta / self.alpha
    }

    /// G(8): rows a second in full batches, in proportion to batches of one.
    pub(super) fn possible_gain(&self) -> f64 {
        let rows = ROWS as f64;
        rows * (self.alpha + self.beta) / (rows * self.alpha + self.beta)
    }

    pub(super) fn path(&self) -> String {
        format!("/v2/models/{}/infer", self.name)
    }

    /// Sends a request for one row, as a script of `wrk`.
    pub(super) fn script() -> String {
        format!(
            "wrk.method = \"POST\"\nwrk.headers[\"content-type\"] = \"application/json\"\n\
             wrk.body = [[{}]]\n",
            body()
        )
    }

    /// Serves it in batches of at most so many rows, or without; waits until it is ready.
    pub(super) async fn serve(&self, program: &Path, rows: usize) -> Result<Running> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let version = at.join("models").join(self.name).join("1");
        fs::create_dir_all(&version)?;
        fs::copy(self.home.join("1/model.pt"), version.join("model.pt"))?;
        let text = fs::read_to_string(self.home.join("model.toml"))?;
        let kept = text
            .lines()
            .filter(|line| !line.starts_with("max_batch_size"));
        let lines: Vec<&str> = kept.collect();
        let text = format!("max_batch_size = {rows}\n{}\n", lines.join("\n"));
        write(&at.join("models").join(self.name), "model.toml", &text)?;
        let port = free_port()?;
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\nmodel_repository = \"models\"\ndrain_delay_ms = 0\n\
             [models.{}]\nversions = [\"1\"]\n",
            self.name
        );
        let file = write(at, "backend.toml", &text)?;
        let mut command = Command::new("taskset");
        command.args(["-c", CORES]).arg(program);
        command.env("RUST_LOG", "warn").args(["serve", "--config"]);
        command.arg(file);
        let server = Running::launch("aegis", command, port, folder).await?;
        ready(&server).await?;
        Ok(server)
    }
}

/// A request for one row.
pub(super) fn body() -> String {
    let data = vec!["0.5"; FEATURES].join(",");
    format!(
        "{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,{FEATURES}],\
         \"data\":[{data}]}}]}}"
    )
}

/// Waits until a server is ready.
pub(crate) async fn ready(server: &Running) -> Result<()> {
    let http: Client<HttpConnector, Empty<bytes::Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let url: http::Uri = format!("http://{}/health", server.address).parse()?;
    let mut last = String::new();
    let asked = async {
        loop {
            if let Ok(response) = http.get(url.clone()).await {
                if response.status() == StatusCode::OK {
                    return;
                }
                if let Ok(body) = response.into_body().collect().await {
                    last = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(READY, asked).await.is_err() {
        bail!("aegis is not ready: {last}");
    }
    Ok(())
}
