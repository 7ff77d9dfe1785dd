//! What everything in the proxy shares: the running configuration, the models'
//! policies, the metrics.
//!
//! A configuration is taken whole: the new [`Snapshot`] is built beside the
//! running one and swapped in with one store. A request takes the snapshot once
//! and keeps what it took. Policies are carried over by model name, so that
//! breakers, health and load estimates survive for what stays.
//!
//! What the names and services of endpoints stand for changes more often than the configuration:
//! then the snapshot is replaced by one of the same generation that differs in
//! nothing but its pools ([`Shared::repool`]).

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aegis_policy::ConfigError;
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::{
    access_log::AccessLog,
    admin::Controls,
    body::ReplayMemory,
    clock,
    config::Config,
    health::{Check, HealthSink, Target},
    metrics::Metrics,
    model::Model,
    pools::{Books, Pools},
    rescue::Rescues,
    status::{DnsStatus, KubernetesStatus, ModelStatus, Running, ServicePool, StatusSource},
    trace::Tracer,
};

/// One generation of the configuration, ready to serve.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    config: Arc<Config>,
    pools: Pools,
    models: HashMap<Arc<str>, Arc<Model>>,
    longest_replay: u64,
}

/// What everything shares.
#[derive(Debug)]
pub struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// Held while a configuration or an answer is taken, so that two never mix.
    taking: Mutex<()>,
    books: Books,
    metrics: Arc<Metrics>,
    replay_memory: Arc<ReplayMemory>,
    rescues: Arc<Rescues>,
    access_log: Option<Arc<AccessLog>>,
    tracer: Option<Arc<Tracer>>,
    draining: AtomicBool,
    /// Every model could be answered once.
    has_been_ready: AtomicBool,
}

// === impl Snapshot ===

impl Snapshot {
    fn build(
        generation: u64,
        config: Config,
        books: &Books,
        old: Option<&Self>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ConfigError> {
        let pools = Pools::of(&config, books, old.map(Self::pools));
        let mut models = HashMap::with_capacity(config.models.len());
        for (name, model) in &config.models {
            let running = old.and_then(|old| old.model(name));
            let model = Model::build(name, model, &pools, running, metrics)?;
            models.insert(name.to_arc(), Arc::new(model));
        }
        let limits = config.models.values().map(|m| m.retry.replay_limit_bytes);
        let longest_replay = limits.max().unwrap_or(0);
        Ok(Self {
            generation,
            config: Arc::new(config),
            pools,
            models,
            longest_replay,
        })
    }

    /// The number of this configuration; 1 is the one of the start.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where each version runs.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// The longest body that any model keeps for a retry: what is read of a call
    /// before its model is known.
    #[must_use]
    pub fn longest_replay(&self) -> u64 {
        self.longest_replay
    }

    /// A model, by name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name)
    }

    fn status(&self, model: &Model, books: &Books) -> ModelStatus {
        let mut status = model.status();
        let Some(config) = self.config.models.get(&**model.name()) else {
            return status;
        };
        for (name, status) in &mut status.versions {
            if let Some(pool) = self.pools.pool(model.name(), name)
                && let Some(version) = config.versions.get(&**name)
            {
                status.add_origins(pool, version);
                status.service = ServicePool::of(version, &books.kubernetes);
            }
        }
        status
    }

    /// All models.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values()
    }
}

// === impl Shared ===

impl Shared {
    /// Starts with the first configuration.
    ///
    /// # Errors
    /// What validation should have found; the message says what.
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Result<Self, ConfigError> {
        let replay_memory = ReplayMemory::new(config.limits.replay_memory_bytes);
        let books = Books::default();
        books.follow(&config);
        let snapshot = Snapshot::build(1, config, &books, None, &metrics)?;
        let shared = Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            taking: Mutex::new(()),
            books,
            metrics,
            replay_memory,
            rescues: Arc::default(),
            access_log: None,
            tracer: None,
            draining: AtomicBool::new(false),
            has_been_ready: AtomicBool::new(false),
        };
        shared.reconcile_metrics();
        Ok(shared)
    }

    /// Writes requests down from now on.
    #[must_use]
    pub fn with_access_log(self, access_log: Option<Arc<AccessLog>>) -> Self {
        Self { access_log, ..self }
    }

    /// Puts requests into traces from now on.
    #[must_use]
    pub fn with_tracer(self, tracer: Option<Arc<Tracer>>) -> Self {
        Self { tracer, ..self }
    }

    /// Takes a configuration whole, and returns its generation.
    ///
    /// # Errors
    /// As [`Self::new`]; the running configuration stays.
    pub fn take(&self, config: Config) -> Result<u64, ConfigError> {
        let _one_at_a_time = self.taking.lock();
        let old = self.snapshot.load();
        // A model that is new must not undo that it was ready, though nobody had asked.
        self.answers_enough(old.models().map(|model| model.can_serve()));
        let generation = old.generation + 1;
        let snapshot = Snapshot::build(generation, config, &self.books, Some(&old), &self.metrics)?;
        for model in snapshot.models() {
            model.adopt();
        }
        self.books.follow(&snapshot.config);
        self.snapshot.store(Arc::new(snapshot));
        self.reconcile_metrics();
        Ok(generation)
    }

    /// Moves the pools to what the names and services of endpoints stand for now. Returns
    /// what changed, one line a version.
    pub fn repool(&self) -> Vec<String> {
        let _one_at_a_time = self.taking.lock();
        let old = self.snapshot.load();
        let pools = Pools::of(&old.config, &self.books, Some(&old.pools));
        if pools == old.pools {
            return Vec::new();
        }
        // First, so that whatever happens at a new endpoint has its series.
        self.metrics.repool(&old.config, &pools);
        for model in old.models() {
            if !pools.same_for(model.name(), &old.pools)
                && let Err(error) = model.repool(&pools)
            {
                tracing::error!(model = %model.name(), %error, "its endpoints stay as they were");
            }
        }
        let changes = pools.diff(&old.pools);
        self.snapshot.store(Arc::new(Snapshot {
            generation: old.generation,
            config: Arc::clone(&old.config),
            pools,
            models: old.models.clone(),
            longest_replay: old.longest_replay,
        }));
        changes
    }

    fn reconcile_metrics(&self) {
        let snapshot = self.snapshot();
        self.metrics
            .reconcile(&snapshot.config, &snapshot.pools, snapshot.generation);
    }

    /// What names and services of endpoints stand for.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The running configuration.
    #[must_use]
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The running configuration, to be held for longer.
    #[must_use]
    pub fn snapshot_owned(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The memory for bodies.
    #[must_use]
    pub fn replay_memory(&self) -> &Arc<ReplayMemory> {
        &self.replay_memory
    }

    /// Where requests are written down, if they are.
    #[must_use]
    pub fn access_log(&self) -> Option<&Arc<AccessLog>> {
        self.access_log.as_ref()
    }

    /// What puts requests into traces, if anything does.
    #[must_use]
    pub fn tracer(&self) -> Option<&Arc<Tracer>> {
        self.tracer.as_ref()
    }

    /// Attempts that wait for their first byte.
    #[must_use]
    pub fn rescues(&self) -> &Arc<Rescues> {
        &self.rescues
    }

    /// From now on the proxy says that it is not ready.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the proxy is going away.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether requests are to be sent here, which is so while no drain is on, and:
    ///
    /// - until it was so for the first time: when every model can be answered, by a version
    ///   or its fallback;
    /// - from then on: when any can. All proxies run one configuration; if one model without
    ///   endpoints made them unready, it would take the others with it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let snapshot = self.snapshot();
        !self.is_draining() && self.answers_enough(snapshot.models().map(|model| model.can_serve()))
    }

    /// Takes which models can be answered.
    fn answers_enough(&self, models: impl Iterator<Item = bool>) -> bool {
        let (all, any) = models.fold((true, false), |(all, any), can| (all && can, any || can));
        let before = self.has_been_ready.fetch_or(all, Ordering::AcqRel);
        all || (before && any)
    }
}

impl HealthSink for Shared {
    fn checked(&self, target: &Target, check: &Check) {
        if let Some(model) = self.snapshot().model(&target.model) {
            model.check(&target.version, target.address, check.into());
        }
    }
}

impl Controls for Shared {
    fn set_drained(&self, model: &str, version: &str, endpoint: SocketAddr, drained: bool) -> bool {
        let snapshot = self.snapshot();
        let model = snapshot.model(model);
        model.is_some_and(|model| model.set_drained(version, endpoint, drained))
    }
}

impl StatusSource for Shared {
    fn serves_all(&self) -> bool {
        let all = self.snapshot().models().all(|model| model.can_serve());
        self.has_been_ready.fetch_or(all, Ordering::AcqRel);
        all && !self.is_draining()
    }

    fn running(&self) -> Running {
        let snapshot = self.snapshot_owned();
        let now = clock::now();
        let names = self.books.dns.status(now);
        let names = names.iter().map(|(name, host)| (name.clone(), host.into()));
        let services = self.books.kubernetes.status(now);
        let services = services.iter().map(|(name, is)| (name.clone(), is.into()));
        let draining = self.is_draining();
        let models = snapshot.models().map(|model| {
            let status = snapshot.status(model, &self.books);
            (model.name().to_string(), status)
        });
        let models: BTreeMap<_, _> = models.collect();
        Running {
            generation: snapshot.generation,
            draining,
            ready: !draining && self.answers_enough(models.values().map(|model| model.ready)),
            models,
            dns: DnsStatus {
                names: names.collect(),
                addresses_left_out: self.books.dns.left_out() + snapshot.pools.left_out(),
            },
            kubernetes: KubernetesStatus {
                services: services.collect(),
            },
        }
    }
}
