//! Active checks: asks every endpoint, again and again, whether it is ready.
//!
//! One task an endpoint and version asks, on a fresh connection each time, so
//! that a backend that no longer accepts is seen as one. The answer is only
//! reported: how many in a row change what is decided by `aegis-policy`.
//!
//! Tasks follow the configuration ([`Checks::follow`]): those whose
//! endpoint and settings stay run on undisturbed, so that a reload never makes a
//! healthy endpoint look new. Intervals are jittered from a seed, or 10,000
//! checks would beat as one.

mod probe;
mod verdict;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use aegis_policy::CheckResult;
use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::Semaphore, task::JoinHandle, time::Instant};

use crate::{
    config::{Config, HealthCheck, Name},
    pools::Pools,
};

pub use verdict::{Check, Down, MAX_BODY_BYTES};

/// Checks under way at once; more wait for their turn, outside their timeout.
const MAX_AT_ONCE: usize = 256;
/// How far an interval strays to either side.
const JITTER: f64 = 0.1;

/// Hears the answers.
pub trait HealthSink: Send + Sync + 'static {
    /// One check of `target` has ended.
    fn checked(&self, target: &Target, check: &Check);
}

/// What is checked: one version at one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
    /// Where it runs.
    pub address: SocketAddr,
}

/// What the last check of each target found, where it did not pass. Cheap to
/// clone.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Mutex<HashMap<Target, String>>>);

/// Runs the checks of a configuration; dropping it ends them.
pub struct Checks {
    sink: Arc<dyn HealthSink>,
    seed: u64,
    slots: Arc<Semaphore>,
    findings: Findings,
    tasks: HashMap<Target, Task>,
}

/// One target's task, with what it was started with.
struct Task {
    settings: HealthCheck,
    handle: JoinHandle<()>,
}

// === impl Checks ===

impl Checks {
    /// Starts to check the endpoints in `pools`, as `config` says. Call it within a tokio runtime.
    #[must_use]
    pub fn start(sink: Arc<dyn HealthSink>, config: &Config, pools: &Pools) -> Self {
        Self::start_with_seed(sink, config, pools, rand::random())
    }

    /// As [`Checks::start`], with the same jitter for the same seed.
    #[must_use]
    pub fn start_with_seed(
        sink: Arc<dyn HealthSink>,
        config: &Config,
        pools: &Pools,
        seed: u64,
    ) -> Self {
        let mut checks = Self {
            sink,
            seed,
            slots: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            findings: Findings::default(),
            tasks: HashMap::new(),
        };
        checks.follow(config, pools);
        checks
    }

    /// What the last checks found.
    #[must_use]
    pub fn findings(&self) -> Findings {
        self.findings.clone()
    }

    /// Checks exactly the endpoints in `pools` from now on. New ones are asked at
    /// once. Call it within a tokio runtime.
    pub fn follow(&mut self, config: &Config, pools: &Pools) {
        let wanted = wanted(config, pools);
        self.tasks
            .retain(|target, task| wanted.get(target).is_some_and(|s| **s == task.settings));
        self.findings.retain(|target| wanted.contains_key(target));
        for (target, settings) in wanted {
            if !self.tasks.contains_key(&target) {
                let task = self.spawn(target.clone(), settings.clone());
                self.tasks.insert(target, task);
            }
        }
    }

    fn spawn(&self, target: Target, settings: HealthCheck) -> Task {
        let checker = Checker {
            rng: rng_for(self.seed, &target),
            path: settings.path_for(&target.model, &target.version),
            target,
            settings: settings.clone(),
            sink: Arc::clone(&self.sink),
            slots: Arc::clone(&self.slots),
            findings: self.findings.clone(),
        };
        Task {
            settings,
            handle: tokio::spawn(checker.run()),
        }
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks")
            .field("targets", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

/// Every target of a configuration, with how it is checked.
fn wanted<'a>(config: &'a Config, pools: &Pools) -> HashMap<Target, &'a HealthCheck> {
    let mut wanted = HashMap::new();
    for (name, version, address) in pools.endpoints() {
        if let Some(model) = config.models.get(name) {
            let target = Target {
                model: name.clone(),
                version: version.clone(),
                address,
            };
            wanted.insert(target, &model.health_check);
        }
    }
    wanted
}

// === impl Task ===

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

// === impl Findings ===

impl Findings {
    /// What the last check found; none when it passed, or there was none.
    #[must_use]
    pub fn of(&self, target: &Target) -> Option<String> {
        self.0.lock().get(target).cloned()
    }

    fn note(&self, target: &Target, check: &Check) {
        let mut findings = self.0.lock();
        match check {
            Check::Up => findings.remove(target),
            Check::Down(down) => findings.insert(target.clone(), down.to_string()),
            Check::Draining => findings.insert(target.clone(), "draining".to_owned()),
        };
    }

    fn retain(&self, keep: impl Fn(&Target) -> bool) {
        self.0.lock().retain(|target, _| keep(target));
    }
}

/// Asks one target for as long as it lives.
struct Checker {
    target: Target,
    path: String,
    settings: HealthCheck,
    rng: StdRng,
    sink: Arc<dyn HealthSink>,
    slots: Arc<Semaphore>,
    findings: Findings,
}

// === impl Checker ===

impl Checker {
    async fn run(mut self) {
        loop {
            let began = Instant::now();
            let check = self.check().await;
            self.findings.note(&self.target, &check);
            self.sink.checked(&self.target, &check);
            let wait = jittered(self.settings.interval, &mut self.rng);
            tokio::time::sleep_until(began + wait).await;
        }
    }

    async fn check(&self) -> Check {
        // Never closed, so there is always a permit in the end.
        let _slot = self.slots.acquire().await;
        let timeout = self.settings.timeout;
        match tokio::time::timeout(timeout, probe::ask(self.target.address, &self.path)).await {
            Err(_) => Check::Down(Down::Timeout { after: timeout }),
            Ok(Err(down)) => Check::Down(down),
            Ok(Ok(answer)) => answer.verdict(&self.target.model, &self.target.version),
        }
    }
}

/// A source of chance for one target: the same for the same seed.
fn rng_for(seed: u64, target: &Target) -> StdRng {
    let mut hasher = DefaultHasher::new();
    (seed, target).hash(&mut hasher);
    StdRng::seed_from_u64(hasher.finish())
}

fn jittered(interval: Duration, rng: &mut impl Rng) -> Duration {
    interval.mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER))
}

impl From<&Check> for CheckResult {
    fn from(check: &Check) -> Self {
        match check {
            Check::Up => Self::Up,
            Check::Down(_) => Self::Down,
            Check::Draining => Self::Draining,
        }
    }
}
