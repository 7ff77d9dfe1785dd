//! `aegis-backend`, as every bench of it starts it: one version of one model, and no delay when it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use http::StatusCode;
use http_body_util::BodyExt;
use tempfile::TempDir;

use crate::client;
use crate::process::{Running, free_port, serve, write};

/// The program.
pub(crate) const PROGRAM: &str = "aegis-backend";
/// The cores of server and load, where they share them.
pub(crate) const CORES: &str = "0,1";
/// How long it may take to be ready, once it listens.
const READY: Duration = Duration::from_mins(1);

/// What is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served<'a> {
    /// The repository, absolute.
    pub(crate) models: &'a Path,
    pub(crate) model: &'a str,
    /// Further lines of `backend.toml`.
    pub(crate) settings: &'a str,
}

/// Copies version 1 of a model into a repository of its own, with this `model.toml`; says where that is.
pub(crate) fn copied(home: &Path, model: &str, text: &str, folder: &Path) -> Result<PathBuf> {
    let models = folder.join("models");
    let version = models.join(model).join("1");
    fs::create_dir_all(&version)?;
    fs::copy(home.join("1/model.pt"), version.join("model.pt"))?;
    write(&models.join(model), "model.toml", text)?;
    Ok(models)
}

// === impl Served ===

impl Served<'_> {
    /// Lets a command of the program serve it on that port.
    pub(crate) fn by(&self, command: &mut Command, folder: &Path, port: u16) -> Result<()> {
        let Self {
            models,
            model,
            settings,
        } = self;
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\nmodel_repository = \"{}\"\ndrain_delay_ms = 0\n{settings}\
             [models.{model}]\nversions = [\"1\"]\n",
            models.display()
        );
        serve(command, folder, "backend.toml", &text)?;
        Ok(())
    }

    /// Starts a command of the program, and waits until it is ready.
    pub(crate) async fn start(&self, mut command: Command, folder: TempDir) -> Result<Running> {
        let port = free_port()?;
        self.by(&mut command, folder.path(), port)?;
        let server = Running::launch("aegis", command, port, folder).await?;
        ready(&server).await?;
        Ok(server)
    }
}

async fn ready(server: &Running) -> Result<()> {
    let http = client::plain();
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
