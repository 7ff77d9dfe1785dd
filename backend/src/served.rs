//! The model versions that this process serves, and how each is.
//!
//! The set begins as the configuration says; each version is *loading* until the
//! [loader](crate::loader) has decided, once, that it is ready or why it is not. A version that failed
//! to load stays where it is with its reason: the others are served, and the process can be asked what
//! is wrong.
//!
//! The set is replaced as a whole where models are loaded or unloaded at run time. A request takes
//! what it needs out of it once, without a lock, and holds its version as long as it lasts; what is
//! no longer in the set is retired: it ends when nobody holds it any more.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aegis_protocol::{HealthReport, ModelHealth, ModelMetadata, listed};
use arc_swap::ArcSwap;
use http::HeaderValue;
use parking_lot::Mutex;

use crate::batcher;
use crate::chain::Chain;
use crate::config::{Config, ModelEntry, QueueLimits};
use crate::control::Control;
use crate::engine::{Engine, Plan};
use crate::integrity::{Gate, Provenance};
use crate::metrics::{Metrics, VersionMetrics};
use crate::model::{Factory, LoadError};
use crate::repository::{ModelSpec, SpecError};
use crate::safety::{self, GuardError};
use crate::seldom::Seldom;

/// How often the log tells of a version's requests that failed, and of what safety checks found in them.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Every model that is served.
#[derive(Debug)]
pub struct Models {
    gate: Gate,
    control: Control,
    configured: Vec<ModelEntry>,
    queue: QueueLimits,
    metrics: Metrics,
    set: ArcSwap<Set>,
    /// Not in the set any more, and perhaps not idle yet.
    retired: Mutex<Vec<Arc<Served>>>,
}

/// The versions of each model, in their order.
type Set = BTreeMap<String, Vec<Arc<Served>>>;

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
    /// Lets a line about findings through now and then.
    pub(crate) findings_told: Mutex<Seldom>,
    /// And one about requests that failed.
    pub(crate) failures_told: Mutex<Seldom>,
    spec: OnceLock<Arc<ModelSpec>>,
    /// The description with the statistics of this version, once it was admitted.
    admitted: OnceLock<Arc<ModelSpec>>,
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
    /// It was ready, and an instance is lost, or fails every run.
    Broken(String),
    /// It would be ready, and a guard that it cannot answer without is not.
    Unguarded(String),
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
        let gate = Gate::new(config, metrics.verifications.clone());
        let control = Control::new(
            config.integrity.model_control,
            metrics.model_control.clone(),
        );
        let models = Self {
            gate,
            control,
            configured: config.models.clone(),
            queue: config.queue,
            metrics: metrics.clone(),
            set: ArcSwap::default(),
            retired: Mutex::default(),
        };
        for entry in &config.models {
            models.put(&entry.name, models.versions(&entry.name, &entry.versions));
        }
        models
    }

    /// These versions of a model, all loading, or failed when their description is wrong.
    pub(crate) fn versions(&self, model: &str, versions: &[String]) -> Vec<Arc<Served>> {
        let serve = |version: &String| {
            let metrics = self.metrics.version(model, version);
            let spec = self.gate.spec_unverified(model, version);
            Arc::new(Served::new(model, version, spec, self.queue, metrics))
        };
        versions.iter().map(serve).collect()
    }

    /// Serves these versions of a model from now on, and no others.
    pub(crate) fn put(&self, model: &str, versions: Vec<Arc<Served>>) {
        let mut set = Set::clone(&self.set.load());
        let old = if versions.is_empty() {
            set.remove(model)
        } else {
            set.insert(model.to_owned(), versions)
        };
        self.set.store(Arc::new(set));
        let old = old.unwrap_or_default();
        self.forget_series(model, old.iter().map(|served| &*served.version));
        self.retire(model, old);
    }

    /// Removes the series of versions that are not served: or what was once loaded would be shown
    /// for ever.
    pub(crate) fn forget_series<'v>(&self, model: &str, versions: impl Iterator<Item = &'v str>) {
        let set = self.set.load();
        let served = set.get(model).map_or(&[][..], Vec::as_slice);
        for version in versions.filter(|version| !served.iter().any(|one| one.version == *version))
        {
            self.metrics.forget(model, version);
        }
    }

    /// Lets go of versions of a model that are served no more: each goes on until the requests that hold
    /// it are answered, and its engine is then [ended](Self::end_retired). The gauges, which a version has
    /// in common with the one that it was made anew from, are those of what is served.
    pub(crate) fn retire(&self, model: &str, versions: Vec<Arc<Served>>) {
        for engine in versions.iter().filter_map(|served| served.engine()) {
            engine.retire();
        }
        self.retired.lock().extend(versions);
        for served in self.served(model) {
            served.show();
        }
    }

    /// Ends the retired versions that nobody holds any more; says whether some are left.
    pub(crate) fn end_retired(&self, deadline: Instant) -> bool {
        // Ending takes a moment, in which nobody should wait for the lock.
        let mut leaving = std::mem::take(&mut *self.retired.lock());
        leaving.retain(|served| {
            let idle = Arc::strong_count(served) == 1;
            !(idle && served.engine().is_none_or(|engine| engine.stop(deadline)))
        });
        let mut retired = self.retired.lock();
        retired.append(&mut leaving);
        !retired.is_empty()
    }

    /// What loads and unloads models at run time.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The versions of a model that are served.
    #[must_use]
    pub fn served(&self, model: &str) -> Vec<Arc<Served>> {
        self.set.load().get(model).cloned().unwrap_or_default()
    }

    /// The versions of a model that the configuration names.
    #[must_use]
    pub fn configured(&self, model: &str) -> Option<&[String]> {
        let mut entries = self.configured.iter();
        Some(&entries.find(|entry| entry.name == model)?.versions)
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
    pub fn find(&self, model: &str, version: Option<&str>) -> Result<Arc<Served>, NotFound> {
        let set = self.set.load();
        let versions = set.get(model).ok_or_else(|| NotFound::Model {
            known: listed(set.keys().map(String::as_str)),
        })?;
        let found = match version {
            Some(version) => versions.iter().find(|served| served.version == version),
            None => versions.first(),
        };
        found.cloned().ok_or_else(|| NotFound::Version {
            known: listed(versions.iter().map(|served| &*served.version)),
        })
    }

    /// Every version of every model that is served now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.set.load().values().flatten().cloned().collect()
    }

    /// A model's description, once it is known to be right.
    #[must_use]
    pub fn metadata(&self, served: &Served) -> Option<ModelMetadata> {
        let set = self.set.load();
        let versions = set.get(&served.name).map_or(&[][..], Vec::as_slice);
        let versions: Vec<_> = versions
            .iter()
            .map(|served| served.version.clone())
            .collect();
        let spec = served.spec()?;
        Some(spec.metadata(&served.name, &versions))
    }

    /// How a version is, its guards among what it needs: where a check that cannot be made blocks, it
    /// answers nobody without them.
    #[must_use]
    pub fn standing(&self, served: &Served) -> Standing {
        match served.standing() {
            Standing::Ready => self
                .guard_not_ready(served)
                .map_or(Standing::Ready, Standing::Unguarded),
            other => other,
        }
    }

    /// Why a guard that this version needs is not ready. Guards are asked without their own.
    fn guard_not_ready(&self, served: &Served) -> Option<String> {
        let safety = &served.spec()?.safety;
        if safety.on_error != safety::Action::Block {
            return None;
        }
        safety.guards.iter().find_map(|guard| {
            let reason = match self.find(&guard.model, guard.version.as_deref()) {
                Ok(found) => match found.standing() {
                    Standing::Ready => return None,
                    standing => standing.reason(),
                },
                Err(_) => GuardError::NotServed.to_string(),
            };
            Some(guard.says(reason))
        })
    }

    /// The first version that is not ready, and how it is.
    #[must_use]
    pub fn first_not_ready(&self) -> Option<(Arc<Served>, Standing)> {
        let mut standings = self.all().into_iter().map(|served| {
            let standing = self.standing(&served);
            (served, standing)
        });
        standings.find(|(_, standing)| *standing != Standing::Ready)
    }

    /// Whether an instance of a model is lost. The others go on, and the model is broken in this process
    /// for ever.
    #[must_use]
    pub fn any_lost(&self) -> bool {
        let set = self.set.load();
        let mut engines = set.values().flatten().filter_map(|served| served.engine());
        engines.any(Engine::has_lost_instances)
    }

    /// Gives up the runs that take too long.
    pub fn give_up_hung(&self, now: Instant) {
        for served in self.all_and_retired() {
            if let Some(engine) = served.engine() {
                engine.give_up_hung(now);
            }
        }
    }

    /// The answer to `GET /health`.
    #[must_use]
    pub fn health(&self, draining: bool) -> HealthReport {
        let all = self.all();
        let health = |served: &Arc<Served>| served.health(self.standing(served));
        let models: Vec<_> = all.iter().map(health).collect();
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
        for served in self.all_and_retired() {
            if let Some(engine) = served.engine() {
                engine.close();
            }
        }
    }

    fn all_and_retired(&self) -> Vec<Arc<Served>> {
        let mut all = self.all();
        all.extend(self.retired.lock().iter().cloned());
        all
    }

    /// Ends every engine, all at the same time; says whether all have ended by the deadline.
    #[must_use]
    pub fn stop(&self, deadline: Instant) -> bool {
        self.close();
        let mut all = true;
        for served in self.all_and_retired() {
            all &= served.engine().is_none_or(|engine| engine.stop(deadline));
        }
        all
    }
}

// === impl Standing ===

impl Standing {
    /// Why it does not answer.
    #[must_use]
    pub fn reason(self) -> String {
        match self {
            Self::Loading => "it is loading".to_owned(),
            Self::Ready => "it has only just become so".to_owned(),
            Self::Failed(reason) | Self::Broken(reason) | Self::Unguarded(reason) => reason,
        }
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
            findings_told: Mutex::new(Seldom::new(TELL_EVERY)),
            failures_told: Mutex::new(Seldom::new(TELL_EVERY)),
            spec: OnceLock::new(),
            admitted: OnceLock::new(),
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
        self.admitted.get().or_else(|| self.spec.get())
    }

    /// What runs it, once it is loaded.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.get()?.as_ref().ok()
    }

    /// How it is by itself; [`Models::standing`] looks at its guards too.
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
        let _ = self.admitted.set(Arc::clone(spec));
        let _ = self.provenance.set(provenance);
    }

    /// Makes its instances and warms them; blocks until it is ready or has failed, which is then
    /// its standing. Once it is abandoned, it stays as it is.
    ///
    /// Does nothing before it was [admitted](Self::admit).
    pub fn load(&self, factory: Result<Factory, LoadError>, abandoned: &Arc<AtomicBool>) {
        let Some(spec) = self.spec() else { return };
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
                let _ = self.engine.set(Ok(engine));
            }
            Err(LoadError::Abandoned) => {
                tracing::info!(model, version, "{}", LoadError::Abandoned);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Shows how it is, in the gauges of its version.
    pub fn show(&self) {
        match self.engine() {
            Some(engine) => engine.show(),
            None => self.metrics.loaded.set(0),
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
            stateful: spec.stateful,
            abandoned,
        }
    }

    fn health(&self, standing: Standing) -> ModelHealth {
        let (loaded, warm, reason) = match standing {
            Standing::Loading => (false, false, Some("loading".to_owned())),
            Standing::Ready => (true, true, None),
            Standing::Failed(reason) => (false, false, Some(reason)),
            Standing::Broken(reason) | Standing::Unguarded(reason) => (true, false, Some(reason)),
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
