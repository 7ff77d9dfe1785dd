//! The two models, what libtorch alone says of them, and how they are served.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::backend::{self, CORES, Served};
use crate::process::{Running, pinned};

/// The most rows of a batch.
pub(super) const ROWS: usize = 8;
const NAMES: [&str; 2] = ["fixed", "linear"];
const FEATURES: usize = 16;

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
        let text = fs::read_to_string(self.home.join("model.toml"))?;
        let kept = text
            .lines()
            .filter(|line| !line.starts_with("max_batch_size"));
        let lines: Vec<&str> = kept.collect();
        let text = format!("max_batch_size = {rows}\n{}\n", lines.join("\n"));
        let served = Served {
            models: &backend::copied(&self.home, self.name, &text, folder.path())?,
            model: self.name,
            settings: "",
        };
        served.start(pinned(CORES, program), folder).await
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
