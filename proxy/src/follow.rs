//! Keeps what surrounds the models in step with the configuration and with the
//! names and services in it: active checks, lookups, watches, pools.
//!
//! Answers and events only leave a note. One task takes all notes there are and moves
//! the pools once, so that a thousand names that are answered together do not
//! rebuild everything a thousand times.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    clock,
    config::{HostName, ServiceName},
    dns::{Answer, LookupError, LookupSink, Lookups, Resolve},
    health::{Checks, Findings},
    kubernetes::{Cluster, News, WatchError, WatchSink, Watches},
    state::Shared,
    supervise::{aside, keep_up},
};

/// The most lines of difference that one round of answers logs.
const LOGGED_CHANGES: usize = 100;

/// What follows the configuration.
pub struct Followers {
    shared: Arc<Shared>,
    notes: Arc<Notes>,
    checks: Mutex<Checks>,
    lookups: Mutex<Lookups>,
    watches: Mutex<Watches>,
}

/// Takes what lookups and watches found.
struct Notes {
    shared: Arc<Shared>,
    forget_after: u32,
    arrived: Notify,
}

// === impl Followers ===

impl Followers {
    /// Starts to follow what runs: `resolver` is asked for names, `cluster`, where there
    /// is one, for services. Call it within a tokio runtime.
    #[must_use]
    pub fn start(
        shared: &Arc<Shared>,
        resolver: Arc<dyn Resolve>,
        cluster: Option<Arc<dyn Cluster>>,
    ) -> Arc<Self> {
        let snapshot = shared.snapshot_owned();
        let (config, pools) = (snapshot.config(), snapshot.pools());
        let notes = Arc::new(Notes {
            shared: Arc::clone(shared),
            forget_after: config.dns.forget_after.get(),
            arrived: Notify::new(),
        });
        let checks = Checks::start(Arc::clone(shared) as _, config, pools);
        let mut lookups = Lookups::new(resolver, Arc::clone(&notes) as _, &config.dns);
        lookups.follow(&config.hosts());
        let mut watches = Watches::new(cluster, Arc::clone(&notes) as _, &config.kubernetes);
        watches.follow(&config.services());
        let followers = Arc::new(Self {
            shared: Arc::clone(shared),
            notes,
            checks: Mutex::new(checks),
            lookups: Mutex::new(lookups),
            watches: Mutex::new(watches),
        });
        let following = Arc::clone(&followers);
        tokio::spawn(keep_up("follows names and services", move || {
            Arc::clone(&following).take_notes()
        }));
        followers
    }

    /// What active checks found last.
    #[must_use]
    pub fn findings(&self) -> Findings {
        self.checks.lock().findings()
    }

    /// Follows a configuration that has just been taken. Call it within a tokio
    /// runtime.
    pub fn follow(&self) {
        let snapshot = self.shared.snapshot_owned();
        self.lookups.lock().follow(&snapshot.config().hosts());
        self.watches.lock().follow(&snapshot.config().services());
        self.follow_pools();
    }

    fn follow_pools(&self) {
        // What is followed is looked at with the lock held: whoever comes second
        // has the newer snapshot.
        let mut checks = self.checks.lock();
        let snapshot = self.shared.snapshot_owned();
        checks.follow(snapshot.config(), snapshot.pools());
    }

    fn repool(&self) -> Vec<String> {
        let changes = self.shared.repool();
        if !changes.is_empty() {
            self.follow_pools();
        }
        changes
    }

    async fn take_notes(self: Arc<Self>) {
        // Where it begins anew, the last notes may have been taken for nothing.
        self.notes.arrived.notify_one();
        loop {
            self.notes.arrived.notified().await;
            let followers = Arc::clone(&self);
            let changes = aside(move || followers.repool()).await;
            for change in changes.iter().take(LOGGED_CHANGES) {
                tracing::info!("endpoints changed: {change}");
            }
            if changes.len() > LOGGED_CHANGES {
                let more = changes.len() - LOGGED_CHANGES;
                tracing::info!("endpoints changed: {more} more versions changed");
            }
        }
    }
}

// === impl Notes ===

impl LookupSink for Notes {
    fn looked_up(&self, host: &HostName, outcome: &Result<Answer, LookupError>) -> u32 {
        self.shared.metrics().looked_up(outcome.as_ref().err());
        let book = &self.shared.books().dns;
        let Some(failures) = book.take(host, outcome, self.forget_after, clock::now()) else {
            return 0;
        };
        match outcome {
            Ok(_) => {
                if failures > 0 {
                    tracing::info!(%host, failures, "the name is answered again");
                }
                self.arrived.notify_one();
            }
            // The first, the second, the fourth: a name server may be away for long.
            Err(error) if failures.is_power_of_two() => {
                tracing::warn!(%host, failures, %error, "a name could not be resolved; its last addresses stay");
            }
            Err(_) => {}
        }
        failures
    }
}

impl WatchSink for Notes {
    fn heard(&self, service: &ServiceName, news: News) {
        self.shared.metrics().watched(&news);
        let error = match &news {
            News::Failed(error) => Some(error.clone()),
            _ => None,
        };
        let book = &self.shared.books().kubernetes;
        let Some(failures) = book.take(service, news, clock::now()) else {
            return;
        };
        match error {
            None => {
                if failures > 0 {
                    tracing::info!(%service, failures, "the service is watched again");
                }
                self.arrived.notify_one();
            }
            // It happens, and the service is listed at once.
            Some(WatchError::Expired) if failures == 1 => {}
            // The first, the second, the fourth: an API server may be away for long.
            Some(error) if failures.is_power_of_two() => {
                tracing::warn!(%service, failures, %error, "a service cannot be watched; its last known pods stay");
            }
            Some(_) => {}
        }
    }

    fn lacks_some(&self, service: &ServiceName) -> bool {
        self.shared.books().kubernetes.lacks_some(service)
    }
}
