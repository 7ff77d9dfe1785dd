//! The model versions that this process serves, and how each is.
//!
//! The set is fixed by the configuration; each version is *loading* until the [loader](crate::loader)
//! has decided, once, that it is ready or why it is not. A version that failed to load stays where
//! it is with its reason: the others are served, and the process can be asked what is wrong.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aegis_protocol::{HealthReport, ModelHealth, ModelMetadata, listed};
use http::HeaderValue;

use crate::batcher;
use crate::chain::Chain;
use crate::config::{Config, ModelEntry, QueueLimits};
use crate::engine::{Engine, Plan};
use crate::integrity::{Gate, Provenance};
use crate::metrics::{Metrics, VersionMetrics};
use crate::model::{Factory, LoadError};
use crate::repository::{ModelSpec, SpecError};

/// Every model that is served.
#[derive(Debug)]
pub struct Models {
    gate: Gate,
    by_name: BTreeMap<String, Vec<Arc<Served>>>,
}

/// One version of a model.
#[derive(Debug)]
pub struct Served {
    /// The model's name.
    pub name: String,
    /// This version.
    pub version: String,
    /// The version, as the header of answers.
    pub version_header: HeaderValue,
    /// Its series.
    pub metrics: VersionMetrics,
    spec: OnceLock<Arc<ModelSpec>>,
    provenance: OnceLock<Provenance>,
    queue: QueueLimits,
    engine: OnceLock<Result<Engine, String>>,
}

/// How a model version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not decided yet.
    Loading,
    /// Loaded and warm.
    Ready,
    /// Not loaded, and why.
    Failed(String),
    /// It was ready, and an instance died.
    Broken(String),
}

/// Nothing of that name is served. The client's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// No such model.
    Model {
        /// The models that there are.
        known: String,
    },
    /// The model has no such version.
    Version {
        /// The versions that are served here.
        known: String,
    },
}

// === impl Models ===

impl Models {
    /// Reads the description of every configured model. A faulty one is not loaded; it fails
    /// nothing else.
    #[must_use]
    pub fn open(config: &Config, metrics: &Metrics) -> Self {
        let gate = Gate::new(
            config.integrity.clone(),
            config.model_repository.clone(),
            metrics.verifications.clone(),
        );
        let mut models = Self {
            gate,
            by_name: BTreeMap::new(),
        };
        for entry in &config.models {
            models.add(entry, config.queue, metrics);
        }
        models
    }

    /// Adds a model, with all its versions loading, or failed when their description is wrong.
    fn add(&mut self, entry: &ModelEntry, queue: QueueLimits, metrics: &Metrics) {
        let serve = |version: &String| {
            let metrics = metrics.version(&entry.name, version);
            let spec = self.gate.spec_unverified(&entry.name, version);
            Arc::new(Served::new(&entry.name, version, spec, queue, metrics))
        };
        let versions = entry.versions.iter().map(serve).collect();
        self.by_name.insert(entry.name.clone(), versions);
    }

    /// What decides whether a version may be loaded.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The version asked for, or the model's first.
    ///
    /// # Errors
    ///
    /// What is not there.
    pub fn find(&self, model: &str, version: Option<&str>) -> Result<&Arc<Served>, NotFound> {
        let versions = self.by_name.get(model).ok_or_else(|| NotFound::Model {
            known: listed(self.by_name.keys().map(String::as_str)),
        })?;
        let found = match version {
            Some(version) => versions.iter().find(|served| served.version == version),
            None => versions.first(),
        };
        found.ok_or_else(|| NotFound::Version {
            known: listed(versions.iter().map(|served| &*served.version)),
        })
    }

    /// Every version of every model.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.by_name.values().flatten()
    }

    /// A model's description, once it is known to be right.
    #[must_use]
    pub fn metadata(&self, served: &Served) -> Option<ModelMetadata> {
        let versions = self.by_name.get(&served.name)?;
        let versions: Vec<_> = versions
            .iter()
            .map(|served| served.version.clone())
            .collect();
        let spec = served.spec()?;
        Some(spec.metadata(&served.name, &versions))
    }

    /// The first version that is not ready, and how it is.
    #[must_use]
    pub fn first_not_ready(&self) -> Option<(&Served, Standing)> {
        let mut standings = self.iter().map(|served| (&**served, served.standing()));
        standings.find(|(_, standing)| *standing != Standing::Ready)
    }

    /// Whether a model can never answer again in this process, because all its instances died.
    #[must_use]
    pub fn any_dead(&self) -> bool {
        self.iter()
            .any(|served| served.engine().is_some_and(Engine::is_dead))
    }

    /// Gives up the runs that take too long.
    pub fn give_up_hung(&self, now: Instant) {
        for engine in self.iter().filter_map(|served| served.engine()) {
            engine.give_up_hung(now);
        }
    }

    /// The answer to `GET /health`.
    #[must_use]
    pub fn health(&self, draining: bool) -> HealthReport {
        let models: Vec<_> = self.iter().map(|served| served.health()).collect();
        let model_version = match models.as_slice() {
            [only] => only.version.clone(),
            several => {
                let names: Vec<_> = several
                    .iter()
                    .map(|one| format!("{}:{}", one.name, one.version))
                    .collect();
                names.join(",")
            }
        };
        let loaded = models.iter().all(|model| model.loaded);
        HealthReport {
            model_version,
            loaded,
            draining,
            models,
        }
    }

    /// Tells every engine to end when its queue is empty.
    pub fn close(&self) {
        for engine in self.iter().filter_map(|served| served.engine()) {
            engine.close();
        }
    }

    /// Ends every engine, all at the same time; says whether all have ended by the deadline.
    #[must_use]
    pub fn stop(&self, deadline: Instant) -> bool {
        self.close();
        let mut all = true;
        for engine in self.iter().filter_map(|served| served.engine()) {
            all &= engine.stop(deadline);
        }
        all
    }
}

// === impl Served ===

impl Served {
    fn new(
        name: &str,
        version: &str,
        spec: Option<Result<Arc<ModelSpec>, SpecError>>,
        queue: QueueLimits,
        metrics: VersionMetrics,
    ) -> Self {
        let served = Self {
            name: name.to_owned(),
            version: version.to_owned(),
            // The configuration admits only names that a header can carry.
            version_header: HeaderValue::from_str(version)
                .unwrap_or(HeaderValue::from_static("unprintable")),
            metrics,
            spec: OnceLock::new(),
            provenance: OnceLock::new(),
            queue,
            engine: OnceLock::new(),
        };
        match spec {
            Some(Ok(spec)) => {
                let _ = served.spec.set(spec);
            }
            Some(Err(error)) => served.fail(&error),
            None => {}
        }
        served
    }

    /// It cannot be loaded; that is its standing from now on.
    pub fn fail(&self, error: &dyn std::error::Error) {
        let (model, version) = (&self.name, &self.version);
        let reason = Chain(error).to_string();
        tracing::error!(model, version, "not loaded: {reason}");
        let _ = self.engine.set(Err(reason));
    }

    /// The model's description, once it is known and right.
    #[must_use]
    pub fn spec(&self) -> Option<&Arc<ModelSpec>> {
        self.spec.get()
    }

    /// What runs it, once it is loaded.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.get()?.as_ref().ok()
    }

    /// How it is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.engine.get() {
            None => Standing::Loading,
            Some(Err(reason)) => Standing::Failed(reason.clone()),
            Some(Ok(engine)) => engine.fault().map_or(Standing::Ready, Standing::Broken),
        }
    }

    /// Takes in what it is, and whose it is, before it is loaded.
    pub fn admit(&self, spec: &Arc<ModelSpec>, provenance: Provenance) {
        let _ = self.spec.get_or_init(|| Arc::clone(spec));
        let _ = self.provenance.set(provenance);
    }

    /// Makes its instances and warms them; blocks until it is ready or has failed, which is then
    /// its standing. Once it is abandoned, it stays as it is.
    ///
    /// Does nothing before it was [admitted](Self::admit).
    pub fn load(&self, factory: Result<Factory, LoadError>, abandoned: &Arc<AtomicBool>) {
        let Some(spec) = self.spec.get() else { return };
        let plan = self.plan(spec, Arc::clone(abandoned));
        let engine =
            factory.and_then(|factory| Engine::start(plan, &factory, self.metrics.clone()));
        let (model, version) = (&self.name, &self.version);
        match engine {
            Ok(engine) => {
                let signer = self
                    .provenance
                    .get()
                    .and_then(|known| known.signer.as_deref());
                tracing::info!(model, version, signer, "loaded and warm");
                if self.engine.set(Ok(engine)).is_ok() {
                    self.metrics.loaded.set(1);
                }
            }
            Err(LoadError::Abandoned) => {
                tracing::info!(model, version, "{}", LoadError::Abandoned);
            }
            Err(error) => self.fail(&error),
        }
    }

    fn plan(&self, spec: &ModelSpec, abandoned: Arc<AtomicBool>) -> Plan {
        Plan {
            name: format!("{}/{}", self.name, self.version),
            signature: Arc::clone(&spec.signature),
            limits: batcher::Limits {
                max_rows: spec.max_batch_rows,
                max_requests: self.queue.requests,
                max_bytes: self.queue.bytes,
                max_wait: spec.max_wait,
            },
            instances: spec.instances,
            run_timeout: spec.run_timeout,
            abandoned,
        }
    }

    fn health(&self) -> ModelHealth {
        let (loaded, warm, reason) = match self.standing() {
            Standing::Loading => (false, false, Some("loading".to_owned())),
            Standing::Ready => (true, true, None),
            Standing::Failed(reason) => (false, false, Some(reason)),
            Standing::Broken(reason) => (true, false, Some(reason)),
        };
        let provenance = self.provenance.get().cloned().unwrap_or_default();
        ModelHealth {
            name: self.name.clone(),
            version: self.version.clone(),
            loaded,
            warm,
            digest: provenance.digest,
            signer: provenance.signer,
            reason: reason.or(provenance.warning),
        }
    }
}
