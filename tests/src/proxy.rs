//! A real `aegis-proxy` in front of whatever addresses a test gives it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use aegis_protocol::path;
use anyhow::{Result, ensure};
use bytes::Bytes;
use http::HeaderName;
use tempfile::TempDir;
use toml_edit::{Array, Value};

use crate::binaries::Binaries;
use crate::client::{Answer, Client};
use crate::metrics::Scrape;
use crate::process::Process;
use crate::toml_file::TomlFile;
use crate::wait::until;

/// The metric that numbers the configurations which were taken.
const GENERATION: &str = "aegis_proxy_config_generation";
/// The metric that says how many requests are under way.
const IN_FLIGHT: &str = "aegis_proxy_in_flight";
/// The metric that says which part of a version's endpoints can be used.
const AVAILABLE: &str = "aegis_proxy_version_available_ratio";

/// What a proxy is started with: one model, some pools, and any other key.
#[derive(Clone, Debug)]
pub struct ProxySetup {
    model: String,
    file: TomlFile,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// The process.
    pub process: Process,
    /// Its configuration.
    pub file: TomlFile,
    model: String,
    data: SocketAddr,
    admin: SocketAddr,
    client: Client,
    /// Holds the configuration, unless somebody else's folder does.
    _folder: Option<TempDir>,
}

// === impl ProxySetup ===

impl ProxySetup {
    /// A proxy for one model that no version serves yet, on free ports, at a test's pace.
    #[must_use]
    pub fn new(model: &str) -> Self {
        let setup = Self {
            model: model.to_owned(),
            file: TomlFile::empty(),
        };
        setup
            .set("listen.data", "127.0.0.1:0")
            .set("listen.admin", "127.0.0.1:0")
            .set("drain.delay_ms", 100)
            .set_model("health_check.interval_ms", 50)
    }

    /// Adds a version.
    #[must_use]
    pub fn pool(self, version: &str, weight: i64, endpoints: &[SocketAddr]) -> Self {
        let endpoints: Array = endpoints.iter().map(ToString::to_string).collect();
        self.set_model(&format!("versions.{version}.weight"), weight)
            .set_model(&format!("versions.{version}.endpoints"), endpoints)
    }

    /// Says which versions answer when the chosen one cannot.
    #[must_use]
    pub fn fallback(self, versions: &[&str]) -> Self {
        let versions: Array = versions.iter().copied().collect();
        self.set_model("fallback", versions)
    }

    /// Sets any key of the configuration.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.file.set(key, value);
        self
    }

    /// Sets a key of the model.
    #[must_use]
    pub fn set_model(self, key: &str, value: impl Into<Value>) -> Self {
        let key = format!("models.{}.{key}", self.model);
        self.set(&key, value)
    }

    /// The configuration as it would be written.
    #[must_use]
    pub fn text(&self) -> String {
        self.file.text()
    }

    /// Starts it in a folder of its own, and waits until every endpoint is found well.
    ///
    /// # Errors
    ///
    /// When one is not.
    pub async fn start(self, programs: &Binaries) -> Result<Proxy> {
        let proxy = self.start_unsettled(programs).await?;
        proxy.settled().await?;
        Ok(proxy)
    }

    /// Starts it in a folder of its own, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn start_unsettled(self, programs: &Binaries) -> Result<Proxy> {
        let folder = tempfile::tempdir()?;
        let file = self.file.at(folder.path().join("proxy.toml"));
        file.save()?;
        Proxy::launch(programs, &self.model, file, Some(folder)).await
    }
}

// === impl Proxy ===

impl Proxy {
    /// Starts it with a configuration that is on disk, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn serve(programs: &Binaries, model: &str, file: TomlFile) -> Result<Self> {
        Self::launch(programs, model, file, None).await
    }

    async fn launch(
        programs: &Binaries,
        model: &str,
        file: TomlFile,
        folder: Option<TempDir>,
    ) -> Result<Self> {
        let arguments = [
            "serve".as_ref(),
            "--config".as_ref(),
            file.path().as_os_str(),
        ];
        let mut process = Process::spawn("proxy", &programs.proxy, arguments)?;
        let bound = process.bound().await?;
        let (data, admin) = (bound.get("data")?, bound.get("admin")?);
        let (model, client) = (model.to_owned(), Client::new());
        Ok(Self {
            process,
            file,
            model,
            data,
            admin,
            client,
            _folder: folder,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn data(&self) -> SocketAddr {
        self.data
    }

    /// Where operators connect.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The path of an inference that leaves the version to the split.
    #[must_use]
    pub fn infer_path(&self) -> String {
        path::infer(&self.model, None)
    }

    /// Asks for an inference by any version.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn infer(&self, body: impl Into<Bytes>) -> Result<Answer> {
        self.client.post(self.data, &self.infer_path(), body).await
    }

    /// Asks for an inference by any version, with more headers.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn infer_with(
        &self,
        body: impl Into<Bytes>,
        more: &[(HeaderName, &str)],
    ) -> Result<Answer> {
        let path = self.infer_path();
        self.client.post_with(self.data, &path, body, more).await
    }

    /// Asks the data port for anything else.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.client.get(self.data, path).await
    }

    /// Asks for an inference by this version.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn infer_pinned(&self, version: &str, body: impl Into<Bytes>) -> Result<Answer> {
        self.client
            .post(self.data, &path::infer(&self.model, Some(version)), body)
            .await
    }

    /// Asks the admin port.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn ask_admin(&self, path: &str) -> Result<Answer> {
        self.client.get(self.admin, path).await
    }

    /// Tells the admin port to do something.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn tell_admin(&self, path: &str) -> Result<Answer> {
        self.client.post(self.admin, path, "").await
    }

    /// Its metrics.
    ///
    /// # Errors
    ///
    /// When a Prometheus server would refuse them.
    pub async fn metrics(&self) -> Result<Scrape> {
        Ok(self.ask_admin("/metrics").await?.text().parse()?)
    }

    /// Its metrics when so many requests are under way and no more: a client may hear of its answer before the
    /// request is counted, and what is no longer under way has been.
    ///
    /// # Errors
    ///
    /// When more or fewer are, for long.
    pub async fn metrics_when(&self, in_flight: u32) -> Result<Scrape> {
        until(&format!("{in_flight} requests in flight"), async || {
            let now = self.metrics().await?.value(IN_FLIGHT, &[]);
            ensure!(now == Some(in_flight.into()), "{now:?} are");
            Ok(())
        })
        .await?;
        // Asked anew: of one scrape, nobody knows which of its families was read first.
        self.metrics().await
    }

    /// The number of the configuration that is in force.
    ///
    /// # Errors
    ///
    /// When its metrics do not say.
    pub async fn generation(&self) -> Result<u64> {
        self.metrics().await?.count(GENERATION, &[])
    }

    /// Waits until a configuration after this one is in force, and returns its number.
    ///
    /// # Errors
    ///
    /// When none is in time.
    pub async fn generation_after(&self, generation: u64) -> Result<u64> {
        until(&format!("a generation after {generation}"), async || {
            let now = self.generation().await?;
            ensure!(now > generation, "it is {now}");
            Ok(now)
        })
        .await
    }

    /// Writes the configuration as it was edited, and waits until it is in force.
    ///
    /// # Errors
    ///
    /// When it is not taken in time.
    pub async fn apply(&self) -> Result<u64> {
        let before = self.generation().await?;
        self.file.save()?;
        self.generation_after(before).await
    }

    /// Sets a key of the model; [`Self::apply`] puts it in force.
    pub fn set_model(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let key = format!("models.{}.{key}", self.model);
        self.file.set(&key, value);
        self
    }

    /// Which part of a version's endpoints can be used, from 0 to 1.
    ///
    /// # Errors
    ///
    /// When the metrics do not say.
    pub async fn available(&self, version: &str) -> Result<f64> {
        let metrics = self.metrics().await?;
        let labels = [("model", &*self.model), ("model_version", version)];
        let available = metrics.value(AVAILABLE, &labels);
        available.ok_or_else(|| anyhow::anyhow!("{AVAILABLE} does not name version {version}"))
    }

    /// Waits until this part of a version's endpoints can be used.
    ///
    /// # Errors
    ///
    /// When it is another in time.
    pub async fn until_available(&self, version: &str, share: f64) -> Result<()> {
        until(
            &format!("version {version} to be available to {share}"),
            async || {
                let available = self.available(version).await?;
                ensure!((available - share).abs() < 1e-9, "it is {available}");
                Ok(())
            },
        )
        .await
    }

    /// Waits until every endpoint of every version can be used.
    ///
    /// # Errors
    ///
    /// When one cannot in time, with the proxy's own view of them.
    pub async fn settled(&self) -> Result<()> {
        until("every endpoint to be well", async || {
            let metrics = self.metrics().await?;
            let ill: String = metrics
                .samples(AVAILABLE, &[])
                .filter(|s| s.value < 1.0)
                .fold(String::new(), |mut ill, sample| {
                    let _ = write!(ill, "{:?} at {} ", sample.labels, sample.value);
                    ill
                });
            ensure!(
                metrics.samples(AVAILABLE, &[]).next().is_some(),
                "nothing of {AVAILABLE}"
            );
            ensure!(
                ill.is_empty(),
                "{ill}{}",
                self.ask_admin("/status").await?.text()
            );
            Ok(())
        })
        .await
    }
}
