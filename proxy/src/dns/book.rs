//! What every name was answered: the memory that outlives failures, and changing
//! answers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::config::HostName;

/// The most addresses that one name may have; the rest is left out.
const MAX_ADDRESSES: usize = 1_000;

/// What a name server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The addresses; at least one.
    pub addresses: BTreeSet<IpAddr>,
    /// The part that could not be asked for, because one of two questions failed:
    /// its addresses stay as they were.
    pub unknown: Option<Family>,
    /// How long it holds.
    pub ttl: Duration,
}

/// A kind of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// Why a name has no addresses. Never the client's fault; a later try may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// NXDOMAIN.
    #[error("there is no such name")]
    NoSuchName,
    /// The name is there, and has no address of the families asked for.
    #[error("the name has no address")]
    NoAddress,
    /// No name server answered in time.
    #[error("no name server answered in time")]
    Timeout,
    /// A name server answered that it cannot tell.
    #[error("the name server refused: {0}")]
    Refused(String),
    /// It could not be asked, or its answer could not be read.
    #[error("the question failed: {0}")]
    Failed(String),
}

/// What is known of every name that is asked for.
#[derive(Debug, Default)]
pub struct Book(Mutex<HashMap<HostName, Known>>);

/// What is known of one name.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Every address, with how many answers in a row it has been missing from.
    addresses: BTreeMap<IpAddr, u32>,
    /// Addresses over the limit, in the last answer.
    left_out: usize,
    answered_at: Option<Instant>,
    failures: u32,
    error: Option<LookupError>,
}

/// What is known of one name, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStatus {
    /// How many addresses it has, those that are about to go included.
    pub addresses: usize,
    /// Those among them that the last answer lacked.
    pub missing: usize,
    /// How old the last answer is; none before the first.
    pub answered: Option<Duration>,
    /// Lookups that failed since.
    pub failures: u32,
    /// Why the last one did.
    pub error: Option<LookupError>,
}

// === impl LookupError ===

impl LookupError {
    /// The value of the metrics' label `result`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoSuchName => "no_such_name",
            Self::NoAddress => "no_address",
            Self::Timeout => "timeout",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }
}

// === impl Family ===

impl Family {
    fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

// === impl Book ===

impl Book {
    /// Knows these names and no others; those that stay keep their addresses.
    pub fn follow(&self, hosts: &BTreeSet<&HostName>) {
        let mut known = self.0.lock();
        known.retain(|host, _| hosts.contains(host));
        for host in hosts {
            known.entry((*host).clone()).or_default();
        }
    }

    /// Takes the outcome of a lookup; `forget_after` answers in a row without an
    /// address take it out. Returns how many lookups in a row had failed: before
    /// an answer, or with this failure. None for a name that is not followed any more.
    pub fn take(
        &self,
        host: &HostName,
        outcome: &Result<Answer, LookupError>,
        forget_after: u32,
        now: Instant,
    ) -> Option<u32> {
        let mut known = self.0.lock();
        let known = known.get_mut(host)?;
        Some(match outcome {
            Ok(answer) => known.answered(answer, forget_after, now),
            Err(error) => known.failed(error),
        })
    }

    /// The addresses of a name; none before its first answer.
    #[must_use]
    pub fn addresses(&self, host: &HostName) -> Option<Vec<IpAddr>> {
        let known = self.0.lock();
        let known = known.get(host)?;
        known.answered_at?;
        Some(known.addresses.keys().copied().collect())
    }

    /// How many names have failed since their last answer.
    #[must_use]
    pub fn failing(&self) -> usize {
        let known = self.0.lock();
        known.values().filter(|known| known.failures > 0).count()
    }

    /// How many addresses were left out because their name has too many.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.0.lock().values().map(|known| known.left_out).sum()
    }

    /// All that is known, for people.
    #[must_use]
    pub fn status(&self, now: Instant) -> BTreeMap<String, HostStatus> {
        let known = self.0.lock();
        let status = |(host, known): (&HostName, &Known)| (host.to_string(), known.status(now));
        known.iter().map(status).collect()
    }
}

// === impl Known ===

impl Known {
    fn answered(&mut self, answer: &Answer, forget_after: u32, now: Instant) -> u32 {
        for (address, missed) in &mut self.addresses {
            if answer.addresses.contains(address) {
                *missed = 0;
            } else if answer.unknown != Some(Family::of(address)) {
                *missed += 1;
            }
        }
        self.addresses.retain(|_, missed| *missed < forget_after);
        self.left_out = 0;
        for address in &answer.addresses {
            if self.addresses.len() < MAX_ADDRESSES || self.addresses.contains_key(address) {
                self.addresses.insert(*address, 0);
            } else {
                self.left_out += 1;
            }
        }
        self.answered_at = Some(now);
        self.error = None;
        std::mem::take(&mut self.failures)
    }

    fn failed(&mut self, error: &LookupError) -> u32 {
        self.error = Some(error.clone());
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    fn status(&self, now: Instant) -> HostStatus {
        let missed = self.addresses.values();
        HostStatus {
            addresses: self.addresses.len(),
            missing: missed.filter(|missed| **missed > 0).count(),
            answered: self.answered_at.map(|at| now.saturating_duration_since(at)),
            failures: self.failures,
            error: self.error.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
