//! Watches every service: lists its slices once, hears of every change, and lists them
//! anew only where what was missed cannot be told any more.
//!
//! One task a service, which runs on across a reload. A turn of a task is a list, where
//! nothing is known yet, and one watch, which goes on from the version that was last seen.
//! Waits are jittered, or every proxy would come back to an API server that has just
//! started in the same moment.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rand::RngExt;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::Slice;
use crate::config::{Kubernetes, ServiceName};

/// Services that are listed at once; more wait for their turn.
const MAX_LISTS: usize = 16;
/// How far the end of a watch strays to either side.
const RENEWAL_JITTER: f64 = 0.1;
/// How far a wait after a failure does.
const RETRY_JITTER: f64 = 0.5;
/// Refusals in a row after which a watch does not go on from where it was: whatever is
/// wrong with that version, a list knows a better one.
const LIST_AFTER: u32 = 3;

/// Answers for a Kubernetes cluster.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Every slice of a service, and the version that they are of.
    ///
    /// # Errors
    /// See [`WatchError`].
    async fn list(&self, service: &ServiceName) -> Result<Listing, WatchError>;

    /// What changes from a version on, for so long.
    ///
    /// # Errors
    /// See [`WatchError`].
    async fn watch(
        &self,
        service: &ServiceName,
        version: &str,
        lasting: Duration,
    ) -> Result<Box<dyn Events>, WatchError>;
}

/// What changes.
#[async_trait]
pub trait Events: Send {
    /// The next change; none when the watch has ended in good order.
    async fn next(&mut self) -> Option<Result<Event, WatchError>>;
}

/// Hears what becomes of services.
pub trait WatchSink: Send + Sync + 'static {
    /// Something was heard of a service.
    fn heard(&self, service: &ServiceName, news: News);

    /// Whether there is more to know of a service than was kept.
    fn lacks_some(&self, service: &ServiceName) -> bool;
}

/// Every slice of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The version that they are of.
    pub version: String,
    /// The slices.
    pub slices: Vec<Slice>,
    /// And how many more there are.
    pub left_out: usize,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The version that it leads to.
    pub version: String,
    /// What changed; [`News::Watched`] where only the version did (a bookmark).
    pub news: News,
}

/// What was heard of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// These are its slices.
    Listed(Listing),
    /// This slice is new, or other than it was.
    Put(Slice),
    /// This slice is gone.
    Gone(Arc<str>),
    /// Nothing changed, and what changes will be told.
    Watched,
    /// Nothing is told of it.
    Failed(WatchError),
}

/// Why nothing is told of a service. Never the client's fault; a later try may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Nothing says where the API server is, or with what credentials to ask it.
    #[error("no cluster to ask: {0}")]
    NoCluster(String),
    /// There is no connection to the API server.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("the API server did not answer in time")]
    Timeout,
    /// It knows not who asks (401), or does not let them (403).
    #[error("the API server refused ({status}): {message}")]
    Refused {
        /// The status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It answered with another error.
    #[error("the API server failed ({status}): {message}")]
    Failed {
        /// The status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// What was missed cannot be told any more (410).
    #[error("the watch has expired")]
    Expired,
    /// A watch did not end when it should have.
    #[error("the watch fell silent")]
    Silent,
    /// Its answer makes no sense.
    #[error("the API server's answer could not be read: {0}")]
    Unreadable(String),
}

/// Watches services for as long as they are followed; dropping it ends that.
pub struct Watches {
    cluster: Option<Arc<dyn Cluster>>,
    sink: Arc<dyn WatchSink>,
    pace: Pace,
    slots: Arc<Semaphore>,
    tasks: HashMap<ServiceName, AbortOnDropHandle<()>>,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
struct Pace {
    renew_after: Duration,
    /// How much longer a watch may take to end.
    grace: Duration,
    base: Duration,
    max: Duration,
}

/// Watches one service.
struct Watcher {
    service: ServiceName,
    cluster: Arc<dyn Cluster>,
    sink: Arc<dyn WatchSink>,
    pace: Pace,
    slots: Arc<Semaphore>,
    /// What the last event led to; none where the slices have to be listed.
    version: Option<String>,
    /// Turns in a row that came to nothing.
    failures: u32,
}

// === impl WatchError ===

impl WatchError {
    /// Every value of the metrics' label `result` that is an error.
    pub const LABELS: [&str; 8] = [
        "no_cluster",
        "unreachable",
        "timeout",
        "refused",
        "failed",
        "expired",
        "silent",
        "unreadable",
    ];

    /// The value of the metrics' label `result`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCluster(_) => "no_cluster",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Expired => "expired",
            Self::Silent => "silent",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Whether the API server itself said so, of the version that was asked for.
    fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Failed { .. } | Self::Unreadable(_)
        )
    }
}

// === impl Watches ===

impl Watches {
    /// Will ask `cluster`, where there is one, and tell `sink`.
    #[must_use]
    pub fn new(
        cluster: Option<Arc<dyn Cluster>>,
        sink: Arc<dyn WatchSink>,
        settings: &Kubernetes,
    ) -> Self {
        Self {
            cluster,
            sink,
            pace: Pace {
                renew_after: settings.renew_after,
                grace: settings.api_timeout,
                base: settings.retry_base,
                max: settings.retry_max,
            },
            slots: Arc::new(Semaphore::new(MAX_LISTS)),
            tasks: HashMap::new(),
        }
    }

    /// Watches exactly these services from now on. Call it within a tokio runtime.
    pub fn follow(&mut self, services: &BTreeSet<&ServiceName>) {
        self.tasks.retain(|service, _| services.contains(service));
        let Some(cluster) = &self.cluster else { return };
        for service in services {
            if !self.tasks.contains_key(*service) {
                let watcher = Watcher {
                    service: (*service).clone(),
                    cluster: Arc::clone(cluster),
                    sink: Arc::clone(&self.sink),
                    pace: self.pace,
                    slots: Arc::clone(&self.slots),
                    version: None,
                    failures: 0,
                };
                let task = AbortOnDropHandle::new(tokio::spawn(watcher.run()));
                self.tasks.insert((*service).clone(), task);
            }
        }
    }
}

// === impl Watcher ===

impl Watcher {
    async fn run(mut self) {
        loop {
            let started = Instant::now();
            let outcome = self.turn().await;
            let lived = started.elapsed();
            // What stood for long is no part of a row of failures.
            if lived > self.pace.max {
                self.failures = 0;
            }
            match outcome {
                Ok(()) if lived >= self.pace.base => self.failures = 0,
                // A server that ends every watch at once is not asked at full speed.
                Ok(()) => self.wait().await,
                Err(error) => {
                    let again_at_once = error == WatchError::Expired && self.failures == 0;
                    if error.is_answer() && self.failures + 1 >= LIST_AFTER {
                        self.version = None;
                    }
                    self.sink.heard(&self.service, News::Failed(error));
                    if again_at_once {
                        self.failures = 1;
                    } else {
                        self.wait().await;
                    }
                }
            }
        }
    }

    async fn wait(&mut self) {
        self.failures = self.failures.saturating_add(1);
        sleep(self.pace.after_failures(self.failures)).await;
    }

    /// Lists, where that is needed, and watches until the watch ends.
    async fn turn(&mut self) -> Result<(), WatchError> {
        let from = match self.version.take() {
            Some(version) => version,
            None => self.list().await?,
        };
        let lasting = jittered(self.pace.renew_after, RENEWAL_JITTER);
        let watch = self.cluster.watch(&self.service, &from, lasting).await;
        self.version = Some(from);
        let ended = match watch {
            Ok(events) => {
                self.sink.heard(&self.service, News::Watched);
                let all = timeout(lasting + self.pace.grace, self.follow(events)).await;
                all.unwrap_or(Err(WatchError::Silent))
            }
            Err(error) => Err(error),
        };
        if ended == Err(WatchError::Expired) || self.sink.lacks_some(&self.service) {
            self.version = None;
        }
        ended
    }

    async fn list(&self) -> Result<String, WatchError> {
        // Never closed, so there is always a permit in the end.
        let _slot = self.slots.acquire().await;
        let listing = self.cluster.list(&self.service).await?;
        let version = listing.version.clone();
        self.sink.heard(&self.service, News::Listed(listing));
        Ok(version)
    }

    async fn follow(&mut self, mut events: Box<dyn Events>) -> Result<(), WatchError> {
        while let Some(event) = events.next().await {
            let event = event?;
            self.version = Some(event.version);
            self.sink.heard(&self.service, event.news);
        }
        Ok(())
    }
}

// === impl Pace ===

impl Pace {
    fn after_failures(self, in_a_row: u32) -> Duration {
        let doublings = in_a_row.saturating_sub(1).min(31);
        let wait = self.base.saturating_mul(1 << doublings).min(self.max);
        jittered(wait, RETRY_JITTER)
    }
}

fn jittered(wait: Duration, by: f64) -> Duration {
    wait.mul_f64(rand::rng().random_range(1.0 - by..=1.0 + by))
}

#[cfg(test)]
mod tests;
