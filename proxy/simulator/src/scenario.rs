//! What happens in a simulation: load, pods, faults on cue, and what is expected.
//!
//! A TOML file, read as the programs' own are: every fault by key path and line.
//! Those that ship are in `config/scenarios/` and built in ([`BUILTIN`]); they are
//! the best description of the format.

mod builtin;
mod raw;
mod validate;

use std::{sync::Arc, time::Duration};

use aegis_config::Rejected;

pub use builtin::{BUILTIN, Builtin};
use raw::RawScenario;

/// A scenario that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// One sentence.
    pub about: String,
    /// How long it is measured.
    pub lasts: Duration,
    /// How long it runs before that.
    pub warmup: Duration,
    /// How many proxies there are, each with a mind of its own.
    pub proxies: u32,
    /// Requests a second, over all proxies.
    pub rate: f64,
    /// Requests come at even distances, instead of at random.
    pub even: bool,
    /// Made-up endpoints; none for those of the configuration.
    pub endpoints: Option<u32>,
    /// Zones that made-up endpoints are spread over, where the configuration names none.
    pub zones: u32,
    /// What every pod can do.
    pub pods: PodKind,
    /// When there are more requests, or fewer.
    pub load: Vec<Load>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What has to hold.
    pub expect: Expect,
}

/// What a pod can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PodKind {
    /// The median time that it works on a request.
    pub service: Duration,
    /// σ of the logarithm of that time; 0 for always the same.
    pub spread: f64,
    /// Requests that it works on at once.
    pub parallel: u32,
    /// Requests that wait there; further ones get 429.
    pub queue: u32,
    /// Between proxy and pod, there and back.
    pub network: Duration,
    /// Whether answers say how much it has to do.
    pub reports_load: bool,
}

/// A time with another rate; times count from the end of the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// From when on.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
    /// How many times the rate.
    pub factor: f64,
}

/// Something goes wrong; times count from the end of the warm-up.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// From when on.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
    /// Whose endpoints.
    pub version: Which,
    /// And which of those.
    pub among: Among,
    /// What.
    pub what: What,
}

/// Which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    Any,
    /// That with the largest weight.
    Main,
    /// That with the smallest weight above 0.
    Canary,
    /// This one.
    Named(Arc<str>),
}

/// Which endpoints of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Among {
    /// So many of each version.
    Count(u32),
    /// This part of each version, rounded up.
    Share(f64),
    /// Those of a zone.
    Zone(Arc<str>),
    /// Those of a zone by its number, from 1 on, in the order of their names: for
    /// scenarios that do not know the configuration.
    NthZone(u32),
}

/// What goes wrong with a pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// Every answer takes this long.
    Slow(Duration),
    /// It answers nothing any more, checks neither.
    Hung,
    /// This part of its answers has this status.
    Failing {
        /// The status.
        status: u16,
        /// The part, above 0 to 1.
        share: f64,
    },
    /// It fails and is well, in turns.
    Flapping {
        /// The status while it fails.
        status: u16,
        /// How long each turn takes.
        period: Duration,
    },
    /// It takes so many times longer at first, and less and less.
    Cold {
        /// How many times.
        factor: f64,
    },
    /// One after the other drains, is down, comes back, cold.
    Restart {
        /// How long each says that it drains, and serves.
        drain: Duration,
        /// How long it is down.
        down: Duration,
        /// How many times slower it is when it comes back.
        factor: f64,
    },
    /// Its port is closed.
    Down,
    /// Its packets vanish.
    Gone,
}

/// What has to hold over the measured time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Expect {
    /// The least part of the requests that is answered well.
    pub availability: Option<f64>,
    /// The largest 99th percentile.
    pub p99: Option<Duration>,
    /// The most retries for each request.
    pub retries: Option<f64>,
    /// The most breakers that may open at endpoints that are well.
    pub healthy_ejected: Option<u64>,
}

// === impl Scenario ===

impl Scenario {
    /// Reads a text; `origin` is its name in messages.
    ///
    /// # Errors
    /// Every fault, by key path and line.
    pub fn parse(origin: &str, text: &str) -> Result<Self, Rejected> {
        aegis_config::load(origin, text, |raw: RawScenario, faults| {
            Some(validate::scenario(&raw, faults))
        })
    }

    /// When the first fault or load begins and the last one ends, from the end of
    /// the warm-up; none where nothing happens.
    #[must_use]
    pub fn trouble(&self) -> Option<(Duration, Duration)> {
        let faults = self.faults.iter().map(|fault| (fault.at, fault.lasts));
        let load = self.load.iter().map(|load| (load.at, load.lasts));
        let spans = || faults.clone().chain(load.clone());
        let from = spans().map(|(at, _)| at).min()?;
        let until = spans().map(|(at, lasts)| at.saturating_add(lasts)).max()?;
        Some((from, until.min(self.lasts)))
    }
}

// === impl What ===

impl What {
    /// Its name, as in the file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slow(_) => "slow",
            Self::Hung => "hung",
            Self::Failing { .. } => "failing",
            Self::Flapping { .. } => "flapping",
            Self::Cold { .. } => "cold",
            Self::Restart { .. } => "restart",
            Self::Down => "down",
            Self::Gone => "gone",
        }
    }
}

#[cfg(test)]
mod tests;
