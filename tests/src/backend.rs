//! A real `aegis-backend`, on the repository that ships unless another is given.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aegis_protocol::{HealthReport, path};
use anyhow::{Result, anyhow};
use tempfile::TempDir;
use toml_edit::{Array, Value};

use crate::binaries::{Binaries, workspace_root};
use crate::client::{Answer, Client};
use crate::metrics::Scrape;
use crate::process::Process;
use crate::toml_file::TomlFile;
use crate::wait::until;

/// The reason of a model that is not loaded yet and may well be.
const LOADING: &str = "loading";

/// What a backend is started with.
#[derive(Clone, Debug)]
pub struct BackendSetup {
    name: String,
    file: TomlFile,
}

/// A running backend.
#[derive(Debug)]
pub struct Backend {
    /// The process.
    pub process: Process,
    /// Its configuration.
    pub file: TomlFile,
    address: SocketAddr,
    client: Client,
    /// Holds the configuration, unless somebody else's folder does.
    _folder: Option<TempDir>,
}

// === impl BackendSetup ===

impl BackendSetup {
    /// Serves these versions of a model of the repository that ships.
    #[must_use]
    pub fn new(model: &str, versions: &[&str]) -> Self {
        let file = TomlFile::empty();
        let setup = Self {
            name: format!("backend {model} {}", versions.join("+")),
            file,
        };
        let served: Array = versions.iter().copied().collect();
        setup
            .set("listen", "127.0.0.1:0")
            .set("drain_delay_ms", 100)
            .set(&format!("models.{model}.versions"), served)
            .repository(&workspace_root().join("config/models"))
    }

    /// Takes the models from another folder.
    #[must_use]
    pub fn repository(self, folder: &Path) -> Self {
        self.set("model_repository", folder.to_string_lossy().into_owned())
    }

    /// Loads only what the key that ships signed, as the repository that ships is.
    #[must_use]
    pub fn verified(self) -> Self {
        let key = workspace_root().join("config/keys/demo.pub");
        let keys: Array = [&*key.to_string_lossy()].into_iter().collect();
        self.set("verify", "required").set("trusted_keys", keys)
    }

    /// Sets any key of the configuration.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.file.set(key, value);
        self
    }

    /// The name in messages.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts it in a folder of its own, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn start(self, programs: &Binaries) -> Result<Backend> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("backend.toml");
        self.launch(programs, path, Some(folder)).await
    }

    /// Starts it with its configuration in this file, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn start_at(self, programs: &Binaries, path: PathBuf) -> Result<Backend> {
        self.launch(programs, path, None).await
    }

    async fn launch(
        self,
        programs: &Binaries,
        path: PathBuf,
        folder: Option<TempDir>,
    ) -> Result<Backend> {
        let file = self.file.at(path);
        file.save()?;
        let arguments = [
            "serve".as_ref(),
            "--config".as_ref(),
            file.path().as_os_str(),
        ];
        let mut process = Process::spawn(self.name, &programs.backend, arguments)?;
        let address = process.bound().await?.get("http")?;
        Ok(Backend {
            process,
            file,
            address,
            client: Client::new(),
            _folder: folder,
        })
    }
}

// === impl Backend ===

impl Backend {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks with `GET`.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.client.get(self.address, path).await
    }

    /// Asks it to infer.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn infer(&self, path: &str, body: impl Into<bytes::Bytes>) -> Result<Answer> {
        self.client.post(self.address, path, body).await
    }

    /// Waits until all its models are loaded and warm.
    ///
    /// # Errors
    ///
    /// When one of them failed to load, or they are not ready in time.
    pub async fn ready(&self) -> Result<()> {
        let name = self.process.name();
        until(&format!("{name} to be ready"), async || {
            if self.get(path::READY).await?.status.is_success() {
                return Ok(Ok(()));
            }
            let (_, report) = self.health().await?;
            match failure(&report) {
                // It does not try again, so neither is there anything to wait for.
                Some(reason) => Ok(Err(anyhow!("{name} cannot load its model: {reason}"))),
                None => Err(anyhow!("{report:?}")),
            }
        })
        .await?
    }

    /// Waits until a model could not be loaded, and says why.
    ///
    /// # Errors
    ///
    /// When none has failed in time.
    pub async fn failure(&self) -> Result<String> {
        until(&format!("{} to fail", self.process.name()), async || {
            let (_, report) = self.health().await?;
            failure(&report).ok_or_else(|| anyhow!("{report:?}"))
        })
        .await
    }

    /// What it says about its models, and the status it says it with.
    ///
    /// # Errors
    ///
    /// When it says something else.
    pub async fn health(&self) -> Result<(http::StatusCode, HealthReport)> {
        let answer = self.get(path::HEALTH).await?;
        Ok((answer.status, serde_json::from_slice(&answer.body)?))
    }

    /// Its metrics.
    ///
    /// # Errors
    ///
    /// When a Prometheus server would refuse them.
    pub async fn metrics(&self) -> Result<Scrape> {
        Ok(self.get("/metrics").await?.text().parse()?)
    }
}

/// Why a model was not loaded; none while that is still being tried.
fn failure(report: &HealthReport) -> Option<String> {
    let mut reasons = report
        .models
        .iter()
        .filter_map(|model| model.reason.clone());
    reasons.find(|reason| reason != LOADING)
}
