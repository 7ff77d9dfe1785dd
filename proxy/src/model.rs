//! One model as the shell sees it: its decisions behind one short lock, and
//! everything that a request needs of it worked out beforehand.
//!
//! The lock is the only one on a request's path. It is held for a decision or
//! a record, some hundred nanoseconds, and never across an await. What is behind
//! it outlives configurations: every generation has its own [`Model`]s, and
//! those of one name share one decider. The handles of the versions are
//! behind the lock too, so that a decision always comes with the handle of its
//! version, even in the moment between two generations.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_policy::{
    Admitted, Again, Ask, CheckResult, ChosenBy, ConfigError, EndpointKey, ModelConfig,
    ModelPolicy, Observed, Permit, Purpose, Refusal, Refused, RouteKind, StandIn, Suspect,
    Transition,
};
use aegis_protocol::path;
use http::{HeaderValue, Uri};
use parking_lot::Mutex;
use prometheus::Histogram;

use crate::{
    clock, config,
    lease::Lease,
    metrics::{Metrics, VersionMetrics},
    pools::Pools,
    request::Action,
    shadow::Shadow,
    status::ModelStatus,
};

mod queue;

pub use queue::Place;
use queue::Waiters;

/// A model in one generation of the configuration.
#[derive(Debug)]
pub struct Model {
    name: Arc<str>,
    config: config::Model,
    wanted: ModelConfig,
    versions: Vec<Arc<Version>>,
    shadow: Option<Arc<Shadow>>,
    metrics: Arc<Metrics>,
    queue_seconds: Histogram,
    decider: Arc<Mutex<Decider>>,
}

/// The policy, and the versions that it knows.
#[derive(Debug)]
struct Decider {
    policy: ModelPolicy,
    versions: Vec<Arc<Version>>,
    waiters: Waiters,
}

/// A version, with what its requests need.
#[derive(Debug)]
pub struct Version {
    name: Arc<str>,
    header: HeaderValue,
    infer: Uri,
    generate: Uri,
    generate_stream: Uri,
    metadata: Uri,
    metrics: VersionMetrics,
}

/// What becomes of a request that is not refused.
#[derive(Debug)]
pub enum Entry {
    /// It is tried now.
    Go(Attempt),
    /// It waits for a slot.
    Wait(Place),
}

/// One attempt at a request.
#[derive(Debug)]
pub struct Attempt {
    /// The right to make it.
    pub lease: Lease,
    /// The endpoint, to remember that it was tried.
    pub endpoint: EndpointKey,
    /// Where it goes.
    pub address: SocketAddr,
    /// The version that answers.
    pub version: Arc<Version>,
    /// The version that was chosen first.
    pub chosen: Arc<str>,
    /// How that was chosen.
    pub by: ChosenBy,
    /// How the version that answers came about.
    pub kind: RouteKind,
    /// How long to wait for the first byte of the answer.
    pub first_byte_within: Duration,
    /// Whether to ask the endpoint for its load beside the answer.
    pub asks_load: bool,
}

// === impl Model ===

impl Model {
    /// Makes a model of a new generation beside the running one. The policy
    /// that they share is told by [`Self::adopt`].
    ///
    /// # Errors
    /// What validation should have found.
    pub fn build(
        name: &config::Name,
        config: &config::Model,
        pools: &Pools,
        running: Option<&Arc<Self>>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ConfigError> {
        let wanted = config.decided_by(|version| pools.addresses(name, version))?;
        let version = |version| Arc::new(Version::new(name, version, metrics));
        let versions: Vec<_> = config.versions.keys().map(version).collect();
        let decider = match running {
            Some(running) => Arc::clone(&running.decider),
            None => Arc::new(Mutex::new(Decider {
                policy: ModelPolicy::new(wanted.clone(), clock::now()),
                versions: versions.clone(),
                waiters: Waiters::default(),
            })),
        };
        let shadow = shadow(name, config, &versions, running, metrics);
        Ok(Self {
            name: name.to_arc(),
            config: config.clone(),
            wanted,
            versions,
            shadow,
            metrics: Arc::clone(metrics),
            queue_seconds: metrics.queue_seconds(name),
            decider,
        })
    }

    /// Tells the shared policy of this generation's configuration.
    pub fn adopt(&self) {
        let mut decider = self.decider.lock();
        decider
            .policy
            .reconfigure(self.wanted.clone(), clock::now());
        decider.versions.clone_from(&self.versions);
        decider.serve_queue();
    }

    /// Tells the shared policy where this generation's versions run now.
    ///
    /// # Errors
    /// None in practice: a pool has each address once.
    pub fn repool(&self, pools: &Pools) -> Result<(), ConfigError> {
        let wanted = self
            .config
            .decided_by(|version| pools.addresses(&self.name, version))?;
        let mut decider = self.decider.lock();
        decider.policy.reconfigure(wanted, clock::now());
        decider.serve_queue();
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How it is served.
    #[must_use]
    pub fn config(&self) -> &config::Model {
        &self.config
    }

    /// Its versions.
    #[must_use]
    pub fn versions(&self) -> &[Arc<Version>] {
        &self.versions
    }

    /// One of its versions.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<&Arc<Version>> {
        let mut versions = self.versions.iter();
        versions.find(|version| *version.name == *name)
    }

    /// What is asked beside, if anything is.
    #[must_use]
    pub fn shadow(&self) -> Option<&Arc<Shadow>> {
        self.shadow.as_ref()
    }

    /// An endpoint of a version that serves; nothing is remembered of the choice.
    #[must_use]
    pub fn look(&self, version: &str) -> Option<SocketAddr> {
        let decider = self.decider.lock();
        decider.policy.look(version, clock::now(), &mut rand::rng())
    }

    /// Where what happens to it is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Chooses for a request's first attempt.
    ///
    /// # Errors
    /// As [`ModelPolicy::admit`].
    pub fn admit(self: &Arc<Self>, ask: Ask<'_>, now: Instant) -> Result<Entry, Refused> {
        let mut decider = self.decider.lock();
        match decider.policy.admit(ask, now, &mut rand::rng())? {
            Admitted::Now(attempt) => {
                let version = decider.version(&attempt.version);
                drop(decider);
                self.begin(attempt, version).map(Entry::Go)
            }
            Admitted::Queued(waiter) => {
                Ok(Entry::Wait(Place::new(self, &mut decider, waiter, now)))
            }
        }
    }

    /// Chooses again, elsewhere.
    ///
    /// # Errors
    /// As [`ModelPolicy::again`].
    pub fn again(self: &Arc<Self>, again: Again<'_>) -> Result<Attempt, Refusal> {
        self.decide(|policy| policy.again(again, clock::now(), &mut rand::rng()))
    }

    /// What is answered for a version whose attempts have failed, if not an error.
    #[must_use]
    pub fn give_up(&self, chosen: &Arc<str>, by: ChosenBy, purpose: Purpose) -> Option<StandIn> {
        self.config.static_answer.as_ref()?;
        let decider = self.decider.lock();
        decider.policy.give_up(chosen, by, purpose)
    }

    /// Takes a permit back.
    pub fn release(&self, permit: Permit, broke_off: bool, now: Instant) {
        self.learn(true, |policy| {
            policy.release(permit, broke_off, now, &mut rand::rng())
        });
    }

    /// The whole request is on its way.
    pub fn sent(&self, permit: &Permit, now: Instant) {
        self.decider.lock().policy.sent(permit, now);
    }

    /// Takes what an attempt taught.
    pub fn judge(&self, permit: &Permit, observed: Observed, now: Instant) {
        // A probe that went well lets others follow.
        self.learn(permit.is_probe(), |policy| {
            policy.judge(permit, observed, now, &mut rand::rng())
        });
    }

    /// Takes a permit back and leaves its verdict open.
    #[must_use]
    pub fn suspect(&self, permit: Permit) -> Option<Suspect> {
        let now = clock::now();
        let mut decider = self.decider.lock();
        let suspect = decider.policy.suspect(permit, now);
        decider.serve_queue();
        suspect
    }

    /// Takes the verdict.
    pub fn resolve(&self, suspect: Suspect, guilty: bool) {
        let now = clock::now();
        self.learn(false, |policy| {
            policy.resolve(suspect, guilty, now, &mut rand::rng())
        });
    }

    /// Looks for requests that have been out for too long.
    pub fn tick(&self) {
        let now = clock::now();
        // What changes by itself, such as how much a slow start lets in, is seen here.
        self.learn(true, |policy| policy.tick(now, &mut rand::rng()));
    }

    /// Takes the answer to an active check.
    pub fn check(&self, version: &str, address: SocketAddr, result: CheckResult) {
        let now = clock::now();
        let mut decider = self.decider.lock();
        let (changed, moved) = decider.policy.check(version, address, result, now);
        decider.serve_queue();
        drop(decider);
        if let Some(transition) = moved {
            self.moved(&transition);
        }
        if let Some(health) = changed {
            tracing::info!(model = %self.name, version, endpoint = %address, ?health, "health changed");
        }
    }

    /// Takes an endpoint out of the choice, or back in; false when there is none.
    pub fn set_drained(&self, version: &str, address: SocketAddr, drained: bool) -> bool {
        let now = clock::now();
        let mut decider = self.decider.lock();
        let known = decider.policy.set_drained(version, address, drained, now);
        decider.serve_queue();
        known
    }

    /// Whether every version that takes traffic, or its fallback, might answer.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        self.decider.lock().policy.can_serve()
    }

    /// The part of a version's endpoints that serves, from 0 to 1.
    #[must_use]
    pub fn available(&self, version: &str) -> f64 {
        self.decider.lock().policy.available(version).unwrap_or(0.0)
    }

    /// All that the policy knows, for people.
    #[must_use]
    pub fn status(&self) -> ModelStatus {
        let decider = self.decider.lock();
        let ready = decider.policy.can_serve();
        let queued = decider.policy.queued();
        let versions = decider.policy.status(clock::now());
        drop(decider);
        let fallback = self.config.fallback.iter();
        ModelStatus {
            shadow: self.shadow.as_ref().map(|shadow| shadow.status()),
            ready,
            queued,
            max_queued: self.config.admission.max_queued as usize,
            static_answer: self.config.static_answer.is_some(),
            fallback: fallback.map(ToString::to_string).collect(),
            versions: versions
                .iter()
                .map(|version| (version.name.to_string(), version.into()))
                .collect(),
        }
    }

    /// The version that most of the traffic goes to.
    #[must_use]
    pub fn main_version(&self) -> Option<&config::Name> {
        let versions = self.config.versions.iter();
        versions
            .max_by(|(_, a), (_, b)| a.weight.total_cmp(&b.weight))
            .map(|(name, _)| name)
    }

    /// Tells the policy something, and the world what that moved. Those that wait are only
    /// looked at where their turn may have come: where this gives `room`, or a breaker moved.
    fn learn<M: IntoIterator<Item = Transition>>(
        &self,
        room: bool,
        tell: impl FnOnce(&mut ModelPolicy) -> M,
    ) {
        let mut decider = self.decider.lock();
        let mut moved = tell(&mut decider.policy).into_iter().peekable();
        if room || moved.peek().is_some() {
            decider.serve_queue();
        }
        drop(decider);
        for transition in moved {
            self.moved(&transition);
        }
    }

    fn decide<E: From<Refusal>>(
        self: &Arc<Self>,
        choose: impl FnOnce(&mut ModelPolicy) -> Result<aegis_policy::Attempt, E>,
    ) -> Result<Attempt, E> {
        let mut decider = self.decider.lock();
        let attempt = choose(&mut decider.policy)?;
        let version = decider.version(&attempt.version);
        drop(decider);
        self.begin(attempt, version)
    }

    /// Takes charge of an attempt that the policy has decided on.
    fn begin<E: From<Refusal>>(
        self: &Arc<Self>,
        attempt: aegis_policy::Attempt,
        version: Option<Arc<Version>>,
    ) -> Result<Attempt, E> {
        if let Some(transition) = &attempt.transition {
            self.moved(transition);
        }
        let endpoint = attempt.permit.endpoint();
        let lease = Lease::new(Arc::clone(self), attempt.permit);
        Ok(Attempt {
            lease,
            endpoint,
            address: attempt.address,
            version: version.ok_or(Refusal::UnknownVersion)?,
            chosen: attempt.chosen,
            by: attempt.by,
            kind: attempt.kind,
            first_byte_within: attempt.first_byte_within,
            asks_load: attempt.asks_load,
        })
    }

    /// A breaker has moved: say so.
    fn moved(&self, transition: &Transition) {
        let step = transition.step;
        tracing::warn!(
            model = %self.name,
            version = %transition.version,
            endpoint = %transition.address,
            to = step.to.label(),
            reason = %step.reason,
            "a breaker moved"
        );
        self.metrics.breaker_moved(&self.name, transition);
    }
}

/// The shadow of a model: the running one, unless it is set in another way.
fn shadow(
    name: &config::Name,
    config: &config::Model,
    versions: &[Arc<Version>],
    running: Option<&Arc<Model>>,
    metrics: &Arc<Metrics>,
) -> Option<Arc<Shadow>> {
    let settings = config.shadow.as_ref()?;
    let connect = config.timeouts.connect;
    let same = |running: &&Arc<Shadow>| running.is_set_as(settings, connect);
    if let Some(running) = running.and_then(|model| model.shadow()).filter(same) {
        return Some(Arc::clone(running));
    }
    let mut versions = versions.iter();
    let version = versions.find(|version| *version.name == *settings.version)?;
    let shadow = Shadow::new(name, settings, Arc::clone(version), connect, metrics);
    Some(Arc::new(shadow))
}

// === impl Decider ===

impl Decider {
    fn version(&self, name: &str) -> Option<Arc<Version>> {
        let mut versions = self.versions.iter();
        versions.find(|version| *version.name == *name).cloned()
    }
}

// === impl Version ===

impl Version {
    fn new(model: &config::Name, version: &config::Name, metrics: &Metrics) -> Self {
        // Names hold only characters that paths and headers take as they are.
        let uri = |path: String| Uri::try_from(path).unwrap_or_default();
        Self {
            name: version.to_arc(),
            header: HeaderValue::try_from(&**version).unwrap_or(HeaderValue::from_static("")),
            infer: uri(path::infer(model, Some(version))),
            generate: uri(path::generate(model, Some(version), false)),
            generate_stream: uri(path::generate(model, Some(version), true)),
            metadata: uri(path::model(model, Some(version))),
            metrics: metrics.version(model, version),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its name, as a header's value.
    #[must_use]
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Where a backend answers an inference by it.
    #[must_use]
    pub fn infer(&self) -> &Uri {
        &self.infer
    }

    /// Where a backend answers `action` for it; none where the message says it.
    #[must_use]
    pub fn uri(&self, action: Action) -> Option<&Uri> {
        match action {
            Action::Infer => Some(&self.infer),
            Action::Generate => Some(&self.generate),
            Action::GenerateStream | Action::Upgrade => Some(&self.generate_stream),
            Action::Metadata => Some(&self.metadata),
            Action::CallInfer | Action::CallStream | Action::CallMetadata => None,
        }
    }

    /// What is counted for it.
    #[must_use]
    pub fn metrics(&self) -> &VersionMetrics {
        &self.metrics
    }
}
