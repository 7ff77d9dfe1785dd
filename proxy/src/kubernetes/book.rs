//! What every service was found to be: the memory that outlives the API server.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Condition, News, Pod, Slice, WatchError,
    slices::{self, pods, problem},
};
use crate::config::{ServiceName, ServicePort};

/// The most slices of one service; the rest is left out. Kubernetes puts 100 pods into
/// one, and there are at most 10,000 endpoints.
const MAX_SLICES: usize = 500;

/// What is known of every service that is watched.
#[derive(Debug, Default)]
pub struct Book(Mutex<HashMap<ServiceName, Known>>);

/// What is known of one service.
#[derive(Debug, Default)]
struct Known {
    /// None before it was first listed.
    slices: Option<BTreeMap<Arc<str>, Slice>>,
    /// Slices over the limit.
    left_out: usize,
    heard_at: Option<Instant>,
    failing: Option<Failing>,
}

/// The API server does not tell about it.
#[derive(Clone, Debug)]
struct Failing {
    since: Instant,
    failures: u32,
    error: WatchError,
}

/// What is known of one service, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Whether it was ever listed.
    pub listed: bool,
    /// Its slices.
    pub slices: usize,
    /// Those that are not used, because there are too many.
    pub slices_left_out: usize,
    /// Pods that are ready.
    pub ready: usize,
    /// Pods that are not.
    pub unready: usize,
    /// Pods that are going away.
    pub terminating: usize,
    /// The ports of its pods, as `name=number`.
    pub ports: Vec<String>,
    /// How long ago the API server last told anything about it.
    pub heard: Option<Duration>,
    /// How long no watch has stood; none while all is well.
    pub stale: Option<Duration>,
    /// Tries that failed since.
    pub failures: u32,
    /// Why the last one did.
    pub error: Option<WatchError>,
}

// === impl Book ===

impl Book {
    /// Knows these services and no others; those that stay keep what is known of them.
    pub fn follow(&self, services: &BTreeSet<&ServiceName>) {
        let mut known = self.0.lock();
        known.retain(|service, _| services.contains(service));
        for service in services {
            known.entry((*service).clone()).or_default();
        }
    }

    /// Takes what was heard of a service. Returns how many tries in a row had failed: with
    /// bad news, or before those that say that it is watched again. None for a service that
    /// is not followed any more.
    pub fn take(&self, service: &ServiceName, news: News, now: Instant) -> Option<u32> {
        let mut known = self.0.lock();
        Some(known.get_mut(service)?.take(news, now))
    }

    /// Whether there are slices of a service that are not kept.
    #[must_use]
    pub fn lacks_some(&self, service: &ServiceName) -> bool {
        let known = self.0.lock();
        known.get(service).is_some_and(|known| known.left_out > 0)
    }

    /// The pods of a service; none before it was first listed.
    #[must_use]
    pub fn pods(&self, service: &ServiceName, port: &ServicePort) -> Option<Vec<Pod>> {
        let known = self.0.lock();
        let slices = known.get(service)?.slices.as_ref()?;
        Some(pods(slices.values(), port))
    }

    /// Why a service that was listed has no pod at a port, where it has none.
    #[must_use]
    pub fn problem(&self, service: &ServiceName, port: &ServicePort) -> Option<String> {
        let known = self.0.lock();
        let slices = known.get(service)?.slices.as_ref()?;
        problem(slices.values(), port)
    }

    /// All that is known, for people.
    #[must_use]
    pub fn status(&self, now: Instant) -> BTreeMap<String, ServiceStatus> {
        let known = self.0.lock();
        let status = |(service, known): (&ServiceName, &Known)| {
            let status = known.status(now);
            (service.to_string(), status)
        };
        known.iter().map(status).collect()
    }
}

// === impl Known ===

impl Known {
    fn take(&mut self, news: News, now: Instant) -> u32 {
        match news {
            News::Failed(error) => return self.failed(error, now),
            News::Listed(listing) => {
                let all = listing.slices.len();
                let named = |slice: Slice| (Arc::clone(&slice.name), slice);
                let slices: BTreeMap<_, _> = listing
                    .slices
                    .into_iter()
                    .take(MAX_SLICES)
                    .map(named)
                    .collect();
                self.left_out = listing.left_out + all.saturating_sub(MAX_SLICES);
                self.slices = Some(slices);
                self.heard_at = Some(now);
                // Who may list and not watch hears of no change: only a watch that stands
                // ends a row of failures.
                return 0;
            }
            News::Put(slice) => self.put(slice),
            News::Gone(name) => {
                if let Some(slices) = &mut self.slices {
                    slices.remove(&name);
                }
            }
            News::Watched => {}
        }
        self.heard_at = Some(now);
        self.failing.take().map_or(0, |failing| failing.failures)
    }

    fn put(&mut self, slice: Slice) {
        let slices = self.slices.get_or_insert_default();
        if slices.len() < MAX_SLICES || slices.contains_key(&slice.name) {
            slices.insert(Arc::clone(&slice.name), slice);
        } else {
            self.left_out += 1;
        }
    }

    fn failed(&mut self, error: WatchError, now: Instant) -> u32 {
        let before = self.failing.take();
        let failing = Failing {
            since: before.as_ref().map_or(now, |before| before.since),
            failures: before.map_or(0, |before| before.failures).saturating_add(1),
            error,
        };
        self.failing.insert(failing).failures
    }

    fn status(&self, now: Instant) -> ServiceStatus {
        let age = |at: Instant| now.saturating_duration_since(at);
        let slices = self.slices.iter().flat_map(BTreeMap::values);
        let mut members: BTreeMap<IpAddr, Condition> = BTreeMap::new();
        for member in slices.clone().flat_map(|slice| &slice.members) {
            let known = members.entry(member.ip).or_insert(member.condition);
            *known = member.condition.min(*known);
        }
        let count = |wanted: &[Condition]| {
            let conditions = members.values();
            conditions.filter(|is| wanted.contains(is)).count()
        };
        ServiceStatus {
            listed: self.slices.is_some(),
            slices: slices.clone().count(),
            slices_left_out: self.left_out,
            ready: count(&[Condition::Ready]),
            unready: count(&[Condition::Unready]),
            terminating: count(&[Condition::Leaving, Condition::Gone]),
            ports: slices::ports(slices),
            heard: self.heard_at.map(age),
            stale: self.failing.as_ref().map(|failing| age(failing.since)),
            failures: self.failing.as_ref().map_or(0, |failing| failing.failures),
            error: self.failing.as_ref().map(|failing| failing.error.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
